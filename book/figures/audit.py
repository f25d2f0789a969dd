"""Tables and figures of the audit: what the published numbers can show, and how much each choice of ours matters.

Every cell of a table is text; changes of accuracy are in percentage points. What is estimated comes from `lmrel.stats`
and `book.analysis`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from scipy import stats

from book.analysis.taxonomy import failure, precision_and_recall
from book.analysis.trends import bootstrap_interval, holm, trend, variance_reduction
from book.figures.published import ACCURACY, PROBLEMS, TEMPERATURES
from book.figures.text import Lines, listed, percent_range, plain, temperature_name
from lmrel.answers import extract_answer, first_integer, only_answer, paper_failure
from lmrel.charts import PALETTE, coloured, figure, themed, titled
from lmrel.parameters import RULES
from lmrel.problems import OPERANDS, paper_problems
from lmrel.rescoring import rescore
from lmrel.stats import calibration, design, metrics
from lmrel.stats.contrasts import equivalence, paired
from lmrel.stats.inference import wilson, with_interval

LABELS = Path(__file__).resolve().parent.parent / "data" / "failures.jsonl"
ANSWERS = LABELS.with_name("answers.jsonl")


def stability(spared: Sequence[float] = (0.0,), margin: float = 0.05, relative: float = 0.25) -> pd.DataFrame:
    """The change of each published model from greedy to T = 1, with its 95 % interval: a row per model and assumption.

    `spared` are shares of the variance of two independent samples that pairing is assumed to spare; 0 is independence.
    Then z; whether the 90 % interval lies within `margin`, and within the share `relative` of the greedy accuracy; and
    the 95 % interval as a share of it.
    """
    rows = []
    for model, accuracies in ACCURACY.items():
        greedy, hot = accuracies[0], accuracies[-1]
        change, independent = hot - greedy, math.sqrt(sum(p * (1 - p) / PROBLEMS for p in (greedy, hot)))
        for share in spared:
            error = independent * math.sqrt(1 - share)
            low, high, low_90, high_90 = (change + stats.norm.ppf(q) * error for q in (0.025, 0.975, 0.05, 0.95))
            row = {"model": model, "variance": f"{share:.0%} spared" if share else "independent"}
            row["change, points"] = with_interval(100 * change, 100 * low, 100 * high)
            row["z"] = with_interval(change / error)
            most = max(-low_90, high_90)
            row |= {f"within {100 * margin:g} points": "yes" if most < margin else "not shown"}
            row |= {f"within {relative:.0%} of greedy": "yes" if most < relative * greedy else "not shown"}
            ends = (with_interval(end / greedy, form="{:+.0%}") for end in (low, high))
            rows.append(row | {"of the greedy accuracy": " to ".join(ends)})
    return plain(pd.DataFrame(rows))


def spared_by_pairing(outcomes: pd.DataFrame, runs: int = 4) -> pd.Series:
    """The share of the variance of a change from greedy to T = 1 that pairing spares, for each model of ours.

    `outcomes` holds rows of `tiny.factorial.measured` of one prompt and precision. The variance is that of one greedy
    draw against the mean of `runs` draws of the same problem; what it is compared with is a single draw a problem on
    each side, of different problems.
    """
    middle = outcomes.assign(p=(outcomes["lower"] + outcomes["upper"]) / 2)
    index = ["architecture", "stage", "problem_id"]
    wide = middle[middle["temperature"].isin([0.0, 1.0])].pivot(index=index, columns="temperature", values="p")
    found = {}
    for (architecture, stage), some in wide.groupby(["architecture", "stage"]):
        cold, hot = some[0.0], some[1.0]
        paired_variance = (hot - cold).var(ddof=1) + (hot * (1 - hot)).mean() / runs
        independent = sum(side.mean() * (1 - side.mean()) for side in (cold, hot))
        found[f"tiny-{architecture}-{stage}"] = 1 - paired_variance / independent
    return pd.Series(found)


def spared_shares(spared: pd.Series) -> Lines:
    """The shares of `spared_by_pairing` in a sentence."""
    each = listed([f"{share:.0%} in {name}" for name, share in spared.items()])
    return Lines([f"Pairing and four runs spare this much of the variance of a change: {each}."])


def variances(given: Mapping[str, float]) -> Lines:
    """The two variances of `design.variances` in a sentence."""
    return Lines(
        [
            f"From problem to problem the drop varies with a variance of {given['between']:.3f}; a single draw adds "
            f"{given['sampling']:.3f}."
        ]
    )


def equivalences(drawn: Mapping[str, pd.DataFrame], models: Sequence[str], margin: float = 0.05) -> pd.DataFrame:
    """Whether the change from greedy to T = 1 is shown to lie within `margin`, a row for each of `models`."""
    rows = []
    for name in models:
        cold, hot = (drawn[name][drawn[name]["temperature"] == t] for t in (0.0, 1.0))
        found = equivalence(paired(cold, hot), margin=margin)
        change = with_interval(*(100 * found[end] for end in ("difference", "low", "high")))
        verdict = "yes" if found["equivalent"] else "not shown"
        row = {"model": name, "change, points, 90 % interval": change, f"within {100 * margin:g} points": verdict}
        rows.append(row)
    return plain(pd.DataFrame(rows))


def needed(given: Mapping[str, float], drops: Sequence[float] = (0.02, 0.05, 0.1), runs: int = 4) -> pd.DataFrame:
    """How many problems it takes to find a drop with a chance of 80 %, by the variances of `design.variances`."""
    variance = given["between"], given["sampling"]
    problems = [f"{design.problems_needed(drop, runs, *variance):,}" for drop in drops]
    return plain(pd.DataFrame({"drop": [f"{drop:.0%}" for drop in drops], "problems for a chance of 80 %": problems}))


def calibrated(confident: np.ndarray, right: np.ndarray) -> Lines:
    """How well the probabilities of texts tell which answers are `right`, in three sentences."""
    error = calibration.expected_calibration_error(confident, right)
    best = calibration.selective_accuracy(confident, right)
    half = best["accuracy"].iloc[len(best) // 2 - 1]
    return Lines(
        [
            f"The Brier score is {calibration.brier(confident, right):.3f}, where 0 is best. The calibration error is "
            f"{error['ece']:.3f}; a calibrated model would show {error['bias']:.3f} with these bins. Of the more "
            f"confident half of the answers {half:.1%} are right, of all {right.mean():.1%}."
        ]
    )


def label_counts(table: pd.DataFrame) -> Lines:
    """How many outputs were `labelled`, whose they are, and how many were kept for testing, in a sentence."""
    count, kept = table["source"].value_counts(), int((table["split"] == "test").sum())
    return Lines(
        [
            f"{len(table)} outputs were labelled by hand, {count['tiny']} of our models and {count['written']} written "
            f"by us; {kept} of them were kept for testing."
        ]
    )


def power_title(table: pd.DataFrame, chance: float = 0.8) -> str:
    """The sentence that says which drop the fewest and the most runs find with that `chance`: rows of `power`."""
    said = []
    for runs in (table["runs"].iloc[0], table["runs"].iloc[-1]):
        found = table.loc[(table["runs"] == runs) & (table["power"] >= chance), "drop"]
        drop = found.min() if len(found) else table["drop"].max()
        said.append(f"{'' if len(found) else 'more than '}{100 * drop:.1f} points with {runs}")
    return f"{chance:.0%} of the time, {PROBLEMS} problems find a drop of {listed(said)}"


def reliability_title(table: pd.DataFrame) -> str:
    """The sentence that says in how many bins of `calibration.reliability` confidence leaves accuracy's interval."""
    off = int((~table["confidence"].between(table["low"], table["high"])).sum())
    if not off:
        return f"In all {len(table)} groups, confidence lies within the interval of accuracy"
    return f"Confidence misses accuracy in {off} of {len(table)} groups of answers"


