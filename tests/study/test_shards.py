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
    with pytest.raises(InputError, match="1-of-2 is not finished; evaluate it with shard=1, then join"):
        carry_out(tmp_path, shards=2)
    carry_out(tmp_path, shards=2, shard=1)
    with pytest.raises(InputError, match="0-of-2 holds other draws: seed 0 → 1; evaluate it with shard=0 and repl"):
        carry_out(tmp_path, shards=2, seed=1)
    carry_out(tmp_path, shards=2)
    damaged = shards.shard_folder(tmp_path, 2, 1) / records.DRAWS
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (tmp_path / records.RUN).unlink()
    with pytest.raises(InputError, match="1-of-2"):
        carry_out(tmp_path, shards=2)


def test_a_shard_of_other_code_is_kept_until_it_is_replaced_and_is_not_joined_with_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in (0, 1):
        carry_out(tmp_path, shards=2, shard=shard)
    monkeypatch.setattr(parts, "code_hash", lambda *_: "0123456789")
    found = "0-of-2 holds other draws: hashes.code '.{8}' → '01234567'; evaluate it with shard=0 and replace=True, then"
    carry_out(tmp_path, shards=2, shard=0)  # nothing is missing
    with pytest.raises(InputError, match=found):
        carry_out(tmp_path, shards=2)
    for shard in (0, 1):
        carry_out(tmp_path, shards=2, shard=shard, replace=True)
    assert carry_out(tmp_path, shards=2)["problem_id"].nunique() == 10


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


class Watched:
    """What is asked for while draws are made: of each call the temperatures, the first run, and how many draws."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[tuple[float, ...], int, int]] = []
        real = origins.draw

        def watched(*given: Any) -> pd.DataFrame:
            drawn = real(*given)
            self.asked.append((tuple(decoder.temperature for decoder in given[3]), given[-1].first_run, len(drawn)))
            return drawn

        monkeypatch.setattr(origins, "draw", watched)


def test_more_temperatures_extend_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undivided: Path
) -> None:
    old = carry_out(tmp_path, temperatures=[0.7])
    watched = Watched(monkeypatch)
    extended = carry_out(tmp_path)
    assert watched.asked == [((0.0,), 0, 10)]
    assert_same(extended, records.read_draws(undivided))
    kept = extended[extended["temperature"] == 0.7].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, old)  # to the last digit: they were not drawn again
    mine, theirs = record(tmp_path), record(undivided)
    for name in ("decoders", "decoding_id", "draws", "hashes"):
        assert mine[name] == theirs[name], name
    assert mine["parameters"]["temperatures"] == [0.0, 0.7]
    assert_same(*(pd.read_parquet(folder / records.SUMMARY) for folder in (tmp_path, undivided)))


def test_runs_and_temperatures_grow_at_once_each_by_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out(tmp_path / "grown", temperatures=[0.0, 0.7], runs=1)
    watched = Watched(monkeypatch)
    grown = carry_out(tmp_path / "grown", temperatures=[1.0, 0.0, 0.7])
    assert watched.asked == [((1.0,), 0, 30), ((0.7,), 1, 20)]
    assert_same(grown, carry_out(tmp_path / "whole", temperatures=[1.0, 0.0, 0.7]))
    with pytest.raises(InputError, match=r"holds a run with temperatures=\[1.0, 0.0, 0.7\]; this one has temper"):
        carry_out(tmp_path / "grown", temperatures=[0.0])


def test_shards_grow_and_are_joined_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undivided: Path) -> None:
    for shard in (0, 1, None):
        carry_out(tmp_path, shards=2, shard=shard, temperatures=[0.0], runs=1)
    watched = Watched(monkeypatch)
    for shard in (0, 1):
        carry_out(tmp_path, shards=2, shard=shard)
    assert watched.asked == [((0.7,), 0, 15)] * 2
    no_model(monkeypatch)
    assert_same(carry_out(tmp_path, shards=2), records.read_draws(undivided))


@pytest.mark.parametrize("changed", ["code", "weights"])
def test_draws_of_other_code_or_weights_are_not_extended_but_named_and_replaced_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undivided: Path, changed: str
) -> None:
    carry_out(tmp_path, runs=2)
    before = files.sha256(tmp_path / records.DRAWS)
    if changed == "code":
        monkeypatch.setattr(parts, "code_hash", lambda *_: "0123456789")
    else:
        said = record(tmp_path)
        said["hashes"]["weights"] = "0" * 64
        files.write_json(said, tmp_path / records.RUN)
    with monkeypatch.context() as patch:
        no_model(patch)
        with pytest.raises(InputError, match=rf"holds 30 finished .*: hashes\.{changed} '.{{8}}' → '.{{8}}'\. Ch"):
            carry_out(tmp_path)
    assert files.sha256(tmp_path / records.DRAWS) == before
    watched = Watched(monkeypatch)
    assert_same(carry_out(tmp_path, replace=True), records.read_draws(undivided))
    assert watched.asked == [((0.0, 0.7), 0, 40)]


def test_where_no_draw_is_missing_those_of_other_code_are_kept_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, before = carry_out(tmp_path), record(tmp_path)
    monkeypatch.setattr(parts, "code_hash", lambda *_: "0123456789")
    with monkeypatch.context() as patch:
        no_model(patch)
        capsys.readouterr()
        assert_same(carry_out(tmp_path), first)
    assert f"{tmp_path} is kept: its draws were made by another version of the code." in capsys.readouterr().err
    assert record(tmp_path) == before
    watched = Watched(monkeypatch)
    carry_out(tmp_path, replace=True)
    assert len(watched.asked) == 1
    assert record(tmp_path)["hashes"]["code"] == "0123456789"


def test_what_is_damaged_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undivided: Path) -> None:
    carry_out(tmp_path, runs=2)
    (tmp_path / records.DRAWS).write_bytes(b"PAR1 and no more")
    watched = Watched(monkeypatch)
    assert_same(carry_out(tmp_path), records.read_draws(undivided))
    assert watched.asked == [((0.0, 0.7), 0, 40)]


def with_pandas(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Let runs be made with that version of pandas from now on."""
    real = origins.versions
    monkeypatch.setattr(origins, "versions", lambda *names: real(*names) | {"pandas": version})


