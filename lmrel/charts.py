"""Charts that anyone can draw from a table of draws; the figures of one page of the book are in ``book/figures``.

Text and lines take the page's own colour, so a figure reads on light and dark. Every chart has a description, which
becomes its alternative text. The module draws numbers that others worked out, and does not know where a chart is shown:
in a notebook of yours Altair loads its scripts from the web, so without a network a chart is blank until
``altair.renderers.enable("svg")``, which needs vl-convert-python.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import altair as alt
import pandas as pd
from altair.utils.schemapi import SchemaValidationError

from lmrel.errors import InputError, needs_columns

P = ParamSpec("P")
PALETTE = ["#3b82c4", "#d9730d", "#2e9e6b", "#b455a0", "#8f8a1f", "#c0504d", "#5b8f9e", "#8b6fc0"]
RIGHT, WRONG, GREY = PALETTE[2], PALETTE[1], "#8a8a8a"  # grey: what is neither, or not yet
SERIES = [PALETTE[i] for i in (0, 7, 6, 5, 4, 3)]  # for what has no colour of its own: not right, not wrong
COLDEST, MIDDLE, HOTTEST = "#3f95a8", "#8b78c4", "#cf4a5a"  # of temperatures
TRAINED = {"base": PALETTE[4], "instruct": PALETTE[3]}  # of models; a sparse one has lines in dashes
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "stroke"]
WIDTH, HEIGHT = 600, 280


def figure(draw: Callable[P, Any]) -> Callable[P, Any]:
    """Marks a function that draws: its charts carry its name, so that a page can link to it.

    A table or a title of which Altair makes no valid chart is an `InputError`.
    """

    @functools.wraps(draw)
    def drawn(*arguments: P.args, **options: P.kwargs) -> Any:
        try:
            chart = draw(*arguments, **options)
        except SchemaValidationError as error:
            raise InputError(f"{draw.__name__} cannot be drawn: {str(error).splitlines()[0]}") from error
        if not isinstance(chart, str):  # what stands in place of a figure with nothing in it
            own = chart.usermeta if isinstance(chart.usermeta, dict) else {}
            chart.usermeta = own | {"function": f"{draw.__module__}.{draw.__name__}"}
        return chart

    return drawn


def themed(chart: Any, description: str) -> Any:
    """`chart` in the house style, with `description` as its alternative text."""
    ink = "currentColor"
    words = {"labelColor": ink, "titleColor": ink, "titleFontWeight": "normal", "labelFontSize": 12}
    return (
        chart.properties(width=WIDTH, height=HEIGHT, description=description)
        .configure(background="transparent", font="system-ui, sans-serif", padding=4)
        .configure_view(stroke=None)
        .configure_axis(titleFontSize=12, gridColor=ink, gridOpacity=0.15, domainColor=ink, tickColor=ink, **words)
        .configure_axisQuantitative(labelOverlap="greedy", labelSeparation=4)
        .configure_legend(labelLimit=300, orient="top", columns=2, columnPadding=18, title=None, **words)
        .configure_title(color=ink, subtitleColor=ink, anchor="start", fontSize=14, fontWeight="normal")
    )


def titled(title: str, subtitle: str) -> Any:
    """A chart's title, with a line below it if there is one."""
    return alt.TitleParams(title, subtitle=subtitle) if subtitle else title


def coloured(field: str, order: list[str], colours: Sequence[str] = SERIES, **options: Any) -> alt.Color:
    """A colour for each value of `field`, in the given order, here and in the legend; after the last, the first."""
    given = [colours[i % len(colours)] for i in range(len(order))]
    return alt.Color(field, sort=order, scale=alt.Scale(domain=order, range=given), **options)


