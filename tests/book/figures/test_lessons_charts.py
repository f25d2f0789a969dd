from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from book.figures import lessons
from book.figures import lessons as drawn
from book.figures.style import svg
from lmrel import charts
from lmrel.charts import NARROW

TABLE = pd.DataFrame({"token": list("abcdef"), "logit": [2.0, 1.4, 1.0, 0.5, -1.0, -3.0]})


def shown(chart: Any, **sliders: float) -> list[str]:
    """The labels of a chart's bars, from the picture that Vega draws with the sliders there."""
    spec = chart.to_dict()
    for parameter in spec["params"]:
        parameter["value"] = sliders.get(parameter["name"], parameter["value"])
    assert set(sliders) <= {parameter["name"] for parameter in spec["params"]}
    labels = svg(spec, 600).partition("mark-text role-mark")[2]  # not the axis
    return re.findall(r">([\d.]+%|cut)</text>", labels)


def percents(probabilities: Any) -> list[str]:
    return [f"{p:.1%}" for p in probabilities]


@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.5])
def test_the_temperature_slider_shows_what_the_decoder_does(temperature: float) -> None:
    labels = shown(drawn.tempered(TABLE, "a", "b"), T=temperature)
    assert labels[: len(TABLE)] == percents(lessons.distribution(TABLE, temperature)["probability"])


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"top_k": 3},
        {"top_p": 0.8},
        {"min_p": 0.2},
        {"top_k": 4, "top_p": 0.75, "min_p": 0.3},
        {"top_p": 0.05},
        {"top_k": 2, "top_p": 0.99},
    ],
)
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_truncation_sliders_show_what_the_decoder_does(temperature: float, knobs: dict[str, Any]) -> None:
    labels = shown(drawn.truncated(TABLE, "a", "b"), T=temperature, **knobs)
    expected = lessons.distribution(TABLE, temperature, **knobs)["probability"]
    assert labels[: len(TABLE)] == ["cut" if p == 0 else f"{p:.1%}" for p in expected]


@pytest.mark.parametrize(("u", "temperature"), [(0.0, 1.0), (0.5, 1.0), (0.9, 1.0), (0.5, 4.0)])
def test_the_lit_token_is_the_one_that_is_drawn(u: float, temperature: float) -> None:
    spec = drawn.drawn(TABLE, "a", "b").to_dict()
    for parameter in spec["params"]:
        parameter["value"] = {"u": u, "T": temperature}[parameter["name"]]
    bars = re.findall(r'aria-label="[^"]*token: (\w)[^"]*"[^>]* fill="(#\w+)"', svg(spec, 600))
    lit = [token for token, colour in bars if colour == charts.PALETTE[1]]
    p = lessons.distribution(TABLE, temperature)["probability"]
    assert lit == [TABLE["token"][int(lessons.inverse_cdf(p, np.array([u]))[0])]]


def test_every_figure_can_be_drawn_on_a_narrow_screen_and_is_light() -> None:
    runs = pd.DataFrame({"problem": ["a", "b"], "run": [1, 1], "outcome": ["right", "wrong"], "answer": ["1", "2"]})
    series = lessons.entropy(TABLE, [0.5, 1.0]).assign(of="a")
    for chart in (
        drawn.tempered(TABLE, "a", "b"),
        drawn.drawn(TABLE, "a", "b"),
        drawn.truncated(TABLE, "a", "b"),
        drawn.ways(lessons.draw_both_ways(TABLE, 1.0, 50), "a", "b"),
        drawn.lines(series, "temperature", "top", "a", "b", by="of"),
        drawn.lines(series, "temperature", "bits", "a", "b", by="of", percent=False, log=True),
        drawn.runs_grid(runs, "a", "b"),
    ):
        spec = chart.to_dict()
        assert "<svg" in svg(spec, NARROW)
        assert "currentColor" in str(spec)
        assert sum(map(len, spec["datasets"].values())) <= 1000
        assert spec["usermeta"]["function"].startswith("book.figures.lessons.")
