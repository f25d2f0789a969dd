"""What a run leaves behind: one row per draw in Parquet, a summary, and run.json, each written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmrel import files, records
from lmrel.errors import InputError, quoted
from lmrel.files import atomically, read_object, read_table, writing
from lmrel.records import DRAWS, DRAWS_SCHEMA, RUN
from study.code import sources

PARTS = ".parts"
DRAWN_BY = ("lmrel.sampling", "lmrel.models")  # by these, and what they import, draws are made
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
    "seconds": {"load": 0.0, "sample": 0.0},
    "determinism": {"problems": 0, "draws": 0, "flipped": 0, "max_logit_difference": 0.0},
}


def refuse_other(folder: Path, parameters: Mapping[str, Any]) -> None:
    """Raise `InputError`, naming each difference, if `folder` holds a run with other parameters, finished or not.

    A finished run with fewer runs is no other: it will be extended.
    """
    ours = _plain(parameters)
    for path, state in ((folder / records.RUN, "a run"), (folder / PARTS / records.RUN, "an unfinished run")):
        if path.exists():
            theirs = _read(path)["parameters"]
            if state == "a run" and theirs["runs"] < ours["runs"]:
                theirs = {**theirs, "runs": ours["runs"]}
            _refuse_difference(folder, state, theirs, ours)


def finished(folder: Path, parameters: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The run.json of a finished run in `folder` with these inputs and parameters, or with fewer runs; {} without one.

    `inputs` are what else its draws depend on. They are on disk as they were written.
    """
    path = folder / records.RUN
    if not path.exists():
        return {}
    record, ours = _read(path), _plain(parameters)
    theirs = record["parameters"]
    if theirs["runs"] > ours["runs"]:
        return {}
    if any(theirs.get(name) != value for name, value in ours.items() if name != "runs"):
        return {}
    if any(record.get(name) != value for name, value in _plain(inputs).items()):
        return {}
    draws = folder / records.DRAWS
    if not draws.exists() or files.sha256(draws) != record["sha256"]["draws"]:
        return {}
    runs = records.read_draws(folder, ["run"])["run"].max() + 1
    return record if runs == (theirs["runs"] if any(ours["temperatures"]) else 1) else {}


def merged(old: pd.DataFrame, new: pd.DataFrame, problems: pd.DataFrame, temperatures: Sequence[float]) -> pd.DataFrame:
    """The draws of both for `problems`, in the order in which `lmrel.sample` gives them."""
    place = {name: number for number, name in enumerate(problems["problem_id"])}
    both = pd.concat([old[old["problem_id"].isin(place.keys())], new], ignore_index=True)
    decoder = both["temperature"].map({temperature: number for number, temperature in enumerate(temperatures)})
    return both.iloc[np.lexsort((both["run"], decoder, both["problem_id"].map(place)))]


