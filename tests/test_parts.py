from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lmrel import InputError, Run, parts, records, run
from tests.conftest import ROOT
from tests.test_run import PARAMETERS

SMALL = PARAMETERS | {"limit": 4}
# A run in blocks of two problems, which a test may have kill itself: at the n-th rename, or in the middle of a write.
SCRIPT = """
import json, os, sys
import pyarrow.parquet as pq
from lmrel import Run, parts
parts.BLOCK = 2
parameters, kind, count = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
calls = 0
def dying(real, half):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == count:
            if half:
                open(args[1], "wb").write(b"PAR1 and no more")
            os.kill(os.getpid(), 9)
        return real(*args, **kwargs)
    return call
if kind == "rename":
    os.replace = dying(os.replace, False)
if kind == "write":
    pq.write_table = dying(pq.write_table, True)
Run(**parameters).carry_out(progress=False)
print(calls)
"""


def start(folder: Path, kind: str = "not", count: int = 0) -> tuple[int, str]:
    """The exit status, and what was printed last: the number of renames or writes."""
    parameters = json.dumps(SMALL | {"output_dir": str(folder)})
    command = [sys.executable, "-c", SCRIPT, parameters, kind, str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder)[0] == 0
    return records.sha256(folder / "draws.parquet")


@pytest.mark.parametrize(("kind", "count"), [("rename", 2), ("rename", 4), ("rename", 6), ("write", 3)])
def test_a_killed_run_goes_on_to_the_same_bytes_and_does_nothing_twice(
    tmp_path: Path, undisturbed: str, kind: str, count: int
) -> None:
    assert start(tmp_path, kind, count)[0] == -signal.SIGKILL
    finished = len(list((tmp_path / ".parts").glob("*-*.parquet")))
    assert finished == (count - 2 if kind == "rename" else count - 1)  # the first rename is that of .parts/run.json
    status, renames = start(tmp_path, "rename", 99)
    assert status == 0
    assert int(renames) == (4 - finished) + 3  # what was missing, then draws, summary, run.json
    assert records.sha256(tmp_path / "draws.parquet") == undisturbed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draws.parquet", "run.json", "summary.parquet"]


def carry_out(folder: Path, **changes: Any) -> Any:
    return Run(**(SMALL | {"output_dir": str(folder)} | changes)).carry_out(progress=False)


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """A run in parts of two problems that stops with an error once `after` of four are there; blocks sampled so far."""
    monkeypatch.setattr(parts, "BLOCK", 2)
    real, sampled = run.sample, []

    def failing(model: Any, tokenizer: Any, problems: Any, *args: Any, **kwargs: Any) -> Any:
        if len(sampled) == after:
            raise InputError("the power went out.")
        sampled.append(len(problems))
        return real(model, tokenizer, problems, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(run, "sample", failing)
        with pytest.raises(InputError, match="power"):
            carry_out(folder)
    return sampled


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    real, sampled = run.sample, []

    def counted(model: Any, tokenizer: Any, problems: Any, *args: Any, **kwargs: Any) -> Any:
        sampled.append(len(problems))
        return real(model, tokenizer, problems, *args, **kwargs)

    monkeypatch.setattr(run, "sample", counted)
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
        data[len(data) // 8] ^= 0xFF
        first.write_bytes(data)
    if damage == "short":
        records.write_part(records.read_part(second).head(3), first)
    sampled = counting(monkeypatch)
    carry_out(tmp_path)
    assert sampled == [2] * (1 if damage is None else 2)
    assert records.sha256(tmp_path / "draws.parquet") == undisturbed


def test_the_block_size_is_that_of_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: str
) -> None:
    interrupted(tmp_path, monkeypatch, after=1)
    monkeypatch.setattr(parts, "BLOCK", 5)
    sampled = counting(monkeypatch)
    carry_out(tmp_path)
    assert sampled == [2, 2, 2]
    assert records.sha256(tmp_path / "draws.parquet") == undisturbed


def test_other_parameters_are_refused_with_the_difference_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path, monkeypatch, after=1)
    theirs, ours = r"temperatures=\[0.0, 0.7\] and seed=0", r"temperatures=\[1.0\] and seed=3"
    with pytest.raises(InputError, match=f"holds an unfinished run with {theirs}; this one has {ours}"):
        Run(**(SMALL | {"output_dir": str(tmp_path), "temperatures": [1.0], "seed": 3}))
    carry_out(tmp_path)
    with pytest.raises(InputError, match="holds a run with runs=2; this one has runs=5. Choose another output_dir, or"):
        Run(**(SMALL | {"output_dir": str(tmp_path), "runs": 5}))
    carry_out(tmp_path)  # the same once more is no error


def test_replacing_keeps_the_old_run_until_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out(tmp_path)
    old = records.sha256(tmp_path / "draws.parquet")
    monkeypatch.setattr(run, "sample", lambda *_, **__: (_ for _ in ()).throw(InputError("the power went out.")))
    with pytest.raises(InputError, match="power"):
        carry_out(tmp_path, seed=1, replace=True)
    assert json.loads((tmp_path / "run.json").read_text())["parameters"]["seed"] == 0
    assert records.sha256(tmp_path / "draws.parquet") == old
    monkeypatch.undo()
    carry_out(tmp_path, seed=1, replace=True)
    assert json.loads((tmp_path / "run.json").read_text())["parameters"]["seed"] == 1
    assert records.sha256(tmp_path / "draws.parquet") != old


def test_parts_of_other_code_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    interrupted(tmp_path, monkeypatch, after=3)
    monkeypatch.setattr(parts, "code_hash", lambda: "other")
    sampled = counting(monkeypatch)
    carry_out(tmp_path)
    assert sampled == [2, 2, 2, 2]
    assert "an unfinished run had other hashes; starting again." in capsys.readouterr().out


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with parts.opened(tmp_path, {"parameters": {}}, 2), pytest.raises(InputError, match="another run is writing to"):
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
    assert records.sha256(tmp_path / "draws.parquet") == undisturbed
