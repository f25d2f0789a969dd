"""Trends of outcomes over temperature, tests of a family, a bootstrap, and what a paired design spares.

It takes any draws and knows no page. statsmodels takes seconds to load, so it is imported where it is used.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
from scipy import stats

from lmrel.errors import InputError
from lmrel.stats.contrasts import clusters_of
from lmrel.stats.inference import ALIKE, variance_of_mean
from lmrel.stats.metrics import clusters


def logistic(outcome: pd.Series, predictors: pd.DataFrame, problem: pd.Series) -> pd.DataFrame:
    """How the log-odds of `outcome` change per unit of each predictor: a row per predictor, ``slope, low, high, p``.

    This is logistic regression by generalized estimating equations with robust errors (Liang and Zeger 1986), in which
    the draws of a problem are exchangeable. Raises `InputError` if the outcome never varies or nothing converges.
    """
    import statsmodels.api as sm

    y = outcome.to_numpy(float)
    if np.isnan(y).any():
        raise InputError(f"{outcome.name} is missing in {int(np.isnan(y).sum())} draws, so nothing can predict it.")
    if not len(y) or y.min() == y.max():
        raise InputError(f"{outcome.name} never varies, so nothing can predict it.")
    design = sm.add_constant(predictors.astype(float))
    exchangeable = sm.cov_struct.Exchangeable()
    model = sm.GEE(y, design, problem, family=sm.families.Binomial(), cov_struct=exchangeable)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps that did not converge; the result is checked below
        fitted = model.fit(maxiter=200)
    if not fitted.converged:
        raise InputError(f"the regression of {outcome.name} on {', '.join(map(str, predictors))} did not converge.")
    ends = fitted.conf_int()
    found = {"slope": fitted.params, "low": ends[0], "high": ends[1], "p": fitted.pvalues}
    return pd.DataFrame(found).loc[list(predictors)]


def trend(draws: pd.DataFrame) -> dict[str, float]:
    """How the log-odds of a right answer change per unit of temperature: ``slope, low, high, p``.

    Greedy draws count as well.
    """
    found = logistic(draws["correct"], draws[["temperature"]], clusters(draws))
    return {str(name): float(values.iloc[0]) for name, values in found.items()}


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """The p-values of a family of tests, adjusted by Holm's method (1979)."""
    from statsmodels.stats.multitest import multipletests

    adjusted = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, map(float, adjusted), strict=True))


def mean_test(differences: pd.Series) -> float:
    """The p-value of Student's t test that the mean of `contrasts.paired`'s differences is 0, clusters being the units.

    Where all differences are the same, t would be certain; then it is that of a sign test.
    """
    values = differences.to_numpy(float)
    mean, (variance, units) = abs(float(values.mean())), variance_of_mean(values, clusters_of(differences))
    if variance > ALIKE**2:
        return float(2 * stats.t.sf(mean / math.sqrt(variance), units - 1))
    return min(1.0, 2 * 0.5**units) if mean > ALIKE else 1.0


def bootstrap_interval(values: np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float, float]:
    """Mean of one number per problem with its BCa bootstrap interval (Efron 1987), problems drawn anew."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0]), float(values[0])
    found = stats.bootstrap((values,), np.mean, confidence_level=level, n_resamples=4000, rng=seed).confidence_interval
    return float(values.mean()), float(found.low), float(found.high)


def variance_reduction(draws: pd.DataFrame, first: float, second: float) -> dict[str, float]:
    """The share of its variance that a difference between two temperatures is spared by each way of pairing.

    ``same_problems`` takes the same problems on both sides instead of new ones. ``common_numbers`` draws both sides
    with the same uniform numbers instead of independent ones, as a share of the sampling variance. NaN where nothing
    varies.
    """
    wide = draws.pivot(index=["problem_id", "run"], columns="temperature", values="correct")
    x, y = (wide[temperature].astype(float) for temperature in (first, second))
    by_problem = pd.DataFrame({"x": x, "y": y, "d": y - x}).groupby("problem_id")
    means, within = by_problem.mean(), by_problem.var(ddof=1).mean()
    paired, unpaired = (means["y"] - means["x"]).var(ddof=1), means[["x", "y"]].var(ddof=1).sum()
    independent = within["x"] + within["y"]
    return {
        "same_problems": float(1 - paired / unpaired) if unpaired else math.nan,
        "common_numbers": float(1 - within["d"] / independent) if independent else math.nan,
    }
