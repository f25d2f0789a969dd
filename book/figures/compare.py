"""Tables of the page that compares runs. Every cell is text; the numbers come from `lmrel.stats`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from book.figures.text import percent_with_interval, plain
from lmrel import records
from lmrel.errors import InputError, quoted
from lmrel.files import as_path
from lmrel.parameters import as_list
from lmrel.stats.comparison import Comparison, compare
from lmrel.stats.contrasts import paired_difference
from lmrel.stats.inference import with_interval


def other_runs(summary: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and compliance of runs that need not be alike, each with its model, problems, prompt and decoding.

    `summary` comes from `study.results.read_summaries`.
    """
    whole = summary[summary["task"] == "all"]
    columns = {
        "run": whole["model"],
        "model": whole["checkpoint"],
        "precision": whole["precision"],
        "problems": whole["problems"],
        "prompt": whole["prompt_style"],
        "decoding": whole["decoding"],
        "T": whole["temperature"].map("{:g}".format),
        "accuracy": whole.apply(percent_with_interval, axis=1, name="accuracy"),
        "compliance": whole.apply(percent_with_interval, axis=1, name="compliance"),
    }
    return plain(pd.DataFrame(columns))


def changes(draws: pd.DataFrame, first: float = 0.0, second: float = 1.0) -> pd.DataFrame:
    """The paired change of accuracy of each model from temperature `first` to `second`, with a 95 % interval.

    Columns ``model, difference, low, high, problems``; a model without draws at both temperatures has no row.
    """
    rows = []
    for model, own in draws.groupby("model", sort=False):
        if {first, second} <= set(own["temperature"]) and own["problem_id"].nunique() > 1:
            rows.append({"model": model, **paired_difference(own, "correct", first, second)})
    return pd.DataFrame(rows, columns=["model", "difference", "low", "high", "problems"])


def changes_of(results: Path, runs: Sequence[str]) -> pd.DataFrame:
    """The `changes` of `runs`, folders below `results`. Only one run's draws are held at a time."""
    columns = ["temperature", "run", "problem_id", "correct"]
    if not runs:
        raise InputError(f"there are no runs below {results} to compare.")
    tables = [changes(records.read_draws(as_path("results", results) / run, columns).assign(model=run)) for run in runs]
    return pd.concat(tables, ignore_index=True)


def shown_changes(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `changes` in percentage points, as text."""
    change = [with_interval(*row) for row in 100 * table[["difference", "low", "high"]].to_numpy()]
    return plain(pd.DataFrame({"model": table["model"], "change of accuracy, points": change}))


def comparisons(results: Path, runs: Sequence[str], **options: Any) -> dict[tuple[str, str], Comparison | InputError]:
    """Each pair of `runs`, folders below `results`, as `lmrel.compare` finds it with `options`, or why it cannot.

    Lists may be written as text, as papermill's ``-p`` does.
    """
    place, runs = as_path("results", results), as_list(runs)
    options = {name: as_list(value) for name, value in options.items()}
    if isinstance(runs, str) or len(set(runs)) < max(2, len(runs)):
        raise InputError(f"runs is {quoted(runs)}; it must be a list of at least two folders, each once.")
    found: dict[tuple[str, str], Comparison | InputError] = {}
    for a, b in combinations(runs, 2):
        try:
            found[a, b] = compare(place / a, place / b, **options)
        except InputError as error:
            found[a, b] = error
    return found


def shown_pairs(found: Mapping[tuple[str, str], Comparison | InputError]) -> pd.DataFrame:
    """The `comparisons` as text: a row per pair, the difference of drops in points, and what that says of the first."""
    rows = []
    for (a, b), one in found.items():
        if isinstance(one, InputError):
            cells = {"difference of drops, points": "", "the first": f"not compared: {one}"}
        else:
            difference = with_interval(*(100 * end for end in (one.difference, one.low, one.high)))
            cells = {"difference of drops, points": difference, "the first": one.verdict}
        rows.append({"run": a, "against": b} | cells)
    return plain(pd.DataFrame(rows))