def first_integers(texts: Sequence[str]) -> pd.DataFrame:
    """What the paper's rule and three others read in each of `texts`."""
    read = {"first": "first integer", "last": "last number", "sole": "the only number", "marked": "marked answer"}
    columns = {
        name: [str(extract_answer(text, rule)[0]).replace("None", "none") for text in texts]
        for rule, name in read.items()
    }
    return plain(pd.DataFrame({"output": list(texts)} | columns))


def answer_rules() -> pd.DataFrame:
    """How often each rule is right: columns ``asked for, rule, precision, recall``, as text.

    Of the outputs that were labelled by hand and kept for testing, precision is the share of right ones among the
    answers that a rule gives, recall the share that it finds of the answers that there are; with Wilson's 95 %
    intervals. What math-verify reads of a number stands with the outputs.
    """
    table = pd.DataFrame(map(json.loads, ANSWERS.read_text(encoding="utf-8").splitlines()))
    rows = []
    for kind, some in table[table["split"] == "test"].groupby("kind", sort=False):
        labels = [None if pd.isna(label) else only_answer(label) for label in some["answer"]]
        verdicts = {}
        for rule in RULES:
            answers = [extract_answer(text, rule, kind)[0] for text in some["text"]]  # type: ignore[arg-type]
            pairs = zip(answers, labels, strict=True)
            verdicts[rule] = ["none" if a is None else "right" if a == label else "wrong" for a, label in pairs]
        if kind == "number":
            verdicts["math-verify 0.9.0"] = some["math_verify"].tolist()
        for rule, said in verdicts.items():
            right, given = said.count("right"), len(said) - said.count("none")
            shares = {"precision": given, "recall": len(labels) - labels.count(None)}
            cells = {name: _with_wilson(right / n, n) if n else "no answers" for name, n in shares.items()}
            rows.append({"asked for": f"a {kind}", "rule": rule, **cells})
    return plain(pd.DataFrame(rows))


