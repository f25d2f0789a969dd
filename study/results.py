"""What finished runs left, read back: their summaries, how many draws they hold, when they were made.

The folders may be of other people's runs, so what a file holds is checked here; what a run is, is not known.
"""

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
    """The folders directly below `results` that hold a finished run, in order of name."""
    folder = as_path("results", results)
    return sorted(path.parent for path in folder.glob(f"[!.]*/{RUN}"))  # not the parts of one in `results` itself


def read_summaries(results: Path) -> pd.DataFrame:
    """The summaries of all finished runs directly below `results`, as one table.

    Column ``model`` is the folder's name, which no two runs share; ``checkpoint`` is the model's own name. `InputError`
    if there is no run, or a file holds something else.
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
    """How many draws the `runs`, folders below `results`, hold together."""
    return sum(_from_records(results, runs, "draws", int))


def started(results: Path, runs: Collection[str]) -> str:
    """The days on which the `runs` below `results` began, as in ``2026-11-24`` or ``2026-11-24 to 2026-11-25``."""
    days = sorted({moment[:10] for moment in _from_records(results, runs, "started", str)})
    return " to ".join(dict.fromkeys([days[0], days[-1]]))


def _from_records(results: Path, runs: Collection[str], name: str, kind: type) -> list[Any]:
    """What the run.json of each of `runs` below `results` has under `name`.

    `InputError` if there is no run, or a value is not of that kind: text, or a count.
    """
    if isinstance(runs, str) or not runs or not all(isinstance(run, str) for run in runs):
        raise InputError(f"the runs are {quoted(runs)}; they must be a list of folders below {results}.")
    found = []
    for run in runs:
        path = as_path("results", results) / run / RUN
        value = read_object(path, name)[name]
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise InputError(f"{path} is no record of a run: its {name} is {quoted(value)}.")
        found.append(value)
    return found
