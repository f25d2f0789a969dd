"""What every figure is tried for."""

from __future__ import annotations

from typing import Any

from book.figures.style import NARROW, svg
from lmrel import charts

TEXT = ("A title", "What it shows.")  # a figure's title and description


def assert_draws(chart: Any) -> None:
    """Assert that a chart with `TEXT` carries it, and draws at both widths of a page."""
    title, description = TEXT
    spec = chart.to_dict()
    assert spec["description"] == description
    for width in (charts.WIDTH, NARROW):
        picture = svg(spec, width)
        assert title in picture
        assert "NaN" not in picture