def by_rule(drawn: Mapping[str, pd.DataFrame], temperatures: Sequence[float] = (0.0, 1.0)) -> pd.DataFrame:
    """The accuracy of the same draws under each rule, for each model and temperature, as text."""
    rows = []
    for name, draws in drawn.items():
        some = draws[draws["temperature"].isin(temperatures)]
        for rule in RULES:
            accuracy = rescore(some, rule).groupby("temperature")["correct"].mean()
            rows.append({"model": name, "rule": rule} | {f"T = {t:g}": f"{accuracy[t]:.1%}" for t in temperatures})
    return plain(pd.DataFrame(rows))


def counts() -> pd.DataFrame:
    """The published accuracies as numbers of problems, with Wilson's 95 % interval of the share."""
    table, form = {"model": list(ACCURACY)}, f"{{:.0f}} of {PROBLEMS}"
    for i, temperature in enumerate(TEMPERATURES):
        cells = []
        for accuracies in ACCURACY.values():
            low, high = (100 * end for end in wilson(accuracies[i], PROBLEMS))
            cells.append(with_interval(accuracies[i] * PROBLEMS, low, high, form=form, ends="{:.1f} %"))
        table[temperature_name(temperature)] = cells
    return plain(pd.DataFrame(table))


def chance() -> pd.DataFrame:
    """What rules that compute nothing score on the paper's problems: columns ``rule, accuracy``, as text.

    The rules are to give always the commonest answer, or, in each family, always the operand that is right most often.
    """
    problems = paper_problems()
    answers = problems["answer"].value_counts()
    rows = [{"rule": f"always {answers.index[0]}", "accuracy": f"{answers.iloc[0] / len(problems):.1%}"}]
    for task, some in problems.groupby("task"):
        operands = [name for name in OPERANDS[str(task)] if not name.startswith("op")]
        scores = some[operands].eq(some["answer"], axis=0).mean()
        rule = f"always {scores.idxmax()}, {task}".replace("_", " ")
        rows.append({"rule": rule, "accuracy": f"{scores.max():.1%}"})
    return plain(pd.DataFrame(rows))


def power(between: float, sampling: float, runs: Sequence[int] = (1, 4, 16)) -> pd.DataFrame:
    """The probability that a study of the paper's 240 problems finds a drop of accuracy: columns ``drop, runs, power``.

    `between` is the variance between problems, `sampling` that of a single draw; ``runs`` is text.
    """
    names = {n: f"{n} runs" if n > 1 else "1 run" for n in runs}
    rows = [
        {"drop": drop, "runs": names[n], "power": design.power(drop, PROBLEMS, n, between, sampling)}
        for n in runs
        for drop in (i / 200 for i in range(1, 31))
    ]
    return pd.DataFrame(rows)


def arms(draws: pd.DataFrame) -> pd.DataFrame:
    """Accuracy at each temperature of several ways to draw, named in column ``arm``, a row per way.

    The change is from the lowest temperature to the highest, with a 95 % interval.
    """
    rows = []
    for arm, some in draws.groupby("arm", sort=False):
        temperatures = sorted(some["temperature"].unique())
        means = some.groupby("temperature")["correct"].mean()
        first, last = (some[some["temperature"] == t] for t in (temperatures[0], temperatures[-1]))
        interval = bootstrap_interval(paired(first, last).to_numpy())
        row = {"arm": str(arm)} | {temperature_name(t): f"{means[t]:.1%}" for t in temperatures}
        rows.append(row | {"change, points": with_interval(*(100 * end for end in interval))})
    return plain(pd.DataFrame(rows))


def exact_arms(curves: pd.DataFrame) -> pd.DataFrame:
    """Exact accuracy at each temperature of several ways to draw, a row per way.

    `curves` holds rows of `metrics.exact_curves` with the name of the way in column ``arm``.
    """
    right = curves.query("metric == 'correct' and quantity == 'mean'")
    cells = right.apply(lambda row: percent_range(row["lower"], row["upper"]), axis=1)
    names = right["temperature"].map(temperature_name)
    wide = right.assign(cell=cells, T=names).pivot(index="arm", columns="T", values="cell")
    return plain(wide.reindex(right["arm"].unique())[list(names.unique())].reset_index())


