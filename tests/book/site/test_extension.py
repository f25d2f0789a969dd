from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import altair as alt
import nbformat
import pandas as pd
import pytest
import vl_convert
from docutils import nodes
from docutils.utils import new_document
from sphinx.errors import ExtensionError

from book.figures.style import WIDE, captioned, svg
from book.site import extension
from book.site.extension import Unbroken, chart_html, check_notebook
from lmrel import charts
from tests.lmrel.test_charts import SUMMARY

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def test_a_chart_says_which_function_drew_it() -> None:
    html = chart_html(charts.response(SUMMARY, "accuracy", "a", "b").to_dict())
    assert '<a data-function="lmrel.charts.response">drawn by response</a>' in html


def test_caption_title_and_alternative_text_are_apart() -> None:
    chart = charts.response(SUMMARY, "accuracy", "What it shows", "Two lines.", subtitle="of what")
    html = chart_html(captioned(chart, "Look at <b>.").to_dict())
    assert 'aria-label="Two lines."' in html
    assert '<span class="number"></span> Look at &lt;b&gt;.</figcaption>' in html
    assert '<p class="heading"><b>What it shows</b> of what · 95 % intervals</p>' in html
    assert html.count("What it shows") == 1  # so no picture cuts it
    assert chart.to_dict()["usermeta"]["function"] == "lmrel.charts.response"


def test_what_stands_in_place_of_a_figure_needs_no_caption() -> None:
    assert captioned("not shown", "a") == "not shown"
    assert captioned(None, "a") is None


def checked(*outputs: Any, tags: list[str] | None = None) -> None:
    cell = nbformat.v4.new_code_cell("x", execution_count=1, outputs=list(outputs), metadata={"tags": tags or []})
    notebook = nbformat.v4.new_notebook(cells=[cell])
    app: Any = SimpleNamespace(env=SimpleNamespace(doc2path=lambda name: f"{name}.ipynb"))
    check_notebook(app, "a", [nbformat.writes(notebook)])


@pytest.mark.parametrize("value", [{"difference": 0.00833}, "none", True, ("a", 1), pd.Series([1])])
def test_a_value_as_python_writes_it_is_no_result(value: Any) -> None:
    output = nbformat.v4.new_output("execute_result", {"text/plain": repr(value)}, execution_count=1)
    with pytest.raises(ExtensionError, match="cell 1 shows .* as Python writes it; end the cell with a table"):
        checked(output)
    checked(output, tags=["remove-cell"])


def test_tables_sentences_and_what_is_printed_are_results() -> None:
    for data in ({"text/html": "<p>a</p>", "text/plain": "a"}, {"text/markdown": "a", "text/plain": "a"}):
        checked(nbformat.v4.new_output("display_data", data))
    checked(nbformat.v4.new_output("stream", name="stdout", text="A sentence."))


def test_hostile_text_is_inert_in_a_page() -> None:
    chart = charts.response(SUMMARY.assign(model=HOSTILE), "accuracy", HOSTILE, HOSTILE)
    text = chart_html(chart.to_dict())
    assert "<img" not in text
    assert text.lower().count("<script") == text.lower().count("</script") == 1
    inner = re.search(r'<script type="application/json">(.*)</script>', text, re.S)
    assert inner is not None
    assert json.loads(inner[1])["description"] == HOSTILE


def test_a_figure_is_an_image_unless_it_holds_controls() -> None:
    still = charts.response(SUMMARY, "accuracy", "a", "b")
    moving = still.copy().add_params(alt.param(name="T", value=1, bind=alt.binding_range(min=0, max=2)))
    assert 'role="img"' in chart_html(still.to_dict())
    assert 'role="group"' in chart_html(moving.to_dict())


def test_a_live_figure_is_named_by_what_it_shows_and_has_a_table() -> None:
    text = extension.live_html("dial", [], "lab.html", 'P(a < b) "now"', [["T", "P"], ["1", HOSTILE]])
    assert 'role="group" aria-label="Live figure. P(a &lt; b) &quot;now&quot;"' in text
    assert "<noscript><table" in text
    assert "<script" not in text


def test_pictures_in_one_page_share_no_ids() -> None:
    text = chart_html(charts.response(SUMMARY, "accuracy", "a", "b").to_dict())
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_pictures_are_slim_and_look_the_same() -> None:
    """What is left out is not seen; numbers alone are rounded, so both are compared with the same ones."""
    whole = svg(charts.response(SUMMARY, "accuracy", "a", "b").to_dict(), WIDE)
    slim = extension._slim(whole, "p")
    assert len(slim) < 0.7 * len(whole)
    assert "aria-" not in slim
    rounded = re.sub(r"(?<=[ ,(\"MLAVH-])\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", whole)
    assert vl_convert.svg_to_png(slim) == vl_convert.svg_to_png(rounded)
    assert vl_convert.svg_to_png(slim.replace("stroke=", "nostroke=")) != vl_convert.svg_to_png(rounded)


def test_a_percent_sign_and_an_interval_stay_on_their_line_and_code_stays_as_it_is() -> None:
    document = new_document("a")
    said = "At 15 %, it loses 7.3 [−4.8, 9.7] of 5, 6 points."
    document += [nodes.paragraph("", said), nodes.literal_block("", "10 % 3")]
    Unbroken(document).run()
    prose, code = document.children
    assert prose.astext() == "At 15\N{NO-BREAK SPACE}%, it loses 7.3 [−4.8,\N{NO-BREAK SPACE}9.7] of 5, 6 points."
    assert code.astext() == "10 % 3"


def test_pages_are_read_again_once_the_code_that_made_them_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sphinx compares the extension's ``env_version`` with that of the pages it kept."""
    code = tmp_path / "code.py"
    monkeypatch.setattr(extension, "CODE", [code])
    found = []
    for text in ("one", "two", "one"):
        code.write_text(text)
        found.append(extension.setup(MagicMock())["env_version"])
    assert found[0] == found[2] != found[1]
    assert all(isinstance(version, int) and version > 0 for version in found)
