"""A run on its way to disk: its draws part by part, so that a killed one goes on; and what is kept of an older one.

While a run is going on, its folder holds ``.parts``: a run.json that says whose parts they are, and in each further
file the draws of some problems. They become draws.parquet; summary and the run's own run.json follow, ``.parts`` goes.
Nothing here knows a model or how draws are made: `complete` is given a function for that.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmrel import files
from lmrel.errors import InputError, quoted
from lmrel.files import writing
from lmrel.records import DRAWS, RUN, SUMMARY, read_draws, schema, write_draws
from study.code import sources

PARTS, LOCK = ".parts", ".lock"
BLOCK = 64  # problems in a part, at most
# The least that a run.json holds; a number is the least that it may be.
RUNS = {"runs": 1, "temperatures": [0.0]}
UNFINISHED: dict[str, Any] = {"parameters": RUNS, "block": 1}
FINISHED: dict[str, Any] = {
    "parameters": RUNS,
    "draws": 1,
    "sha256": {"draws": ""},
    "started": "",
    "device": "",
    "prompts": "",
    "seconds": {"load": 0.0, "check": 0.0, "sample": 0.0},
    "determinism": {"problems": 0, "draws": 0, "flipped": 0, "max_logit_difference": 0.0},
}


# What a folder holds already.


def refuse_other(folder: Path, parameters: Mapping[str, Any]) -> None:
    """Raise `InputError`, naming each difference, if `folder` holds a run with other parameters, finished or not.

    A finished run with fewer runs is no other: it will be extended.
    """
    ours = _as_read(parameters)
    for path, state in ((folder / RUN, "a run"), (folder / PARTS / RUN, "an unfinished run")):
        if path.exists():
            theirs = _read_record(path)["parameters"]
            if state == "a run" and theirs["runs"] < ours["runs"]:
                theirs = {**theirs, "runs": ours["runs"]}
            _refuse_difference(folder, state, theirs, ours)


def finished(folder: Path, parameters: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The run.json of the finished run in `folder` if its draws may be kept; {} otherwise.

    They may if they are on disk as they were written, and were drawn with these parameters, or fewer runs, from the
    same `inputs`: all else that draws depend on. `InputError` for a run.json that no run wrote.
    """
    path, draws = folder / RUN, folder / DRAWS
    if not path.exists():
        return {}
    record, ours = _read_record(path), _as_read(parameters)
    theirs = record["parameters"]
    same = all(theirs.get(name) == value for name, value in ours.items() if name != "runs")
    same = same and all(record.get(name) == value for name, value in _as_read(inputs).items())
    if not same or theirs["runs"] > ours["runs"]:
        return {}
    if not draws.exists() or files.sha256(draws) != record["sha256"]["draws"]:
        return {}
    # A run.json that was edited to say fewer runs would have some of them drawn twice.
    runs = read_draws(folder, ["run"])["run"].max() + 1
    return record if runs == (theirs["runs"] if any(ours["temperatures"]) else 1) else {}


def check_writable(folder: Path) -> None:
    """Make `folder` and try to write in it; `InputError` if that fails."""
    probe = folder / f".probe.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)  # a run in this folder may have cleaned it up
    except UnicodeEncodeError as error:
        raise InputError(f"output_dir is {str(folder)!r}, which this machine's file names cannot hold.") from error
    except OSError as error:
        raise InputError(f"output_dir is {str(folder)!r}, which cannot be written to: {error.strerror}.") from error


def tidy(folder: Path) -> None:
    """Remove the parts of the finished run in `folder` if it was killed right before it did so itself."""
    path = folder / PARTS / RUN
    if not path.exists():
        return
    found = _read_record(path)
    parameters = found["parameters"]
    inputs = {name: value for name, value in found.items() if name not in ("parameters", "block")}
    record = finished(folder, parameters, inputs)
    if record and record["parameters"]["runs"] == parameters["runs"]:
        _remove(folder / PARTS)


# The parts of a run that is going on.


@contextmanager
def opened(
    folder: Path, identity: Mapping[str, Any], block: int, *, replace: bool = False
) -> Iterator[tuple[Path, int]]:
    """The folder for the parts of the run with this `identity`, and how many problems each has: `block` if it is new.

    Parts of the same run are kept, and their block size with them. Parts of another one, be it only of another
    version of lmrel or of torch, are removed with `replace`; without, they raise an `InputError` that names each
    difference. So does a second run that comes while one holds the folder. The parts are removed when the block ends.
    """
    parts = folder / PARTS
    with files.locked(parts / LOCK, f"another run is writing to {folder}; wait for it to end."):
        path, ours = parts / RUN, _as_read(identity)
        theirs = _read_record(path) if path.exists() else {}
        if {name: theirs.get(name) for name in ours} != ours:
            if theirs and not replace:
                _refuse_difference(folder, "an unfinished run", _flat(theirs), _flat(ours))
            with writing(parts):
                for old in parts.iterdir():
                    if old.name != LOCK:
                        old.unlink()
            theirs = {**ours, "block": block}
            files.write_json(theirs, path)
        with writing(folder):  # what a process left half-written when it was killed
            for pattern in (DRAWS, SUMMARY, RUN, "probe"):
                for old in folder.glob(f".{pattern}.*"):
                    old.unlink(missing_ok=True)
            for old in parts.glob(".*.*"):
                old.unlink()
        yield parts, theirs["block"]
        _remove(parts)


