"""Tables from draws: accuracy, compliance, consistency and confidence, as the paper defines them; and exact curves.

A table has a row per setting and task. It knows the columns of a draw, and no interval.
"""

from __future__ import annotations

import math

import pandas as pd
from scipy import stats

from lmrel.errors import InputError, check_count, needs_columns
from lmrel.records import COUNTS, IMPORTED

SETTING = ["model", "precision", "prompt_style", "decoding", "temperature", "decoder"]
BUT_TEMPERATURE = SETTING[:4]  # what a greedy draw shares with the others: an id of a decoder has its temperature in it
GROUP = [*SETTING, "task"]
CONFIDENCES = {"confidence": "mean_logprob", "confidence_processed": "mean_logprob_processed"}
SHARES = {
    "accuracy": "correct",
    "compliance": "compliant",
    "strict_accuracy": "strict",
    "finished_share": "finished",
    "runaway_share": "runaway",
}
DRAWN = (*GROUP, "problem_id", "run", "correct", "compliant", "runaway", "finished", *CONFIDENCES.values())


def with_all(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with every row twice: under its own task and under ``all``."""
    return pd.concat([table, table.assign(task="all")], ignore_index=True)


def clusters(draws: pd.DataFrame) -> pd.Series:
    """The unit that each draw is of, which are independent: its ``cluster``, or where none is known its problem."""
    problems = draws["problem_id"]
    if "cluster" not in draws:
        return problems
    named = draws["cluster"]
    return named if named.notna().all() else named.astype(object).fillna(problems)


def has_answers(draws: pd.DataFrame) -> bool:
    """Whether it is known what was answered: another tool may have said no more than whether that was right."""
    own = "answer" not in draws or not draws["answer"].isin([IMPORTED, COUNTS]).all()
    return bool(own or draws["extracted"].notna().any())


def are_counts(draws: pd.DataFrame) -> bool:
    """Whether the draws come from counts, where the order of a problem's runs means nothing."""
    return "answer" in draws and bool((draws["answer"] == COUNTS).any())


def check_runs(draws: pd.DataFrame, name: str) -> None:
    """Raise `InputError` where the function `name` would look at single runs of `draws` that come from counts."""
    if are_counts(draws):
        raise InputError(f"{name} looks at single runs, and of counts the order of a problem's runs means nothing.")


@needs_columns(*DRAWN)
def by_problem(draws: pd.DataFrame) -> pd.DataFrame:
    """One row per setting, task (and ``all``) and problem with its ``cluster``: means over runs of all rates.

    Those are `SHARES` and `CONFIDENCES`, NaN where nothing is known of them.
    """
    known = {name: _numbers(draws[name]) for name in SHARES.values() if name in draws}
    judged = draws.assign(**known, strict=known["correct"] * known["compliant"], cluster=clusters(draws))
    columns = SHARES | CONFIDENCES
    means = with_all(judged).groupby([*GROUP, "problem_id", "cluster"])[list(columns.values())].mean()
    return means.rename(columns={column: name for name, column in columns.items()}).reset_index()


def _numbers(outcome: pd.Series) -> pd.Series:
    """An outcome as numbers; NaN where it is missing."""
    return pd.to_numeric(outcome.astype(object), errors="coerce").astype(float)


@needs_columns(*GROUP, "run", "correct")
def by_run(draws: pd.DataFrame) -> pd.DataFrame:
    """One row per setting, task (and ``all``) and run: its ``accuracy``. Raises `InputError` for counts."""
    check_runs(draws, "by_run")
    return with_all(draws).groupby([*GROUP, "run"])["correct"].mean().rename("accuracy").reset_index()


@needs_columns(*DRAWN, "n_tokens")
def summarize(draws: pd.DataFrame) -> pd.DataFrame:
    """One row per setting and task, and one with task ``all``: means over problems of means over runs.

    ``accuracy`` (right under the rule in the column ``answer``), ``compliance`` (only the answer), ``strict_accuracy``
    (both), ``runaway_share`` (cut off in a loop) and ``finished_share`` (end of text reached). ``consistency`` is the
    paper's: the standard deviation (ddof 0) of the runs' accuracies, 0 for one run, and NaN for counts. ``confidence``
    is the mean over draws of the mean log-prob of the sampled tokens, raw, in nats; ``confidence_processed`` the same
    under the decoder's own distribution. ``tokens`` is per draw. What is not known of any draw is NaN.
    """
    groups = with_all(draws).groupby(GROUP)
    columns = {
        "problems": groups["problem_id"].nunique(),
        "runs": groups["run"].nunique(),
        **dict(by_problem(draws).groupby(GROUP)[[*SHARES, *CONFIDENCES]].mean().items()),
        "consistency": math.nan if are_counts(draws) else by_run(draws).groupby(GROUP)["accuracy"].std(ddof=0),
        "tokens": groups["n_tokens"].mean(),
    }
    return pd.DataFrame(columns).reset_index()


@needs_columns("problem_id", "temperature", "metric", "lower", "upper")
def exact_curves(outcomes: pd.DataFrame, runs: int = 4, k: int = 4) -> pd.DataFrame:
    """What follows from `enumeration.enumerate_outcomes`: columns ``temperature, metric, quantity, lower, upper``.

    For each probability p of a problem, over n problems: ``mean``; ``run_std``, the root of the expected variance (ddof
    0) that the means of `runs` sampled runs would show, sqrt((1 - 1/runs) sum p (1 - p)) / n; ``pass@k``, the chance
    that one of `k` draws succeeds, mean of 1 - (1 - p)^k; ``majority@k``, the chance that more than half of them do,
    which a plurality vote can only exceed. Draws are independent, so all of it follows from p alone.
    """
    check_count("runs", runs)
    check_count("k", k, most=1000)
    if outcomes.duplicated(["problem_id", "temperature", "metric"]).any():
        raise InputError("the outcomes hold a problem twice at a temperature, as those of two models do.")
    bounds = outcomes[outcomes["metric"] != "mean_logprob"]
    low, high = bounds["lower"], bounds["upper"]
    spread = pd.concat([low * (1 - low), high * (1 - high)], axis=1)
    holds_half = (low <= 0.5) & (high >= 0.5)  # p (1 - p) is greatest at 1/2, which may lie between the bounds
    quantities = {
        "mean": (low, high),
        "run_std": (spread.min(axis=1), spread.max(axis=1).mask(holds_half, 0.25)),
        f"pass@{k}": (1 - (1 - low) ** k, 1 - (1 - high) ** k),
        f"majority@{k}": tuple(pd.Series(stats.binom.sf(k // 2, k, p), index=p.index) for p in (low, high)),
    }
    parts = []
    for quantity, (lower, upper) in quantities.items():
        table = bounds[["temperature", "metric"]].assign(lower=lower, upper=upper)
        groups = table.groupby(["temperature", "metric"], sort=False)
        means = groups.mean()
        if quantity == "run_std":
            means = ((1 - 1 / runs) * means.div(groups.size(), axis=0)) ** 0.5
        parts.append(means.reset_index().assign(quantity=quantity))
    return pd.concat(parts, ignore_index=True)[["temperature", "metric", "quantity", "lower", "upper"]]
