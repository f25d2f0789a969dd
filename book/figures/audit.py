"""Figures of the engine's page: a tree of answers, the mask it lives in, exact curves, and times beside its peers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
from scipy import stats

from book.analysis import design
from book.analysis.taxonomy import failure, precision_and_recall
from book.analysis.trends import holm, trend, variance_reduction
from book.figures.published import ACCURACY, PROBLEMS, TEMPERATURES
from book.figures.text import percent_range, plain, temperature_name
from lmrel.answers import extract_answer, paper_failure
from lmrel.charts import PALETTE, figure, themed, titled
from lmrel.errors import needs_columns
from lmrel.problems import OPERANDS, paper_problems
from lmrel.stats import agreement, contrasts, metrics
from lmrel.stats.inference import wilson

LABELS = Path(__file__).resolve().parent.parent.parent / "book" / "data" / "failures.jsonl"


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
        table[temperature_name(temperature)] = cells
    return plain(pd.DataFrame(table))


def chance() -> pd.DataFrame:
    """What answers without computing would score on the paper's problems: columns ``rule, accuracy``, as text.

    Always the commonest answer; and in each family always the same operand of the problem, the best one.
    """
    problems = paper_problems()
    counts = problems["answer"].value_counts()
    rows = [{"rule": f"always {counts.index[0]}", "accuracy": f"{counts.iloc[0] / len(problems):.1%}"}]
    for task, some in problems.groupby("task"):
        operands = [name for name in OPERANDS[str(task)] if not name.startswith("op")]
        scores = some[operands].eq(some["answer"], axis=0).mean()
        rule = f"always {scores.idxmax()}, {task}".replace("_", " ")
        rows.append({"rule": rule, "accuracy": f"{scores.max():.1%}"})
    return plain(pd.DataFrame(rows))


def power(between: float, sampling: float, runs: Sequence[int] = (1, 4, 16)) -> pd.DataFrame:
    """The chance that a study finds a drop: columns ``drop, runs, power``, for the paper's number of problems."""
    names = {n: f"{n} runs" if n > 1 else "1 run" for n in runs}
    rows = [
        {"drop": drop, "runs": names[n], "power": design.power(drop, PROBLEMS, n, between, sampling)}
        for n in runs
        for drop in (i / 200 for i in range(1, 31))
    ]
    return pd.DataFrame(rows)


@needs_columns("temperature", "problem_id", "correct")
def variances(draws: pd.DataFrame, cold: float = 0.0, hot: float = 1.0) -> dict[str, float]:
    """What `design.power` needs, estimated from draws of one model: ``between`` and ``sampling``."""
    first, second = (draws[draws["temperature"] == temperature] for temperature in (cold, hot))
    repeated = agreement.repeated(second).query("task == 'all'").iloc[0]
    sampling, differences = float(repeated["sampling_variance"]), contrasts.paired(first, second)
    return {"between": max(0.0, differences.var(ddof=1) - sampling / repeated["runs"]), "sampling": sampling}


