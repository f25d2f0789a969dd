from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest

from book.figures.style import MIME, bundle, svg
from lmrel import InputError, charts
from lmrel.stats import inference, metrics
from tests.lmrel.stats.test_metrics import table

SUMMARY = inference.summarize_with_intervals(pd.concat([table(), table(temperature=1.0)])).query("task == 'all'")


DROPS = pd.DataFrame(
    {"of": ["a model", "another", "difference"], "estimate": [0.2, 0.1, 0.1], "low": [0.1, 0.0, -0.02], "high": 0.3}
)


def figures() -> dict[str, Any]:
    return {
        "response": charts.response(SUMMARY, "accuracy", "Accuracy", "A line."),
        "confidence": charts.confidence(SUMMARY, "Confidence", "Two lines."),
        "runs": charts.runs(metrics.by_run(table()), "Runs", "Dots."),
        "comparison": charts.comparison(DROPS, 0.05, "Drops", "Points."),
        "failures": charts.failures(inference.failure_shares(table()), "Failures", "Bars."),
    }


@pytest.mark.parametrize("name", figures())
def test_every_figure_draws_and_carries_its_text(name: str) -> None:
    spec = figures()[name].to_dict()
    stored = bundle(spec)
    assert set(stored) == {MIME, "image/png", "text/plain"}
    picture = svg(spec, 300)
    assert picture.startswith("<svg")
    assert "currentColor" in picture
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]+"', "", picture)
    assert len(re.findall("<path", picture)) > 5


def test_a_run_without_a_wrong_answer_says_so() -> None:
    shares = inference.failure_shares(table(correct=True, failure=None))
    assert charts.failures(shares, "Failures", "Bars.") == "not shown: no answer was wrong"


def test_a_response_shows_the_interval_of_each_mean() -> None:
    spec = charts.response(SUMMARY, "accuracy", "Accuracy", "A line.").to_dict()
    rows = next(iter(spec["datasets"].values()))
    for row, (_, expected) in zip(rows, SUMMARY.iterrows(), strict=True):
        assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx(
            (expected["accuracy_low"], expected["accuracy_high"]), abs=1e-5
        )
    rule = next(layer for layer in spec["layer"] if layer["mark"]["type"] == "rule")
    assert (rule["encoding"]["y"]["field"], rule["encoding"]["y2"]["field"]) == ("accuracy_low", "accuracy_high")


def test_no_two_of_many_models_have_one_colour_and_one_shape() -> None:
    many = pd.concat([SUMMARY.iloc[:1].assign(model=f"m{number:02}") for number in range(20)])
    point = charts.response(many, "accuracy", "a", "b").to_dict()["layer"][2]["encoding"]
    colours, shapes = charts.PALETTE * 3, point["shape"]["scale"]["range"]
    assert len(shapes) == 20
    assert len(set(zip(colours, shapes, strict=False))) == 20


def test_a_chart_says_which_function_drew_it() -> None:
    assert figures()["response"].to_dict()["usermeta"] == {"function": "lmrel.charts.response"}


def test_models_may_be_categories() -> None:
    chart = charts.response(SUMMARY.astype({"model": "category"}), "accuracy", "Accuracy", "A line.")
    assert chart.to_dict() == figures()["response"].to_dict()


@pytest.mark.parametrize(
    ("columns", "title", "said"),
    [
        ({"model": None}, "t", "there is no accuracy with an interval for every model"),
        ({"temperature": "x"}, "t", "temperature holds something else than numbers"),
        ({"accuracy": "x"}, "t", "accuracy holds something else than numbers"),
        ({}, 5, "response cannot be drawn: '5' is an invalid value"),
    ],
    ids=["no model", "temperature", "accuracy", "title"],
)
def test_what_cannot_be_drawn_is_named_in_one_line(columns: dict[str, Any], title: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"^{said}.*$"):
        charts.response(SUMMARY.assign(**columns), "accuracy", title, "d").to_dict()


def test_thousands_of_runs_are_some_dots() -> None:
    runs = pd.DataFrame([(t, run, 0.5 + run % 40 / 240) for t in (0.5, 1.0) for run in range(3000)])
    chart = charts.runs(runs.set_axis(["temperature", "run", "accuracy"], axis=1), "Runs", "Dots.").to_dict()
    [rows] = chart["datasets"].values()
    assert len(rows) == 2 * 40
    assert sum(row["runs"] for row in rows) == 6000


def test_a_comparison_shows_drops_in_points_and_the_margin_at_their_difference() -> None:
    spec = figures()["comparison"].to_dict()
    band, _, interval, point = spec["layer"]
    assert spec["datasets"][band["data"]["name"]] == [{"of": "difference", "from": -5.0, "to": 5.0}]
    rows = spec["datasets"][(point.get("data") or spec.get("data") or interval["data"])["name"]]
    assert [row["estimate"] for row in rows] == [20.0, 10.0, 10.0]
    assert [row["low"] for row in rows] == [10.0, 0.0, -2.0]
    assert point["encoding"]["y"]["sort"] == ["a model", "another", "difference"]
    shown = svg(spec, 260)
    assert "percentage points" in shown
    assert "another" in shown
