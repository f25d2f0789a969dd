from __future__ import annotations

import json
import os
import platform
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmrel import InputError, files, records
from study import origins, parts
from study.run import Run
from tests.conftest import ROOT
from tests.lmrel.test_records import draws
from tests.study.test_run import PARAMETERS

SMALL = PARAMETERS | {"limit": 4}
# Runs in blocks of two problems, each in a process forked from one that has loaded torch. Where that is asked for, it
# kills itself: right before the n-th rename, or the rename to that name, or in the middle of writing the n-th table.
# There are eight renames: run.json and four parts below .parts, then draws, summary and run.json.
SCRIPT = """
import json, os, sys
import pyarrow.parquet as pq
from study import Run, parts
parts.BLOCK = 2
for line in sys.stdin:
    parameters, kind, moment, said = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    calls = []
    def call(*args, **kwargs):
        calls.append(str(args[1]))
        if moment == len(calls) or moment == os.path.basename(calls[-1]):
            if kind == "write":
                open(args[1], "wb").write(b"PAR1 and no more")
            os.kill(os.getpid(), 9)
        return real(*args, **kwargs)
    module, name = {"rename": (os, "replace"), "write": (pq, "write_table")}[kind]
    real = getattr(module, name)
    setattr(module, name, call)
    Run(**parameters).carry_out(progress=False)
    with open(said, "w") as file:
        file.write(str(len(calls)))
    os._exit(0)
"""
RNG = random.Random(2)
MOMENTS = [("rename", moment) for moment in RNG.sample(range(1, 9), 4)]
MOMENTS += [("write", moment) for moment in RNG.sample(range(1, 6), 2)]


class Starter:
    """Starts runs; a process that lasts as long as the tests of this module."""

    def __init__(self, folder: Path) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, text=True, **pipes)
        self.said = folder / "said"

    def __call__(self, folder: Path, kind: str = "rename", moment: int | str = 0) -> tuple[int, int | None]:
        """The exit status, and how many renames or writes there were if the run came to its end."""
        self.said.unlink(missing_ok=True)
        parameters = SMALL | {"output_dir": str(folder)}
        print(json.dumps([parameters, kind, moment, str(self.said)]), file=self.process.stdin, flush=True)
        assert self.process.stdout is not None
        status = int(self.process.stdout.readline())
        return status, int(self.said.read_text()) if self.said.exists() else None


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    starter = Starter(tmp_path_factory.mktemp("starter"))
    yield starter
    starter.process.communicate()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, start: Starter) -> str:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder) == (0, 8)
    return files.sha256(folder / "draws.parquet")


def part_times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / ".parts").glob("*-*.parquet")}


@pytest.mark.parametrize(("kind", "moment"), MOMENTS)
def test_a_killed_run_goes_on_to_the_same_bytes_and_does_nothing_twice(
    tmp_path: Path, start: Starter, undisturbed: str, kind: str, moment: int
) -> None:
    assert start(tmp_path, kind, moment) == (-signal.SIGKILL, None)
    finished = part_times(tmp_path)
    assert len(finished) == (min(max(moment - 2, 0), 4) if kind == "rename" else min(moment - 1, 4))
    assert start(tmp_path, "rename", "summary.parquet") == (-signal.SIGKILL, None)
    complete = part_times(tmp_path)
    assert len(complete) == 4
    assert finished.items() <= complete.items()
    assert start(tmp_path) == (0, 3)  # draws, summary, run.json, and no part
    assert files.sha256(tmp_path / "draws.parquet") == undisturbed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draws.parquet", "run.json", "summary.parquet"]


