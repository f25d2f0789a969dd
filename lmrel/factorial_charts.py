"""Figures of the factorial's page: its design, its curves, what temperature costs each model, and the effects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from lmrel.charts import PALETTE, figure, themed, titled
from lmrel.effects import NAMES
from lmrel.tiny import ARCHITECTURES

ORDER = list(NAMES.values())
NOISY, CLEAN, GREY = PALETTE[1], PALETTE[0], "#8a8a8a"
LINES = {  # of a stage: its colour says what the targets were, its dashes the format
    "base": (GREY, [2, 3]),
    "continued-noisy": (NOISY, [1, 0]),
    "instruct-noisy": (NOISY, [7, 4]),
    "continued": (CLEAN, [1, 0]),
    "instruct": (CLEAN, [7, 4]),
}
PERCENT = alt.Axis(format=".0%")


@figure
def design(models: pd.DataFrame, papers: Mapping[tuple[str, str], str], title: str, description: str) -> Any:
    """The cells with their numbers of training seeds, and what the paper had there by (architecture, stage)."""
    table = models.groupby(["architecture", "stage"])["seed"].nunique().reset_index()
    papers_model = [papers.get(cell, "") for cell in zip(table["architecture"], table["stage"], strict=True)]
    seeds = [f"{count} seeds" if count > 1 else "1 seed" for count in table["seed"]]
    table = table.assign(stage=table["stage"].map(NAMES), seeds=seeds, paper=papers_model)
    down = alt.Y(
        "stage:N", sort=ORDER, title=None, axis=alt.Axis(domain=False, ticks=False, labelLimit=120, minExtent=100)
    )
    base = alt.Chart(table.assign(had=table["paper"] != "")).encode(
        x=alt.X("architecture:N", title=None, axis=alt.Axis(orient="top", domain=False, ticks=False, labelAngle=0)),
        y=down,
        tooltip=["architecture:N", "stage:N", "seeds:N", "paper:N"],
    )
    colour = alt.Scale(domain=[True, False], range=[PALETTE[2], GREY])
    cell = base.mark_rect(opacity=0.25, stroke="currentColor", strokeOpacity=0.4).encode(
        color=alt.Color("had:N", scale=colour, legend=None)
    )
    ours = base.mark_text(fontSize=11, color="currentColor", dy=-7).encode(text="seeds:N")
    theirs = base.mark_text(fontSize=11, color="currentColor", dy=9, fontStyle="italic").encode(text="paper:N")
    return themed((cell + ours + theirs).properties(title=title), description)


@figure
def cost(models: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """What temperature takes from each model: a dot a seed, a bar at their mean. Rows of `effects.robustness`."""
    table = models.assign(stage=models["stage"].map(NAMES))[["seed", "architecture", "stage", "greedy", "hot", "drop"]]
    kinds = [kind for kind in ARCHITECTURES if kind in set(table["architecture"])]
    base = alt.Chart(table.round(5)).encode(
        y=alt.Y("stage:N", sort=ORDER, title=None, axis=alt.Axis(labelLimit=120, minExtent=95)),
        yOffset=alt.YOffset("architecture:N", sort=kinds),
        color=alt.Color("architecture:N", scale=alt.Scale(domain=kinds, range=PALETTE[: len(kinds)])),
    )
    x: dict[str, Any] = {"title": "accuracy lost", "axis": PERCENT, "scale": alt.Scale(zero=True)}
    dots = base.mark_point(filled=True, size=70, opacity=0.55).encode(
        x=alt.X("drop:Q", **x),
        tooltip=["architecture:N", "stage:N", "seed:Q"]
        + [alt.Tooltip(f"{name}:Q", format=".1%") for name in ("greedy", "hot", "drop")],
    )
    mean = base.mark_tick(thickness=2.5, size=16).encode(x=alt.X("mean(drop):Q", **x))
    return themed((dots + mean).properties(title=titled(title, subtitle)), description)


@figure
def curves(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Exact accuracy against temperature, a line a model: rows of `factorial.curves` of one architecture."""
    stages = [stage for stage in NAMES if stage in set(table["stage"])]
    names = [NAMES[stage] for stage in stages]
    rows = table.assign(stage=table["stage"].map(NAMES))[["seed", "stage", "temperature", "middle"]].round(5)
    colour = alt.Scale(domain=names, range=[LINES[stage][0] for stage in stages])
    dash = alt.Scale(domain=names, range=[LINES[stage][1] for stage in stages])
    legend = alt.Legend(symbolSize=300, symbolStrokeWidth=2)
    chart = (
        alt.Chart(rows)
        .mark_line(strokeWidth=1.8, opacity=0.85)
        .encode(
            x=alt.X("temperature:Q", axis=alt.Axis(tickCount=5), scale=alt.Scale(nice=False)),
            y=alt.Y("middle:Q", title=None, axis=PERCENT, scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("stage:N", scale=colour, legend=legend),
            strokeDash=alt.StrokeDash("stage:N", scale=dash, legend=legend),
            detail="seed:N",
            tooltip=["stage:N", "seed:N", "temperature:Q", alt.Tooltip("middle:Q", format=".1%", title="accuracy")],
        )
    )
    return themed(chart.properties(title=titled(title, subtitle)), description)


@figure
def forest(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """The main effects under each analysis with their 95 % intervals: `effects.sensitivity`."""
    ends = ["estimate", "low", "high"]
    rows = table[["analysis", "effect", "units"]].join((100 * table[ends]).round(3))
    order, kinds = list(dict.fromkeys(rows["analysis"])), list(dict.fromkeys(rows["effect"]))
    base = alt.Chart(rows).encode(
        y=alt.Y("analysis:N", sort=order, title=None, axis=alt.Axis(labelLimit=130, minExtent=125)),
        yOffset=alt.YOffset("effect:N", sort=kinds),
        color=alt.Color(
            "effect:N",
            sort=kinds,
            scale=alt.Scale(domain=kinds, range=[NOISY, PALETTE[2], PALETTE[3]]),
            legend=alt.Legend(columns=1),
        ),
    )
    x: dict[str, Any] = {"title": "change of the drop, points", "axis": alt.Axis(tickCount=5)}
    interval = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", **x), x2="high")
    point = base.mark_point(filled=True, size=45, opacity=1).encode(
        x=alt.X("estimate:Q", **x),
        tooltip=["analysis:N", "effect:N", "units:Q"] + [alt.Tooltip(f"{name}:Q", format="+.1f") for name in ends],
    )
    zero = alt.Chart(pd.DataFrame({"x": [0]})).mark_rule(color="currentColor", opacity=0.5).encode(x=alt.X("x:Q", **x))
    chart = themed(
        (zero + interval + point).properties(title=titled(title, f"{subtitle} · 95 % intervals")), description
    )
    return chart.properties(height=420)


@figure
def dose(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """The drop against the share of wrong targets, and what that share alone would take: `effects.doses`."""
    share: dict[str, Any] = {"title": "wrong answers to problems of the last stage", "axis": PERCENT}
    base = alt.Chart(table.round(5)).encode(x=alt.X("noise:Q", **share))
    line = base.mark_line(strokeDash=[4, 4], color="currentColor", opacity=0.6).encode(
        y=alt.Y("alone:Q", title="accuracy lost", axis=PERCENT)
    )
    interval = base.mark_rule(strokeWidth=1.5, color=NOISY).encode(y="low:Q", y2="high:Q")
    point = base.mark_point(filled=True, size=70, opacity=1, color=NOISY).encode(
        y="drop:Q",
        tooltip=[alt.Tooltip(f"{name}:Q", format=".1%") for name in ("noise", "drop", "low", "high", "alone")],
    )
    return themed((line + interval + point).properties(title=titled(title, subtitle)), description)
