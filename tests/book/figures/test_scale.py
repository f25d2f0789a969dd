from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from book.analysis import schedule
from book.figures import scale
from book.figures.style import NARROW, bundle, svg
from lmrel import InputError
from lmrel.registry import REGISTRY
from study import costs
from tests.conftest import ROOT

RATES = schedule.Rates(1.0, 0.1, 60.0)
MEASURED = replace(costs.read_measured(ROOT / "book" / "data"), gpu=())
WORKS = scale.papers_works(MEASURED, 40)
ROW = {"model": "Qwen2.5-3B", "precision": "bf16", "logits": "uniform", "new_tokens": 16, "draws": 3120}
GPU = replace(MEASURED, gpu=(ROW | {"seconds": 60.0, "draws_per_problem": 13, "device": "a GPU"},))


@pytest.mark.parametrize(
    ("seconds", "said"), [(59, "1 min"), (3600, "1.0 h"), (359_000, "99.7 h"), (360_000, "4.2 days")]
)
def test_a_span_reads_well(seconds: float, said: str) -> None:
    assert scale.span(seconds) == said


def test_requests_name_every_large_model_and_the_tiny_ones_once() -> None:
    table = scale.requests(40).set_index("model")
    assert set(table.index) == {"tiny-*", *(name for name, spec in REGISTRY.items() if not spec.tiny)}
    assert table.loc["tiny-*", "gpu"] == "0"
    assert table.loc["mixtral-8x7b", "precision"] == "nf4"


def test_the_page_says_what_its_times_rest_on() -> None:
    assert "No large model was timed on a GPU" in scale.basis_of_times(MEASURED)
    assert "3.5 h on one A100" in scale.basis_of_times(MEASURED)
    assert scale.basis_of_times(GPU) == "Full size measured on: a GPU."
    assert scale.subtitle(WORKS, MEASURED) == "3 models on disk · assumed from the paper"
    assert scale.subtitle(WORKS, GPU).endswith("· assumed from the paper or measured on a GPU")
    bases = scale.models(scale.papers_works(GPU, 40), GPU, RATES).set_index("model")["drawing is"]
    assert bases["qwen2.5-3b-instruct"] == "measured on a GPU"
    assert bases["olmoe-1b-7b"] == "assumed from the paper"
    [assumed] = scale.assumptions(RATES)
    assert "1 GB/s" in assumed
    assert "60 s" in assumed
    [drawn] = scale.draws_of(2, 3, 10)
    assert drawn == "2 models at 3 temperatures with 10 runs make 30 draws a problem, 14,400 in all."


def test_costs_are_those_of_the_plan() -> None:
    on_disk = replace(RATES, link=math.inf)
    alone, many = scale.costs(WORKS, (3,), (1, 64), on_disk).to_dict("records")
    shards = schedule.best_shards(WORKS, 64, on_disk)
    assert alone["GPU hours"] == f"{(3 * 4200 + sum(work.load(RATES) for work in WORKS)) / 3600:.1f}"
    assert many["shards"] == str(shards)
    assert many["time"] == scale.span(schedule.plan_jobs(WORKS, shards, 64, on_disk).wall)
    assert many["problems a job"] == str(240 // shards)
    [fetched] = scale.costs(WORKS, (3,), (64,), RATES).to_dict("records")
    assert fetched["limited by"].split(", ")[0].endswith("download")


def test_without_sharing_a_study_costs_what_its_draws_cost() -> None:
    table = scale.large_study(MEASURED, WORKS, 50, 30_000, 64, RATES)
    hours = float(table["GPU hours"].iloc[0].replace(",", ""))
    draws = 50 * 240 * 30_000 * costs.ALONE / 3600
    assert draws <= hours <= 1.01 * draws
    shared = table["GPU hours"].iloc[1:].str.replace(",", "").astype(float)
    assert (shared < hours).all()
    assert len(table) == 1 + 2 * len({row["model"] for row in MEASURED.cpu})


def test_growth_has_what_was_measured_and_one_column_more() -> None:
    table = scale.growth(MEASURED, 30_000)
    row = next(row for row in MEASURED.cpu if row["contestant"] == "eos, 1000 runs")
    line = table[(table["model"] == row["model"]) & (table["stop"] == "eos")].iloc[0]
    assert line["3,001 draws"] == f"{row['seconds']:.2f} s"
    assert float(line["30,000 draws, prolonged"].removesuffix(" s")) > row["seconds"]


def test_the_figure_marks_the_best_and_names_it() -> None:
    table = scale.walls(WORKS, (8, 64), RATES)
    for gpus, own in table.groupby("gpus"):
        best = own[own["best"]]
        assert len(best) == 1
        assert best["hours"].item() <= schedule.SLACK**2 * own["hours"].min()
        assert f"{gpus} GPUs are done first with {best['shards'].item()} shards" in scale.optima(table)
    chart = scale.wall_time(table, "Time", "Two lines.", subtitle="assumed").to_dict()
    found = bundle(chart)
    assert found["image/png"]
    picture = svg(chart, NARROW)
    assert f"64 GPUs: {table[table['best'] & (table['gpus'] == 64)]['shards'].item()} shards" in picture


@pytest.mark.parametrize("rates", [(0, 1, 1), (1, math.nan, 1), (1, 1, -5), ("fast", 1, 1), (1, True, 1)], ids=str)
def test_a_machines_rates_are_numbers_above_0(rates: Any) -> None:
    with pytest.raises(InputError, match=r"(disk|link|overhead) is .*; it must be a number (above|from) 0"):
        schedule.Rates(*rates)
