"""What a study can find: the probability to see a change of accuracy, and how many problems that takes.

It knows variances and no draws: `book.figures.audit` estimates them.
"""

from __future__ import annotations

import math

from scipy import stats

from lmrel.errors import InputError, check_count, check_number, quoted
from lmrel.parameters import MAX_RUNS

MAX_PROBLEMS = 10**9
LEAST_CHANGE = 1e-9


def power(change: float, problems: int, runs: int, between: float, sampling: float, level: float = 0.95) -> float:
    """The probability to find a `change` of accuracy between two temperatures significant, by normal approximation.

    `between` is the variance, over problems, of the true change of a problem's chance of success; `sampling` the mean
    variance of a single draw at each of the two temperatures together. A greedy side adds none.
    """
    check_number("change", change, -1.0, 1.0)
    check_count("problems", problems, most=MAX_PROBLEMS)
    _check_variances(runs, between, sampling)
    error = math.sqrt((between + sampling / runs) / problems)
    z = stats.norm.ppf(0.5 + level / 2)
    return float(stats.norm.cdf(abs(change) / error - z) + stats.norm.cdf(-abs(change) / error - z))


def problems_needed(
    change: float, runs: int, between: float, sampling: float, chance: float = 0.8, level: float = 0.95
) -> int:
    """The number of problems with which `power` reaches the probability `chance` to find `change`."""
    _check_variances(runs, between, sampling)
    check_number("change", change, -1.0, 1.0)
    if abs(change) < LEAST_CHANGE:
        raise InputError(
            f"change is {quoted(change)}; it must be a difference of at least {LEAST_CHANGE:g} up or down."
        )
    z = stats.norm.ppf(0.5 + level / 2) + stats.norm.ppf(chance)
    return math.ceil((z / change) ** 2 * (between + sampling / runs))


def _check_variances(runs: int, between: float, sampling: float) -> None:
    check_count("runs", runs, most=MAX_RUNS)
    check_number("between", between, 0.0, 1e9)
    check_number("sampling", sampling, 0.0, 1e9)
    if between == sampling == 0:
        raise InputError("neither problems nor draws vary, so there is nothing for a study to miss.")
