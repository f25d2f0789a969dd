"""How the book shows its charts: as a stored specification with a picture beside it, and as SVG files.

``python -m book.figures.style SPECIFICATION TARGET`` writes one. What a chart shows is not known here.
"""

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
from lmrel.errors import InputError, command, visible
from lmrel.files import read_object, writing

VEGALITE = "6.4"
WIDE, NARROW = 680, 340  # pixels of a chart with all that is beside it, as wide as a page's text, and on a phone
PHONE = 480  # below so many pixels the entries of a legend stand one below the other
MIME = "application/vnd.vegalite.v6+json"


@figure
def training(curve: pd.DataFrame, title: str, description: str) -> Any:
    """The loss in nats against the training step: columns ``step, loss`` of `curve`."""
    chart = (
        alt.Chart(curve)
        .mark_line(color=PALETTE[0], strokeWidth=1.5)
        .encode(x=alt.X("step:Q", title="step"), y=alt.Y("loss:Q", title="loss (nats)", scale=alt.Scale(type="log")))
    )
    return themed(chart.properties(title=title), description)


def captioned(chart: Any, caption: str) -> Any:
    """`chart` with the words that stand below it: what to look at, and what follows.

    Its description tells what it looks like to who cannot see it. What stands in place of a figure is left as it is.
    """
    if hasattr(chart, "usermeta"):
        own = chart.usermeta if isinstance(chart.usermeta, dict) else {}
        chart.usermeta = own | {"caption": caption}
    return chart


def enable() -> None:
    """Make a notebook show charts by `bundle`, and tables whole, with all rows and text; no dollar begins a formula."""
    pd.set_option("display.html.use_mathjax", False)
    pd.set_option("display.max_colwidth", None)
    pd.set_option("display.max_rows", None)
    alt.renderers.register("lmrel", bundle)
    alt.renderers.enable("lmrel")


def bundle(spec: dict[str, Any], **_: Any) -> dict[str, Any]:
    """The MIME bundle that a notebook stores for a chart, by type.

    It holds the specification, a picture for viewers that cannot draw it, and the description as its text. Raises
    ValueError for a chart without one.
    """
    text = spec.get("description")
    if not text:
        raise ValueError("a chart needs a description: it is what a reader who cannot see it gets")
    spec = inert(spec)
    picture = vl_convert.vegalite_to_png(spec | {"background": "white"}, vl_version=VEGALITE, scale=1)
    return {MIME: spec, "image/png": base64.b64encode(picture).decode(), "text/plain": spec["description"]}


def inert(value: Any) -> Any:
    """A copy of a specification with all its text made visible: vl-convert crashes on a control character."""
    if isinstance(value, dict):
        return {inert(key): inert(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [inert(one) for one in value]
    return visible(value) if isinstance(value, str) else value


def fitted(spec: dict[str, Any], width: int) -> dict[str, Any]:
    """A copy of a specification for a picture of `width` pixels, all that is beside the marks included.

    ``chart.js`` does the same for the width of a reader's screen.
    """
    spec = inert(spec) | {"width": width, "autosize": {"type": "fit-x", "contains": "padding"}}
    if width < PHONE and "legend" in spec.get("config", {}):
        spec["config"]["legend"]["columns"] = 1
    return spec


def svg(spec: dict[str, Any], width: int) -> str:
    """The chart as an SVG document, `width` pixels wide."""
    return str(vl_convert.vegalite_to_svg(fitted(spec, width), vl_version=VEGALITE))


def write_svg(spec: dict[str, Any], path: Path) -> None:
    """Write the chart as an SVG file that stands alone, dark on white. Raises `InputError` for what is no chart."""
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
