"""Differences between two conditions, such as two temperatures: paired by problem, and with tests of equivalence.

Draws are rows with ``problem_id``, ``temperature`` and outcomes in [0, 1]. Both sides have the same problems, so what
makes a problem hard cancels.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lmrel.errors import InputError, check_number, needs_columns, quoted
from lmrel.stats.inference import t_interval, variance_of_mean
from lmrel.stats.metrics import SETTING, clusters


@needs_columns("problem_id", empty=True)
def paired(first: pd.DataFrame, second: pd.DataFrame, column: str = "correct") -> pd.Series:
    """The mean of `column` in `second` minus that in `first`, by ``problem_id``, for the problems of both tables.

    Where both tables have a column ``cluster``, it is in the index, too: a problem of none known is one by itself.

    A difference of two such results is paired by problem again. The lower of the two means over problems is in
    ``attrs["level"]``. Raises `InputError` for a table of several settings, or if no problem is in both.
    """
    for table in (first, second):
        if column not in table:
            raise InputError(f"the draws have no column {quoted(column)}.")
        for name in table.columns.intersection(SETTING):
            values = table[name].unique().tolist()
            if len(values) > 1:
                raise InputError(f"the draws to pair are of {len(values)} settings, with {name} {quoted(values)}.")
    by, tables = ["problem_id"], [first, second]
    if "cluster" in first and "cluster" in second:
        known = pd.concat([table.set_index("problem_id")["cluster"].dropna() for table in tables]).to_dict()
        told = [
            table["cluster"].astype(object).fillna(table["problem_id"].map(known)) for table in tables
        ]  # by the other table
        by, tables = (
            [*by, "cluster"],
            [t.assign(cluster=clusters(t.assign(cluster=c))) for t, c in zip(tables, told, strict=True)],
        )
    means = pd.concat([table.groupby(by)[column].mean() for table in tables], axis=1, join="inner")
    before, after = (means.dropna().iloc[:, side].astype(float) for side in (0, 1))
    if before.empty:
        raise InputError("the two tables have no problem in common.")
    differences = after - before
    differences.attrs["level"] = float(min(before.mean(), after.mean()))
    return differences


@needs_columns("temperature")
def paired_difference(draws: pd.DataFrame, column: str, first: float, second: float) -> dict[str, float]:
    """Mean of `column` at temperature `second` minus at `first`, on the same problems, with a t interval.

    Keys ``difference, low, high, problems``. Raises `InputError` for draws of several models, or if there are none at
    one of the temperatures.
    """
    for temperature in (first, second):
        if not (draws["temperature"] == temperature).any():
            raise InputError(f"there is no draw at temperature {quoted(temperature)}.")
    before, after = (draws[draws["temperature"] == temperature] for temperature in (first, second))
    differences = paired(before, after, column)
    mean, low, high = t_interval(differences.to_numpy(), clusters=clusters_of(differences))
    return {"difference": mean, "low": low, "high": high, "problems": len(differences)}


def clusters_of(differences: Any) -> Any:
    """The cluster of each of `paired`'s differences; None where the tables named none."""
    names = getattr(getattr(differences, "index", None), "names", ())
    return differences.index.get_level_values("cluster") if "cluster" in names else None


def equivalence(differences: np.ndarray | pd.Series, margin: float) -> dict[str, Any]:
    """Two one-sided t tests (Schuirmann 1987): whether the mean difference lies within ``-margin`` and ``margin``.

    Keys ``difference, low, high`` (the 90 % interval that decides at 5 %), ``p`` (the larger of the two) and
    ``equivalent``. A difference that is not significant is no evidence of equivalence; this is. But from a level at or
    below the margin nothing can fall by it: for such differences of `paired`, it warns.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2 or np.isnan(values).any():
        lack = f"{np.isnan(values).sum()} of {len(values)} differences are missing, as for problems of one side only"
        raise InputError(f"{lack}; at least 2 are needed, and none may be missing.")
    check_number("margin", margin, 0.0, math.inf, open_below=True)
    clusters = clusters_of(differences)
    mean, low, high = t_interval(values, 0.90, clusters)
    variance, units = variance_of_mean(values, clusters)
    if units < 2:
        raise InputError("all differences are of one cluster; at least 2 are needed.")
    error, df = math.sqrt(variance), units - 1
    if error == 0:
        p = float(abs(mean) >= margin)
    else:
        p = float(max(stats.t.sf((mean + margin) / error, df), stats.t.cdf((mean - margin) / error, df)))
    said = floor(getattr(differences, "attrs", {}).get("level", math.inf), margin)
    if p < 0.05 and said:
        warnings.warn(said, stacklevel=2)
    return {"difference": mean, "low": low, "high": high, "p": p, "equivalent": p < 0.05}


def floor(level: float, margin: float) -> str:
    """What to say of equivalence where one side's mean is `level`; nothing where that is above the `margin`."""
    if level > margin:
        return ""
    side = f"one side has {level:.1%}, no more than the margin of {margin:.1%}"
    return f"{side}: so near a floor there is little to lose, and equivalence says little."
