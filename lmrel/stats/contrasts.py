"""Differences between two conditions, such as two temperatures: paired by problem, and with tests of equivalence.

Draws are rows with ``problem_id``, ``temperature`` and outcomes in [0, 1]. Both sides have the same problems, so what
makes a problem hard cancels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lmrel.errors import InputError, check_number, needs_columns, quoted
from lmrel.stats.inference import t_interval


@needs_columns("problem_id", empty=True)
def paired(first: pd.DataFrame, second: pd.DataFrame, column: str = "correct") -> np.ndarray:
    """The mean of `column` in `second` minus that in `first`, for each problem that both tables have: (problems,).

    Raises `InputError` if they have no problem in common.
    """
    for table in (first, second):
        if column not in table:
            raise InputError(f"the draws have no column {quoted(column)}.")
    before, after = (table.groupby("problem_id")[column].mean() for table in (first, second))
    differences = (after - before).dropna().to_numpy(dtype=float)
    if not len(differences):
        raise InputError("the two tables have no problem in common.")
    return np.asarray(differences)


def paired_difference(draws: pd.DataFrame, column: str, first: float, second: float) -> dict[str, float]:
    """Mean of `column` at temperature `second` minus at `first`, on the same problems, with a t interval.

    Keys ``difference, low, high, problems``. The draws must be of one model.
    """
    before, after = (draws[draws["temperature"] == temperature] for temperature in (first, second))
    differences = paired(before, after, column)
    mean, low, high = t_interval(differences)
    return {"difference": mean, "low": low, "high": high, "problems": len(differences)}


def equivalence(differences: np.ndarray, margin: float) -> dict[str, Any]:
    """Two one-sided t tests (Schuirmann 1987): whether the mean difference lies within ``-margin`` and ``margin``.

    Keys ``difference, low, high`` (the 90 % interval that decides at 5 %), ``p`` (the larger of the two) and
    ``equivalent``. A difference that is not significant is no evidence of equivalence; this is.
    """
    if len(differences) < 2 or np.isnan(differences).any():
        raise InputError(f"there are {len(differences)} differences; at least 2 are needed, and none may be missing.")
    check_number("margin", margin, 0.0, math.inf, open_below=True)
    mean, low, high = t_interval(differences, 0.90)
    error, df = differences.std(ddof=1) / math.sqrt(len(differences)), len(differences) - 1
    if error == 0:
        p = float(abs(mean) >= margin)
    else:
        p = float(max(stats.t.sf((mean + margin) / error, df), stats.t.cdf((mean - margin) / error, df)))
    return {"difference": mean, "low": low, "high": high, "p": p, "equivalent": p < 0.05}
