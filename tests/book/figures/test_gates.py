from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from book.analysis import gates
from book.figures import gates as pages
from tests.book.analysis.test_gates import drawn, log
from tests.book.figures.drawing import TEXT, assert_draws


@cache
def stored() -> pd.DataFrame:
    return pd.concat(
        [
            gates.gates(log(np.random.default_rng(1), 60)).assign(source="renze", runs=10.0),
            gates.gates(drawn(np.random.default_rng(2), np.full(40, 0.3), model="few")).assign(source="cruxeval"),
        ],
        ignore_index=True,
    ).assign(independent=True)


FIGURES: dict[str, Callable[[], Any]] = {
    "bought": lambda: pages.bought(pages.example(stored()), 100, *TEXT),
    "alarms": lambda: pages.alarms(pages.example(stored()), 100, *TEXT),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_and_carries_its_text(name: str) -> None:
    assert_draws(FIGURES[name]())


def test_the_example_is_the_median_model_of_those_with_enough_independent_draws() -> None:
    rows = {"task": "all", "temperature": 1.0, "source": "s", "independent": True, "runs": 10.0}
    rows |= {"sampling_variance": 0.1}
    table = pd.DataFrame([rows | {"model": f"m{i}", "problem_variance": v} for i, v in enumerate([0.3, 0.1, 0.2, 0.4])])
    colder = table.assign(temperature=0.5, problem_variance=0.05)
    few = table.iloc[:1].assign(model="few", runs=3.0, problem_variance=0.01)
    copies = table.iloc[:1].assign(model="copies", independent=False, problem_variance=0.01)
    found = pages.example(pd.concat([table, colder, few, copies], ignore_index=True))
    assert (found["model"], found["temperature"]) == ("m2", 1.0)


def test_what_the_page_says_comes_from_the_table() -> None:
    table = stored()
    row, said = pages.example(table), pages.numbers(table, 100)
    at = gates.thresholds(row["sampling_variance"], [100], [1])["fall"].iloc[0]
    assert f"it has to allow {100 * at:.1f} points" in said["gates headline"]
    assert f"within {100 * row['margin']:.1f} points" in said["gates margin"]
    assert row["model"] in said["gates split"]
    assert said["gates copies"].startswith("All models' repeats pass")
    assert "nan" not in " ".join(said.values())
    flagged = table.assign(independent=table["model"] != "a")
    assert pages.copies(flagged).startswith("Repeats of a are not independent, so ")


def test_the_table_of_models_has_a_row_for_each_and_leaves_empty_what_is_not_known() -> None:
    shown = pages.shown_models(stored())
    assert shown["model"].tolist() == ["few", "a", "b"]
    assert shown["smallest change"].iloc[0] == ""
    assert pages.shown_thresholds(pages.example(stored())).shape == (4, 4)


def test_advice_has_a_paragraph_for_each_setting_and_no_name_acts() -> None:
    draws = log(np.random.default_rng(3), 40)
    lines = pages.advice(
        pd.concat([draws, drawn(np.random.default_rng(4), np.repeat([0.0, 1.0], 20), model="<b>x</b>")])
    )
    assert len(lines) == 7
    assert "<b>" not in lines._repr_html_()
    assert sum("never differ" in line for line in lines) == 1


def test_titles_have_the_numbers_of_the_sentences() -> None:
    row = pages.example(stored())
    numbers = re.findall(r"\d+\.\d points", pages.of_bought(row, 200))
    assert re.findall(r"\d+\.\d points", pages.bought_title(row, 200)) == numbers
    assert len(numbers) == 3
    of_gate = re.findall(r"([\d.]+ %)(?: of the time)?", pages.headline(row, 200, 0.02))[:2]
    assert re.findall(r"[\d.]+ %", pages.alarms_title(row, 200)) == of_gate
