from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pandas as pd
import pytest

from book.analysis import effects
from book.figures import factorial as pages
from book.figures.style import svg
from lmrel import charts
from tiny import factorial


@cache
def models() -> pd.DataFrame:
    return effects.planned_cells(effects.robustness(effects.drops(factorial.measured()).query(effects.PLANNED)))


def curves() -> pd.DataFrame:
    found = factorial.curves(factorial.measured())
    return found.query(f"{effects.PLANNED} and architecture == 'dense' and stage in @factorial.CELLS")


DOSES = pd.DataFrame({"noise": [0, 0.3], "drop": [0.1, 0.4], "low": [0, 0.3], "high": [0.2, 0.5], "alone": [0.1, 0.4]})
PAPERS = {("sparse", "base"): "OLMoE"}
FIGURES: dict[str, Callable[[], Any]] = {
    "design": lambda: pages.design(models(), PAPERS, "A title", "What it shows."),
    "cost": lambda: pages.cost(models(), "A title", "What it shows."),
    "curves": lambda: pages.curves(curves(), "A title", "What it shows."),
    "forest": lambda: pages.forest(effects.sensitivity(factorial.measured()), "A title", "What it shows."),
    "dose": lambda: pages.dose(DOSES, "A title", "What it shows."),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_and_carries_its_text(name: str) -> None:
    spec = FIGURES[name]().to_dict()
    assert spec["description"] == "What it shows."
    for width in (charts.WIDTH, charts.NARROW):
        picture = svg(spec, width)
        assert "A title" in picture
        assert "NaN" not in picture


def rows(name: str) -> list[dict[str, Any]]:
    [*tables] = FIGURES[name]().to_dict()["datasets"].values()
    return list(max(tables, key=len))


def test_a_dot_is_a_model_and_stands_at_its_drop() -> None:
    dots = rows("cost")
    assert len(dots) == len(models())
    assert sorted(dot["drop"] for dot in dots) == sorted(models()["drop"].round(5))


def test_a_cell_counts_its_seeds_and_names_what_the_paper_had() -> None:
    cells = rows("design")
    assert len(cells) == 10
    assert [cell["stage"] for cell in cells if cell["had"]] == ["pretrained only"]
    assert {cell["seeds"].split()[0] for cell in cells} == set(
        models().groupby(["architecture", "stage"])["seed"].nunique().map(str)
    )
