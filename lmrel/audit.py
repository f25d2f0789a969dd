"""The audit of the published claim: its numbers with what they lacked, as tables to show. Cells are text.

What is computed from the published table alone is conservative: the raw outputs were never published, so answers at two
temperatures count as independent, although they are to the same problems.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from scipy import stats

from lmrel import agreement, contrasts, metrics
from lmrel.answers import extract_answer
from lmrel.errors import reads
from lmrel.failures import paper_failure
from lmrel.inference import wilson
from lmrel.problems import paper_problems
from lmrel.published import ACCURACY, PROBLEMS, TEMPERATURES
from lmrel.tables import percent_range, plain
from lmrel.taxonomy import failure, precision_and_recall

LABELS = Path(__file__).resolve().parent.parent / "book" / "data" / "failures.jsonl"


def stability(margin: float = 0.05) -> pd.DataFrame:
    """Each published model's change from greedy to T = 1: 95 % interval, and whether 90 % of it is within `margin`."""
    rows = []
    for model, accuracies in ACCURACY.items():
        greedy, hot = accuracies[0], accuracies[-1]
        error = math.sqrt(sum(p * (1 - p) / PROBLEMS for p in (greedy, hot)))
        low, high, low_90, high_90 = (hot - greedy + stats.norm.ppf(q) * error for q in (0.025, 0.975, 0.05, 0.95))
        row = {"model": model, "greedy": f"{greedy:.1%}", "T = 1": f"{hot:.1%}"}
        row |= {"change, points": f"{100 * (hot - greedy):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"}
        row |= {f"within {100 * margin:g} points": "yes" if max(-low_90, high_90) < margin else "not shown"}
        rows.append(row | {"of the greedy accuracy": f"{low / greedy:+.0%} to {high / greedy:+.0%}"})
    return plain(pd.DataFrame(rows))


def counts() -> pd.DataFrame:
    """The published accuracies as numbers of problems, with Wilson's 95 % interval in points."""
    table = {"model": list(ACCURACY)}
    for i, temperature in enumerate(TEMPERATURES):
        cells = []
        for accuracies in ACCURACY.values():
            low, high = (100 * end for end in wilson(accuracies[i], PROBLEMS))
            cells.append(f"{accuracies[i] * PROBLEMS:.0f} of {PROBLEMS} [{low:.1f} %, {high:.1f} %]")
        table[metrics.temperature_name(temperature)] = cells
    return plain(pd.DataFrame(table))


def chance() -> pd.DataFrame:
    """What rules that compute nothing score on the paper's problems."""
    table = agreement.chance(paper_problems())
    return plain(table.assign(accuracy=table["accuracy"].map("{:.1%}".format)))


def power(between: float, sampling: float, runs: Sequence[int] = (1, 4, 16)) -> pd.DataFrame:
    """The chance that a study finds a drop: columns ``drop, runs, power``, for the paper's number of problems."""
    names = {n: f"{n} runs" if n > 1 else "1 run" for n in runs}
    rows = [
        {"drop": drop, "runs": names[n], "power": contrasts.power(drop, PROBLEMS, n, between, sampling)}
        for n in runs
        for drop in (i / 200 for i in range(1, 31))
    ]
    return pd.DataFrame(rows)


@reads("temperature", "problem_id", "correct")
def variances(draws: pd.DataFrame, cold: float = 0.0, hot: float = 1.0) -> dict[str, float]:
    """What `contrasts.power` needs, estimated from draws of one model: ``between`` and ``sampling``."""
    first, second = (draws[draws["temperature"] == temperature] for temperature in (cold, hot))
    repeated = agreement.repeated(second).query("task == 'all'").iloc[0]
    sampling, differences = float(repeated["sampling_variance"]), contrasts.paired(first, second)
    return {"between": max(0.0, differences.var(ddof=1) - sampling / repeated["runs"]), "sampling": sampling}


