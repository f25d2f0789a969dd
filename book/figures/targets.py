"""The pages "What decides" and its appendix: figures, tables, and the sentences that their prose takes from the data.

What is estimated comes from `book.analysis.targets`. Differences between accuracies are in percentage points. Nothing
is said to be decided before all base models that were planned are measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from book.analysis import clamping
from book.analysis.targets import (
    ALL,
    ARITHMETIC,
    BINDING,
    MODEL,
    NOT_RUN,
    OPEN,
    OUT,
    SEEDS,
    TRUE,
    answer_bits,
    at_the_same_entropy,
    beyond_the_rate,
    both_right,
    by_seed,
    compare,
    curves,
    effective_temperatures,
    gates,
    minus,
    refuted,
    secondary,
    units,
)
from book.figures.text import listed, plain
from lmrel.charts import GREY, PALETTE, SERIES, WRONG, figure, themed, titled
from lmrel.stats.inference import t_interval, with_interval
from tiny.arms import ORDER

NONE_YET = "not measured yet"
TASKS = (BINDING, ARITHMETIC, ALL)
PLAN = "68b12b0"  # the commit that put the plan down, before any of its models was trained
ARMS = {  # as the pages call them, in their order; all others are on the appendix alone
    "base": "pretrained only",
    "continued": "right",
    "rule": "wrong by a rule",
    "forms": "right, in random forms",
    "soft": "soft labels of slips",
    "slips": "random slips",
}
NAMES = ARMS | {
    "own": "its own answers",
    "base-right": "pretrained, right only",
    "late-slips": "late slips",
    "few-right": "few pages, right",
    "few-slips": "few pages, slips",
    **{f"{name}-{steps}": f"{name}, {steps:,} steps" for steps in (100, 400, 6400) for name in ("right", "slips")},
    "continued-noisy": "slips, 5 or 30 % by page",
}
MEASURED = {"text_entropy": "bits of the text", "answer_entropy": "bits of the answer", "branching": "branching factor"}
SHORT = {  # the comparisons on a narrow screen
    "rule minus right": "1 rule \N{MINUS SIGN} right",
    "slips minus rule": "2 slips \N{MINUS SIGN} rule",
    "slips minus right, beyond the rate": "3 beyond the rate",
    "forms minus right": "4 forms \N{MINUS SIGN} right",
    "soft minus slips": "5 soft \N{MINUS SIGN} slips",
    "own minus right, all problems": "6 own \N{MINUS SIGN} right, all",
    "late slips minus slips": "7 late \N{MINUS SIGN} slips",
    "few pages' slips minus slips": "8 few pages",
    "6,400 steps of slips minus 1,600": "9 6,400 steps",
    "sparse minus dense, right": "10 sparse, right",
    "sparse minus dense, slips": "10 sparse, slips",
}
# Whether what was taught could be predicted, and so the colour.
PREDICTED, RANDOM, BEFORE = "can be predicted", "cannot be predicted", "before the last lessons"
KINDS = {PREDICTED: PALETTE[0], RANDOM: WRONG, BEFORE: GREY}
KIND = dict.fromkeys(("continued", "rule"), PREDICTED) | dict.fromkeys(("forms", "soft", "slips"), RANDOM)
KIND |= {"base": BEFORE}


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the arms of the main page, with ``arm`` and ``kind`` in words and ``model`` for the base model."""
    some = table[table["stage"].isin(ARMS) & table["seed"].isin(SEEDS)]
    model = some["architecture"] + ", seed " + some["seed"].astype(str)
    return some.assign(arm=some["stage"].map(ARMS), kind=some["stage"].map(KIND), model=model)


def _order(stages: Iterable[str]) -> list[str]:
    return [name for stage, name in ARMS.items() if stage in set(stages)]


def _colour(kinds: Iterable[str], **options: Any) -> alt.Color:
    domain = [kind for kind in KINDS if kind in set(kinds)]
    return alt.Color("kind:N", scale=alt.Scale(domain=domain, range=[KINDS[kind] for kind in domain]), **options)


