from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import lmrel
from lmrel import InputError, files, records
from study import origins, parts, shards
from study.run import Run
from tests.study.test_run import PARAMETERS

SMALL = PARAMETERS | {"limit": 5, "runs": 3}


def carry_out(folder: Path, **changes: Any) -> pd.DataFrame:
    draws, _ = Run(**(SMALL | {"output_dir": str(folder)} | changes)).carry_out(progress=False)
    return draws


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Equal but for the last digits of log-probs, which what is computed together may move."""
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-5)


def record(folder: Path) -> Any:
    return json.loads((folder / records.RUN).read_text())


@pytest.fixture(scope="module")
def undivided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undivided")
    carry_out(folder)
    return folder


def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "load_model", lambda *_: pytest.fail("a model was loaded"))


@pytest.mark.parametrize("count", [2, 3, 10])
def test_shards_joined_are_the_undivided_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undivided: Path, count: int
) -> None:
    monkeypatch.setattr(parts, "BLOCK", 2)  # several parts a shard, hence several row groups
    for shard in range(count):
        drawn = carry_out(tmp_path, shards=count, shard=shard)
        assert drawn["problem_id"].nunique() == -(-(10 - shard) // count)
        assert not (tmp_path / records.RUN).exists()
    no_model(monkeypatch)
    joined = carry_out(tmp_path, shards=count)
    assert_same(joined, records.read_draws(undivided))
    mine, theirs = record(tmp_path), record(undivided)
    for name in ("hashes", "versions", "decoders", "decoding_id", "draws", "device", "precision"):
        assert mine[name] == theirs[name], name
    assert mine["determinism"]["flipped"] == 0
    assert mine["sha256"]["draws"] == files.sha256(tmp_path / records.DRAWS)
    assert_same(*(pd.read_parquet(folder / records.SUMMARY) for folder in (tmp_path, undivided)))


def test_joining_waits_for_every_shard_and_takes_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out(tmp_path, shards=2, shard=0)
    with pytest.raises(InputError, match="the shard in .*1-of-2 is not finished; evaluate it with shard=1, then join"):
        carry_out(tmp_path, shards=2)
    carry_out(tmp_path, shards=2, shard=1, runs=2)
    with pytest.raises(InputError, match="1-of-2 is of other parameters, code, weights or versions; evaluate it"):
        carry_out(tmp_path, shards=2)
    carry_out(tmp_path, shards=2, shard=1)
    monkeypatch.setattr(parts, "code_hash", lambda *_: "0123456789")
    with pytest.raises(InputError, match="0-of-2 is of other parameters, code"):
        carry_out(tmp_path, shards=2)
    monkeypatch.undo()
    carry_out(tmp_path, shards=2)
    damaged = shards.shard_folder(tmp_path, 2, 1) / records.DRAWS
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (tmp_path / records.RUN).unlink()
    with pytest.raises(InputError, match="1-of-2"):
        carry_out(tmp_path, shards=2)


def test_a_finished_run_is_not_drawn_again_however_it_was_divided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = carry_out(tmp_path)
    before = record(tmp_path)
    no_model(monkeypatch)
    assert_same(carry_out(tmp_path, replace=True), first)
    assert_same(carry_out(tmp_path, shards=2), first)
    assert record(tmp_path)["seconds"] == before["seconds"]
    assert record(tmp_path)["sha256"] == before["sha256"]


def test_more_runs_extend_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undivided: Path) -> None:
    old = carry_out(tmp_path, runs=1)
    asked: list[int] = []
    real = origins.draw

    def watched(*given: Any) -> pd.DataFrame:
        asked.append(len(drawn := real(*given)))
        return drawn

    monkeypatch.setattr(origins, "draw", watched)
    monkeypatch.setattr(parts, "BLOCK", 4)
    extended = carry_out(tmp_path)
    assert asked == [4 * 2, 4 * 2, 2 * 2]  # two more runs at the one temperature above 0, and no greedy draw
    assert_same(extended, records.read_draws(undivided))
    kept = extended[extended["run"] == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, old)  # to the last digit: they were not drawn again
    assert record(tmp_path)["parameters"]["runs"] == 3
    assert record(tmp_path)["seconds"]["load"] > 0


def test_an_extension_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undivided: Path) -> None:
    carry_out(tmp_path, runs=2)
    before = files.sha256(tmp_path / records.DRAWS)
    monkeypatch.setattr(parts, "BLOCK", 4)
    real, drawn = origins.draw, []

    def failing(*given: Any) -> pd.DataFrame:
        if len(drawn) == 2:
            raise InputError("the power went out.")
        drawn.append(given[-1].first_run)
        return real(*given)

    monkeypatch.setattr(origins, "draw", failing)
    with pytest.raises(InputError, match="power"):
        carry_out(tmp_path)
    assert (record(tmp_path)["parameters"]["runs"], files.sha256(tmp_path / records.DRAWS)) == (2, before)
    drawn.clear()
    assert_same(carry_out(tmp_path), records.read_draws(undivided))
    assert drawn == [2]


@pytest.mark.parametrize("changed", ["code", "weights", "draws"])
def test_what_was_drawn_by_other_code_or_is_damaged_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undivided: Path, changed: str
) -> None:
    carry_out(tmp_path, runs=2)
    if changed == "code":
        monkeypatch.setattr(parts, "code_hash", lambda *_: "0123456789")
    elif changed == "weights":
        said = record(tmp_path)
        said["hashes"]["weights"] = "0" * 64
        files.write_json(said, tmp_path / records.RUN)
    else:
        (tmp_path / records.DRAWS).write_bytes(b"PAR1 and no more")
    real, first = origins.draw, []

    def watched(*given: Any) -> pd.DataFrame:
        first.append(given[-1].first_run)
        return real(*given)

    monkeypatch.setattr(origins, "draw", watched)
    assert_same(carry_out(tmp_path), records.read_draws(undivided))
    assert set(first) == {0}


def test_greedy_decoding_alone_has_no_more_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = carry_out(tmp_path, temperatures=[0.0], runs=1)
    no_model(monkeypatch)
    assert_same(carry_out(tmp_path, temperatures=[0.0], runs=9), first)


@pytest.mark.parametrize(
    ("shards_and_shard", "said"),
    [
        ((11, 0), "shards is 11; there are only 10 problems to deal out"),
        ((2, 2), "shard is 2; it must be None or an integer from 0 to 1"),
    ],
)
def test_a_bad_shard_ends_in_a_sentence(tmp_path: Path, shards_and_shard: tuple[Any, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        carry_out(tmp_path, shards=shards_and_shard[0], shard=shards_and_shard[1])


def test_further_runs_are_those_of_a_longer_table() -> None:
    model, tokenizer = lmrel.load_model("tiny-dense-base")
    problems, decoders = lmrel.paper_problems().head(3), [lmrel.Decoder(0.0), lmrel.Decoder(0.5), lmrel.Decoder(2.0)]
    whole = lmrel.sample(model, tokenizer, problems, decoders, runs=7)
    later = lmrel.sample(model, tokenizer, problems, decoders, runs=7, first_run=4)
    assert_same(later, whole[whole["run"] >= 4].reset_index(drop=True))
    for bad, said in ((7, "no further runs"), (-1, "first_run is -1"), (True, "first_run is True")):
        with pytest.raises(InputError, match=said):
            lmrel.sample(model, tokenizer, problems, decoders, runs=7, first_run=bad)
