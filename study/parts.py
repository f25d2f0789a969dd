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
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmrel import files
from lmrel.checkpoint import resolve
from lmrel.errors import InputError, quoted
from lmrel.files import writing
from lmrel.parameters import Parameters
from lmrel.records import DRAWS, RUN, SUMMARY, read_draws, schema, write_draws
from study.code import sources

PARTS, LOCK = ".parts", ".lock"
HOW = ("output_dir", "replace", "shards", "shard", "determinism", "requests_at_once")  # no draw depends on these
BLOCK = 64  # problems in a part, at most
# What run.json says of how draws were made, and does not make them those of another run: a new version of pandas or
# another GPU throws nothing away.
NOTED = ("versions", "device", "threads")
# The least that a run.json holds; a number is the least that it may be.
RUNS = {"runs": 1, "temperatures": [0.0]}
UNFINISHED: dict[str, Any] = {"parameters": RUNS, "block": 1, "begun": [{}]}
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


def identifying(parameters: Parameters) -> dict[str, Any]:
    """Those of the `parameters` that make a run this one and no other; into how many shards it was divided does not."""
    other = set(HOW) - (set() if parameters.shard is None else {"shards", "shard"})
    return {name: value for name, value in asdict(parameters).items() if name not in other}


def refuse_other(folder: Path, parameters: Mapping[str, Any]) -> None:
    """Raise `InputError`, naming each difference, if `folder` holds a run with other parameters, finished or not.

    A finished run with fewer runs or temperatures is no other: it will be extended.
    """
    ours = _as_read(parameters)
    for path, state in ((folder / RUN, "a run"), (folder / PARTS / RUN, "an unfinished run")):
        if path.exists():
            theirs = _read_record(path)["parameters"]
            if state == "a run" and _extends(ours, theirs):
                theirs = {**theirs, **{name: ours[name] for name in RUNS}}
            _refuse_difference(folder, state, theirs, ours)


@dataclass(frozen=True)
class Held:
    """What a folder holds of a run that is asked for.

    `record` is the run.json of a finished run whose draws are on disk as they were written, {} where there is none.
    `differs` names what its draws depend on that is another now: each with the value that it had and the one it has.
    """

    record: dict[str, Any]
    differs: dict[str, tuple[Any, Any]]

    @property
    def same(self) -> bool:
        """Whether there are finished draws, and they belong to the run that is asked for."""
        return bool(self.record) and not self.differs

    def complete(self, parameters: Mapping[str, Any]) -> bool:
        """Whether there are as many draws as `parameters` ask for; a run at temperature 0 alone has no more runs."""
        theirs, temperatures = self.record["parameters"], set(parameters["temperatures"])
        enough = theirs["runs"] == parameters["runs"] or temperatures == {0}
        return enough and set(theirs["temperatures"]) == temperatures

    def kept(self, parameters: Mapping[str, Any]) -> bool:
        """Whether it stays as it is: no draw is missing, and if anything is another now, it is the code alone."""
        return bool(self.record) and self.complete(parameters) and set(self.differs) <= {"hashes.code"}

    def said(self) -> str:
        """The differences in words, as in ``runs 24 → 4, seed 0 → 1``."""
        pairs = [(name, *map(partial(_brief, name), pair)) for name, pair in self.differs.items()]
        return ", ".join(f"{name} {before!r} → {now!r}" for name, before, now in pairs)


def held(folder: Path, parameters: Mapping[str, Any], inputs: Mapping[str, Any]) -> Held:
    """What `folder` holds of the run with these `parameters`, drawn from these `inputs`: all else that draws depend on.

    Fewer runs or temperatures are no difference, and neither is what is only `NOTED`. `InputError` for a run.json that
    no run wrote.
    """
    path, draws = folder / RUN, folder / DRAWS
    if not path.exists():
        return Held({}, {})
    record = _read_record(path)
    theirs = record["parameters"]
    if not draws.exists() or files.sha256(draws) != record["sha256"]["draws"]:
        return Held({}, {})
    # A run.json that was edited to say fewer runs would have some of them drawn twice.
    runs = read_draws(folder, ["run"])["run"].max() + 1
    if runs != (theirs["runs"] if any(theirs["temperatures"]) else 1):
        return Held({}, {})
    return Held(record, differences(record, parameters, inputs))


