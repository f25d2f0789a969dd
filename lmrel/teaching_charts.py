"""Figures of the lessons: some with sliders, which need no server, and three plain ones.

A figure with sliders computes everything in its own specification, from the raw logits of a table of
`teaching.next_tokens`; `Decoder.probabilities` is the same formula.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from lmrel.charts import PALETTE, SHAPES, figure, themed

TOKEN_AXIS = alt.Axis(labelFontSize=13, ticks=False, domain=False)
BEST_FIRST: Any = [alt.SortField("logit", "descending")]
UNIT: dict[str, Any] = {"axis": alt.Axis(format=".0%", tickCount=5), "scale": alt.Scale(domain=[0, 1])}


def _slider(name: str, label: str, value: float, low: float, high: float, step: float) -> alt.Parameter:
    return alt.param(name=name, value=value, bind=alt.binding_range(min=low, max=high, step=step, name=label))


def _weighted(table: pd.DataFrame) -> Any:
    """A chart of the tokens with ``weight``, exp((logit - max) / T), ``share`` and ``rank``; T is a parameter."""
    return (
        alt.Chart(table[["token", "logit"]])
        .transform_joinaggregate(top="max(logit)")
        .transform_calculate(weight="exp((datum.logit - datum.top) / T)")
        .transform_joinaggregate(total="sum(weight)")
        .transform_calculate(share="datum.weight / datum.total")
        .transform_window(rank="row_number()", sort=BEST_FIRST)
        .transform_window(to="sum(share)", sort=BEST_FIRST, ignorePeers=True)
    )


@figure
def tempered(table: pd.DataFrame, title: str, description: str, *, count: int = 8) -> Any:
    """The `count` likeliest next tokens and their probabilities, with a slider for the temperature."""
    order = table["token"].tolist()[:count]
    base = (
        _weighted(table)
        .transform_filter(f"datum.rank <= {count}")
        .encode(
            y=alt.Y("token:N", sort=order, title=None, axis=TOKEN_AXIS),
            x=alt.X("share:Q", title="probability", **UNIT),
            tooltip=["token:N", "logit:Q", alt.Tooltip("share:Q", format=".2%", title="probability")],
        )
    )
    label = base.mark_text(align="left", dx=4, color="currentColor", fontSize=12)
    chart = base.mark_bar(color=PALETTE[0]) + label.encode(text=alt.Text("share:Q", format=".1%"))
    return themed(chart.add_params(_slider("T", "temperature ", 1, 0.1, 5, 0.1)).properties(title=title), description)


@figure
def drawn(table: pd.DataFrame, title: str, description: str, *, count: int = 7) -> Any:
    """Tokens as pieces of the line from 0 to 1, end to end; sliders for u, which falls on one, and the temperature."""
    order = table["token"].tolist()[:count]
    hit = alt.condition("datum.from <= u && u < datum.to", alt.value(PALETTE[1]), alt.value(PALETTE[0]))
    base = _weighted(table).transform_calculate(**{"from": "datum.to - datum.share", "u": "u"})
    base = base.transform_filter(f"datum.rank <= {count}")
    scale = alt.Scale(domain=[0, 1])
    bars = base.mark_bar().encode(
        y=alt.Y("token:N", sort=order, title=None, axis=TOKEN_AXIS),
        x=alt.X("from:Q", title="running sum of probabilities", scale=scale, axis=alt.Axis(tickCount=5)),
        x2="to:Q",
        color=hit,
        tooltip=["token:N", alt.Tooltip("from:Q", format=".3f"), alt.Tooltip("to:Q", format=".3f")],
    )
    rule = base.transform_filter("datum.rank == 1").mark_rule(color="currentColor", strokeDash=[4, 3])
    chart = (bars + rule.encode(x=alt.X("u:Q", scale=scale))).add_params(
        _slider("u", "u ", 0.5, 0, 0.999, 0.001), _slider("T", "temperature ", 1, 0.1, 5, 0.1)
    )
    return themed(chart.properties(title=title), description)


@figure
def truncated(table: pd.DataFrame, title: str, description: str, *, count: int = 10) -> Any:
    """What temperature, top-k, top-p and min-p leave, in that order; pale is temperature alone."""
    order = table["token"].tolist()[:count]
    base = (
        _weighted(table)
        .transform_calculate(w="top_k == 0 || datum.rank <= top_k ? datum.weight : 0")
        .transform_joinaggregate(sum_k="sum(w)")
        .transform_calculate(p="datum.w / datum.sum_k")
        .transform_window(mass="sum(p)", sort=BEST_FIRST, ignorePeers=True)
        .transform_calculate(w2="top_p >= 1 || datum.mass - datum.p < top_p ? datum.w : 0")
        .transform_calculate(w3="datum.w2 >= min_p ? datum.w2 : 0")
        .transform_joinaggregate(sum_all="sum(w3)")
        .transform_calculate(left="datum.w3 / datum.sum_all", label="datum.w3 > 0 ? format(datum.left, '.1%') : 'cut'")
        .transform_filter(f"datum.rank <= {count}")
        .encode(y=alt.Y("token:N", sort=order, title=None, axis=TOKEN_AXIS), tooltip=["token:N", "label:N"])
    )
    pale = base.mark_bar(color="currentColor", opacity=0.2).encode(x=alt.X("share:Q", title="probability", **UNIT))
    bars = base.mark_bar(color=PALETTE[0], height={"band": 0.45}).encode(x=alt.X("left:Q", title="probability", **UNIT))
    place = "max(datum.left, datum.share)"
    label = base.transform_calculate(place=place).mark_text(align="left", dx=4, color="currentColor", fontSize=12)
    chart = (pale + bars + label.encode(x=alt.X("place:Q", title="probability", **UNIT), text="label:N")).add_params(
        _slider("T", "temperature ", 1, 0.1, 5, 0.1),
        _slider("top_k", "top-k (0 is off) ", 0, 0, 12, 1),
        _slider("top_p", "top-p ", 1, 0.05, 1, 0.01),
        _slider("min_p", "min-p ", 0, 0, 0.5, 0.01),
    )
    return themed(chart.properties(title=title), description)


@figure
def lines(
    table: pd.DataFrame,
    x: str,
    y: str,
    title: str,
    description: str,
    *,
    by: str,
    percent: bool = True,
    log: bool = False,
) -> Any:
    """Column `y` against `x`, a line with dots for each value of `by`; a share from 0 to 1 if `percent`."""
    names = list(dict.fromkeys(map(str, table[by])))
    data = table[[x, y, by]].round(4).astype({by: str})
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(nice=False, zero=False, padding=8)
    axis = alt.Axis(tickCount=6, labelOverlap="greedy")
    vertical = alt.Y(f"{y}:Q", title=None, **UNIT) if percent else alt.Y(f"{y}:Q", title=None)
    base = alt.Chart(data).encode(
        x=alt.X(f"{x}:Q", scale=scale, axis=axis),
        y=vertical,
        color=alt.Color(f"{by}:N", sort=names, scale=alt.Scale(domain=names, range=PALETTE[: len(names)])),
        tooltip=[f"{by}:N", f"{x}:Q", alt.Tooltip(f"{y}:Q", format=".1%" if percent else ".2f")],
    )
    shape = alt.Shape(f"{by}:N", sort=names, scale=alt.Scale(domain=names, range=SHAPES[: len(names)]))
    chart = base.mark_line(strokeWidth=1.5) + base.mark_point(filled=True, size=35, opacity=1).encode(shape=shape)
    return themed(chart.properties(title=title), description)


@figure
def ways(table: pd.DataFrame, title: str, description: str) -> Any:
    """Shares of tokens by each way to draw them: `teaching.draw_both_ways`."""
    tokens, names = (list(dict.fromkeys(table[column])) for column in ("token", "way"))
    chart = (
        alt.Chart(table.round(4))
        .mark_bar()
        .encode(
            y=alt.Y("token:N", sort=tokens, title=None, axis=TOKEN_AXIS),
            yOffset=alt.YOffset("way:N", sort=names),
            x=alt.X("share:Q", title="share of draws", **UNIT),
            color=alt.Color("way:N", sort=names, scale=alt.Scale(domain=names, range=PALETTE[: len(names)])),
            tooltip=["token:N", "way:N", alt.Tooltip("share:Q", format=".2%")],
        )
    )
    return themed(chart.properties(title=title), description)


@figure
def runs_grid(table: pd.DataFrame, title: str, description: str) -> Any:
    """A square per draw, problems down and runs across, coloured by outcome: `teaching.right_or_wrong`."""
    order = list(dict.fromkeys(table["problem"]))
    outcomes = ["right", "wrong"]
    chart = (
        alt.Chart(table)
        .mark_rect(stroke="white", strokeWidth=1, strokeOpacity=0.4)
        .encode(
            x=alt.X("run:O", axis=alt.Axis(labelAngle=0, ticks=False, labelOverlap="greedy")),
            y=alt.Y("problem:N", sort=order, title=None, axis=alt.Axis(ticks=False)),
            color=alt.Color("outcome:N", sort=outcomes, scale=alt.Scale(domain=outcomes, range=PALETTE[:2])),
            tooltip=["problem:N", "run:O", "answer:N", "outcome:N"],
        )
    )
    return themed(chart.properties(title=title), description)