def carry_out(folder: Path, **changes: Any) -> Any:
    return Run(**(SMALL | {"output_dir": str(folder)} | changes)).carry_out(progress=False)


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """A run in parts of two problems that stops with an error once `after` of four are there; blocks sampled so far."""
    monkeypatch.setattr(parts, "BLOCK", 2)
    real, sampled = origins.draw, []

    def failing(model: Any, tokenizer: Any, prepared: Any, *rest: Any) -> Any:
        if len(sampled) == after:
            raise InputError("the power went out.")
        sampled.append(len(prepared))
        return real(model, tokenizer, prepared, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(origins, "draw", failing)
        with pytest.raises(InputError, match="power"):
            carry_out(folder)
    return sampled


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    real, sampled = origins.draw, []

    def counted(model: Any, tokenizer: Any, prepared: Any, decoders: Any, asked: Any) -> Any:
        assert asked.chunk == 2  # what is free in memory now must not change what is computed together
        sampled.append(len(prepared))
        return real(model, tokenizer, prepared, decoders, asked)

    monkeypatch.setattr(origins, "draw", counted)
    return sampled


@pytest.mark.parametrize("damage", ["truncated", "flipped", "short", None])
def test_only_missing_and_damaged_parts_are_made(
    tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch, damage: str | None
) -> None:
    interrupted(tmp_path, monkeypatch, after=3)
    first, second, _ = sorted((tmp_path / ".parts").glob("*-*.parquet"))
    data = bytearray(first.read_bytes())
    if damage == "truncated":
        first.write_bytes(data[: len(data) // 2])
    if damage == "flipped":
        for place in range(len(data) // 8, len(data) // 2, 50):
            data[place] ^= 0xFF
        first.write_bytes(data)
    if damage == "short":
        records.write_draws(records.read_part(second).head(3), first)
    sampled = counting(monkeypatch)
    carry_out(tmp_path)
    assert sampled == [2] * (1 if damage is None else 2)
    assert files.sha256(tmp_path / "draws.parquet") == undisturbed


def test_the_block_size_is_that_of_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: str
) -> None:
    interrupted(tmp_path, monkeypatch, after=1)
    monkeypatch.setattr(parts, "BLOCK", 5)
    sampled = counting(monkeypatch)
    carry_out(tmp_path)
    assert sampled == [2, 2, 2]
    assert files.sha256(tmp_path / "draws.parquet") == undisturbed


def test_parts_begun_on_another_device_with_other_versions_go_on_and_both_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: str
) -> None:
    real = origins.versions
    with monkeypatch.context() as patch:
        patch.setattr(origins.platform, "machine", lambda: "another")
        patch.setattr(origins, "versions", lambda *names: real(*names) | {"numpy": "1.0"})
        interrupted(tmp_path, patch, after=2)
    begun = json.loads((tmp_path / ".parts" / "run.json").read_text())["begun"]
    assert [each["device"] for each in begun] == ["cpu (another)"]
    interrupted(tmp_path, monkeypatch, after=1)
    sampled = counting(monkeypatch)
    carry_out(tmp_path)
    assert sampled == [2]
    assert files.sha256(tmp_path / "draws.parquet") == undisturbed
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["device"] == f"cpu (another) and cpu ({platform.machine()})"
    assert record["other_versions"] == [record["versions"] | {"numpy": "1.0"}]


def test_what_an_unfinished_run_holds_is_counted_by_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parts.begun(tmp_path, {}, {}) == parts.Held({}, {})
    interrupted(tmp_path, monkeypatch, after=3)
    monkeypatch.setattr(parts, "BLOCK", 64)
    identity = Run(**SMALL).identifying()
    found = parts.begun(tmp_path, identity, {})
    assert (found.record["draws"], found.differs) == (3 * 2 * 3, {})
    assert parts.begun(tmp_path, identity | {"seed": 1}, {}).said() == "seed 0 → 1"
    more = parts.begun(tmp_path, identity | {"runs": 3}, {})
    assert more.differs == {"runs": (2, 3)}  # an unfinished run is not extended
    (last, *_) = (tmp_path / ".parts").glob("*-0002.parquet")
    records.write_draws(records.read_part(last).head(2), last)
    assert parts.begun(tmp_path, identity, {}).record["draws"] == 2 * 2 * 3 + 2
    last.write_bytes(b"PAR1 and no more")
    assert parts.begun(tmp_path, identity, {}).record["draws"] == 2 * 2 * 3


def test_parts_of_a_finished_run_that_was_killed_at_the_very_end_are_removed_and_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(parts, "_remove", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(parts, "BLOCK", 2)
        with pytest.raises(KeyboardInterrupt):
            carry_out(tmp_path)
    assert (tmp_path / "run.json").exists()
    assert len(part_times(tmp_path)) == 4
    carry_out(tmp_path, runs=3)
    assert not (tmp_path / ".parts").exists()


def test_other_parameters_are_refused_with_the_difference_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path, monkeypatch, after=1)
    theirs, ours = r"temperatures=\[0.0, 0.7\] and seed=0", r"temperatures=\[1.0\] and seed=3"
    with pytest.raises(InputError, match=f"holds an unfinished run with {theirs}; this one has {ours}"):
        Run(**(SMALL | {"output_dir": str(tmp_path), "temperatures": [1.0], "seed": 3})).open()
    carry_out(tmp_path)
    with pytest.raises(InputError, match="holds a run with runs=2; this one has runs=1. Choose another output_dir, or"):
        Run(**(SMALL | {"output_dir": str(tmp_path), "runs": 1})).open()
    carry_out(tmp_path)  # the same once more is no error


def test_replacing_keeps_the_old_run_until_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out(tmp_path)
    old = files.sha256(tmp_path / "draws.parquet")
    monkeypatch.setattr(origins, "draw", lambda *_, **__: (_ for _ in ()).throw(InputError("the power went out.")))
    with pytest.raises(InputError, match="power"):
        carry_out(tmp_path, seed=1, replace=True)
    assert json.loads((tmp_path / "run.json").read_text())["parameters"]["seed"] == 0
    assert files.sha256(tmp_path / "draws.parquet") == old
    monkeypatch.undo()
    carry_out(tmp_path, seed=1, replace=True)
    assert json.loads((tmp_path / "run.json").read_text())["parameters"]["seed"] == 1
    assert files.sha256(tmp_path / "draws.parquet") != old


def test_the_old_run_is_left_whole_where_the_new_one_cannot_be_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out(tmp_path)
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "ParquetWriter", full)
    with pytest.raises(InputError, match=r"draws\.parquet could not be written: No space left on device\."):
        carry_out(tmp_path, seed=1, replace=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == old


def test_new_draws_are_never_beside_the_record_of_an_old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out(tmp_path)
    old = files.sha256(tmp_path / "draws.parquet")
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_table", lambda *_: (_ for _ in ()).throw(InputError("the power went out.")))
        with pytest.raises(InputError, match="power"):
            carry_out(tmp_path, seed=1, replace=True)
    assert files.sha256(tmp_path / "draws.parquet") != old
    assert not (tmp_path / "run.json").exists()
    carry_out(tmp_path, seed=1)  # it is the unfinished run now, and needs no leave to replace
    assert (tmp_path / "run.json").exists()


def test_parts_of_other_code_are_refused_by_name_or_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path, monkeypatch, after=3)
    monkeypatch.setattr(parts, "code_hash", lambda *_: "0123456789")
    sampled = counting(monkeypatch)
    found = r"holds an unfinished run with hashes\.code='\w{8}'; this one has hashes\.code='01234567'\. Choose another"
    with pytest.raises(InputError, match=found):
        carry_out(tmp_path)
    assert len(part_times(tmp_path)) == 3
    carry_out(tmp_path, replace=True)
    assert sampled == [2, 2, 2, 2]
    monkeypatch.setattr(parts, "code_hash", lambda *_: "another")
    carry_out(tmp_path)  # a finished run, of which no draw is missing, is kept
    assert sampled == [2] * 4


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        parts.opened(tmp_path, {"parameters": parts.RUNS}, 2),
        pytest.raises(InputError, match="another run is writing to"),
    ):
        carry_out(tmp_path, replace=True)