def recorded(folder: Path, parameters: Mapping[str, Any]) -> Held:
    """What the run.json in `folder` says of the run with these `parameters`; unlike `held`, its draws are not read."""
    path = folder / RUN
    record = _read_record(path) if path.exists() else {}
    return Held(record, differences(record, parameters, {}) if record else {})


def begun(folder: Path, parameters: Mapping[str, Any], inputs: Mapping[str, Any]) -> Held:
    """What `folder` holds of an unfinished run, as `held` says it of a finished one; ``draws`` counts what is there."""
    path = folder / PARTS / RUN
    if not path.exists():
        return Held({}, {})
    record = _read_record(path)
    theirs = record["parameters"]
    draws = sum(map(_rows, path.parent.glob("[!.]*-*.parquet")))
    pairs = differences(record, parameters, inputs)
    pairs |= {name: (theirs[name], now) for name, now in _as_read(parameters).items() if name in RUNS}
    return Held({**record, "draws": draws}, {name: pair for name, pair in pairs.items() if pair[0] != pair[1]})


def count_draws(folder: Path) -> int:
    """How many draws `folder` holds, of a finished run or in the parts of another."""
    if (folder / RUN).exists():
        return int(_read_record(folder / RUN)["draws"])
    return sum(map(_rows, (folder / PARTS).glob("[!.]*-*.parquet")))