@reads("temperature", "problem_id", "correct")
def arms(draws: pd.DataFrame, by: str) -> pd.DataFrame:
    """Accuracy at each temperature of several ways to draw, column `by`, with the drop and its 95 % interval."""
    rows = []
    for arm, some in draws.groupby(by, sort=False):
        temperatures = sorted(some["temperature"].unique())
        means = some.groupby("temperature")["correct"].mean()
        first, last = (some[some["temperature"] == t] for t in (temperatures[0], temperatures[-1]))
        mean, low, high = contrasts.bootstrap_interval(contrasts.paired(first, last))
        row = {by: str(arm)} | {metrics.temperature_name(t): f"{means[t]:.1%}" for t in temperatures}
        rows.append(row | {"change, points": f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"})
    return plain(pd.DataFrame(rows))


@reads("arm", "temperature", "metric", "quantity", "lower", "upper")
def exact_arms(curves: pd.DataFrame) -> pd.DataFrame:
    """Exact accuracy of several ways to draw, column ``arm``, from rows of `metrics.exact_curves`."""
    right = curves.query("metric == 'correct' and quantity == 'mean'")
    cells = right.apply(lambda row: percent_range(100 * row["lower"], 100 * row["upper"]), axis=1)
    names = right["temperature"].map(metrics.temperature_name)
    wide = right.assign(cell=cells, T=names).pivot(index="arm", columns="T", values="cell")
    return plain(wide.reindex(right["arm"].unique())[list(names.unique())].reset_index())


@reads("temperature", *metrics.CONFIDENCES.values())
def confidences(draws: pd.DataFrame) -> pd.DataFrame:
    """Mean log-prob per token, raw and as published, of greedy and sampled draws."""
    means = draws.groupby("temperature")[list(metrics.CONFIDENCES.values())].mean()
    table = {"T": means.index.map("{:g}".format), "raw": means["mean_logprob"].map("{:.3f}".format)}
    return plain(pd.DataFrame(table | {"as published": means["mean_logprob_processed"].map("{:.3f}".format)}))


def trends(drawn: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Of each model the change of the log-odds of a right answer per unit of temperature; p-values after Holm."""
    found = {name: contrasts.trend(draws) for name, draws in drawn.items()}
    adjusted = contrasts.holm({name: trend["p"] for name, trend in found.items()})
    rows = []
    for name, trend in found.items():
        slope = f"{trend['slope']:+.2f} [{trend['low']:+.2f}, {trend['high']:+.2f}]"
        rows.append({"model": name, "slope": slope, "p, Holm": f"{adjusted[name]:.2g}"})
    return plain(pd.DataFrame(rows))


def spared(drawn: dict[str, pd.DataFrame], first: float = 0.5, second: float = 1.0) -> pd.DataFrame:
    """How much of the variance of a difference between two temperatures pairing spares, by model."""
    rows = []
    for name, draws in drawn.items():
        found = contrasts.variance_reduction(draws, first, second)
        cells = {"same problems": found["same_problems"], "common random numbers": found["common_numbers"]}
        rows.append({"model": name} | {how: f"{share:.0%}" for how, share in cells.items()})
    return plain(pd.DataFrame(rows))


def labelled() -> pd.DataFrame:
    """The hand-labelled failures, and what ``ours`` and the ``papers`` rules say of each."""
    table = pd.DataFrame(map(json.loads, LABELS.read_text(encoding="utf-8").splitlines()))
    ours, papers = [], []
    for row in table.to_dict("records"):
        found = failure(row["problem"], row["text"], row["finished"])
        number, compliant = extract_answer(row["text"])
        ours.append(found[0] if found else "none")
        papers.append(paper_failure(row["text"], number, row["label"] == "ran_on", compliant) or "(counted as right)")
    return table.assign(ours=ours, papers=papers)


@reads("split", "label", "ours")
def rules(table: pd.DataFrame) -> pd.DataFrame:
    """Precision and recall of our rules, by class, on the third of `labelled` that is kept for testing, and on all."""
    parts = {"test": table[table["split"] == "test"], "all": table}
    found = []
    for name, part in parts.items():
        scores = precision_and_recall(part["label"].tolist(), part["ours"].tolist()).set_index("class")
        cells = scores[["precision", "recall"]].map(lambda x: "" if pd.isna(x) else f"{x:.0%}")
        found.append(cells.assign(labelled=scores["labelled"]).add_suffix(f", {name}"))
    return plain(pd.concat(found, axis=1).fillna("").reset_index())


@reads("label", "papers")
def confusion(table: pd.DataFrame) -> pd.DataFrame:
    """How the paper's rules (columns) class what was labelled by hand (rows)."""
    crossed = pd.crosstab(table["label"], table["papers"])
    return plain(crossed.rename_axis(columns=None).reset_index().replace(0, ""))