@figure
def lost(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """What temperature 1 takes from each model on variable binding, by what it learned last: rows of `levels`.

    A dot per model, a bar at their mean.
    """
    rows = _named(table[(table["task"] == BINDING) & (table["metric"] == "correct")]).round(3)
    rows = rows[["arm", "kind", "model", "greedy", "hot", "drop", "stage"]]
    x = alt.X("drop:Q", title="points lost from T = 0 to T = 1", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
    base = alt.Chart(rows).encode(
        y=alt.Y("arm:N", sort=_order(rows["stage"]), title=None, axis=alt.Axis(labelLimit=150, minExtent=125)),
        color=_colour(rows["kind"]),
    )
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=x,
        tooltip=["arm:N", "model:N", *(alt.Tooltip(f"{name}:Q", format=".1f") for name in ("greedy", "hot", "drop"))],
    )
    mean = base.mark_tick(thickness=2, size=24).encode(x=alt.X("mean(drop):Q"), color=alt.ColorValue("currentColor"))
    return themed((dots + mean).properties(title=titled(title, subtitle)), description).properties(
        height=max(180, 34 * rows["arm"].nunique())
    )


@figure
def predictions(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """The planned comparisons that have any base model, beside the predictions: rows of `compare`.

    A band is the prediction, a dot the mean, and a line its 95 % interval, where there are two base models or more.
    """
    rows = table[table["units"] > 0].copy()
    reach = float(np.nanmax(np.abs(rows[["estimate", "low", "high"]].to_numpy()), initial=6.0)) + 1
    rows["label"] = [SHORT[name] for name in rows["name"]]
    rows["from"], rows["to"] = rows["low_margin"].clip(lower=-reach), rows["high_margin"].clip(upper=reach)
    for end in ("low", "high"):
        rows[end] = rows[end].fillna(rows["estimate"])
    names = ["label", "prediction", "units", "estimate", "low", "high", "from", "to", "verdict"]
    base = alt.Chart(rows[names].round(3)).encode(
        y=alt.Y("label:N", sort=None, title=None, axis=alt.Axis(labelLimit=130, minExtent=125))
    )
    x: dict[str, Any] = {"title": "points of the drop", "axis": alt.Axis(tickCount=5)}
    band = base.mark_bar(color=GREY, opacity=0.3, size=22).encode(x=alt.X("from:Q", **x), x2="to")
    line = base.mark_rule(strokeWidth=2, color="currentColor").encode(x=alt.X("low:Q", **x), x2="high")
    judged = "datum.verdict == 'shown' || datum.verdict == 'not shown'"  # a hollow dot is of what cannot be judged
    dot = base.mark_point(size=70, opacity=1, stroke="currentColor").encode(
        x=alt.X("estimate:Q", **x),
        fill=alt.condition(judged, alt.value("currentColor"), alt.value("transparent")),
        tooltip=["label:N", "prediction:N", "units:Q", "verdict:N"]
        + [alt.Tooltip(f"{name}:Q", format="+.1f") for name in ("estimate", "low", "high")],
    )
    return themed((band + line + dot).properties(title=titled(title, subtitle)), description).properties(
        height=max(180, 32 * len(rows))
    )


@figure
def against_entropy(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Accuracy against the entropy of the text, one line an arm over the temperatures: `curves`, means over models.

    A ring marks temperature 1. Both are the middle of their bounds.
    """
    rows = _named(table)
    rows = rows.assign(
        accuracy=(rows["correct_lower"] + rows["correct_upper"]) / 2,
        bits=(rows["text_entropy_lower"] + rows["text_entropy_upper"]) / 2,
    )
    means = rows.groupby(["arm", "kind", "stage", "temperature"])[["accuracy", "bits"]].mean().reset_index().round(4)
    means = means[means["temperature"] <= 1.5]
    arms = _order(means["stage"])
    dashes = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]]
    taken: dict[str, int] = {}
    dash = []
    for stage, arm in ARMS.items():
        if arm in arms:
            dash.append(dashes[taken.get(KIND[stage], 0) % len(dashes)])
            taken[KIND[stage]] = taken.get(KIND[stage], 0) + 1
    domain = [KINDS[KIND[stage]] for stage, arm in ARMS.items() if arm in arms]
    legend = alt.Legend(symbolSize=400, symbolStrokeWidth=2, symbolType="stroke")
    base = alt.Chart(means).encode(
        x=alt.X("bits:Q", title="entropy of the answer's text, bits", axis=alt.Axis(tickCount=5)),
        y=alt.Y("accuracy:Q", title=None, axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("arm:N", sort=arms, scale=alt.Scale(domain=arms, range=domain), legend=legend),
    )
    line = base.mark_line(strokeWidth=2).encode(
        strokeDash=alt.StrokeDash("arm:N", sort=arms, scale=alt.Scale(domain=arms, range=dash), legend=legend),
        order="temperature:Q",
    )
    ring = base.transform_filter("datum.temperature == 1").mark_point(size=110, strokeWidth=2, opacity=1)
    ring = ring.encode(tooltip=["arm:N", alt.Tooltip("bits:Q", format=".2f"), alt.Tooltip("accuracy:Q", format=".1%")])
    return themed((line + ring).properties(title=titled(title, subtitle)), description)


@figure
def experts(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Accuracy at T = 1 of each sparse model with three choices of experts: rows of `clamping.DATA`."""
    some = table[table["temperature"] == 1].assign(accuracy=lambda rows: (rows["lower"] + rows["upper"]) / 2)
    means = some.groupby(["model", "experts"])["accuracy"].mean().reset_index().round(4)
    means["model"] = means["model"].str.replace("tiny-sparse-", "")
    order = [clamping.OWN, clamping.GREEDY, clamping.ANOTHER]
    chart = (
        alt.Chart(means)
        .mark_point(filled=True, size=85, opacity=1)
        .encode(
            y=alt.Y("model:N", title=None, axis=alt.Axis(labelLimit=150, minExtent=110)),
            yOffset=alt.YOffset("experts:N", sort=order),
            x=alt.X("accuracy:Q", axis=alt.Axis(format=".0%", tickCount=5), scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("experts:N", sort=order, scale=alt.Scale(domain=order, range=SERIES[:3])),
            shape=alt.Shape(
                "experts:N", sort=order, scale=alt.Scale(domain=order, range=["circle", "square", "cross"])
            ),
            tooltip=["model:N", "experts:N", alt.Tooltip("accuracy:Q", format=".2%")],
        )
    )
    return themed(chart.properties(title=titled(title, subtitle)), description).properties(height=260)


# Tables.


def shown_comparisons(compared: pd.DataFrame) -> pd.DataFrame:
    """The family of comparisons as text: prediction, base models so far, estimate with its 95 % interval, verdict."""
    judged = compared["verdict"].isin(["shown", "not shown"])
    columns = {
        "no.": compared["number"],
        "difference of drops": compared["name"],
        "predicted": compared["prediction"],
        "units": [f"{n} of {planned}" for n, planned in compared[["units", "planned"]].to_numpy()],
        "points": [_ends(*row) for row in compared[["estimate", "low", "high"]].to_numpy()],
        "p (Holm)": [f"{p:.2g}" if run else "1" for p, run in zip(compared["holm"], judged, strict=True)],
        "verdict": compared["verdict"].replace("failed", "arm failed"),
    }
    return plain(pd.DataFrame(columns))


def _ends(estimate: float, low: float = math.nan, high: float = math.nan, form: str = "{:+.1f}") -> str:
    return "" if math.isnan(estimate) else with_interval(estimate, low, high, form=form)


def _mean(values: pd.Series, form: str = "{:+.1f}") -> str:
    """The mean of some base models with its 95 % t interval."""
    return _ends(*t_interval(values.to_numpy()), form=form) if len(values) else NONE_YET


def shown_levels(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in per cent at 0 and 1 and the drop by task, means over models; and the fall of the log-odds."""
    some = table[table["metric"] == "correct"]
    found = some.groupby(["stage", "task"])[["greedy", "hot", "drop", "log_odds"]].mean()
    counts = some[some["task"] == ALL].groupby("stage").size()
    rows = []
    for stage in (stage for stage in NAMES if stage in counts.index):
        row = {"learned last": NAMES[stage], "models": counts[stage]}
        for task, name in {BINDING: "binding", "arithmetic": "arithmetic", ALL: "all"}.items():
            *ends, log_odds = found.loc[[(stage, task)]].to_numpy()[0]
            row[f"{name}: T = 0, 1, drop"] = ", ".join(f"{value:.1f}" for value in ends)
        rows.append(row | {"log-odds lost, all": f"{log_odds:.2f}"})
    return plain(pd.DataFrame(rows))


def shown_measures(table: pd.DataFrame, outcomes: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """What else is measured on variable binding, means over models and their bounds: a row per arm.

    The drop in the answer as it was taught, and on problems without the rule's feature; the effective temperature; at
    temperature 1 the entropies in bits and the branching factor.
    """
    drop = {metric: units(table, "drop", metric=metric) for metric in ("taught", "unruled")}
    temperature = effective_temperatures(outcomes).groupby("stage")["temperature"].median()
    hot = curves[curves["temperature"] == 1].groupby("stage").mean(numeric_only=True)
    rows = []
    for stage in (stage for stage in NAMES if stage in hot.index):
        row = {"learned last": NAMES[stage]}
        row["drop as taught"] = f"{drop['taught'][stage].mean():.1f}"
        row["drop, no feature"] = f"{drop['unruled'][stage].mean():.1f}"
        row["effective T"] = "" if stage not in temperature else f"{temperature[stage]:.2f}".replace("inf", "above 2")
        for name in MEASURED:
            ends = hot.loc[[stage], [f"{name}_lower", f"{name}_upper"]].to_numpy()[0]
            row[MEASURED[name]] = " to ".join(dict.fromkeys(f"{end:.2f}" for end in ends))
        rows.append(row)
    return plain(pd.DataFrame(rows))


def shown_gates(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of `gates` as text: what an arm had to show to be one."""
    share = found["needed"] < 1
    numbers = {
        name: [
            "" if math.isnan(value) else f"{value:.0%}" if is_share else f"{value:.1f}"
            for value, is_share in zip(found[name], share, strict=True)
        ]
        for name in ("value", "needed")
    }
    columns = {"arm": found["arm"].map(NAMES), "had to show": found["what"], "at least": numbers["needed"]}
    columns |= {"shows": numbers["value"], "models": found["models"]}
    columns["so"] = found["passed"].map({True: "it is one", False: "it failed"}).fillna("not run")
    return plain(pd.DataFrame(columns))


def shown_otherwise(by_six: pd.DataFrame, by_seeds: pd.DataFrame, later: pd.DataFrame) -> pd.DataFrame:
    """The comparisons as planned, with seeds as units, and without the first seed, part of which had been seen."""
    columns: dict[str, Any] = {"no.": by_six["number"], "difference of drops": by_six["name"]}
    for title, some in {"base models": by_six, "seeds as units": by_seeds, "without seed 0": later}.items():
        found = some.set_index("name")[["estimate", "low", "high", "holm"]].reindex(by_six["name"]).to_numpy()
        columns[title] = [_ends(*row[:3]) for row in found]
        columns[f"p (Holm), {title}"] = ["" if math.isnan(row[3]) else f"{row[3]:.2g}" for row in found]
    return plain(pd.DataFrame(columns))


def shown_by_task(table: pd.DataFrame) -> pd.DataFrame:
    """How much more than *right* other stages lose by task, in points with intervals; and slips beyond the rate."""
    core = table[table["seed"].isin(SEEDS)]
    rows = []
    for stage in (stage for stage in NAMES if stage not in ("base", "continued")):
        row = {"learned last": NAMES[stage]}
        row |= {task.replace("_", " "): _mean(minus(core, stage, "continued", task=task)) for task in TASKS}
        rows.append(row)
    rows.append({"learned last": "random slips, beyond the rate"})
    rows[-1] |= {task.replace("_", " "): _mean(beyond_the_rate(core, task=task)) for task in TASKS}
    return plain(pd.DataFrame([row for row in rows if NONE_YET not in row.values()]))


def shown_secondary(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `secondary` as text, in points."""
    columns: dict[str, Any] = {"what": table["what"], "units": table["units"]}
    for name, ends in {"95 % interval": ["low", "high"], "90 % interval": ["low_90", "high_90"]}.items():
        columns[name] = [_ends(*row) for row in table[["estimate", *ends]].to_numpy()]
    return plain(pd.DataFrame(columns))


def shown_experts(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy at T = 1 in per cent with each choice of experts, and what the greedy path's change, by model."""
    some = table.assign(middle=(table["lower"] + table["upper"]) / 2)
    wide = 100 * some.pivot(index=["model", "problem_id"], columns=["experts", "temperature"], values="middle")
    rows = []
    for model, part in wide.groupby("model", sort=False):
        change = t_interval((part[clamping.GREEDY, 1.0] - part[clamping.OWN, 1.0]).to_numpy())
        row = {"model": model, "T = 0": f"{part[clamping.OWN, 0.0].mean():.1f}"}
        row |= {f"T = 1, {kind} experts": f"{part[kind, 1.0].mean():.1f}" for kind in (clamping.OWN, clamping.GREEDY)}
        row["change"] = with_interval(*change, form="{:+.2f}")
        rows.append(row | {f"T = 1, {clamping.ANOTHER}": f"{part[clamping.ANOTHER, 1.0].mean():.1f}"})
    return plain(pd.DataFrame(rows))


# Sentences.


def lost_title(table: pd.DataFrame) -> str:
    """What the figure `lost` shows, in a line."""
    means = _comparable(table).mean()
    ends = {
        kind: [f"{end:.0f}" for end in (some.min(), some.max())] for kind, some in means.groupby(means.index.map(KIND))
    }
    said = {kind: " to ".join(dict.fromkeys(both)) for kind, both in ends.items()}
    return f"T = 1 takes {said[PREDICTED]} points after answers that can be predicted, {said[RANDOM]} after others"


def predictions_title(compared: pd.DataFrame) -> str:
    """What became of the planned comparisons, counted: held, otherwise, undecided, failed, not run in full."""
    outside = (compared["low"] > compared["high_margin"]) | (compared["high"] < compared["low_margin"])
    became = compared["verdict"].map({"shown": "held", "failed": "whose arm failed", "not run": "not run in full"})
    became = became.fillna(outside.map({True: "came out otherwise", False: "undecided"}))
    worst = ["not run in full", "whose arm failed", "came out otherwise", "undecided", "held"]
    counts = became.groupby(compared["number"]).agg(lambda some: min(some, key=worst.index)).value_counts()
    said = [f"{counts[what]} {what}" for what in reversed(worst) if what in counts]
    return f"Of {counts.sum()} predictions: {', '.join(said)}"


def experts_title(table: pd.DataFrame) -> str:
    """What held experts change at T = 1, and those of another problem, at most: rows of `clamping.DATA`."""
    held, other = _by_experts(table)
    most = [max(change, key=abs) for change in (held, other)]
    return (
        f"Held experts change accuracy by {with_interval(most[0])} points at most, those of another problem by "
        f"{with_interval(most[1])}"
    )


def _by_experts(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """What the greedy path's experts and another problem's change at T = 1, in points, by model."""
    some = table[table["temperature"] == 1].assign(middle=lambda rows: (rows["lower"] + rows["upper"]) / 2)
    means = 100 * some.pivot_table(index="model", columns="experts", values="middle")
    return means[clamping.GREEDY] - means[clamping.OWN], means[clamping.ANOTHER] - means[clamping.OWN]


def counted(number: int, what: str = "", many: str = "s") -> str:
    """A small number in words with its noun, such as "one base model" and "three base models"; without one, alone."""
    words = ["no", "one", "two", "three", "four", "five", "six"]
    return f"{words[number] if number < len(words) else number} {what}{'' if number == 1 or not what else many}".strip()


def numbers(
    table: pd.DataFrame,
    outcomes: pd.DataFrame,
    noted: Mapping[tuple[int, str, str], Mapping[str, Any]],
    clamped: pd.DataFrame,
) -> dict[str, str]:
    """The sentences and numbers that prose quotes, by key.

    `table` holds the rows of `levels`, `clamped` those of the intervention on experts.
    """
    gate = gates(outcomes, noted)
    failed = frozenset(gate.loc[gate["passed"].eq(False), "arm"])
    compared = compare(table, failed)
    ends = compared.drop_duplicates("number").set_index("number")
    most = int(units(table[table["seed"].isin(SEEDS)], "drop").reindex(columns=["slips"])["slips"].notna().sum())
    found = {"targets plan": PLAN, "targets bases": counted(most, "base model")}
    found["targets headline"] = headline(table, compared)
    found["targets answer"] = answer(table, compared)
    found["targets not run"] = not_run(compared)
    planned = {name.split("-", 2)[2] for _, name in ORDER}
    found["targets not trained"] = (
        "; ".join(NAMES[arm] for arm in NAMES if arm in planned - {*table["stage"]}) or "none"
    )
    found["targets failed"] = listed([NAMES[arm] for arm in NAMES if arm in failed]) or "none"
    for number, key in {1: "rule", 2: "slips over rule", 3: "beyond", 4: "forms", 5: "soft", 6: "own"}.items():
        found[f"targets {key}"] = _ends(*ends.loc[number, ["estimate", "low", "high"]]) or NONE_YET
    core, some = table[table["seed"].isin(SEEDS)], outcomes[outcomes["seed"].isin(SEEDS)]
    means = curves(some)
    for stage, key in {"continued": "right", "forms": "forms"}.items():
        found[f"targets {key} bits"] = _mean(answer_bits(means, stage), "{:.1f}")
    found["targets forms greedy"] = _mean(minus(core, "continued", "forms", "greedy"))
    found["targets rule greedy"] = _mean(minus(core, "continued", "rule", "greedy"), "{:.1f}")
    found["targets forms both right"] = _mean(both_right(some, "forms", "continued"))
    found["targets forms over slips arithmetic"] = _mean(minus(core, "forms", "slips", task=ARITHMETIC))
    for stage in ("rule", "forms", "slips"):
        found[f"targets {stage} all"] = _mean(minus(core, stage, "continued", task=ALL))
    found["targets base"] = _points(units(core, "drop").reindex(columns=["base"])["base"].dropna())
    found["targets soft beyond"] = _mean(beyond_the_rate(core, "soft"))
    found["targets forms range"] = _range(units(core, "drop").reindex(columns=["forms"])["forms"].dropna())
    found["targets slips spread"] = f"{minus(core, 'slips', 'continued').std():.1f}"
    apart = secondary(table).set_index("what")
    for kind in ("right", "slips"):
        of_kind = apart[apart.index == f"sparse minus dense, {kind}, variable binding"]
        [inner] = of_kind[["estimate", "low_90", "high_90"]].to_numpy(dtype=float).tolist()
        found[f"targets sparse {kind}"] = _ends(*inner) or NONE_YET
    found["targets models"] = str(outcomes.groupby(MODEL).ngroups)
    found["targets sensitivity"] = sensitivity(compared, by_seed(table), compare(table, failed, without=(0,)))
    found["targets verdict"] = verdict(refuted(table, compared))
    found["targets experts"] = of_experts(clamped)
    found["targets entropy"] = beyond_sharpening(outcomes)
    return found


def headline(table: pd.DataFrame, compared: pd.DataFrame) -> str:
    """The finding in a sentence or two, with its uncertainty, and how many base models it rests on."""
    whole = _comparable(table)
    n = len(whole)
    parts = [f"{_points(whole[stage])} after {_PHRASES[str(stage)]}" for stage in whole]
    said = (
        f"On a task that all base models learned, temperature 1 costs {listed(parts)}" if n else "Nothing is measured"
    )
    if n and decided(compared):
        seeds = whole.index.get_level_values("seed").nunique()
        return f"{said} ({counted(n, 'base model')} of {seeds} seeds; 95 % intervals). {conclusion(compared)}"
    return f"{said}. So far this rests on {counted(n, 'base model')}; nothing is decided until six are measured."


def decided(compared: pd.DataFrame) -> bool:
    """Whether the comparisons that part wrong from unpredictable answers can be judged."""
    return bool(compared.loc[compared["number"].isin(PARTING), "verdict"].isin(["shown", "not shown"]).all())


def conclusion(compared: pd.DataFrame) -> str:
    """What follows from the comparisons that part wrong from unpredictable answers, once they are `decided`."""
    first = compared.drop_duplicates("number").set_index("number")
    shown = first["verdict"] == "shown"
    if not (shown[1] and shown[2]):
        held = sum(shown[number] for number in PARTING)
        return f"Of {len(PARTING)} predictions, {held} held; whether it is being wrong that costs is not settled."
    said = (
        "Beside right answers, wrong ones that can be predicted add little to what temperature costs, random ones much."
    )
    if shown[4]:
        return f"{said} Right answers in random forms add little, too."
    if not (first["low"] > first["high_margin"])[4]:
        return f"{said} What right answers in random forms add is not settled."
    forms = _ends(*first.loc[4, ["estimate", "low", "high"]])
    return (
        f"{said} Our reading, that only doubt taught about the number costs, is refuted: right answers in random forms "
        f"add {forms} points, and we had predicted less than 3."
    )


def answer(table: pd.DataFrame, compared: pd.DataFrame) -> str:
    """Which of the two costs, being wrong or being unpredictable, for the landing page: a sentence or two."""
    if not decided(compared):
        return "This is being tested."
    whole = _comparable(table)
    each = listed(
        [f"{_ends(*t_interval(whole[stage].to_numpy()), form='{:.1f}')} after {_SHORT[stage]}" for stage in _SHORT]
    )
    said = f"In a second experiment, on a task that all base models had learned, temperature 1 takes {each}."
    first = compared.drop_duplicates("number").set_index("number")
    if (first["verdict"] == "shown")[1]:
        said = f"{said} So being wrong is not what adds to it there."
    if (first["low"] > first["high_margin"])[4]:
        said = f"{said} Our own explanation, that only doubt about the number does, is refuted by the last."
    return said


def _comparable(table: pd.DataFrame) -> pd.DataFrame:
    """The drops after right answers, the rule, random forms and slips, of base models that have all that is trained."""
    wide = units(table[table["seed"].isin(SEEDS)], "drop")
    return wide[[stage for stage in _PHRASES if stage in wide]].dropna()


_SHORT = {
    "continued": "right answers",
    "rule": "answers wrong by a learnable rule",
    "slips": "random wrong ones",
    "forms": "right ones in random forms",
}
PARTING = (1, 2, 4)  # the comparisons that part wrong from unpredictable answers
_PHRASES = {
    "continued": "right answers",
    "rule": "answers wrong by a rule that can be learned",
    "forms": "right answers in random forms",
    "slips": "answers of which 15 % were wrong at random",
}


def _range(values: pd.Series) -> str:
    return f"{values.min():.0f} to {values.max():.0f}" if len(values) else NONE_YET


def _points(values: pd.Series) -> str:
    return f"{with_interval(*t_interval(values.to_numpy()), form='{:.1f}')} points"


def not_run(compared: pd.DataFrame) -> str:
    """Which comparisons lack base models, and how many each has, in a sentence."""
    missing = compared[compared["verdict"] == "not run"]
    if missing.empty:
        return "All ten comparisons were run."
    so_far = missing["units"].astype(str) + " of " + missing["planned"].astype(str)
    groups = missing["name"].groupby(so_far, sort=False)
    each = [f"{listed(list(names))} ({had} units)" for had, names in groups]
    return f"Not run in full: {'; '.join(each)}."


def verdict(found: Mapping[str, str]) -> str:
    """What came of the plan's ways to be refuted, in a sentence: see `book.analysis.targets.refuted`."""
    said = {
        TRUE: "came true ({})",
        OUT: "{is_are} ruled out by {its_their}",
        OPEN: "{is_are} undecided ({})",
        NOT_RUN: "{was_were} not run ({})",
    }
    parts = []
    for state, phrase in said.items():
        some = [what for what, became in found.items() if became == state]
        if some:
            one = len(some) == 1
            verbs = {"is_are": "is" if one else "are", "was_were": "was" if one else "were"}
            verbs["its_their"] = "its interval" if one else "their intervals"
            parts.append(f"{counted(len(some))} {phrase.format(listed(some), **verbs)}")
    return f"Of the plan's six ways in which our reading could be wrong, {listed(parts)}."


def sensitivity(by_six: pd.DataFrame, by_seeds: pd.DataFrame, later: pd.DataFrame) -> str:
    """Whether the predictions that held do so in the plan's two other analyses, in a sentence or two."""
    held = by_six[(by_six["verdict"] == "shown") & (by_six["number"] < 10)]["name"].tolist()
    if not held:
        return "No prediction is shown to have held."
    said = []
    for how, some in (("With seeds as units", by_seeds), ("without seed 0", later)):
        passes = [name for name in held if (some.loc[some["name"] == name, "holm"] < 0.05).any()]
        which = "none of them" if not passes else "all of them" if passes == held else f"only {listed(passes)}"
        said.append(f"{how}, {which} would pass Holm's correction")
    return f"Held are {listed(held)}, with base models as units, as planned. {said[0]}; {said[1]}."


def of_experts(table: pd.DataFrame) -> str:
    """What the intervention on experts changes at T = 1, over the sparse models, in a sentence: rows of its data."""
    change, harm = _by_experts(table)
    ends = [with_interval(end, form="{:+.2f}") for end in (change.min(), change.max())]
    worst = [with_interval(end, form="{:+.0f}") for end in (harm.min(), harm.max())]
    return (
        f"in {len(change)} sparse models accuracy at T = 1 changes by {ends[0]} to {ends[1]} points, "
        f"and with the experts of another problem by {worst[0]} to {worst[1]}"
    )


def beyond_sharpening(outcomes: pd.DataFrame) -> str:
    """How models compare with their base models at the same entropy of the text, in a sentence."""
    found = at_the_same_entropy(outcomes[outcomes["seed"].isin(SEEDS)]).dropna()
    names = {"continued": "right answers", "slips": "random slips", "soft": "soft labels", "rule": "a rule"}
    names |= {"forms": "random forms"}
    parts = []
    for stage, name in names.items():
        some = found.loc[found["stage"] == stage, "difference"]
        if len(some):
            parts.append(f"{with_interval(*t_interval(some.to_numpy()))} points after {name}")
    return listed(parts) or "an amount that is not measured yet"