def test_a_full_disk_ends_in_a_sentence_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: str
) -> None:
    monkeypatch.setattr(parts, "BLOCK", 2)
    with monkeypatch.context() as patch:
        calls: list[Any] = []

        def full(*args: Any) -> None:
            calls.append(args)
            if len(calls) > 3:
                raise OSError(28, "No space left on device")
            real(*args)

        real = os.replace
        patch.setattr(os, "replace", full)
        with pytest.raises(InputError, match=r"0002\.parquet could not be written: No space left on device\."):
            carry_out(tmp_path)
    sampled = counting(monkeypatch)
    carry_out(tmp_path)
    assert sampled == [2, 2]
    assert files.sha256(tmp_path / "draws.parquet") == undisturbed


def test_a_disk_that_becomes_read_only_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(InputError, match=r"a could not be written: Read-only file system\."):
            files.write_json({}, tmp_path / "a")
    (tmp_path / parts.PARTS).touch()
    with (
        pytest.raises(InputError, match=r"\.parts/\.lock could not be written: File exists\."),
        parts.opened(tmp_path, {}, 2),
    ):
        pass


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("run.json", {"parameters": []}, r"its parameters is \[\]"),
        ("run.json", {"parameters": {"runs": "x"}}, "its parameters is"),
        ("run.json", {"sha256": []}, r"its sha256 is \[\]"),
        ("run.json", {"seconds": None}, "its seconds is None"),
        ("run.json", {"draws": True}, "its draws is True"),
        (".parts/run.json", {"block": 0}, "its block is 0"),
        (".parts/run.json", {"block": "x"}, "its block is 'x'"),
        (".parts/run.json", {"block": -3}, "its block is -3"),
        (".parts/run.json", {"begun": None}, "its begun is None"),
    ],
    ids=str,
)
def test_a_run_json_that_can_be_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, change: dict[str, Any], said: str
) -> None:
    if file == "run.json":
        carry_out(tmp_path)
    else:
        interrupted(tmp_path, monkeypatch, after=1)
    path = tmp_path / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=rf"run.json is no record of a run: {said}.*\. Remove it, and"):
        carry_out(tmp_path, replace=True)


