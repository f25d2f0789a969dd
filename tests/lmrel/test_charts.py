from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import pytest

from book.figures import compare, evaluate, gpu, published
from book.figures.style import MIME, bundle, svg, training, write_svg
from book.figures.text import plain, rests_on
from book.site.extension import chart_html
from lmrel import InputError, charts, records
from lmrel.registry import REGISTRY
from lmrel.stats import inference, metrics
from tests.lmrel.stats.test_metrics import table

SUMMARY = inference.summarize_with_intervals(pd.concat([table(), table(temperature=1.0)])).query("task == 'all'")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def figures() -> dict[str, Any]:
    curve = pd.DataFrame({"step": [50, 100], "loss": [2.0, 1.0]})
    return {
        "response": charts.response(SUMMARY, "accuracy", "Accuracy", "A line."),
        "confidence": charts.confidence(SUMMARY, "Confidence", "Two lines."),
        "runs": charts.runs(metrics.by_run(table()), "Runs", "Dots."),
        "published": charts.response(published.published_accuracy(), "accuracy", "Published", "Three lines."),
        "failures": charts.failures(inference.failure_shares(table()), "Failures", "Bars."),
        "training": training(curve, "Loss", "A falling line."),
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


def test_a_chart_without_a_description_is_an_error() -> None:
    chart = alt.Chart(pd.DataFrame({"x": [1]})).mark_point()
    with pytest.raises(ValueError, match="needs a description"):
        bundle(chart.to_dict())


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


def test_tables_show_intervals_and_escape_what_a_model_wrote() -> None:
    draws = table(text=HOSTILE + "\n", expected=5)
    shown = evaluate.samples(draws).to_html()
    assert "<script" not in shown
    assert "⏎" in shown
    by_temperature = evaluate.by_temperature(inference.summarize_with_intervals(draws))
    assert re.fullmatch(r"50\.0 % \[\d+, \d+\]", by_temperature["accuracy"].iloc[0])
    others = compare.other_runs(inference.summarize_with_intervals(draws).assign(checkpoint="org/name"))
    assert others[["run", "model", "problems"]].iloc[0].tolist() == ["m", "org/name", "2"]
    by_task = evaluate.by_task(inference.summarize_with_intervals(draws))
    assert by_task.columns.tolist() == ["model", "T", "arithmetic", "variable binding"]


def test_drops_are_paired_changes_of_runs_that_have_both_temperatures(tmp_path: Path) -> None:
    draws = pd.concat([table(temperature=0.0), table(temperature=1.0, correct=False)])
    folder = tmp_path / "mine"
    folder.mkdir()
    draws.to_parquet(folder / records.DRAWS)
    found = compare.changes_of(tmp_path, ["mine"])
    assert found[["model", "difference"]].to_numpy().tolist() == [["mine", -0.5]]
    assert compare.shown_changes(found).iloc[0, 1].startswith("\N{MINUS SIGN}50.0 [")
    assert compare.changes(table()).empty


def test_the_published_table_is_the_papers() -> None:
    shown = published.published_table().set_index("model")
    assert shown.loc["Mixtral-8x7B", ["greedy", "T = 0.1", "T = 0.5", "T = 1"]].tolist() == [
        "30.4%",
        "30.1%",
        "30.4%",
        "30.3%",
    ]
    assert shown.loc["OLMoE-7B", "compliance"] == "0.0%"
    accuracy = published.published_accuracy()
    assert len(accuracy) == 12
    assert (accuracy["accuracy_low"] < accuracy["accuracy"]).all()


def test_a_chart_says_which_function_drew_it() -> None:
    assert figures()["response"].to_dict()["usermeta"] == {"function": "lmrel.charts.response"}
    html = chart_html(figures()["response"].to_dict())
    assert '<a data-function="lmrel.charts.response">drawn by response</a>' in html


def test_the_commands_run_every_large_model_alike() -> None:
    commands = gpu.commands([name for name, spec in REGISTRY.items() if not spec.tiny])
    assert len(commands) == 10
    assert {re.sub(r"\S*(olmo|mist|mixt|qwen)\S*", "", command) for command in commands} == {
        re.sub(r"\S*(olmo|mist|mixt|qwen)\S*", "", commands[0])
    }
    assert all("-p precision nf4" in command for command in commands)


def test_a_page_says_what_it_rests_on() -> None:
    assert rests_on(["a", "b"], "decoders 1", "2026-01-02") == "Rests on: a, b · decoders 1 · run 2026-01-02"


def test_a_picture_that_cannot_be_written_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.file"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="could not be written: No space left on device"):
        write_svg({"description": "x", "mark": "point", "data": {"values": []}}, path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT], ids=str)
def test_a_cell_that_is_missing_is_empty(missing: Any) -> None:
    table = pd.DataFrame({"a": ["x", missing], "b": [1.5, missing]}, dtype=object)
    assert plain(table).to_numpy().tolist() == [["x", "1.5"], ["", ""]]
    assert plain(table.convert_dtypes())["a"].tolist() == ["x", ""]


def test_tasks_that_only_some_runs_have_leave_cells_empty() -> None:
    summary = inference.summarize_with_intervals(table())
    other = summary.assign(model="b", task=summary["task"].replace({"arithmetic": "another"}))
    by_task = evaluate.by_task(pd.concat([summary, other], ignore_index=True))
    assert "" in by_task["arithmetic"].tolist()
    assert "" in by_task["another"].tolist()


def test_commands_quote_what_a_shell_would_act_on() -> None:
    assert "-p model 'x; rm -rf ~'" in gpu.commands(["x; rm -rf ~"])[0]


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


def test_a_specification_without_end_is_refused(tmp_path: Path) -> None:
    spec: dict[str, Any] = {"mark": "bar"}
    for _ in range(2000):
        spec = {"layer": spec}
    with pytest.raises(InputError, match="this is no chart's specification: maximum recursion depth"):
        write_svg(spec, tmp_path / "a.svg")
