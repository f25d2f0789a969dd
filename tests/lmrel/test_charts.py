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
    colours, shapes = (point[name]["scale"]["range"] for name in ("color", "shape"))
    assert len(set(zip(colours, shapes, strict=True))) == 20


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast of two colours, from 1 to 21."""
    found = []
    for name in (one, other):
        parts = [int(name[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        found.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(found) + 0.05) / (min(found) + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#121212"])  # the theme's grounds, by day and by night
def test_every_colour_of_a_mark_stands_out_from_both_pages(page: str) -> None:
    assert round(contrast("#767676", "#ffffff"), 2) == 4.54  # as WCAG's own examples have it
    for colour in {*charts.PALETTE, charts.GREY, *charts.heat(25)}:
        assert contrast(colour, page) >= 3, colour


def test_no_mark_of_a_chart_is_paler_than_its_colour_but_bands_and_lines_of_the_frame() -> None:
    for chart in figures().values():
        spec = chart.to_dict()
        for layer in spec.get("layer", [spec]):
            mark = layer["mark"]
            if mark["type"] in ("point", "line", "tick"):
                assert mark.get("opacity", 1) == 1


def test_right_and_wrong_are_no_colours_of_other_things() -> None:
    others = {*charts.SERIES, *charts.TRAINED.values(), *charts.heat(25), charts.GREY}
    assert not others & {charts.RIGHT, charts.WRONG}


def test_a_models_kind_is_its_colour_and_its_lines() -> None:
    suite = ["tiny-dense-base", "tiny-sparse-base", "tiny-dense-instruct", "tiny-sparse-instruct"]
    colours, shapes, dashes = charts.looks(suite)
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert shapes[0] == shapes[2] != shapes[1] == shapes[3]
    assert dashes[0] == dashes[2] != dashes[1] == dashes[3]
    for others in (["mine", "yours-base"], ["a-base", "b-base"]):
        assert len(set(charts.looks(others)[0])) == 2


def test_temperatures_go_from_cold_to_hot() -> None:
    reds = [int(colour[1:3], 16) for colour in charts.heat(7)]
    assert reds == sorted(reds)
    assert [charts.heat(1), charts.heat(3)] == [[charts.COLDEST], [charts.COLDEST, charts.MIDDLE, charts.HOTTEST]]


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
