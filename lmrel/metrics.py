"""Tables from draws: accuracy, compliance, consistency and confidence, as the paper defines them, with intervals."""

from __future__ import annotations

import pandas as pd

from lmrel.inference import clustered_wilson

SETTING = ["model", "precision", "prompt_style", "decoding", "temperature"]
SHARES = ("accuracy", "compliance", "strict_accuracy", "finished_share")


def summarize(draws: pd.DataFrame) -> pd.DataFrame:
    """One row per setting and task, and one with task ``all``.

    ``accuracy`` (first integer is the answer), ``compliance`` (only a number), ``strict_accuracy`` (both) and
    ``finished_share`` (end of text reached) are means over problems of means over runs, each with ``_low`` and
    ``_high`` of a 95 % interval clustered by problem. ``consistency`` is the paper's: the standard deviation
    (ddof 0) of the runs' accuracies, 0 for one run. ``confidence`` is the mean over draws of the mean log-prob of
    the sampled tokens, raw; ``confidence_processed`` the same under the decoder's own distribution.
    """
    both = pd.concat([draws, draws.assign(task="all")], ignore_index=True)
    both = both.assign(strict=both["correct"] & both["compliant"])
    groups = both.groupby([*SETTING, "task"], sort=False)
    rows = [dict(zip([*SETTING, "task"], key, strict=True)) | _row(group) for key, group in groups]
    return pd.DataFrame(rows).sort_values([*SETTING, "task"], ignore_index=True)


def _row(group: pd.DataFrame) -> dict[str, float]:
    by_problem = group.groupby("problem_id")
    row: dict[str, float] = {"problems": by_problem.ngroups, "runs": group["run"].nunique()}
    for name, column in zip(SHARES, ("correct", "compliant", "strict", "finished"), strict=True):
        mean, low, high = clustered_wilson(by_problem[column].mean().to_numpy())
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    row["consistency"] = float(group.groupby("run")["correct"].mean().std(ddof=0))
    row["confidence"] = float(group["mean_logprob"].mean())
    row["confidence_processed"] = float(group["mean_logprob_processed"].mean())
    row["tokens"] = float(group["n_tokens"].mean())
    return row


def failure_shares(draws: pd.DataFrame) -> pd.DataFrame:
    """Of the wrong draws at each setting, the share of each failure class: columns ``failure, count, share``."""
    wrong = draws[~draws["correct"]]
    counts = wrong.groupby([*SETTING, "failure"], sort=True).size().rename("count").reset_index()
    totals = counts.groupby(SETTING)["count"].transform("sum")
    return counts.assign(share=counts["count"] / totals)
