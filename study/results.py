"""What finished runs left, read back: their summaries, how many draws they hold, when they were made."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from lmrel.errors import InputError, quoted, visible
from lmrel.files import as_pandas, as_path, read_object, read_table
from lmrel.records import RUN, SUMMARY

NUMBERS = {"temperature", "runs", "accuracy", "compliance", "confidence"}  # some columns of a summary


def find_runs(results: Path) -> list[Path]:
    """The folders below `results` that hold a finished run, in order of name."""
    folder = as_path("results", results)
    return sorted(path.parent for path in folder.glob(f"[!.]*/{RUN}"))  # not the parts of one in `results` itself


def read_summaries(results: Path) -> pd.DataFrame:
    """The summaries of all finished runs directly below `results`.

    ``model`` is the folder's name, which no two runs share; what it was before is ``checkpoint``.
    """
    folders = find_runs(results)
    if not folders:
        raise InputError(f"there is no finished run below {results}.")
    tables = []
    for folder in folders:
        path = folder / SUMMARY
        table = as_pandas(path, read_table(path))
        numbers = set(table.select_dtypes("number").columns)
        if not {"model", "task"} <= set(table) or not numbers >= NUMBERS or "checkpoint" in table:
            raise InputError(f"{path} holds no summary of a run.")
        tables.append(table.rename(columns={"model": "checkpoint"}).assign(model=visible(folder.name)))
    return pd.concat(tables, ignore_index=True)


def count_draws(results: Path, runs: Collection[str]) -> int:
    """Of `runs` below `results`, all together."""
    return sum(_of_records(results, runs, "draws", int))


def _of_records(results: Path, runs: Collection[str], name: str, kind: type) -> list[Any]:
    """What the run.json of each of `runs` below `results` has under `name`; `InputError` if there is no run."""
    if isinstance(runs, str) or not runs or not all(isinstance(run, str) for run in runs):
        raise InputError(f"the runs are {quoted(runs)}; they must be a list of folders below {results}.")
    paths = [as_path("results", results) / run / RUN for run in runs]
    found = [read_object(path, name)[name] for path in paths]
    for path, value in zip(paths, found, strict=True):
        if not isinstance(value, kind) or value is True or (isinstance(value, int) and value < 0):
            raise InputError(f"{path} is no record of a run: its {name} is {quoted(value)}.")
    return found


def decoders_of(results: Path, runs: Collection[str]) -> str:
    """For figures over several `runs` below `results`: the ids of their decoders, each once."""
    return "decoders " + ", ".join(dict.fromkeys(_of_records(results, runs, "decoding_id", str)))


def started(results: Path, runs: Collection[str]) -> str:
    """On which days the `runs` below `results` began, as in ``2026-11-24`` or ``2026-11-24 to 2026-11-25``."""
    days = sorted({moment[:10] for moment in _of_records(results, runs, "started", str)})
    return " to ".join(dict.fromkeys([days[0], days[-1]]))