def heat(count: int) -> list[str]:
    """The colours of so many temperatures, from the coldest to the hottest."""
    ends = [tuple(int(name[i : i + 2], 16) for i in (1, 3, 5)) for name in (COLDEST, MIDDLE, HOTTEST)]
    found = []
    for i in range(count):
        part, share = divmod(2 * i / max(count - 1, 1), 1)
        first, second = ends[int(part)], ends[min(int(part) + 1, 2)]
        found.append("#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(first, second, strict=True)))
    return found


def looks(models: Sequence[str]) -> tuple[list[str], list[str], list[list[int]]]:
    """A colour, a shape and dashes for each of `models`.

    Where all are named by their kind, the colour says base or instruct, and shape and dashes say sparse.
    """
    trained = [next((kind for kind in TRAINED if kind in model), "") for model in models]
    sparse = ["sparse" in model for model in models]
    if all(trained) and len({*zip(trained, sparse, strict=True)}) == len(models):
        colours = [TRAINED[kind] for kind in trained]
        return colours, [SHAPES[3 * is_sparse] for is_sparse in sparse], [[6, 4] if one else [1, 0] for one in sparse]
    # Colours come again after the last, with other shapes.
    shapes = [SHAPES[(i + i // len(SHAPES)) % len(SHAPES)] for i in range(len(models))]
    return [SERIES[i % len(SERIES)] for i in range(len(models))], shapes, [[1, 0]] * len(models)


@figure
@needs_columns("model", "temperature")
def response(
    summary: pd.DataFrame, metric: str, title: str, description: str, *, subtitle: str = "", share: bool = True
) -> Any:
    """`metric` against temperature, one line a model, with its 95 % interval.

    Needs columns ``model, temperature`` and `metric` with ``_low`` and ``_high``. Models stand a little apart so that
    intervals don't hide each other. A `share` is shown in per cent from 0; other metrics on their own scale.
    """
    low, high = f"{metric}_low", f"{metric}_high"
    numbers = ["temperature", metric, low, high]
    if not set(numbers) <= set(summary.columns) or summary[["model", metric]].isna().any(axis=None):
        raise InputError(f"there is no {metric} with an interval for every model and temperature, so nothing to draw.")
    if others := set(numbers) - set(summary[numbers].select_dtypes("number")):
        raise InputError(f"{min(others)} holds something else than numbers, so it cannot be drawn.")
    models = list(dict.fromkeys(summary["model"]))
    step = 0.012 * max(float(summary["temperature"].max()), 0.5)
    offset = {model: step * (i - (len(models) - 1) / 2) for i, model in enumerate(models)}
    table = summary[["model", *numbers]].round(5)
    table = table.assign(x=(table["temperature"] + table["model"].map(offset).astype(float)).round(5))
    scale = alt.Scale(zero=False)
    if share:
        scale = alt.Scale(domain=[0, min(1.0, math.ceil(10 * float(table[high].max())) / 10)])
    y = alt.Y(f"{metric}:Q", title=None, axis=alt.Axis(format=".0%" if share else ".2f"), scale=scale)
    colours, shapes, dashes = looks(models)
    color = coloured("model:N", models, colours)
    base = alt.Chart(table).encode(x=_temperature_axis("x:Q", table["temperature"]), color=color)
    dash = alt.StrokeDash("model:N", sort=models, scale=alt.Scale(domain=models, range=dashes), legend=None)
    line = base.mark_line(strokeWidth=1.5).encode(y=y, strokeDash=dash)
    interval = base.mark_rule(strokeWidth=1.5).encode(y=f"{low}:Q", y2=f"{high}:Q")
    number = ".1%" if share else ".3f"
    point = base.mark_point(filled=True, size=60, opacity=1).encode(
        y=f"{metric}:Q",
        shape=alt.Shape("model:N", sort=models, scale=alt.Scale(domain=models, range=shapes)),
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("temperature:Q"),
            alt.Tooltip(f"{metric}:Q", format=number),
            alt.Tooltip(f"{low}:Q", format=number, title="95 % interval from"),
            alt.Tooltip(f"{high}:Q", format=number, title="to"),
        ],
    )
    return themed(alt.layer(line, interval, point).properties(title=_with_level(title, subtitle)), description)


@figure
@needs_columns("temperature", "confidence", "confidence_processed")
def confidence(summary: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Mean log-prob of the sampled tokens in nats, raw and processed, against temperature: `summary` of one model."""
    parts = []
    for kind, column in {"raw": "confidence", "processed": "confidence_processed"}.items():
        ends = {f"{column}{end}": f"logprob{end}" for end in ("", "_low", "_high")}
        parts.append(summary[["temperature", *ends]].rename(columns=ends).assign(model=kind))
    there = pd.concat(parts).dropna(subset="logprob")  # a server gives one of them or none
    return response(there, "logprob", title, description, subtitle=subtitle, share=False)


@figure
@needs_columns("temperature", "run", "accuracy")
def runs(of_runs: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """The accuracies of single runs against temperature, a dot for those that are equal: `metrics.by_run` of one model.

    They are rounded to 0.1 points, so that thousands of runs are some dozens of dots.
    """
    table = of_runs.assign(accuracy=of_runs["accuracy"].round(3)).groupby(["temperature", "accuracy"], sort=True)
    counts = table.size().rename("runs").reset_index()
    size = alt.Size("runs:Q", legend=None, scale=alt.Scale(range=[60, 60] if counts["runs"].max() == 1 else [30, 300]))
    points = alt.Chart(counts).mark_point(filled=True, opacity=1, color=PALETTE[0])
    chart = points.encode(
        x=_temperature_axis("temperature:Q", counts["temperature"]),
        y=alt.Y("accuracy:Q", title=None, axis=alt.Axis(format=".0%"), scale=alt.Scale(zero=False)),
        size=size,
        tooltip=["temperature:Q", "runs:Q", alt.Tooltip("accuracy:Q", format=".1%")],
    )
    return themed(chart.properties(title=titled(title, subtitle)), description)


@figure
@needs_columns("temperature", "failure", "share", "low", "high", "count", empty=True)
def failures(shares: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """The share of each class of failure among the wrong draws, by temperature: rows of `inference.failure_shares`."""
    if shares.empty:
        return "not shown: no answer was wrong"
    table = shares.assign(T=shares["temperature"].map("{:g}".format), failure=shares["failure"].str.replace("_", " "))
    table = table[["T", "failure", "share", "low", "high", "count"]].round(5)
    order = table.groupby("failure")["count"].sum().sort_values(ascending=False).index.tolist()
    temperatures = list(dict.fromkeys(table["T"]))
    base = alt.Chart(table).encode(
        y=alt.Y("failure:N", sort=order, title=None, axis=alt.Axis(minExtent=110)),
        yOffset=alt.YOffset("T:N", sort=temperatures),
        color=coloured("T:N", temperatures, heat(len(temperatures))),
    )
    x: dict[str, Any] = {
        "title": "share of wrong answers",
        "scale": alt.Scale(domain=[0, 1]),
        "axis": alt.Axis(format=".0%"),
    }
    interval = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", **x), x2="high")
    point = base.mark_point(filled=True, size=45, opacity=1).encode(
        x=alt.X("share:Q", **x),
        tooltip=["T:N", "failure:N", "count:Q", alt.Tooltip("share:Q", format=".1%")],
    )
    return themed((interval + point).properties(title=_with_level(title, subtitle)), description)


@figure
@needs_columns("of", "estimate", "low", "high")
def comparison(drops: pd.DataFrame, margin: float, title: str, description: str, *, subtitle: str = "") -> Any:
    """The drops of two runs and, below them, their difference with its `margin` of equivalence as a band.

    `drops` is that of a `stats.comparison.Comparison`: a row each, the difference last, as shares with their intervals.
    """
    table = drops.assign(**{name: (100 * drops[name]).round(3) for name in ("estimate", "low", "high")})
    order = table["of"].tolist()
    y = alt.Y("of:N", sort=order, title=None, axis=alt.Axis(labelLimit=130, minExtent=80))
    x: dict[str, Any] = {
        "title": f"percentage points (band: ±{100 * margin:g})",
        "scale": alt.Scale(nice=True, zero=True),
    }
    base = alt.Chart(table[["of", "estimate", "low", "high"]]).encode(y=y)
    limits = pd.DataFrame({"of": order[-1:], "from": [-100 * margin], "to": [100 * margin]})
    band = alt.Chart(limits).mark_bar(opacity=0.22, color=GREY).encode(y=y, x=alt.X("from:Q", **x), x2="to:Q")
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(color="currentColor", opacity=0.5).encode(x="zero:Q")
    interval = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", **x), x2="high:Q", color=_by_row(order))
    point = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=alt.X("estimate:Q", **x),
        color=_by_row(order),
        tooltip=["of:N", *(alt.Tooltip(f"{name}:Q", format="+.1f") for name in ("estimate", "low", "high"))],
    )
    chart = alt.layer(band, zero, interval, point).properties(title=_with_level(title, subtitle))
    return themed(chart, description).properties(height=HEIGHT // 2)


def _by_row(order: list[str]) -> alt.Color:
    """A colour for each row, which needs no legend."""
    return coloured("of:N", order, legend=None)


def _with_level(title: str, subtitle: str) -> Any:
    return titled(title, f"{subtitle} · 95 % intervals" if subtitle else "95 % intervals")


def _temperature_axis(field: str, temperatures: pd.Series) -> alt.X:
    """An axis with a tick at each temperature that was run."""
    ticks = sorted({float(temperature) for temperature in temperatures})
    axis = alt.Axis(values=ticks, format="~g", labelOverlap="greedy")
    return alt.X(field, title="temperature", scale=alt.Scale(zero=False, nice=False, padding=12), axis=axis)
