"""How the book shows its charts: the stored specification with a picture beside it, and pictures as files."""

from __future__ import annotations

import argparse
import base64
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from lmrel import files
from lmrel.charts import PALETTE, WIDTH, figure, themed
from lmrel.errors import InputError, command, needs_columns, visible
from lmrel.files import read_object, writing

VEGALITE = "6.4"
MIME = "application/vnd.vegalite.v6+json"


@figure
@needs_columns("step", "loss")
def training(curve: pd.DataFrame, title: str, description: str) -> Any:
    """The loss in nats against the training step: columns ``step, loss``."""
    chart = (
        alt.Chart(curve)
        .mark_line(color=PALETTE[0], strokeWidth=1.5)
        .encode(x=alt.X("step:Q", title="step"), y=alt.Y("loss:Q", title="loss (nats)", scale=alt.Scale(type="log")))
    )
    return themed(chart.properties(title=title), description)


def enable() -> None:
    """Make notebooks show charts by `bundle`, and tables as they are: viewers would set what is between dollars."""
    pd.set_option("display.html.use_mathjax", False)
    alt.renderers.register("lmrel", bundle)
    alt.renderers.enable("lmrel")


def bundle(spec: dict[str, Any], **_: Any) -> dict[str, Any]:
    """What a notebook stores of a chart: its specification, a picture for viewers that can't draw it, its text."""
    text = spec.get("description")
    if not text:
        raise ValueError("a chart needs a description: it is what a reader who cannot see it gets")
    spec = inert(spec)
    picture = vl_convert.vegalite_to_png(spec | {"background": "white"}, vl_version=VEGALITE, scale=1)
    return {MIME: spec, "image/png": base64.b64encode(picture).decode(), "text/plain": spec["description"]}


def inert(value: Any) -> Any:
    """A specification with all its text made visible: a control character in it would end the process that draws."""
    if isinstance(value, dict):
        return {inert(key): inert(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [inert(one) for one in value]
    return visible(value) if isinstance(value, str) else value


def svg(spec: dict[str, Any], width: int) -> str:
    """A chart as an SVG string of about that width in pixels."""
    return str(vl_convert.vegalite_to_svg(inert(spec) | {"width": width}, vl_version=VEGALITE))


def write_svg(spec: dict[str, Any], path: Path) -> None:
    """A chart as a file that stands alone: dark on white."""
    try:
        picture = svg(spec | {"background": "white"}, WIDTH).replace("currentColor", "#333")
    except (ValueError, RecursionError) as error:
        raise InputError(f"this is no chart's specification: {str(error).splitlines()[0]}") from error
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(picture + "\n", path)


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="A chart's specification as an SVG file.")
    parser.add_argument("specification", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    write_svg(read_object(given.specification), given.target)


if __name__ == "__main__":
    main()