@needs_columns("temperature", "problem_id", "correct")
def arms(draws: pd.DataFrame, by: str) -> pd.DataFrame:
    """Accuracy at each temperature of several ways to draw, column `by`, with the drop and its 95 % interval."""
    rows = []
    for arm, some in draws.groupby(by, sort=False):
        temperatures = sorted(some["temperature"].unique())
        means = some.groupby("temperature")["correct"].mean()
        first, last = (some[some["temperature"] == t] for t in (temperatures[0], temperatures[-1]))
        mean, low, high = contrasts.bootstrap_interval(contrasts.paired(first, last))
        row = {by: str(arm)} | {temperature_name(t): f"{means[t]:.1%}" for t in temperatures}
        rows.append(row | {"change, points": f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"})
    return plain(pd.DataFrame(rows))


@needs_columns("arm", "temperature", "metric", "quantity", "lower", "upper")
def exact_arms(curves: pd.DataFrame) -> pd.DataFrame:
    """Exact accuracy of several ways to draw, column ``arm``, from rows of `metrics.exact_curves`."""
    right = curves.query("metric == 'correct' and quantity == 'mean'")
    cells = right.apply(lambda row: percent_range(100 * row["lower"], 100 * row["upper"]), axis=1)
    names = right["temperature"].map(temperature_name)
    wide = right.assign(cell=cells, T=names).pivot(index="arm", columns="T", values="cell")
    return plain(wide.reindex(right["arm"].unique())[list(names.unique())].reset_index())


@needs_columns("temperature", *metrics.CONFIDENCES.values())
def confidences(draws: pd.DataFrame) -> pd.DataFrame:
    """Mean log-prob per token, raw and as published, of greedy and sampled draws."""
    means = draws.groupby("temperature")[list(metrics.CONFIDENCES.values())].mean()
    table = {"T": means.index.map("{:g}".format), "raw": means["mean_logprob"].map("{:.3f}".format)}
    return plain(pd.DataFrame(table | {"as published": means["mean_logprob_processed"].map("{:.3f}".format)}))


def trends(drawn: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Of each model the change of the log-odds of a right answer per unit of temperature; p-values after Holm."""
    found = {name: trend(draws) for name, draws in drawn.items()}
    adjusted = holm({name: one["p"] for name, one in found.items()})
    rows = []
    for name, one in found.items():
        slope = f"{one['slope']:+.2f} [{one['low']:+.2f}, {one['high']:+.2f}]"
        rows.append({"model": name, "slope": slope, "p, Holm": f"{adjusted[name]:.2g}"})
    return plain(pd.DataFrame(rows))


def spared(drawn: dict[str, pd.DataFrame], first: float = 0.5, second: float = 1.0) -> pd.DataFrame:
    """How much of the variance of a difference between two temperatures pairing spares, by model."""
    rows = []
    for name, draws in drawn.items():
        found = variance_reduction(draws, first, second)
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


@needs_columns("split", "label", "ours")
def rules(table: pd.DataFrame) -> pd.DataFrame:
    """Precision and recall of our rules, by class, on the third of `labelled` that is kept for testing, and on all."""
    parts = {"test": table[table["split"] == "test"], "all": table}
    found = []
    for name, part in parts.items():
        scores = precision_and_recall(part["label"].tolist(), part["ours"].tolist()).set_index("class")
        cells = scores[["precision", "recall"]].map(lambda x: "" if pd.isna(x) else f"{x:.0%}")
        found.append(cells.assign(labelled=scores["labelled"]).add_suffix(f", {name}"))
    return plain(pd.concat(found, axis=1).fillna("").reset_index())


@needs_columns("label", "papers")
def confusion(table: pd.DataFrame) -> pd.DataFrame:
    """How the paper's rules (columns) class what was labelled by hand (rows)."""
    crossed = pd.crosstab(table["label"], table["papers"])
    return plain(crossed.rename_axis(columns=None).reset_index().replace(0, ""))


@figure
@needs_columns("drop", "runs", "power")
def power_curves(table: pd.DataFrame, title: str, description: str) -> Any:
    """The chance to find a drop against its size, a line per number of runs: `audit.power`."""
    order = list(dict.fromkeys(table["runs"]))
    chart = (
        alt.Chart(table.round(4))
        .mark_line()
        .encode(
            x=alt.X("drop:Q", title="drop of accuracy", axis=alt.Axis(format=".0%")),
            y=alt.Y("power:Q", title=None, axis=alt.Axis(format=".0%")),
            color=alt.Color("runs:N", sort=order, scale=alt.Scale(domain=order, range=PALETTE[: len(order)])),
            tooltip=[alt.Tooltip("drop:Q", format=".1%"), "runs:N", alt.Tooltip("power:Q", format=".0%")],
        )
    )
    return themed(chart.properties(title=title), description)


@figure
@needs_columns("confidence", "accuracy", "low", "high")
def reliability_diagram(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Accuracy against confidence with 95 % intervals, and the diagonal: `calibration.reliability`."""
    share: dict[str, Any] = {"scale": alt.Scale(domain=[0, 1]), "axis": alt.Axis(format=".0%")}
    base = alt.Chart(table.round(4)).encode(x=alt.X("confidence:Q", title="confidence", **share))
    interval = base.mark_rule(color=PALETTE[0]).encode(y=alt.Y("low:Q", title=None, **share), y2="high:Q")
    point = base.mark_point(filled=True, size=60, opacity=1, color=PALETTE[0]).encode(
        y=alt.Y("accuracy:Q", title=None, **share),
        tooltip=[alt.Tooltip(f"{name}:Q", format=".1%") for name in ("confidence", "accuracy", "low", "high")],
    )
    diagonal = (
        alt.Chart(pd.DataFrame({"confidence": [0, 1], "accuracy": [0, 1]}))
        .mark_line(strokeDash=[4, 4], color="currentColor", opacity=0.5)
        .encode(x=alt.X("confidence:Q", **share), y=alt.Y("accuracy:Q", title=None, **share))
    )
    title = titled(title, f"{subtitle} · 95 % intervals")
    return themed((diagonal + interval + point).properties(title=title), description)
