"""The pages on published outputs: figures, tables, and the sentences that their prose takes from the data.

What is estimated comes from `book.analysis.outputs` and is stored. Accuracies and what is lost of them are in points.
"""

from __future__ import annotations

import re
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from book.analysis.outputs import COOL, COT, DATA, HOT, MARGIN, NO_CHANGE
from book.figures.text import listed, plain
from lmrel.charts import GREY, PALETTE, RIGHT, SERIES, TRAINED, WRONG, figure, themed, titled
from lmrel.stats.inference import with_interval

PLAN = "9b396aa"  # the commit that put the plan down, before code read the data
TUNED_BY_OTHERS = ("codetulu", "phind", "wizard", "magicoder", "gpt")
KINDS = {
    "not tuned to instructions": TRAINED["base"],
    "instruct": TRAINED["instruct"],
    "instruct, step by step": PALETTE[6],
}
QUESTIONS = {  # of the comparisons, in their order
    "instruction tuning": "instruct",
    "other tuning": "other tuning",
    "sparsity": "sparse",
    "chain of thought": "step by step",
}
NAMES = alt.Axis(labelLimit=118, minExtent=115, labelFontSize=11)  # as much as fits on a phone
HOTTER = (1.0, 1.2, 1.4, 1.6)
INDEPENDENT, DEPENDENT = "pass the check", "fail it"
AGREE, ACCURACY = "two answers agree", "answer is right"


def read(name: str) -> pd.DataFrame:
    """One of the stored tables."""
    return pd.read_parquet(DATA / f"{name}.parquet")


def kind_of(model: str) -> str:
    """What a model of CRUXEval's set is, by its name there."""
    tuned = "instruct" in model or model.startswith(TUNED_BY_OTHERS)
    names = list(KINDS)
    return names[2] if tuned and model.endswith(COT) else names[1] if tuned else names[0]


def short(model: str) -> str:
    """A model's name as a figure has room for it: without the date of its version, and the like."""
    name = re.sub(r"-(preview-)?[0-9]{4,8}|^cohere-", "", model)
    return name.replace("instruct", "inst").replace("python", "py")


@figure
def losses(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """What each model loses, with its 95 % interval, the largest loss first: rows of `losses` over all problems."""
    rows = table[table["task"] == "all"].sort_values("loss", ascending=False).round(2)
    rows = rows.assign(kind=rows["model"].map(kind_of), model=rows["model"].map(short))[
        ["model", "kind", "cool", "hot", "loss", "low", "high"]
    ]
    x: dict[str, Any] = {
        "title": f"points lost from T = {COOL:g} to T = {HOT:g}",
        "scale": alt.Scale(zero=True),
        "axis": alt.Axis(tickCount=6),
    }
    there = [kind for kind in KINDS if kind in set(rows["kind"])]
    base = alt.Chart(rows).encode(
        y=alt.Y("model:N", sort=None, title=None, axis=NAMES),
        color=alt.Color("kind:N", scale=alt.Scale(domain=there, range=[KINDS[kind] for kind in there])),
    )
    line = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", **x), x2="high")
    dot = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=alt.X("loss:Q", **x),
        tooltip=[
            "model:N",
            *(alt.Tooltip(f"{name}:Q", format=".1f") for name in ("cool", "hot", "loss", "low", "high")),
        ],
    )
    return themed((line + dot).properties(title=titled(title, subtitle)), description).properties(
        height=max(120, 19 * len(rows))
    )