def _remove(parts: Path) -> None:
    """Remove the parts of a complete run; one that stays does no harm."""
    last = (RUN, LOCK)  # while there are parts, run.json says whose they are
    with suppress(OSError):
        for path in sorted(parts.iterdir(), key=lambda path: last.index(path.name) if path.name in last else -1):
            path.unlink()
        parts.rmdir()


def complete(
    parts: Path,
    name: str,
    problems: pd.DataFrame,
    block: int,
    n_draws: int,
    draw: Callable[[pd.DataFrame], pd.DataFrame],
) -> list[Path]:
    """The files of all parts, in the order of `problems`: ``NAME-0000.parquet`` and so on in the folder `parts`.

    One that is missing, damaged, or has other than `n_draws` rows for each of its problems is written anew, with what
    `draw` returns for them.
    """
    paths = []
    for number, start in enumerate(range(0, len(problems), block)):
        some = problems.iloc[start : start + block]
        path = parts / f"{name}-{number:04d}.parquet"
        if not is_whole(path, len(some) * n_draws):
            write_draws(draw(some), path)
        paths.append(path)
    return paths


def merged(old: pd.DataFrame, new: pd.DataFrame, problems: pd.DataFrame, temperatures: Sequence[float]) -> pd.DataFrame:
    """Those draws of both that are of `problems`, in the order in which `lmrel.sample` gives them."""
    order = {name: number for number, name in enumerate(problems["problem_id"])}
    both = pd.concat([old[old["problem_id"].isin(order.keys())], new], ignore_index=True)
    decoder = both["temperature"].map({temperature: number for number, temperature in enumerate(temperatures)})
    return both.iloc[np.lexsort((both["run"], decoder, both["problem_id"].map(order)))]


def is_whole(path: Path, rows: int) -> bool:
    """Whether `path` is an undamaged part with that many rows."""
    try:
        return path.exists() and _read_part(path).num_rows == rows
    except InputError:
        return False


def join_parts(paths: Sequence[Path], folder: Path) -> Path:
    """Write the draws of all parts, in their order, as ``folder/draws.parquet``; one part at a time is in memory."""
    return join_tables(map(_read_part, paths), folder)


def join_tables(tables: Iterable[pa.Table], folder: Path) -> Path:
    """Write `tables` of draws, in their order, as ``folder/draws.parquet``.

    The run.json of an older run goes at the last moment: new draws are never beside it.
    """

    def write(temporary: Path) -> None:
        rest = iter(tables)
        first = next(rest)
        with pq.ParquetWriter(temporary, first.schema, write_page_checksum=True) as writer:
            for table in chain([first], rest):
                writer.write_table(table)

    return files.atomically(folder / DRAWS, write, before=lambda: (folder / RUN).unlink(missing_ok=True))


def _read_part(path: Path) -> pa.Table:
    table = files.read_table(path)
    try:
        return table.cast(schema(table.schema))
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path} holds no draws: {str(error).splitlines()[0]}") from error


# Whether two runs are the same.


def code_hash(*modules: str) -> str:
    """One hash over the source files of `modules` and of what they import."""
    return files.sha256(*sources(*modules))


def problems_hash(problems: pd.DataFrame) -> str:
    """One hash over the problems in their order."""
    return hashlib.sha256(problems.to_json(orient="records").encode()).hexdigest()


def _as_read(value: Mapping[str, Any]) -> dict[str, Any]:
    """`value` as it would come back from a JSON file, where tuples are lists, to be compared with what does."""
    return dict(json.loads(json.dumps(value)))


def _refuse_difference(folder: Path, state: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    names = [name for name in ours if theirs.get(name) != ours[name]]
    if names:
        said = [" and ".join(f"{name}={side.get(name)!r}" for name in names) for side in (theirs, ours)]
        raise InputError(
            f"{folder} holds {state} with {said[0]}; this one has {said[1]}. "
            "Choose another output_dir, or pass replace=True."
        )


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots, decoders by their ids and hashes by eight digits: short enough for a sentence."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if name == "decoders":
            flat[prefix + name] = [decoder["id"] for decoder in value] if _is_like(value, [{"id": ""}]) else value
        elif isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = str(value)[:8] if prefix == "hashes." and value else value
    return flat


def _read_record(path: Path) -> dict[str, Any]:
    """The run.json at `path`, of a finished run or of parts; `InputError` if no run wrote it like that."""
    try:
        found = files.read_object(path, "parameters")
    except InputError as error:
        raise InputError(f"{error} Remove it to start again.") from error
    for name, like in (UNFINISHED if path.parent.name == PARTS else FINISHED).items():
        if not _is_like(found.get(name), like):
            raise InputError(
                f"{path} is no record of a run: its {name} is {quoted(found.get(name))}. Remove it to start again."
            )
    return found


def _is_like(value: Any, like: Any) -> bool:
    """Whether `value` has all that `like` has, of the same kinds, and numbers no smaller."""
    if isinstance(like, dict):
        return isinstance(value, dict) and all(_is_like(value.get(name), inner) for name, inner in like.items())
    if isinstance(like, list):
        return isinstance(value, list) and all(_is_like(one, like[0]) for one in value)
    if isinstance(value, bool) or not isinstance(value, (int, float) if isinstance(like, float) else type(like)):
        return False
    return isinstance(like, str) or value >= like