def _refuse_difference(folder: Path, state: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    names = [name for name in ours if theirs.get(name) != ours[name]]
    if names:
        said = [" and ".join(f"{name}={side.get(name)!r}" for name in names) for side in (theirs, ours)]
        raise InputError(
            f"{folder} holds {state} with {said[0]}; this one has {said[1]}. "
            "Choose another output_dir, or pass replace=True."
        )


@contextmanager
def opened(
    folder: Path, identity: Mapping[str, Any], block: int, *, replace: bool = False
) -> Iterator[tuple[Path, int]]:
    """The folder for the parts of this run, and the problems in each; a second run there meanwhile is refused.

    Parts of the same run are kept, and their block size with them. Parts of another one, be it only of another
    version of lmrel or of torch, are removed with `replace`. Otherwise they raise an `InputError` that names each
    difference, as does a folder that is in use.
    """
    parts = folder / PARTS
    with writing(parts):
        parts.mkdir(exist_ok=True)
    with files.locked(parts, f"another run is writing to {folder}; wait for it to end."):
        path, wanted = parts / records.RUN, _plain(identity)
        found = _read(path) if path.exists() else {}
        if {name: found.get(name) for name in wanted} != wanted:
            if found and not replace:
                _refuse_difference(folder, "an unfinished run", _flat(found), _flat(wanted))
            with writing(parts):
                for old in parts.iterdir():
                    old.unlink()
            found = {**wanted, "block": block}
            files.write_json(found, path)
        with writing(folder):
            for pattern in (records.DRAWS, records.SUMMARY, records.RUN, "probe"):
                for old in folder.glob(f".{pattern}.*"):
                    old.unlink(missing_ok=True)  # half-written by a process that was killed
            for old in parts.glob(".*"):
                old.unlink()
        yield parts, found["block"]
        _remove(parts)


def tidy(folder: Path) -> None:
    """Remove the parts of the finished run in `folder`, which was killed right before it did so itself."""
    path = folder / PARTS / records.RUN
    if not path.exists():
        return
    found = _read(path)
    parameters = found["parameters"]
    inputs = {name: value for name, value in found.items() if name not in ("parameters", "block")}
    record = finished(folder, parameters, inputs)
    if record and record["parameters"]["runs"] == parameters["runs"]:
        _remove(folder / PARTS)


def _remove(parts: Path) -> None:
    """Once the run is complete; what stays here harms nothing. What says whose they are goes last."""
    with suppress(OSError):
        for path in sorted(parts.iterdir(), key=lambda path: path.name == records.RUN):
            path.unlink()
        parts.rmdir()


def complete(
    parts: Path, name: str, problems: pd.DataFrame, block: int, draws: int, draw: Callable[[pd.DataFrame], pd.DataFrame]
) -> list[Path]:
    """The files of all parts, in order; those that are missing or damaged are made by `draw` from their problems.

    `draws` are the rows that each problem has.
    """
    paths = []
    for number, start in enumerate(range(0, len(problems), block)):
        some = problems.iloc[start : start + block]
        path = parts / f"{name}-{number:04d}.parquet"
        if not is_whole(path, len(some) * draws):
            write_part(draw(some), path)
        paths.append(path)
    return paths


def code_hash() -> str:
    """One hash over the modules of lmrel that draws are made by."""
    return files.sha256(*sources(*DRAWN_BY))


def problems_hash(problems: pd.DataFrame) -> str:
    """One hash over the problems in their order."""
    return hashlib.sha256(problems.to_json(orient="records").encode()).hexdigest()


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


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from a file."""
    return dict(json.loads(json.dumps(value)))


def _read(path: Path) -> dict[str, Any]:
    """A run.json, finished or not; `InputError` if it can be none."""
    try:
        found = read_object(path, "parameters")
    except InputError as error:
        raise InputError(f"{error} Remove it to start again.") from error
    kind = UNFINISHED if path.parent.name == PARTS else FINISHED
    for name, like in kind.items():
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


def write_part(draws: pd.DataFrame, path: Path) -> Path:
    """`draws`, checked against `DRAWS_SCHEMA`, as one Parquet file with checksums."""
    table = pa.Table.from_pandas(draws, schema=DRAWS_SCHEMA, preserve_index=False)
    return atomically(path, lambda temporary: pq.write_table(table, temporary, write_page_checksum=True))


def is_whole(path: Path, rows: int) -> bool:
    """Whether `path` is an undamaged part with that many rows."""
    try:
        return path.exists() and _read_as_draws(path).num_rows == rows
    except InputError:
        return False


def join_parts(paths: Sequence[Path], folder: Path) -> Path:
    """The parts in their order as ``folder/draws.parquet``, one at a time in memory."""
    return join_tables(map(_read_as_draws, paths), folder)


def join_tables(tables: Iterable[pa.Table], folder: Path) -> Path:
    """Tables of draws in their order as ``folder/draws.parquet``.

    An older run's run.json goes at the last moment: from here on until the new one is written the run is unfinished.
    """

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, DRAWS_SCHEMA, write_page_checksum=True) as writer:
            for table in tables:
                writer.write_table(table)

    return atomically(folder / DRAWS, write, before=lambda: (folder / RUN).unlink(missing_ok=True))


def _read_as_draws(path: Path) -> pa.Table:
    table = read_table(path)
    try:
        return table.cast(DRAWS_SCHEMA)
    except (ValueError, pa.ArrowException) as error:
        raise InputError(f"{path} holds no draws: {str(error).splitlines()[0]}") from error
