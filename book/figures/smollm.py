"""The page on one real model, SmolLM2-135M-Instruct: figures, tables, and the sentences that its prose quotes.

What is estimated comes from `book.analysis.smollm`. Accuracies and what is lost of them are in points.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from book.analysis.smollm import (
    ALL,
    FAMILIES,
    PILOT,
    PLAIN,
    accuracies,
    changes,
    curves,
    failures,
    heat_helps,
    on_paper,
    outcomes,
    sampled_minus_exact,
    shared,
    won,
)
from book.figures.text import listed, plain
from lmrel.charts import GREY, PALETTE, RIGHT, SERIES, WRONG, figure, themed, titled
from lmrel.parameters import RULES
from lmrel.stats.contrasts import clusters_of, paired
from lmrel.stats.inference import bounded_interval, wilson, with_interval

NAMES = {
    "sum": "3 + 5",
    "difference": "9 - 2",
    "product": "6 * 4",
    "long sum": "15 + 16",
    ALL: "all",
}  # of the families, by an example
CLASSES = {
    "right": RIGHT,
    "numeric_error": WRONG,
    "extra_text": PALETTE[3],
    "hallucinated_steps": PALETTE[4],
    "incomplete": GREY,
    "refusal": PALETTE[5],
    "empty": PALETTE[6],
}
SHORT = {"numeric_error": "wrong number", "extra_text": "more than a number", "hallucinated_steps": "steps"}
PAPER, STEP = "the paper's 240", "one step"
LABELS = alt.Axis(labelLimit=150, minExtent=105, labelFontSize=11)


def named(condition: str) -> str:
    """A condition as a figure and a table name it."""
    chat = "" if on_paper(condition) or condition.startswith(PLAIN) else "chat, "
    words = chat + condition.removeprefix("steps-").replace("-pure", "").replace("-as_shipped", ", as shipped")
    return words.replace("plain-", "plain, ").replace("plain", "plain text").replace("_", "-")


@figure
def response(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Accuracy by temperature, a line a family of one-step problems: rows of `curves`. Filled dots are exact."""
    rows = table[table["task"] != ALL].assign(task=lambda rows: rows["task"].map(NAMES))
    rows = rows[["task", "temperature", "accuracy", "low", "high", "how"]].round({"accuracy": 2, "low": 2, "high": 2})
    order = [name for task, name in NAMES.items() if task != ALL]
    rows["x"] = rows["temperature"] + 0.012 * (rows["task"].map({name: i for i, name in enumerate(order)}) - 1.5)
    base = alt.Chart(rows.round({"x": 4})).encode(
        x=alt.X("x:Q", title="temperature", axis=alt.Axis(values=[0, 0.5, 1, 1.5, 2])),
        color=alt.Color("task:N", sort=order, scale=alt.Scale(domain=order, range=SERIES[: len(order)])),
    )
    y: dict[str, Any] = {
        "title": "right, per cent",
        "scale": alt.Scale(domain=[0, 100]),
        "axis": alt.Axis(values=[0, 25, 50, 75, 100]),
    }
    line = base.mark_line(strokeWidth=2).encode(y=alt.Y("accuracy:Q", **y))
    ends = base.mark_rule(strokeWidth=1.2, opacity=0.6).encode(y=alt.Y("low:Q", **y), y2="high")
    dots = [
        base.transform_filter(f"datum.how == '{how}'")
        .mark_point(size=50, opacity=1, strokeWidth=2, filled=how == "exact")
        .encode(
            y=alt.Y("accuracy:Q", **y),
            tooltip=["task:N", "temperature:Q", "how:N", *_points("accuracy", "low", "high")],
        )
        for how in ("exact", "sampled")
    ]
    return themed(alt.layer(ends, line, *dots).properties(title=titled(title, subtitle)), description)