def differences(
    record: Mapping[str, Any], parameters: Mapping[str, Any], inputs: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """What differs between the run in `record` and the one with these `parameters` and `inputs`: see `held`."""
    ours, theirs = _as_read(parameters), record["parameters"]
    grows = RUNS if _extends(ours, theirs) else ()
    pairs = {name: (theirs.get(name), value) for name, value in ours.items() if name not in grows}
    now = {name: value for name, value in _as_read(inputs).items() if name not in NOTED}
    before = _flat({name: record.get(name) for name in now})
    pairs |= {name: (before.get(name), value) for name, value in _flat(now).items()}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _extends(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether a run with our parameters has all draws of theirs, as far as runs and temperatures go."""
    return bool(theirs["runs"] <= ours["runs"] and set(theirs["temperatures"]) <= set(ours["temperatures"]))


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
    inputs = {name: value for name, value in found.items() if name not in ("parameters", "block", "begun")}
    finished = held(folder, parameters, inputs)
    if finished.same and finished.complete(parameters):
        _remove(folder / PARTS)


# The parts of a run that is going on.


@contextmanager
def opened(
    folder: Path, identity: Mapping[str, Any], block: int, *, replace: bool = False
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder for the parts of the run with this `identity`, and their run.json.

    Its ``block`` says how many problems each part has, `block` if it is new. Parts of the same run are kept, and under
    ``begun`` stands what is `NOTED` of each start that found it changed. Parts of another run are removed with
    `replace`; without, they raise an `InputError` that names each difference. So does a second run that comes while one
    holds the folder. The parts are removed when the block ends.
    """
    parts = folder / PARTS
    with files.locked(parts / LOCK, f"another run is writing to {folder}; wait for it to end."):
        path, given = parts / RUN, _as_read(identity)
        ours = {name: value for name, value in given.items() if name not in NOTED}
        noted = {name: value for name, value in given.items() if name in NOTED}
        theirs = _read_record(path) if path.exists() else {}
        if {name: theirs.get(name) for name in ours} != ours:
            if theirs and not replace:
                _refuse_difference(folder, "an unfinished run", _flat(theirs), _flat(ours))
            with writing(parts):
                for old in parts.iterdir():
                    if old.name != LOCK:
                        old.unlink()
            theirs = {**ours, "block": block, "begun": []}
        if noted not in theirs["begun"]:
            theirs = {**theirs, "begun": [*theirs["begun"], noted]}
            files.write_json(theirs, path)
        with writing(folder):  # what a process left half-written when it was killed
            for pattern in (DRAWS, SUMMARY, RUN, "probe"):
                for old in folder.glob(f".{pattern}.*"):
                    old.unlink(missing_ok=True)
            for old in parts.glob(".*.*"):
                old.unlink()
        yield parts, theirs
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


def in_order(draws: pd.DataFrame, problems: pd.DataFrame, temperatures: Sequence[float]) -> pd.DataFrame:
    """Those of the `draws` that are of `problems`, in the order in which `lmrel.sample` gives them."""
    order = {name: number for number, name in enumerate(problems["problem_id"])}
    some = draws[draws["problem_id"].isin(order.keys())]
    decoder = some["temperature"].map({temperature: number for number, temperature in enumerate(temperatures)})
    return some.iloc[np.lexsort((some["run"], decoder, some["problem_id"].map(order)))]


def is_whole(path: Path, rows: int) -> bool:
    """Whether `path` is an undamaged part with that many rows."""
    try:
        return path.exists() and _read_part(path).num_rows == rows
    except InputError:
        return False


def _rows(path: Path) -> int:
    """How many draws a part says that it has; none if it is damaged."""
    with suppress(OSError, pa.ArrowException):
        return int(pq.read_metadata(path).num_rows)
    return 0


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


def checkpoint_hashes(model: str) -> dict[str, str | None]:
    """One hash over the weights of a `model` in a folder or file, one over its configuration and its tokenizer.

    None for a repo id, which has a revision.
    """
    local = Path(resolve(model))
    weights = [local] if local.is_file() else sorted(local.glob("*.safetensors"))
    config = sorted([*local.glob("*.json"), *local.glob("*.jinja")])
    return {
        "weights": files.sha256(*weights) if weights else None,
        "config": files.sha256(*config) if config else None,
    }


def problems_hash(problems: pd.DataFrame) -> str:
    """One hash over the problems in their order."""
    return hashlib.sha256(problems.to_json(orient="records").encode()).hexdigest()


def _as_read(value: Mapping[str, Any]) -> dict[str, Any]:
    """`value` as it would come back from a JSON file, where tuples are lists, to be compared with what does."""
    return dict(json.loads(json.dumps(value)))


def _refuse_difference(folder: Path, state: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    names = [name for name in ours if theirs.get(name) != ours[name]]
    if names:
        said = [" and ".join(f"{name}={_brief(name, side.get(name))!r}" for name in names) for side in (theirs, ours)]
        raise InputError(
            f"{folder} holds {state} with {said[0]}; this one has {said[1]}. "
            "Choose another output_dir, or pass replace=True."
        )


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots, and decoders by their ids."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if name == "decoders":
            flat[prefix + name] = [decoder["id"] for decoder in value] if _is_like(value, [{"id": ""}]) else value
        elif isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _brief(name: str, value: Any) -> Any:
    """A value as a sentence shows it: of a hash eight digits."""
    return str(value)[:8] if value and name.startswith("hashes.") else value


def _read_record(path: Path) -> dict[str, Any]:
    """The run.json at `path`, of a finished run or of parts; `InputError` if no run wrote it like that."""
    try:
        found = files.read_object(path, "parameters")
    except InputError as error:
        raise InputError(f"{error} Remove it, and all is drawn again.") from error
    for name, like in (UNFINISHED if path.parent.name == PARTS else FINISHED).items():
        if not _is_like(found.get(name), like):
            lack = f"its {name} is {quoted(found.get(name))}"
            raise InputError(f"{path} is no record of a run: {lack}. Remove it, and all is drawn again.")
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