def test_decoders_and_hashes_of_another_run_may_be_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path, monkeypatch, after=1)
    path = tmp_path / ".parts" / "run.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"decoders": [1], "hashes": found["hashes"] | {"code": 5}}))
    with pytest.raises(InputError, match=r"an unfinished run with .*hashes\.code='5'"):
        carry_out(tmp_path)


def test_a_run_that_says_it_had_fewer_runs_than_it_has_is_drawn_again(tmp_path: Path) -> None:
    carry_out(tmp_path)
    whole, path = files.sha256(tmp_path / "draws.parquet"), tmp_path / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"parameters": record["parameters"] | {"runs": 1}}))
    carry_out(tmp_path)
    assert files.sha256(tmp_path / "draws.parquet") == whole


def test_draws_survive_the_round_trip(tmp_path: Path) -> None:
    written = draws()
    records.write_draws(written, tmp_path / records.DRAWS)
    read = records.read_draws(tmp_path)
    assert read["text"].tolist() == written["text"].tolist()
    assert [list(ids) for ids in read["token_ids"]] == written["token_ids"].tolist()
    assert read["mean_logprob"].tolist() == written["mean_logprob"].tolist()


def test_a_missing_column_is_no_draws_table(tmp_path: Path) -> None:
    with pytest.raises((KeyError, pa.ArrowInvalid)):
        records.write_draws(draws().drop(columns="text"), tmp_path / records.DRAWS)
    assert not list(tmp_path.iterdir())


def test_some_columns_are_read_alone(tmp_path: Path) -> None:
    records.write_draws(draws(), tmp_path / records.DRAWS)
    whole = records.read_draws(tmp_path)
    for names in (["run", "correct"], ["extracted"]):
        pd.testing.assert_frame_equal(records.read_draws(tmp_path, names), whole[names])


def test_extracted_integers_keep_every_digit(tmp_path: Path) -> None:
    large = draws().assign(extracted=pd.array([2**53 + 1, None] * 3, dtype="Int64"))
    records.write_draws(large, tmp_path / records.DRAWS)
    assert records.read_draws(tmp_path)["extracted"].dropna().tolist() == [2**53 + 1] * 3


def test_joined_parts_are_the_rows_of_all_in_order(tmp_path: Path) -> None:
    whole = draws()
    paths = [records.write_draws(whole.iloc[a:b], tmp_path / f"{a}") for a, b in ((0, 2), (2, 5), (5, 6))]
    parts.join_parts(paths, tmp_path)
    joined = records.read_draws(tmp_path)
    assert joined[["problem_id", "run", "text"]].equals(whole[["problem_id", "run", "text"]])
    assert parts.is_whole(paths[1], 3)
    assert not parts.is_whole(paths[1], 2)
    assert not parts.is_whole(tmp_path / "nowhere", 2)


def test_a_part_with_any_bit_flipped_is_not_whole_or_reads_the_same(tmp_path: Path) -> None:
    path = records.write_draws(draws(), tmp_path / "part")
    data, good = path.read_bytes(), records.read_part(path)
    rng = random.Random(0)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")  # it has no checksum
    damaged = 0
    for start in [0] * 100 + [footer] * 400:
        changed = bytearray(data)
        changed[rng.randrange(start, len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        if parts.is_whole(path, len(good)):
            parts.join_parts([path], tmp_path)
            pd.testing.assert_frame_equal(records.read_draws(tmp_path), good)
        else:
            damaged += 1
    assert damaged > 100