def test_another_version_of_a_package_extends_a_run_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undivided: Path
) -> None:
    now = record(undivided)["versions"]
    assert record(undivided)["other_versions"] == []
    with monkeypatch.context() as patch:
        with_pandas(patch, "1.0")
        carry_out(tmp_path, runs=1)
    with monkeypatch.context() as patch:
        with_pandas(patch, "2.0")
        carry_out(tmp_path, runs=2)
    watched = Watched(monkeypatch)
    assert_same(carry_out(tmp_path), records.read_draws(undivided))
    assert watched.asked == [((0.7,), 2, 10)]
    said = record(tmp_path)
    assert said["versions"] == now
    assert said["other_versions"] == [now | {"pandas": version} for version in ("1.0", "2.0")]
    carry_out(tmp_path)  # it stays so
    assert record(tmp_path)["other_versions"] == said["other_versions"]


def test_shards_of_several_versions_and_devices_are_joined_and_all_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undivided: Path
) -> None:
    carry_out(tmp_path, shards=3, shard=0)
    with monkeypatch.context() as patch:
        patch.setattr(origins.platform, "machine", lambda: "another")
        with_pandas(patch, "1.0")
        carry_out(tmp_path, shards=3, shard=1)
    carry_out(tmp_path, shards=3, shard=2)
    assert_same(carry_out(tmp_path, shards=3), records.read_draws(undivided))
    said, other = record(tmp_path), record(undivided)
    assert said["device"] == f"{other['device']} and cpu (another)"
    assert (said["versions"], said["other_versions"]) == (other["versions"], [other["versions"] | {"pandas": "1.0"}])


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
