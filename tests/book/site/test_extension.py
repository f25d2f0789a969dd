from __future__ import annotations

import json
import re

import altair as alt

from book.site.extension import chart_html
from lmrel import charts
from tests.lmrel.test_charts import SUMMARY

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def test_a_chart_says_which_function_drew_it() -> None:
    html = chart_html(charts.response(SUMMARY, "accuracy", "a", "b").to_dict())
    assert '<a data-function="lmrel.charts.response">drawn by response</a>' in html


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


def test_pictures_in_one_page_share_no_ids() -> None:
    text = chart_html(charts.response(SUMMARY, "accuracy", "a", "b").to_dict())
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
