"""What a study can find: its power, how many problems and runs it takes, and how often a gate is wrong.

All of it follows from the variances of a pilot. Power is for a change of accuracy between two temperatures, or for the
difference of two models' changes, by normal approximation. The variance of such a difference, over problems, has two
parts: ``between`` is that of the true difference, which only more problems average out, and ``sampling`` that of a
single draw, which more runs do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from lmrel.errors import InputError, check_count, check_number, quoted
from lmrel.parameters import MAX_RUNS
from lmrel.stats.contrasts import clusters_of, paired
from lmrel.stats.inference import variance_of_mean
from lmrel.stats.metrics import are_counts

MAX_PROBLEMS = 10**9
LEAST_DIFFERENCE = 1e-9


def power(difference: float, problems: int, runs: int, between: float, sampling: float, level: float = 0.95) -> float:
    """The probability that a study finds a `difference` between two temperatures significant: in [0, 1].

    The difference is a change of one model's accuracy, or one model's drop minus another's, as a share: 0.05 is five
    percentage points. `between` is the variance of the true difference over problems; `sampling` that of a difference
    of single draws around it, so the sum of the variances of a draw at each side that is sampled, greedy sides adding
    none. `variances` estimates both from draws, and so does `lmrel.compare`, as in
    ``power(0.05, 500, 8, **compare(a, b).variances)``. Raises `InputError` out of range.
    """
    check_number("difference", difference, -2.0, 2.0)
    check_count("problems", problems, most=MAX_PROBLEMS)
    check_count("runs", runs, most=MAX_RUNS)
    _check_variances(between, sampling)
    error = math.sqrt((between + sampling / runs) / problems)
    z = stats.norm.ppf(0.5 + level / 2)
    return float(stats.norm.cdf(abs(difference) / error - z) + stats.norm.cdf(-abs(difference) / error - z))


def problems_needed(
    size: float,
    runs: float,
    between: float,
    sampling: float,
    *,
    equivalence: bool = False,
    chance: float = 0.8,
    level: float = 0.95,
) -> int:
    """The number of problems with which a study of so many `runs`, `math.inf` included, succeeds with `chance`.

    To succeed is to find a difference of `size` (`power`), or with `equivalence` to show by two one-sided tests that
    the difference, which is 0, lies within ``-size`` and ``size``.
    """
    _check_variances(between, sampling)
    return max(1, math.ceil((between + sampling / runs) / _largest_variance(size, equivalence, chance, level)))


def runs_needed(
    size: float,
    problems: int,
    between: float,
    sampling: float,
    *,
    equivalence: bool = False,
    chance: float = 0.8,
    level: float = 0.95,
) -> int | None:
    """The number of runs with which a study of so many problems succeeds as in `problems_needed`; None if none does."""
    _check_variances(between, sampling)
    check_count("problems", problems, most=MAX_PROBLEMS)
    left = problems * _largest_variance(size, equivalence, chance, level) - between
    return max(1, math.ceil(sampling / left)) if left > 0 else None


def smallest(
    problems: int,
    runs: float,
    between: float,
    sampling: float,
    *,
    equivalence: bool = False,
    chance: float = 0.8,
    level: float = 0.95,
) -> float:
    """The smallest size with which a study of so many problems and runs succeeds, as in `problems_needed`.

    A study finds a difference of just this size with `chance`; with `equivalence` it is the smallest margin that it
    can show.
    """
    check_count("problems", problems, most=MAX_PROBLEMS)
    check_number("runs", runs, 1.0)
    _check_variances(between, sampling)
    return math.sqrt((between + sampling / runs) / problems) * _errors_apart(equivalence, chance, level)


def gate(fall: float, problems: int, runs: int, between: float, sampling: float, loss: float = 0.0) -> float:
    """The chance that a gate fails a model: that its accuracy is measured lower than before by more than `fall`.

    Before and after, so many `problems` were asked with so many `runs`, and in truth the accuracy fell by `loss`; with
    0, the chance is that of a false alarm. The variances are those of the difference, as `power` takes them. On the
    same problems, of a model that is as it was, `between` is 0 and `sampling` twice the variance of a draw; on other
    problems of the same kind, `between` is twice the variance between problems. By normal approximation, with a
    correction since accuracies go in steps of one draw.
    """
    check_number("fall", fall, 0.0, 1.0)
    check_number("loss", loss, -1.0, 1.0)
    check_count("problems", problems, most=MAX_PROBLEMS)
    check_count("runs", runs, most=MAX_RUNS)
    check_number("between", between, 0.0, 1e9)
    check_number("sampling", sampling, 0.0, 1e9)
    steps = problems * runs
    passed = math.floor(fall * steps + 1e-6)  # the most draws that may be lost; 0.07 * 100 is a little above 7
    beyond = (passed + 0.5) / steps - loss
    error = math.sqrt((between + sampling / runs) / problems)
    return float(stats.norm.sf(beyond / error)) if error else float(beyond < 0)


def variances(drops: Sequence[tuple[pd.DataFrame, pd.DataFrame]], column: str = "correct") -> dict[str, float]:
    """``between`` and ``sampling``, as `power` takes them: those of a drop, or of the first drop minus the second.

    A drop is a pair of tables, the draws before and the draws after, as of two temperatures. Draws at temperature 0
    that are single count as certain; where other draws of a problem are single, both are NaN. Runs of one number
    may have been drawn with the same random numbers, at every temperature and by every model, so their differences are
    taken run by run before their variance; runs of counts have no numbers. Where numbers of runs differ, it is as if
    all had the smallest.
    """
    first, *second = [paired(after, before, column) for before, after in drops]
    differences = first - second[0] if second else first
    problems = differences.index.get_level_values("problem_id")
    residuals, smallest = [], math.inf
    signed = [(sign, side) for drop, signs in zip(drops, [(1, -1), (-1, 1)]) for sign, side in zip(signs, drop)]  # noqa: B905
    for place, (sign, draws) in enumerate(signed):
        side = draws[draws["problem_id"].isin(problems)]
        outcomes = side[column].astype(float)
        groups = outcomes.groupby(side["problem_id"])
        n = groups.transform("size")
        # Scaled so that the sum of a problem's squares is the variance of its mean; unknown of a single draw.
        residual = sign * (outcomes - groups.transform("mean")) / (n * (n - 1)).pow(0.5).replace(0.0, math.nan)
        certain = (n == 1) & (side["temperature"] == 0)
        paired_with = place if are_counts(side) else -1
        residuals.append(side[["problem_id", "run"]].assign(side=paired_with, residual=residual.mask(certain, 0.0)))
        smallest = min(smallest, n[~certain].min())
    of_runs = pd.concat(residuals).groupby(["problem_id", "run", "side"])["residual"].sum(skipna=False)
    sampling = float((of_runs**2).sum(skipna=False)) / len(differences)
    total = variance_of_mean(differences.to_numpy(), clusters_of(differences))[0] * len(differences)
    return {
        "between": float(np.maximum(0.0, total - sampling)),
        "sampling": float(sampling * smallest) if sampling else 0.0,
    }


def _largest_variance(size: float, equivalence: bool, chance: float, level: float) -> float:
    """The variance of the estimate with which a study succeeds with `chance`."""
    check_number("size", size, -2.0, 2.0)
    if abs(size) < LEAST_DIFFERENCE:
        raise InputError(
            f"size is {quoted(size)}; it must be a difference of at least {LEAST_DIFFERENCE:g} up or down."
        )
    return float((size / _errors_apart(equivalence, chance, level)) ** 2)


def _errors_apart(equivalence: bool, chance: float, level: float) -> float:
    """The size with which a study succeeds with `chance`, in standard errors of its estimate."""
    # Each of two one-sided tests at 1 - level: both succeed with `chance` if each fails in half of what is left.
    quantiles = (level, 0.5 + chance / 2) if equivalence else (0.5 + level / 2, chance)
    return float(stats.norm.ppf(quantiles).sum())


def _check_variances(between: float, sampling: float) -> None:
    check_number("between", between, 0.0, 1e9)
    check_number("sampling", sampling, 0.0, 1e9)
    if between == sampling == 0:
        raise InputError("neither problems nor draws vary, so there is nothing for a study to miss.")