@figure
def differences(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """The planned comparisons with their 95 % intervals, beside the margin within which losses count as equal."""
    rows = table.assign(model=table["second"].map(short), question=table["kind"].map(QUESTIONS))
    rows = rows[["model", "question", "difference", "low", "high", "verdict"]].round(2)
    rows = rows.assign(less=-MARGIN, more=MARGIN)
    order = [question for question in QUESTIONS.values() if question in set(rows["question"])]
    x: dict[str, Any] = {"title": "points less that the second loses", "axis": alt.Axis(tickCount=6)}
    base = alt.Chart(rows).encode(
        y=alt.Y("model:N", sort=None, title=None, axis=NAMES),
        color=alt.Color(
            "question:N", sort=order, scale=alt.Scale(domain=order, range=[TRAINED["instruct"], *SERIES[:3]])
        ),
    )
    band = base.mark_bar(opacity=0.3, size=24).encode(x=alt.X("less:Q", **x), x2="more", color=alt.ColorValue(GREY))
    line = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", **x), x2="high")
    dot = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=alt.X("difference:Q", **x),
        tooltip=[
            "model:N",
            "verdict:N",
            *(alt.Tooltip(f"{name}:Q", format="+.1f") for name in ("difference", "low", "high")),
        ],
    )
    return themed((band + line + dot).properties(title=titled(title, subtitle)), description).properties(
        height=max(120, 24 * len(rows))
    )


@figure
def changed(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """The change of accuracy from T = 0 to T = 1 by model: paired by problem, and as if other problems were asked.

    The thin line is the second interval, the thick one the first; the band is the margin of equivalence.
    """
    rows = table.sort_values("change")[["model", "change", "low", "high", "apart_low", "apart_high", "holm"]].round(2)
    repeats = rows["holm"].isna().map({True: DEPENDENT, False: INDEPENDENT})
    rows = rows.assign(model=rows["model"].map(short), repeats=repeats, less=-NO_CHANGE, more=NO_CHANGE)
    x: dict[str, Any] = {"title": "points, T = 1 minus T = 0", "axis": alt.Axis(tickCount=4)}
    base = alt.Chart(rows).encode(y=alt.Y("model:N", sort=None, title=None, axis=NAMES))
    band = base.mark_bar(color=GREY, opacity=0.3, size=28).encode(x=alt.X("less:Q", **x), x2="more")
    thin = base.mark_rule(strokeWidth=1.5, color=GREY).encode(x=alt.X("apart_low:Q", **x), x2="apart_high")
    line = base.mark_rule(strokeWidth=4).encode(x=alt.X("low:Q", **x), x2="high", color=_by_repeats())
    dot = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("change:Q", **x),
        color=_by_repeats(),
        tooltip=["model:N", *(alt.Tooltip(f"{name}:Q", format="+.1f") for name in ("change", "low", "high"))],
    )
    return themed((band + thin + line + dot).properties(title=titled(title, subtitle)), description).properties(
        height=max(120, 28 * len(rows))
    )


def _by_repeats() -> alt.Color:
    domain = [INDEPENDENT, DEPENDENT]
    return alt.Color("repeats:N", sort=domain, scale=alt.Scale(domain=domain, range=[PALETTE[0], WRONG]))


@figure
def too_alike(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """How far a model's repeats agree beyond what neighbouring temperatures allow, in points: rows of `checks`."""
    rows = over_all(table).assign(excess=lambda found: 100 * (found["estimate"] - found["expected"]))
    rows = rows.assign(low=100 * rows["low"], high=100 * rows["high"], model=rows["model"].map(short))
    rows["repeats"] = rows["flagged"].map({True: DEPENDENT, False: INDEPENDENT})
    x: dict[str, Any] = {"title": "points too often", "axis": alt.Axis(tickCount=6)}
    shown = rows.sort_values("excess")[["model", "repeats", "excess", "low", "high", "p"]]
    base = alt.Chart(shown.round({"excess": 2, "low": 2, "high": 2})).encode(
        y=alt.Y("model:N", sort=None, title=None, axis=NAMES), color=_by_repeats()
    )
    line = base.mark_rule(strokeWidth=3).encode(x=alt.X("low:Q", **x), x2="high")
    dot = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("excess:Q", **x),
        tooltip=["model:N", *(alt.Tooltip(f"{name}:Q", format="+.1f") for name in ("excess", "low", "high")), "p:Q"],
    )
    return themed((line + dot).properties(title=titled(title, subtitle)), description).properties(
        height=max(120, 26 * len(shown))
    )


def over_all(checked: pd.DataFrame) -> pd.DataFrame:
    """The rows of `checks` that say of each model, over all temperatures, whether its repeats agree too often."""
    return checked[(checked["check"] == "copies") & checked["temperature"].isna()]