def _points(*names: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:Q", format=".1f") for name in names]


@figure
def by_rule(accuracies: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Accuracy of the same draws by the rule that reads them, a row a condition: `accuracies` of one temperature."""
    rows = accuracies.assign(asked=accuracies["condition"].map(named))
    rows = rows[["asked", "answer", "accuracy", "low", "high", "unanswered"]].round(2)
    span = rows.groupby("asked", sort=False)["accuracy"].agg(["min", "max"]).reset_index()
    x: dict[str, Any] = {"title": "right, per cent", "scale": alt.Scale(zero=True), "axis": alt.Axis(tickCount=6)}
    y = alt.Y("asked:N", sort=None, title=None, axis=LABELS)
    line = alt.Chart(span).mark_rule(strokeWidth=2, opacity=0.45, color="currentColor")
    dot = alt.Chart(rows).mark_point(filled=True, size=75, opacity=1)
    chart = line.encode(y=y, x=alt.X("min:Q", **x), x2="max") + dot.encode(
        y=y,
        x=alt.X("accuracy:Q", **x),
        color=alt.Color("answer:N", sort=list(RULES), scale=alt.Scale(domain=list(RULES), range=SERIES[:4])),
        shape=alt.Shape("answer:N", sort=list(RULES), scale=alt.Scale(domain=list(RULES))),
        tooltip=["asked:N", "answer:N", *_points("accuracy", "low", "high", "unanswered")],
    )
    return themed(chart.properties(title=titled(title, subtitle)), description).properties(
        height=max(110, 34 * len(span))
    )


@figure
def failed(failures: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """What becomes of all draws, a bar a condition and temperature: right, or the paper's class of failure."""
    there = [name for name in CLASSES if name in set(failures["what"])]
    rows = failures.assign(
        asked=failures["condition"].map(named) + failures["temperature"].map(", T = {:g}".format),
        place=failures["what"].map(there.index),
        what=failures["what"].map(_short),
    )[["asked", "what", "share", "place"]].round(4)
    domain = [_short(name) for name in there]
    bars = alt.Chart(rows).mark_bar(height=15)
    chart = bars.encode(
        y=alt.Y("asked:N", sort=None, title=None, axis=LABELS),
        x=alt.X("share:Q", title="share of all draws", axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("what:N", sort=domain, scale=alt.Scale(domain=domain, range=[CLASSES[name] for name in there])),
        order="place:Q",
        tooltip=["asked:N", "what:N", alt.Tooltip("share:Q", format=".1%")],
    )
    height = max(110, 26 * rows["asked"].nunique())
    return themed(chart.properties(title=titled(title, subtitle)), description).properties(height=height)


def _short(what: str) -> str:
    return SHORT.get(what, what.replace("_", " "))


@figure
def sure(agreement: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """How often the most frequent answer is right, by how many of a problem's runs gave it, with 95 % intervals."""
    rows = levels(agreement).round(2)
    base = alt.Chart(rows).encode(x=alt.X("agree:O", title="runs that agree", axis=alt.Axis(labelAngle=0)))
    y: dict[str, Any] = {"title": "right, per cent", "scale": alt.Scale(domain=[0, 100])}
    ends = base.mark_rule(strokeWidth=2, color=PALETTE[0]).encode(y=alt.Y("low:Q", **y), y2="high")
    dot = base.mark_point(filled=True, size=80, opacity=1, color=PALETTE[0]).encode(
        y=alt.Y("right:Q", **y), tooltip=["agree:N", "problems:Q", *_points("right", "low", "high")]
    )
    count = base.mark_text(dx=12, align="left", color="currentColor", fontSize=11).encode(
        y=alt.Y("right:Q", **y), text=alt.Text("problems:Q", format="d")
    )
    return themed((ends + dot + count).properties(title=titled(title, subtitle)), description).properties(height=200)


def levels(agreement: pd.DataFrame) -> pd.DataFrame:
    """Problems by how many of their runs agree: ``agree, problems, right, low, high``; the last three in points."""
    rows = []
    for (agree, runs), some in agreement.groupby(["agree", "runs"]):
        share = float(some["right"].mean())
        low, high = wilson(share, len(some))
        rows.append((f"{agree} of {runs}", len(some), 100 * share, 100 * low, 100 * high))
    return pd.DataFrame(rows, columns=["agree", "problems", "right", "low", "high"])


# Tables.


def shown_accuracies(accuracies: pd.DataFrame) -> pd.DataFrame:
    """Every condition, temperature and rule as text."""
    columns = {
        "problems": [PAPER if on_paper(name) else STEP for name in accuracies["condition"]],
        "asked": accuracies["condition"].map(named),
        "T": accuracies["temperature"].map("{:g}".format),
        "rule": accuracies["answer"],
        "right": [with_interval(*row, form="{:.1f}") for row in accuracies[["accuracy", "low", "high"]].to_numpy()],
        "no answer": accuracies["unanswered"].map("{:.0f}".format),
        "only a number": accuracies["compliance"].map("{:.0f}".format),
    }
    return plain(pd.DataFrame(columns))


def shown_changes(changes: pd.DataFrame, helped: pd.DataFrame) -> pd.DataFrame:
    """What T = 1 does to each family, and to how many problems where that is known exactly, as text."""
    rows = changes.merge(helped)
    columns = {
        "family": rows["task"].map(NAMES),
        "problems": rows["problems"],
        "greedy": rows["before"].map("{:.1f}".format),
        "T = 1": rows["after"].map("{:.1f}".format),
        "change": [with_interval(*row) for row in rows[["change", "low", "high"]].to_numpy()],
        "right, then lost": [f"{lost} of {right}" for lost, right in zip(rows["lost"], rows["right"], strict=True)],
        "wrong, then won": [f"{won} of {wrong}" for won, wrong in zip(rows["gained"], rows["wrong"], strict=True)],
    }
    return plain(pd.DataFrame(columns))


# Sentences.


def numbers(read: pd.DataFrame, exact: pd.DataFrame, about: dict[str, Any], agreement: pd.DataFrame) -> dict[str, str]:
    """What the page quotes, by key: draws read by every rule, exact outcomes, what was asked, and `agreement`."""
    first = read[read["answer"] == "first"]
    rated = accuracies(read)
    paper = rated[rated["condition"].map(on_paper) & (rated["answer"] == "first")]
    pure = paper[paper["condition"].str.endswith("-pure")]
    cold, hot = (pure.loc[pure["temperature"] == t, "accuracy"] for t in (0.0, 1.0))
    moved = {
        name: changes(some, 0.0, 1.0).iloc[-1]
        for name, some in first.groupby("condition")
        if name in set(pure["condition"])
    }
    known = outcomes(exact, read)
    lost = changes(known, 0.0, 1.0).set_index("task")
    helped = heat_helps(exact).set_index("task").loc[ALL]
    same = accuracies(shared(read))
    at_one = same[same["temperature"] == 1.0]
    hotter = curves(known).query("task == @ALL and temperature > 1")
    whole = with_interval(*lost.loc[ALL, ["change", "low", "high"]])
    before, after = (f"{value:.0f} %" for value in lost.loc[ALL, ["before", "after"]])
    return {
        "smollm pilot": _pilot(pd.read_parquet(PILOT)),
        "smollm draws": f"{len(first):,}",
        "smollm steps": f"{known['problem_id'].nunique()}",
        "smollm exact": listed([NAMES[task] for task in FAMILIES if task in set(exact["task"])]),
        "smollm paper change": listed([with_interval(*row[["change", "low", "high"]]) for row in moved.values()]),
        "smollm paper won": listed([_won(first, name) for name in pure["condition"].unique()]),
        "smollm steps won": _won(first, PLAIN).partition(" (")[0],
        "smollm lost": f"{whole} points",
        "smollm families": listed(
            [
                f"{with_interval(*lost.loc[task, ['change', 'low', 'high']])} ({NAMES[task]})"
                for task in FAMILIES
                if task in lost.index
            ]
        ),
        "smollm width": f"{100 * (exact['upper'] - exact['lower']).max():.0f}",
        "smollm hotter": listed(
            [
                f"{with_interval(*row[['accuracy', 'low', 'high']], form='{:.0f}')} % at T = {row['temperature']:g}"
                for _, row in hotter.iterrows()
            ]
        ),
        "smollm check": with_interval(*sampled_minus_exact(first, exact)),
        "smollm heat": _heat(helped),
        "smollm range paper": _range(at_one[at_one["condition"].map(on_paper)]),
        "smollm range steps": _range(at_one[~at_one["condition"].map(on_paper)]),
        "smollm range rule": _widest(at_one[~at_one["condition"].map(on_paper)]),
        "smollm rule best": _best_rules(at_one),
        "smollm chat": _best(at_one, PLAIN, "steps-few_shot"),
        "smollm shipped": _shipped(first),
        "smollm classes": _classes(failures(first[first["condition"].isin(pure["condition"])])),
        "smollm sure": _sure(levels(agreement)),
        "smollm precision": _precisions(same),
        "smollm shared": f"{int(at_one.loc[~at_one['condition'].map(on_paper), 'problems'].max())}",
        "smollm title": f"One step: from {before} to {after} at T = 1",
        "smollm missing": _missing(about),
        "smollm minutes": _minutes(about),
        "smollm headline": (
            f"On the paper's 240 problems this model is right in {_span(cold)} % greedily and {_span(hot)} % at T = 1: "
            f"it has next to nothing to lose. On {known['problem_id'].nunique()} problems of one step it is right in "
            f"{before} greedily and {after} at T = 1: a change of {whole} points."
        ),
    }


def _span(values: pd.Series) -> str:
    ends = f"{values.min():.1f}", f"{values.max():.1f}"
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _missing(about: dict[str, Any]) -> str:
    """What was asked for and is not stored: conditions by name, and families without exact outcomes."""
    exact = [f"exact outcomes of {NAMES[task]}" for task in FAMILIES if task not in about["exact"]["families"]]
    return listed([name for name, said in about.items() if said.get("draws") == 0] + exact) or "nothing"


def _minutes(about: dict[str, Any]) -> str:
    """How long it took to load, check and draw what was sampled."""
    took = sum(sum(said["seconds"].values()) for said in about.values() if "seconds" in said)
    return f"what was sampled took {took / 60:.0f} minutes on one core of a busy machine"


def _pilot(outcomes: pd.DataFrame) -> str:
    """What the pilot of the experiment on this model gets right greedily, by task of the paper."""
    cold = outcomes.query("metric == 'correct' and temperature == 0").groupby("task")["lower"].mean()
    return listed(
        [f"{100 * cold[task]:.0f} % of {task.replace('_', ' ')}" for task in ("variable_binding", "arithmetic")]
    )


def _won(first: pd.DataFrame, condition: str) -> str:
    wrong, later = won(first, condition)
    return f"{later} of {wrong} ({named(condition)})"


def _heat(helped: Any) -> str:
    """What T = 1 takes from problems that are right greedily, and heat gives to others: a row of `heat_helps`."""
    half = "in more than half of the draws"
    lost = f"of {helped['right']:.0f} that are right greedily, {helped['lost']:.0f} are wrong {half} at T = 1"
    won = f"of {helped['wrong']:.0f} that are wrong greedily, {helped['gained']:.0f} are right {half} at some T"
    return f"{lost}; {won}" if helped["wrong"] else f"{lost}; none is wrong greedily"


def _range(rated: pd.DataFrame) -> str:
    """From which accuracy to which, and of how many readings: rows of `accuracies` at one temperature."""
    return f"{_span(rated['accuracy'])} %, in {len(rated)} readings"


def _widest(rated: pd.DataFrame) -> str:
    """The condition whose accuracy depends most on the rule, and on which."""
    by_condition = {str(name): some.sort_values("accuracy") for name, some in rated.groupby("condition", sort=False)}
    name, some = max(by_condition.items(), key=lambda each: np.ptp(each[1]["accuracy"]))
    ends = [f"{row['accuracy']:.0f} % ({row['answer']})" for _, row in some.iloc[[0, -1]].iterrows()]
    return f"asked as {named(name)}, the same draws are right in {ends[0]} or in {ends[1]}"


def _best_rules(rated: pd.DataFrame) -> str:
    """In how many conditions the paper's rule reads the most right answers."""
    best = rated.loc[rated.groupby("condition")["accuracy"].idxmax()]
    return f"{int((best['answer'] == 'first').sum())} of {len(best)}"


def _best(rated: pd.DataFrame, plain_text: str, chat: str) -> str:
    """The accuracy of two conditions, each by the rule that reads the most right answers: rows at one temperature."""
    most = rated.groupby("condition")["accuracy"].max()
    return f"{most[plain_text]:.0f} % in plain text and {most[chat]:.0f} % as a turn of a chat"


def _shipped(first: pd.DataFrame) -> str:
    """What a checkpoint's defaults change at T = 1, in points, by the conditions that were drawn with them."""
    said = []
    for name in first["condition"].unique():
        pure = name.replace("-as_shipped", "-pure" if on_paper(name) else "")
        if name != pure and pure in set(first["condition"]):
            sides = [first[(first["condition"] == each) & (first["temperature"] == 1.0)] for each in (pure, name)]
            found = paired(*sides)
            ends = 100 * np.array(bounded_interval(found, clusters_of(found)))
            said.append(f"{with_interval(*ends)} ({named(pure)}{'' if on_paper(name) else ', one step'})")
    return listed(said)


def _classes(shares: pd.DataFrame) -> str:
    """The commonest classes of failure at T = 1 on the paper's problems, all prompts together."""
    hot = shares[shares["temperature"] == 1.0]
    of = hot.groupby("what")["share"].sum() / hot["condition"].nunique()
    most = of.drop("right").sort_values(ascending=False).head(3)
    return listed([f"{_short(str(name))} ({100 * share:.0f} %)" for name, share in most.items()])


def _sure(found: pd.DataFrame) -> str:
    """How often the most frequent answer is right where runs agree most, and least."""
    ends = found.iloc[[-1, 0]]
    return listed(
        [
            f"in {with_interval(*row[['right', 'low', 'high']], form='{:.0f}')} % where {row['agree']} runs agree"
            for _, row in ends.iterrows()
        ]
    )


def _precisions(rated: pd.DataFrame) -> str:
    """Accuracy in each precision that was drawn in plain text, at T = 0 and 1."""
    some = rated[rated["condition"].str.startswith(PLAIN) & (rated["answer"] == "first")]
    said = []
    for name, rows in some.groupby("condition", sort=False):
        of = rows.set_index("temperature")["accuracy"]
        said.append(f"{of[0.0]:.0f} % and {of[1.0]:.0f} % in {str(name).removeprefix(PLAIN).lstrip('-') or 'fp32'}")
    return listed(said) + ("" if len(said) > 1 else "; bf16 and NF4 were not drawn")