def confidences(draws: pd.DataFrame) -> pd.DataFrame:
    """Mean log-prob per token at each temperature: raw, and processed as in the paper."""
    means = draws.groupby("temperature")[list(metrics.CONFIDENCES.values())].mean()
    table = {"T": means.index.map("{:g}".format), "raw": means["mean_logprob"].map("{:.3f}".format)}
    return plain(pd.DataFrame(table | {"as published": means["mean_logprob_processed"].map("{:.3f}".format)}))


def trends(drawn: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """How the log-odds of a right answer change per unit of temperature, a row per model; p-values adjusted by Holm."""
    found = {name: trend(draws) for name, draws in drawn.items()}
    adjusted = holm({name: one["p"] for name, one in found.items()})
    rows = []
    for name, one in found.items():
        slope = with_interval(one["slope"], one["low"], one["high"], form="{:+.2f}")
        rows.append({"model": name, "slope": slope, "p, Holm": f"{adjusted[name]:.2g}"})
    return plain(pd.DataFrame(rows))


def spared(drawn: dict[str, pd.DataFrame], first: float = 0.5, second: float = 1.0) -> pd.DataFrame:
    """How much of the variance of a difference between two temperatures each way of pairing spares, a row per model."""
    rows = []
    for name, draws in drawn.items():
        shares = variance_reduction(draws, first, second)
        cells = {"same problems": shares["same_problems"], "common random numbers": shares["common_numbers"]}
        rows.append({"model": name} | {how: f"{share:.0%}" for how, share in cells.items()})
    return plain(pd.DataFrame(rows))


def labelled() -> pd.DataFrame:
    """The failures that were labelled by hand, with the class that ``ours`` and the ``papers`` rules give each."""
    table = pd.DataFrame(map(json.loads, LABELS.read_text(encoding="utf-8").splitlines()))
    ours, papers = [], []
    for row in table.to_dict("records"):
        found = failure(row["problem"], row["text"], row["finished"])
        number, compliant = first_integer(row["text"])
        ours.append(found[0] if found else "none")
        papers.append(paper_failure(row["text"], number, row["label"] == "ran_on", compliant) or "(counted as right)")
    return table.assign(ours=ours, papers=papers)


def _with_wilson(share: float, n: float) -> str:
    """A share in per cent with Wilson's 95 % interval; empty where there is nothing to share."""
    ends = wilson(share, n) if n else ()
    return with_interval(100 * share, *(100 * end for end in ends), form="{:.0f} %", ends="{:.0f}") if n else ""


def rules(table: pd.DataFrame) -> pd.DataFrame:
    """Precision and recall of our rules with 95 % intervals, on the third of `labelled` kept for testing and on all.

    A row per class. The intervals treat outputs as independent.
    """
    parts = {"test": table[table["split"] == "test"], "all": table}
    found = []
    for name, part in parts.items():
        scores = precision_and_recall(part["label"].tolist(), part["ours"].tolist()).set_index("class")
        cells = {}
        for share, count in {"precision": "said", "recall": "labelled"}.items():
            cells[share] = [_with_wilson(*pair) for pair in scores[[share, count]].to_numpy()]
        found.append(pd.DataFrame(cells, scores.index).assign(labelled=scores["labelled"]).add_suffix(f", {name}"))
    return plain(pd.concat(found, axis=1).fillna("").reset_index())


def confusion(table: pd.DataFrame) -> pd.DataFrame:
    """How often the paper's rules give each class (columns) to outputs with each label by hand (rows)."""
    crossed = pd.crosstab(table["label"], table["papers"])
    return plain(crossed.rename_axis(columns=None).reset_index().replace(0, ""))


@figure
def power_curves(table: pd.DataFrame, title: str, description: str) -> Any:
    """The probability to find a drop against its size, a line per number of runs: the rows of `power`."""
    order = list(dict.fromkeys(table["runs"]))
    chart = (
        alt.Chart(table.round(4))
        .mark_line()
        .encode(
            x=alt.X("drop:Q", title="drop of accuracy", axis=alt.Axis(format=".0%")),
            y=alt.Y("power:Q", title=None, axis=alt.Axis(format=".0%")),
            color=coloured("runs:N", order),
            tooltip=[alt.Tooltip("drop:Q", format=".1%"), "runs:N", alt.Tooltip("power:Q", format=".0%")],
        )
    )
    return themed(chart.properties(title=title), description)


@figure
def reliability_diagram(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Accuracy against confidence with 95 % intervals, and the diagonal: the rows of `calibration.reliability`."""
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