@figure
def moved(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Where accuracy goes from T = 0 to T = 1, and the agreement of two draws from T = 0.1: rows of `consistency`.

    A ring is the lower temperature, a dot the higher one.
    """
    wide = (
        table.assign(model=table["model"].map(short)).pivot(
            index="model", columns="temperature", values=["accuracy", "agree"]
        )
        / 100
    )
    order = wide["accuracy", 0.0].sort_values(ascending=False).index
    ends = {ACCURACY: ("accuracy", 0.0), AGREE: ("agree", 0.1)}
    rows = pd.concat(
        [
            pd.DataFrame({"what": what, "cold": cold, "from": wide[name, cold], "to": wide[name, 1.0]}, order)
            for what, (name, cold) in ends.items()
        ]
    )
    what = list(ends)
    base = alt.Chart(rows.reset_index().round(4)).encode(
        y=alt.Y("model:N", sort=list(order), title=None, axis=NAMES),
        yOffset=alt.YOffset("what:N", sort=what),
        color=alt.Color("what:N", sort=what, scale=alt.Scale(domain=what, range=[RIGHT, PALETTE[0]])),
        tooltip=["model:N", "what:N", "cold:Q", *(alt.Tooltip(f"{end}:Q", format=".1%") for end in ("from", "to"))],
    )
    axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1], labelFlush=True)
    x: dict[str, Any] = {"title": "share of draws, or of pairs", "axis": axis, "scale": alt.Scale(domain=[0, 1])}
    line = base.mark_rule(strokeWidth=2).encode(x=alt.X("from:Q", **x), x2="to")
    ring = base.mark_point(size=55, strokeWidth=2, opacity=1).encode(x=alt.X("from:Q", **x))
    dot = base.mark_point(filled=True, size=70, opacity=1).encode(x=alt.X("to:Q", **x))
    return themed((line + ring + dot).properties(title=titled(title, subtitle)), description).properties(
        height=max(120, 40 * len(order))
    )


@figure
def by_temperature(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """One model by temperature: how often it is right, two draws agree, and none is given: rows of `consistency`."""
    names = {"accuracy": ACCURACY, "agree": AGREE, "unanswered": "no answer"}
    long = table.melt("temperature", list(names), "what", "share").round(2)
    long = long.assign(what=long["what"].map(names), share=long["share"] / 100)
    what = list(names.values())
    line = alt.Chart(long).encode(
        x=alt.X("temperature:Q", axis=alt.Axis(tickCount=6)),
        y=alt.Y("share:Q", title=None, axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("what:N", sort=what, scale=alt.Scale(domain=what, range=[RIGHT, PALETTE[0], GREY])),
        tooltip=["what:N", "temperature:Q", alt.Tooltip("share:Q", format=".1%")],
    )
    chart = line.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=40, filled=True))
    return themed(chart.properties(title=titled(title, subtitle)), description)


# Tables.


def shown_losses(table: pd.DataFrame) -> pd.DataFrame:
    """Every model's accuracy at both temperatures, its loss by task and over all, and how problems differ in it."""
    of_task = {task: rows.set_index("model") for task, rows in table.groupby("task")}
    whole = of_task["all"].sort_values("loss", ascending=False)
    columns = {"model": list(whole.index)}
    columns |= {f"T = {t:g}": [f"{share:.1f}" for share in whole[name]] for t, name in ((COOL, "cool"), (HOT, "hot"))}
    for task, name in {"all": "lost", "input": "lost, inputs", "output": "lost, outputs"}.items():
        ends = of_task[task].loc[whole.index, ["loss", "low", "high"]]
        columns[name] = [with_interval(*row) for row in ends.to_numpy()]
    columns["retained"] = [f"{share:.0%}" for share in whole["retained"]]
    columns["spread"] = [f"{spread:.0f}" for spread in whole["spread"]]
    return plain(pd.DataFrame(columns))


def shown_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """The planned comparisons as text: what the second model loses beside the first, and how sure that is."""
    columns = {
        "model": table["second"],
        "it loses": [_verdicts(verdict) for verdict in table["verdict"]],
        "less by": [with_interval(*row) for row in table[["difference", "low", "high"]].to_numpy()],
        "than": table["first"],
        "p (Holm)": [f"{p:.2g}" for p in table["holm"]],
        "p, equal": [f"{p:.2g}" for p in table["p_equal"]],
    }
    return plain(pd.DataFrame(columns))


def _verdicts(verdict: str) -> str:
    """A verdict on the first model of a pair as one on the second."""
    swapped = {"more": "less", "less": "more"}
    return re.sub(r"loses (more|less)", lambda found: swapped[found[1]], verdict).replace(
        "equal within the margin", f"as much, within {MARGIN:g}"
    )


def shown_changes(table: pd.DataFrame) -> pd.DataFrame:
    """Every model's change as text: paired, its trend, and the smallest margin that would have been shown."""
    columns = {
        "model": table["model"],
        "T = 0": [f"{value:.1f}" for value in table["cool"]],
        "T = 1": [f"{value:.1f}" for value in table["hot"]],
        "change": [with_interval(*row) for row in table[["change", "low", "high"]].to_numpy()],
        "p (Holm)": ["not tested" if np.isnan(p) else f"{p:.2g}" for p in table["holm"]],
        "trend per 1": [with_interval(*row) for row in table[["slope", "slope_low", "slope_high"]].to_numpy()],
        "shown within": [f"±{value:.1f}" for value in table["margin"]],
    }
    return plain(pd.DataFrame(columns))


def shown_mixing(table: pd.DataFrame) -> pd.DataFrame:
    """The vote of five draws, from five temperatures and from one, by model."""
    columns = {
        "model": table["model"],
        "five temperatures": [f"{value:.1f}" for value in table["mixed"]],
        "the best one": [f"{value:.1f}" for value in table["single"]],
        "which was": table["chosen"],
        "difference": [with_interval(*row) for row in table[["difference", "low", "high"]].to_numpy()],
    }
    return plain(pd.DataFrame(columns))


# Sentences.


def losses_title(lost: pd.DataFrame) -> str:
    """How many models are shown to lose accuracy from the lower to the higher temperature: rows of `losses`."""
    every = lost[lost["task"] == "all"]
    return f"Shown to lose accuracy from T = {COOL:g} to T = {HOT:g}: {_of(every['low'] > 0)} models"


def pairs_title(pairs: pd.DataFrame) -> str:
    """How the planned comparisons came out: rows of `compare`."""
    return f"Of {len(pairs)} second models, {_counted(pairs)}"


def real_numbers(lost: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, str]:
    """What the page on real models quotes, by key: rows of `losses` and of `compare`."""
    every = lost[lost["task"] == "all"].set_index("model")
    tuned, sparse = (pairs[pairs["kind"] == kind] for kind in ("instruction tuning", "sparsity"))
    others, reasoned = (pairs[pairs["kind"] == kind] for kind in ("other tuning", "chain of thought"))
    instructed = pd.concat([tuned, others[others["second"].map(kind_of) == "instruct"]])
    [only] = [row for _, row in sparse.iterrows()]
    by_loss = every.sort_values("loss")
    least, most = by_loss.iloc[0], by_loss.iloc[-1]
    asked_twice = int(every.index.str.endswith(COT).sum())
    equal = pairs[pairs["p_equal"] < 0.05]
    opposed = reasoned[(reasoned["input"] < -1) & (reasoned["output"] > 1)]
    unsettled = reasoned[reasoned["verdict"] == "not settled"]
    keeps = [f"{100 * every['retained'][name]:.0f} %" for name in (only["second"], only["first"])]
    return {
        "real plan": PLAN,
        "real models": f"{len(every) - asked_twice}, {asked_twice} of them asked in two ways",
        "real pairs": f"{len(pairs)}",
        "real problems": f"{int(every['problems'].max()):,}",
        "real all lose": _of(every["low"] > 0),
        "real least": f"{least['loss']:.1f} ({least.name})",
        "real most": f"{most['loss']:.1f} ({most.name})",
        "real tuning": listed([with_interval(*row) for row in tuned[["difference", "low", "high"]].to_numpy()]),
        "real tuning shown": f"{_of(tuned['verdict'].str.startswith('loses more'))} sizes",
        "real levels": "; ".join(_levels(every, *pair) for pair in tuned[["first", "second"]].to_numpy()),
        "real instructed": f"Of {len(instructed)} models tuned to instructions, {_counted(instructed)}",
        "real sparsity": f"{with_interval(*only[['difference', 'low', 'high']])} points more: {_sense(only)}",
        "real keeps": " against ".join(keeps),
        "real others": _counted(others),
        "real reasoning": _counted(reasoned),
        "real opposed": (
            f"in {len(opposed)} of {len(reasoned)} models the loss is larger where inputs are guessed, by "
            f"{_span(-opposed['input'])} points, and smaller where outputs are, by {_span(opposed['output'])}"
        ),
        "real unsettled": listed(
            [f"{row['first']}: {with_interval(*row[['difference', 'low', 'high']])}" for _, row in unsettled.iterrows()]
        )
        or "none",
        "real equal": f"{len(equal)} pairs; corrected over all {len(pairs)}, {int((pairs['holm_equal'] < 0.05).sum())} "
        "would remain",
        "real spread": f"{every['spread'].median():.0f}",
        "real headline": _real_headline(tuned, only),
    }


def _levels(every: pd.DataFrame, first: str, second: str) -> str:
    """Where the accuracies of a model go before and after tuning, in a clause."""
    ends = [f"{every['cool'][name]:.1f} \N{RIGHTWARDS ARROW} {every['hot'][name]:.1f}" for name in (first, second)]
    return f"{second.rpartition('-')[2]}, {ends[0]} before and {ends[1]} after"


def _span(values: pd.Series) -> str:
    return f"{values.min():.1f} to {values.max():.1f}"


def _real_headline(tuned: pd.DataFrame, sparse: pd.Series) -> str:
    base, after = tuned["first_loss"], tuned["second_loss"]
    return (
        f"In one family published at {len(tuned)} sizes, base models lose {_span(base)} points of accuracy from "
        f"T = {COOL:g} to {HOT:g}, and their instruction-tuned versions {_span(after)}, at each size at least "
        f"{tuned['low'].min():.1f} less. A dense and a sparse base model lose {sparse['first_loss']:.1f} and "
        f"{sparse['second_loss']:.1f}, which differ by {with_interval(*sparse[['difference', 'low', 'high']])}."
    )


def _sense(row: pd.Series) -> str:
    """What a comparison shows, in a clause."""
    if row["verdict"] == "not settled":
        return "neither a difference nor its absence is shown"
    if "loses" in row["verdict"]:
        return f"the second loses {'less' if 'more' in row['verdict'] else 'more'}"
    return f"that the two lose the same within {MARGIN:g} points is shown"


def _counted(rows: pd.DataFrame) -> str:
    """How many comparisons came out in which way, in words about the second model."""
    more = rows["verdict"].str.startswith("loses more")
    less, equal = rows["verdict"].str.startswith("loses less"), rows["verdict"].eq("equal within the margin")
    parts = {
        "lose less": more,
        "lose more": less,
        f"lose the same within {MARGIN:g} points": equal,
        "are not settled": ~(more | less | equal),
    }
    said = [f"{int(which.sum())} {what}" for what, which in parts.items() if which.any()]
    return listed([one.replace("1 lose", "1 loses").replace("1 are", "1 is") for one in said])


def reread_numbers(
    changes: pd.DataFrame,
    consistency: pd.DataFrame,
    agreement: pd.DataFrame,
    mixing: pd.DataFrame,
    checked: pd.DataFrame,
) -> dict[str, str]:
    """What the page on the famous claim quotes, by key: rows of the functions of `book.analysis.outputs`."""
    tested = changes[changes["holm"].notna()]
    equal = list(tested.loc[tested["p_equal"] < 0.05, "model"])
    significant = _of(tested["holm"] < 0.05)
    agree = agreement.merge(tested[["model"]])
    fewer, answered = _of(agree["high"] < 0), _of(agree["answered_high"] < 0)
    blank = consistency[consistency["temperature"] <= 1].groupby("model")["unanswered"].agg(["min", "max"])
    mute = blank[blank["min"] > 20]
    wide = (tested["apart_high"] - tested["apart_low"]) / (tested["high"] - tested["low"])
    votes = mixing.merge(tested[["model"]])
    better, worse = int((votes["low"] > 0).sum()), int((votes["high"] < 0).sum())
    hot = hottest(consistency).set_index("temperature")
    last, smallest = hot.iloc[-1], tested.sort_values("p").iloc[0]
    alike = over_all(checked)
    found, passed = alike[alike["flagged"]], alike[~alike["flagged"]]
    greedy = checked[(checked["check"] == "greedy") & checked["flagged"]]
    back = agreement[agreement["model"].isin([*tested["model"], *found["model"][1:]])]
    copied = mixing[~mixing["model"].isin(tested["model"])].sort_values("difference").tail(1)
    return {
        "reread plan": PLAN,
        "reread found": listed(
            [
                f"{row['model']} (its repeats agree in {100 * row['estimate']:.0f} % of the pairs; neighbouring "
                f"temperatures allow {100 * row['expected']:.0f} %)"
                for _, row in found.iterrows()
            ]
        ),
        "reread passed": f"{len(passed)}",
        "reread passed most": f"{100 * (passed['estimate'] - passed['expected']).max():.1f}",
        "reread copied": listed(
            [f"{row['difference']:+.0f} points for {row['model']}" for _, row in copied.iterrows()]
        ),
        "reread greedy": f"{len(greedy)} of {checked['model'].nunique()}",
        "reread greedy most": f"{100 * greedy['estimate'].max():.0f} %",
        "reread significant": significant,
        "reread smallest p": f"{smallest['p']:.3f} ({smallest['model']})",
        "reread equal": _of(tested["p_equal"] < 0.05) + (f" ({listed(equal)})" if equal else ""),
        "reread trend": f"{_of((tested['slope_low'] > 0) | (tested['slope_high'] < 0))}",
        "reread best": f"{_span((tested['high_90'] - tested['low_90']) / 2)}",
        "reread mute": listed([f"{row.Index} ({row.min:.0f} to {row.max:.0f} %)" for row in mute.itertuples()]),
        "reread answered": answered,
        "reread answered most": f"{-agree['answered'].min():.0f}",
        "reread back": f"{_of(back['high'] < 0)}",
        "reread margins": _span(tested["margin"]),
        "reread title": f"Shown to change by less than {NO_CHANGE:g} points: {_of(tested['p_equal'] < 0.05)}",
        "reread title agree": f"Agreement falls in {fewer} that pass the check",
        "reread title hot": (
            f"From {hot['accuracy'][1.0]:.0f} % at T = 1 to {last['accuracy']:.0f} % at T = {last.name:g}"
        ),
        "reread title repeats": f"The repeats of {len(found)} models are not repeats",
        "reread narrower": _span(wide),
        "reread agree": fewer,
        "reread agree most": f"{-agree['change'].min():.0f}",
        "reread hot model": str(last["model"]),
        "reread hot": listed([f"{hot['accuracy'][t]:.0f} % at T = {t:g}" for t in HOTTER]),
        "reread hot unanswered": f"{last['unanswered']:.0f}",
        "reread hot failed": f"{last['failed']:.0f}",
        "reread mixing": f"better in {better}, worse in {worse}, and neither in {len(votes) - better - worse}",
        "reread headline": (
            f"From T = 0 to T = 1, accuracy changes significantly in {significant} models; that it "
            f"changes by less than {NO_CHANGE:g} points is shown for {len(equal)}. The answers do change: in "
            f"{fewer}, two draws of a problem agree less often at T = 1 than at 0.1."
        ),
    }


def _of(which: pd.Series) -> str:
    """How many of all: ``none of 7``, ``2 of 7`` or ``all 7``."""
    n, total = int(which.sum()), len(which)
    return f"all {total}" if n == total else f"{n or 'none'} of {total}"


def hottest(consistency: pd.DataFrame) -> pd.DataFrame:
    """The rows of the model that was sampled at the highest temperature."""
    model = consistency.sort_values("temperature")["model"].iloc[-1]
    return consistency[consistency["model"] == model]
