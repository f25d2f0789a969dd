"""What repeats of an evaluation allow: the smallest change that it can find, the margin, and a gate's false alarms.

From draws to a row a setting, and from a row to what more problems or runs would buy. Everything is a share, not
points, by the normal approximations of `lmrel.stats.design`. The module knows no page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from book.analysis import outputs
from lmrel.stats import design
from lmrel.stats.agreement import variance_split
from lmrel.stats.metrics import GROUP, SETTING, clusters, with_all

DATA = outputs.DATA / "design.parquet"
FALLS = (0.01, 0.02, 0.03, 0.05)  # by more than which a gate lets the accuracy fall
MAY_DIFFER = {"temperature": ("temperature", "decoder"), "model": ("model", "precision", "decoder")}  # from another


def gates(draws: pd.DataFrame) -> pd.DataFrame:
    """One row per setting with several runs, and task (and ``all``): what such an evaluation can and cannot tell.

    - ``problems, runs, accuracy``, and ``problem_variance`` and ``sampling_variance`` of a single draw as in
      `lmrel.stats.agreement.variance_split`; the former may be negative, and then counts as 0 in what follows;
    - ``error_same`` and ``error_new``: the standard error of the accuracy over new draws of the same problems, and over
      other problems;
    - ``smallest_shift``: the smallest change that is found with a chance of 80 % at 5 %, paired by problem, if it is
      the same on every problem, and ``margin``, the smallest that equivalence can show, likewise, of no change at all;
    - ``temperature_between`` and ``temperature_sampling``: the variances, as `design.power` takes them, of the change
      to the temperature ``other_temperature`` of the same model that is furthest, and ``smallest_change`` with these;
    - ``model_between``, ``model_sampling`` and ``smallest_model_change``, the same for ``other_model``, at the same
      temperature, whose accuracy is nearest;
    - for each of `FALLS` how often a gate fails a model that did not change: ``alarm_same_1`` on the same problems,
      ``alarm_new_1`` on others, at a fall of 1 point, and so on.

    What lacks another setting, or any variance, is NaN. Raises `InputError` where no setting has several runs.
    """
    # Numbers are many times faster to group than text; clusters are named before, which may be by their problem.
    clustered = (
        draws.assign(cluster=clusters(draws)) if "cluster" in draws and draws["cluster"].notna().any() else draws
    )
    numbered = clustered.assign(problem_id=pd.factorize(clustered["problem_id"])[0])
    several = numbered[numbered.groupby([*SETTING, "problem_id"])["run"].transform("size") > 1]
    table = variance_split(several)
    columns = [*GROUP, "problem_id", "run", "correct", *several.columns.intersection(["answer", "cluster"])]
    of_setting = dict(list(with_all(several[columns].dropna(axis="columns", how="all")).groupby(GROUP)))
    rows = [_row(row, table, of_setting) for row in table.to_dict("records")]
    return pd.DataFrame(rows).sort_values(GROUP, ignore_index=True)


def _row(row: dict[Any, Any], table: pd.DataFrame, of_setting: dict[Any, pd.DataFrame]) -> dict[Any, Any]:
    """What `gates` says of one setting, from its row of counts and variances, and those and the draws of all."""
    n, runs, sampling = row["problems"], row["runs"], row["sampling_variance"]
    problem = max(0.0, row["problem_variance"])
    found = row | {
        "error_same": math.sqrt(sampling / runs / n),
        "error_new": math.sqrt((problem + sampling / runs) / n),
        "smallest_shift": smallest(n, runs, 0.0, 2 * sampling),
        "margin": smallest(n, runs, 0.0, 2 * sampling, equivalence=True),
    }
    temperatures, models = (_others(row, table, name) for name in MAY_DIFFER)
    apart = temperatures["temperature"] - row["temperature"]
    nearest = (models["accuracy"] - row["accuracy"]).abs().sort_values(kind="stable")
    furthest = apart.abs().sort_values(kind="stable", ascending=False)
    for name, change, order in (("temperature", "change", furthest), ("model", "model_change", nearest)):
        other = None if order.empty else table.loc[order.index[0]]
        between, both = _of_pair(row, other, of_setting)
        found |= {f"other_{name}": math.nan if other is None else other[name], f"{name}_between": between}
        found |= {f"{name}_sampling": both, f"smallest_{change}": smallest(n, runs, between, both)}
    chances = alarms(problem, sampling, n, [round(runs)], FALLS).sort_values("fall", kind="stable")
    return found | {f"alarm_{at['where']}_{100 * at['fall']:g}": at["chance"] for at in chances.to_dict("records")}


def _others(row: dict[Any, Any], table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of the settings that differ from this one in `name`, and in nothing but what `MAY_DIFFER` with it."""
    alike = [column for column in GROUP if column not in MAY_DIFFER[name]]
    same = (table[alike] == pd.Series({column: row[column] for column in alike})).all(axis=1)
    return table[same & (table[name] != row[name])]


def _of_pair(row: Any, other: Any, of_setting: dict[Any, pd.DataFrame]) -> tuple[float, float]:
    """The variances ``between`` and ``sampling`` of the difference of two settings; NaN without another one."""
    if other is None:
        return math.nan, math.nan
    one, two = (of_setting[tuple(each[name] for name in GROUP)] for each in (row, other))
    if not one["problem_id"].isin(two["problem_id"]).any():
        return math.nan, math.nan
    found = design.variances([(one, two)])
    return found["between"], found["sampling"]


def smallest(problems: int, runs: float, between: float, sampling: float, **asked: Any) -> float:
    """`design.smallest`, but NaN where the variances are not known, or nothing varied, which decides nothing."""
    if math.isnan(between) or math.isnan(sampling) or between == sampling == 0:
        return math.nan
    return design.smallest(problems, runs, between, sampling, **asked)


def bought(between: float, sampling: float, problems: Sequence[int], runs: Sequence[int]) -> pd.DataFrame:
    """The smallest change that is found with a chance of 80 %: columns ``problems, runs, smallest``.

    The variances are those of the change, as `design.power` takes them.
    """
    rows = [(n, k, smallest(n, k, between, sampling)) for n in problems for k in runs]
    return pd.DataFrame(rows, columns=["problems", "runs", "smallest"])


def alarms(
    problem: float, sampling: float, problems: int, runs: Sequence[int], falls: Sequence[float], loss: float = 0.0
) -> pd.DataFrame:
    """How often a gate fails a model that lost `loss`: columns ``fall, runs, where, chance``.

    `problem` and `sampling` are the variances of a single draw. ``where`` is ``same`` for the same problems and
    ``new`` for as many others.
    """
    rows = [
        (fall, k, where, design.gate(fall, problems, k, between, 2 * sampling, loss))
        for k in runs
        for where, between in {"same": 0.0, "new": 2 * max(0.0, problem)}.items()
        for fall in falls
    ]
    return pd.DataFrame(rows, columns=["fall", "runs", "where", "chance"])


def thresholds(
    sampling: float, problems: Sequence[int], runs: Sequence[int], alarm: float = 0.05, chance: float = 0.8
) -> pd.DataFrame:
    """The fall at which a gate on the same problems gives a false `alarm` so often, and the loss that it then catches.

    Columns ``problems, runs, fall, loss``: the latter fails with so much `chance`. A gate is a one-sided test, so the
    fall is what a test at this level finds half the time.
    """
    rows = [
        (n, k, *(smallest(n, k, 0.0, 2 * sampling, chance=found, level=1 - 2 * alarm) for found in (0.5, chance)))
        for n in problems
        for k in runs
    ]
    return pd.DataFrame(rows, columns=["problems", "runs", "fall", "loss"])
