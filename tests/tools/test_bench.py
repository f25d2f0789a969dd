from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from book.analysis.prefixes import distinct_prefixes
from lmrel import Decoder, InputError, paper_problems, sample
from tests.conftest import tiny
from tools import bench

MODEL = "tiny-dense-instruct"


def rows(**times: list[float]) -> list[dict[str, Any]]:
    return [{"model": MODEL, "contestant": name, "times": seconds} for name, seconds in times.items()]


def test_ratios_are_medians_of_paired_times_and_slow_contestants_may_have_fewer() -> None:
    times = {"one prompt at a time": [80.0, 90.0, 100.0], "batched generate": [16.0, 15.0, 12.0]}
    times |= {
        "eos, 4 runs": [1.0, 1.0, 2.0, 9.0, 9.0],
        "decided, 4 runs": [1.0] * 5,
        "floor of eos": [1.0, 0.5, 2.0, 3.0, 3.0],
    }
    times |= {"eos, 1000 runs": [4.0, 6.0, 8.0, 9.0, 9.0]}
    found = {row["ratio"]: row for row in bench.ratios(rows(**times))}
    assert found["one prompt at a time / eos, 4 runs"]["value"] == statistics.median([80, 90, 50])
    assert found["one prompt at a time / eos, 4 runs"]["reached"]
    assert found["batched generate / eos, 4 runs"]["reached"]  # 15, the mark itself
    assert found["one prompt at a time / decided, 4 runs"]["reached"] is None
    assert found["eos, 1000 runs / eos, 4 runs"]["value"] == statistics.median([4, 6, 4, 1, 1])
    assert found["eos, 4 runs / floor of eos"]["value"] == statistics.median([1, 2, 1, 3, 3])
    assert not found["eos, 4 runs / floor of eos"]["reached"]  # at most 1.3 was asked for
    assert "CTranslate2 / eos, 4 runs" not in found


def test_the_script_times_every_contestant_or_says_why_not_and_its_ratios_follow_from_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(_: bench.Bench) -> Any:
        raise ValueError("no such model (supported: others). See the manual.")

    def breaks(_: bench.Bench) -> Any:
        return lambda: {}["key"]

    def missing(_: bench.Bench) -> Any:
        raise ModuleNotFoundError("No module named 'lm_eval'", name="lm_eval")

    peers = {"refuses": refuses, "breaks": breaks, "missing": missing, "continuous batching": lambda _: lambda: None}
    monkeypatch.setattr(bench, "PEERS", peers)
    monkeypatch.setattr(bench, "SLOW", (bench.SINGLY, bench.BATCHED, *peers))
    monkeypatch.setattr(bench, "SAMPLED", {bench.SINGLY: 1})
    raw: list[float] = []
    timed = bench.timed

    def spy(*arguments: Any) -> Any:
        found = timed(*arguments)
        raw.append(found[0])
        return found

    monkeypatch.setattr(bench, "timed", spy)
    path = tmp_path / "new" / "cpu.json"
    arguments = ["--models", MODEL, "--repeats", "1", "--problems", "3", "--out", str(path)]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    bench.main()
    record = json.loads(path.read_text())
    assert {"date", "device", "cpu", "threads", "versions", "problems", "repeats"} <= record.keys()
    found = {row["contestant"]: row for row in record["rows"]}
    notes = {name: found[name]["note"] for name in ("refuses", "breaks", "missing")}
    assert notes == {"refuses": "no such model", "breaks": "'key'", "missing": "not installed"}
    measured = [row for row in record["rows"] if "seconds" in row]
    assert all(
        row["seconds"] == statistics.median(row["times"]) > 0 and row["runs"] in (4, 100, 1000) for row in measured
    )
    assert found["eos, 4 runs"]["draws"] == 3 * 13 == 3 * found["one prompt at a time"]["draws"]
    assert found["one prompt at a time"]["sample"] == pytest.approx(1 / 3)
    assert sum(part["share"] for part in record["profiles"]) == pytest.approx(1)
    assert found["one prompt at a time"]["seconds"] in [seconds / (1 / 3) for seconds in raw]
    assert found["decided, 1000 runs"]["draws"] == 3 * 3001
    model, tokenizer = tiny(MODEL)
    problems = paper_problems().iloc[::80]
    for stop in ("eos", "decided"):
        decoders = [Decoder(t, stop=stop) for t in bench.TEMPERATURES]
        trees = distinct_prefixes(sample(model, tokenizer, problems, decoders), problems)
        nodes = sum(map(len, trees))
        assert found[f"{stop}, 4 runs"]["nodes"] == found[f"floor of {stop}"]["nodes"] == nodes
    for ratio in record["ratios"]:
        above, below = (found[ratio[end]]["times"] for end in ("above", "below"))
        assert ratio["value"] == statistics.median(a / b for a, b in zip(above, below, strict=False))
    assert "eos, 4 runs / floor of eos" in capsys.readouterr().out


def test_continuous_batching_answers_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "TEMPERATURES", (1.0,))
    bench.continuous_batching(bench.Bench(MODEL, paper_problems().head(1), *tiny(MODEL)))()


def test_items_are_spread_evenly() -> None:
    assert bench.spread(range(240), 10) == list(range(0, 240, 24))
    assert bench.spread(range(5), 3) == [0, 1, 3]
    assert bench.spread(range(3), 10) == [0, 1, 2]


def test_the_time_of_a_call_is_shared_out_among_its_parts() -> None:
    square = torch.rand(400, 400)

    def multiply() -> None:
        for _ in range(20):
            square @ square

    found = bench.profile_shares(multiply)
    assert sum(found.values()) == pytest.approx(1)
    assert max(found, key=lambda part: found[part]) == "matrix products"
    idle = bench.profile_shares(lambda: time.sleep(0.1))
    assert idle[bench.OUTSIDE] > 0.9


@pytest.mark.parametrize(
    ("operator", "part"),
    [
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::mm", "matrix products"),
        ("aten::_grouped_mm", "matrix products"),
        ("aten::mul", bench.OTHER),
        ("aten::index_put_", "copying and indexing"),
    ],
)
def test_operators_have_a_part(operator: str, part: str) -> None:
    assert bench.part_of(operator) == part


def test_a_count_on_the_command_line_is_an_integer_of_at_least_1() -> None:
    assert bench.counted("12") == 12
    for text in ("0", "-1", "x", "\u0663", ""):
        with pytest.raises(InputError, match="is no integer of at least 1"):
            bench.counted(text)
