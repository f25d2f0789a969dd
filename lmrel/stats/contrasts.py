"""Differences, trends and equivalence, with the problem as the unit: what "stable under temperature" takes to say.

Draws are rows with ``problem_id, run, temperature`` and outcomes in [0, 1]. Everything starts from the same problems on
both sides, so what makes a problem hard cancels.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lmrel.errors import InputError, check_count, check_number, needs_columns, quoted
from lmrel.parameters import MAX_RUNS
from lmrel.stats.inference import differences_by_problem, t_interval

MAX_PROBLEMS = 10**9
LEAST_CHANGE = 1e-9


def paired(first: pd.DataFrame, second: pd.DataFrame, column: str = "correct") -> np.ndarray:
    """`inference.differences_by_problem`; `InputError` if there is none."""
    differences = differences_by_problem(first, second, column)
    if not len(differences):
        raise InputError("the two tables have no problem in common.")
    return differences


def bootstrap_interval(values: np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float, float]:
    """Mean of one number per problem and its BCa bootstrap interval (Efron 1987), problems drawn anew."""
    _check_values(values, 1)
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0]), float(values[0])
    found = stats.bootstrap((values,), np.mean, confidence_level=level, n_resamples=4000, rng=seed).confidence_interval
    return float(values.mean()), float(found.low), float(found.high)


def crossed(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of `values` (units, problems) and its interval if both were drawn at random, fully crossed.

    The variance of the mean comes from the mean squares of a two-way table, its degrees of freedom from Satterthwaite
    (1946); it is never less than with either kind alone. A single unit gives the t interval over problems.
    """
    units, problems = values.shape
    if units == 1:
        return t_interval(values[0], level)
    mean = float(values.mean())
    by_unit, by_problem = values.mean(axis=1) - mean, values.mean(axis=0) - mean
    rest = values - mean - by_unit[:, None] - by_problem
    squares = problems * (by_unit**2).sum(), units * (by_problem**2).sum(), (rest**2).sum()
    freedom = units - 1, problems - 1, (units - 1) * (problems - 1)
    of_unit, of_problem, of_rest = (total / df for total, df in zip(squares, freedom, strict=True))
    error = max(of_unit + of_problem - of_rest, of_unit, of_problem)
    if error == 0:
        return mean, mean, mean
    df = error**2 / sum(part**2 / n for part, n in zip((of_unit, of_problem, of_rest), freedom, strict=True))
    half = float(stats.t.ppf(0.5 + level / 2, df) * math.sqrt(error / values.size))
    return mean, mean - half, mean + half


def equivalence(differences: np.ndarray, margin: float) -> dict[str, Any]:
    """Two one-sided t tests (Schuirmann 1987): whether the mean difference lies within ``-margin`` and ``margin``.

    Keys ``difference, low, high`` (the 90 % interval that decides at 5 %), ``p`` (the larger of the two) and
    ``equivalent``. A difference that is not significant is no evidence of equivalence; this is.
    """
    _check_values(differences, 2)
    check_number("margin", margin, 0.0, math.inf, open_below=True)
    mean, low, high = t_interval(differences, 0.90)
    error, df = differences.std(ddof=1) / math.sqrt(len(differences)), len(differences) - 1
    if error == 0:
        p = float(abs(mean) >= margin)
    else:
        p = float(max(stats.t.sf((mean + margin) / error, df), stats.t.cdf((mean - margin) / error, df)))
    return {"difference": mean, "low": low, "high": high, "p": p, "equivalent": p < 0.05}


@needs_columns("problem_id", "run", "temperature")
def variance_reduction(draws: pd.DataFrame, first: float, second: float, column: str = "correct") -> dict[str, float]:
    """How much variance a difference between two temperatures is spared, as shares of what it would be without.

    ``same_problems``: by taking the same problems on both sides, against new ones. ``common_numbers``: of the sampling
    variance, by drawing both with the same uniform numbers, against independent draws.
    """
    for temperature in (first, second):
        if column not in draws or not draws.loc[draws["temperature"] == temperature, column].notna().any():
            raise InputError(f"there is no {column} of draws at temperature {quoted(temperature)}.")
    wide = draws.pivot_table(index=["problem_id", "run"], columns="temperature", values=column, aggfunc="first")
    x, y = (wide[temperature].astype(float) for temperature in (first, second))
    of_problem = pd.DataFrame({"x": x, "y": y}).groupby("problem_id").mean()
    apart = of_problem.var(ddof=1).sum()
    together = (of_problem["y"] - of_problem["x"]).var(ddof=1)
    runs = pd.DataFrame({"x": x, "y": y, "d": y - x}).groupby("problem_id").var(ddof=1).mean()
    independent = runs["x"] + runs["y"]
    return {
        "same_problems": float(1 - together / apart) if apart else math.nan,
        "common_numbers": float(1 - runs["d"] / independent) if independent else math.nan,
    }


def logistic(outcome: pd.Series, predictors: pd.DataFrame, problem: pd.Series) -> pd.DataFrame:
    """Change of the log-odds of `outcome` per unit of each predictor: rows ``slope, low, high, p``, by predictor.

    Logistic regression by generalized estimating equations, draws of a problem exchangeable, robust errors (Liang and
    Zeger 1986). Raises `InputError` if nothing varies or it does not converge.
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


@needs_columns("problem_id", "temperature")
def trend(draws: pd.DataFrame, column: str = "correct") -> dict[str, float]:
    """Change of the log-odds of `column` per unit of temperature, greedy included: ``slope, low, high, p``."""
    if column not in draws:
        raise InputError(f"the draws have no column {quoted(column)}.")
    found = logistic(draws[column], draws[["temperature"]], draws["problem_id"])
    return {str(name): float(values.iloc[0]) for name, values in found.items()}


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values (1979) of a family of tests."""
    from statsmodels.stats.multitest import multipletests

    adjusted = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, map(float, adjusted), strict=True))


def power(change: float, problems: int, runs: int, between: float, sampling: float, level: float = 0.95) -> float:
    """Chance to find a `change` of accuracy between two temperatures significant, by the normal approximation.

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
    """How many problems `power` needs for a `chance` to find `change`."""
    _check_variances(runs, between, sampling)
    check_number("change", change, -1.0, 1.0)
    if abs(change) < LEAST_CHANGE:
        raise InputError(
            f"change is {quoted(change)}; it must be a difference of at least {LEAST_CHANGE:g} up or down."
        )
    z = stats.norm.ppf(0.5 + level / 2) + stats.norm.ppf(chance)
    return math.ceil((z / change) ** 2 * (between + sampling / runs))


def _check_values(values: np.ndarray, least: int) -> None:
    if len(values) < least or np.isnan(values).any():
        raise InputError(f"there are {len(values)} differences; at least {least} are needed, and none may be missing.")


def _check_variances(runs: int, between: float, sampling: float) -> None:
    check_count("runs", runs, most=MAX_RUNS)
    check_number("between", between, 0.0, 1e9)
    check_number("sampling", sampling, 0.0, 1e9)
    if between == sampling == 0:
        raise InputError("neither problems nor draws vary, so there is nothing for a study to miss.")
