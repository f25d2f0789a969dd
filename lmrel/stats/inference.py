"""How sure we can be: intervals of shares and means, with the problem as the unit of replication.

Draws for one problem resemble each other, so they are not counted as independent: everything here starts from one
number per problem. Problems that are versions of one question, a cluster, are not either. The intervals say how far
other problems from the same families would move the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lmrel.errors import InputError, check_number, needs_columns
from lmrel.stats import metrics

LEVEL = 0.95
ALIKE = 1e-9  # shares that differ by less are one share, computed in two ways: the same numbers added up have noise
MOST = 1e100  # trials: of more than these the square is beyond a float


def wilson(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval for a proportion `share` seen in `n` trials (Wilson 1927; `n` need not be whole)."""
    check_number("share", share, 0.0, 1.0)
    check_number("n", n, 0.0, MOST, open_below=True)
    check_number("level", level, 0.0, 1.0, open_below=True)
    z = stats.norm.ppf(0.5 + level / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def variance_of_mean(values: np.ndarray, clusters: Sequence[Any] | pd.Series | None = None) -> tuple[float, int]:
    """The variance of the mean of one number per problem, and how many units stand behind it.

    The units are the `clusters` that the problems belong to, which are independent while the problems of one may not
    be; without, each problem is one. The variance is the cluster-robust one (Liang and Zeger 1986), which of single
    problems is the usual one. It is NaN for one unit.
    """
    n = len(values)
    _, cluster = np.unique(np.arange(n) if clusters is None else np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.bincount(cluster, values - values.mean())
    units = len(sums)
    return (float((sums**2).sum() / n**2 * units / (units - 1)) if units > 1 else math.nan), units


def clustered_wilson(
    shares: Sequence[float] | np.ndarray, level: float = LEVEL, clusters: Sequence[Any] | pd.Series | None = None
) -> tuple[float, float, float]:
    """Mean of per-problem shares in [0, 1] with Wilson's interval at the effective sample size: (mean, low, high).

    That size is p (1 - p) over the variance of the mean (see `variance_of_mean`), times (z / t)^2 for the degrees of
    freedom (Korn and Graubard 1998, with Wilson's interval in place of theirs). With one draw a problem, or where
    problems do not differ at all, it is the number of problems, or of their `clusters`, and the interval is Wilson's.
    """
    values = np.asarray(shares, dtype=float)
    mean = float(values.mean())
    if math.isnan(mean):
        return math.nan, math.nan, math.nan
    if not 0 <= values.min() <= values.max() <= 1:
        raise InputError(f"the shares go from {values.min():g} to {values.max():g}; each must be from 0 to 1.")
    variance, units = variance_of_mean(values, clusters)
    single_draws = units == len(values) and bool(np.isin(values, (0.0, 1.0)).all())
    if units == 1 or single_draws or np.ptp(values) < ALIKE:
        return mean, *wilson(mean, units, level)
    z_over_t = stats.norm.ppf(0.5 + level / 2) / stats.t.ppf(0.5 + level / 2, units - 1)
    return mean, *wilson(mean, mean * (1 - mean) / variance * z_over_t**2, level)


def t_interval(
    values: np.ndarray, level: float = LEVEL, clusters: Sequence[Any] | pd.Series | None = None
) -> tuple[float, float, float]:
    """Mean of one number per problem with Student's t interval: (mean, low, high); NaN bounds for one problem."""
    mean, (variance, units) = float(values.mean()), variance_of_mean(values, clusters)
    half = float(stats.t.ppf(0.5 + level / 2, units - 1) * math.sqrt(variance)) if units > 1 else math.nan
    return mean, mean - half, mean + half


def bounded_interval(
    values: pd.Series, clusters: Sequence[Any] | pd.Series | None = None, reach: float = 1.0, level: float = LEVEL
) -> tuple[float, float, float]:
    """Mean and Student's t interval of one number per problem from ``-reach`` to `reach`, which it does not leave.

    Where all are the same, t would be certain; then it is as far as problems that were not seen may move the mean.
    """
    numbers = values.to_numpy(float)
    mean, low, high = t_interval(numbers, level, clusters)
    if np.ptp(numbers) < ALIKE:
        unseen = unseen_share(len(numbers) if clusters is None else pd.Series(clusters).nunique(), level)
        low, high = mean - unseen * (reach + mean), mean + unseen * (reach - mean)
    return mean, max(low, -reach), min(high, reach)


def unseen_share(units: int, level: float = LEVEL) -> float:
    """The largest share of problems that may differ although none of `units` did (Clopper and Pearson 1934)."""
    return float(1.0 - (0.5 - level / 2) ** (1.0 / units))


def with_interval(
    estimate: float, low: float = math.nan, high: float = math.nan, *, form: str = "{:+.1f}", ends: str = ""
) -> str:
    """An estimate and its interval, like ``−1.2 [−3.0, +0.6]``: with a real minus, without brackets if `low` is NaN.

    Each number is written in `form`; those in brackets in `ends`, where that is given.
    """
    text = form.format(estimate)
    if not math.isnan(low):
        text += f" [{(ends or form).format(low)}, {(ends or form).format(high)}]"
    return text.replace("-", "\N{MINUS SIGN}")


def summarize_with_intervals(draws: pd.DataFrame) -> pd.DataFrame:
    """`metrics.summarize`, with the ends ``_low`` and ``_high`` of each share's and confidence's 95 % interval."""
    summary = metrics.summarize(draws)
    groups = metrics.by_problem(draws).groupby(metrics.GROUP)  # in the summary's order: both are sorted
    intervals = dict.fromkeys(metrics.SHARES, clustered_wilson) | dict.fromkeys(metrics.CONFIDENCES, t_interval)
    for name, interval in intervals.items():
        ends = [interval(group[name].to_numpy(), clusters=group["cluster"]) for _, group in groups]
        summary[f"{name}_low"], summary[f"{name}_high"] = [end[1] for end in ends], [end[2] for end in ends]
    return summary


@needs_columns(*metrics.SETTING, "problem_id", "correct", "failure", empty=True)
def failure_shares(draws: pd.DataFrame) -> pd.DataFrame:
    """Of the wrong draws at each setting, the share of each class: columns ``failure, count, share, low, high``.

    The 95 % interval is Wilson's for as many trials as problems, or their clusters, were missed: these fail alike.
    Raises `InputError` where no wrong draw has a class.
    """
    wrong = draws[~draws["correct"]]
    if len(wrong) and wrong["failure"].isna().all():
        raise InputError(
            "no wrong draw has a class of failure: texts were cut short where decided, or another tool judged them; "
            "lmrel.rescore gives classes to whole texts."
        )
    problems = wrong.assign(cluster=metrics.clusters(wrong)).groupby(metrics.SETTING)["cluster"].nunique()
    counts = wrong.groupby([*metrics.SETTING, "failure"], sort=True).size().rename("count").reset_index()
    shares = counts["count"] / counts.groupby(metrics.SETTING)["count"].transform("sum")
    trials = counts.join(problems.rename("trials"), on=metrics.SETTING)["trials"]
    ends = pd.DataFrame([wilson(p, n) for p, n in zip(shares, trials, strict=True)], columns=["low", "high"])
    return pd.concat([counts.assign(share=shares), ends], axis=1)
