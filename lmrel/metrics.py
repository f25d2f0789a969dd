"""Tables from draws: accuracy, compliance, consistency and confidence, as the paper defines them."""

from __future__ import annotations

import pandas as pd

SETTING = ["model", "precision", "prompt_style", "decoding", "temperature"]
GROUP = [*SETTING, "task"]
CONFIDENCES = {"confidence": "mean_logprob", "confidence_processed": "mean_logprob_processed"}
SHARES = {"accuracy": "correct", "compliance": "compliant", "strict_accuracy": "strict", "finished_share": "finished"}


def _with_all(draws: pd.DataFrame) -> pd.DataFrame:
    """Every draw twice: under its own task and under ``all``."""
    both = pd.concat([draws, draws.assign(task="all")], ignore_index=True)
    return both.assign(strict=both["correct"] & both["compliant"])


def by_problem(draws: pd.DataFrame) -> pd.DataFrame:
    """One row per setting, task (and ``all``) and problem: the mean over runs of each of `SHARES` and `CONFIDENCES`."""
    columns = SHARES | CONFIDENCES
    means = _with_all(draws).groupby([*GROUP, "problem_id"])[list(columns.values())].mean()
    return means.rename(columns={column: name for name, column in columns.items()}).reset_index()


def by_run(draws: pd.DataFrame) -> pd.DataFrame:
    """One row per setting, task (and ``all``) and run: its ``accuracy``."""
    return _with_all(draws).groupby([*GROUP, "run"])["correct"].mean().rename("accuracy").reset_index()


def summarize(draws: pd.DataFrame) -> pd.DataFrame:
    """One row per setting and task, and one with task ``all``: means over problems of means over runs.

    ``accuracy`` (first integer is the answer), ``compliance`` (only a number), ``strict_accuracy`` (both) and
    ``finished_share`` (end of text reached). ``consistency`` is the paper's: the standard deviation (ddof 0) of the
    runs' accuracies, 0 for one run. ``confidence`` is the mean over draws of the mean log-prob of the sampled tokens,
    raw, in nats; ``confidence_processed`` the same under the decoder's own distribution. ``tokens`` is per draw.
    """
    everything = _with_all(draws)
    groups = everything.groupby(GROUP)
    columns = {
        "problems": groups["problem_id"].nunique(),
        "runs": groups["run"].nunique(),
        **dict(by_problem(draws).groupby(GROUP)[[*SHARES, *CONFIDENCES]].mean().items()),
        "consistency": by_run(draws).groupby(GROUP)["accuracy"].std(ddof=0),
        "tokens": groups["n_tokens"].mean(),
    }
    return pd.DataFrame(columns).reset_index()


def failure_shares(draws: pd.DataFrame) -> pd.DataFrame:
    """Of the wrong draws at each setting, the share of each failure class: columns ``failure, count, share``."""
    wrong = draws[~draws["correct"]]
    counts = wrong.groupby([*SETTING, "failure"], sort=True).size().rename("count").reset_index()
    totals = counts.groupby(SETTING)["count"].transform("sum")
    return counts.assign(share=counts["count"] / totals)
