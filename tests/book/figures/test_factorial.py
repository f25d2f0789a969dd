from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from book.analysis import effects, routing
from book.figures import factorial as pages
from lmrel import Decoder, paper_problems, sample
from lmrel.registry import TINY
from lmrel.stats.inference import with_interval
from tests.book.analysis.test_effects import outcomes, page, synthetic
from tests.book.figures.drawing import TEXT, assert_draws
from tests.conftest import ROOT, tiny
from tiny import factorial
from tiny.shapes import ARCHITECTURES


def test_runs_scatter_around_the_exact_accuracy() -> None:
    decoders = [Decoder(t, stop="decided") for t in (0.0, 1.0)]
    draws = sample(*tiny("tiny-dense-continued"), paper_problems(), decoders, runs=4)
    row = pages.shown_runs(outcomes(), draws.assign(model="tiny-dense-continued")).iloc[0]
    runs = [float(accuracy) for accuracy in row["runs"].split()]
    assert len(runs) == 4
    assert float(row["exact"]) == pytest.approx(np.mean(runs), abs=4 * float(row["expected"]) / 2)


def test_tables_are_text_and_numbers_have_signs() -> None:
    table = effects.effects(synthetic(targets=0.12, sparse=-0.03, noise=0.01))
    shown = pages.shown_effects(table).set_index("effect")
    assert shown.loc["sparse minus dense", "points"].startswith("\N{MINUS SIGN}")


def test_every_measured_cell_has_a_row_and_every_measure_a_column() -> None:
    dropped, models = page()
    cells = pages.shown_cells(models)
    assert len(cells) == models.groupby(["architecture", "stage"]).ngroups - models["stage"].str.contains(r"-\d").sum()
    measures = pages.shown_measures(dropped)
    assert measures["effect"].tolist() == list(effects.MAIN)
    assert measures.shape == (3, 6)
    row = effects.effects(models, "slope").set_index("effect").loc[effects.MAIN[0]]
    assert measures["log-odds per unit of T"].iloc[0].startswith(f"\N{MINUS SIGN}{abs(row['estimate']):.2f} [")


def test_both_precisions_stand_side_by_side() -> None:
    every = effects.drops(outcomes()).query("metric == 'correct' and prompt_style == 'few_shot'")
    shown = pages.shown_precisions(every).set_index("last stage")
    own = effects.planned_cells(every).query("stage == 'instruct' and precision == 'nf4'")
    assert shown.loc["chat, clean", "greedy, nf4"] == f"{100 * own['greedy'].mean():.1f}"
    assert len(shown) == len(factorial.CELLS)


def test_the_numbers_of_the_prose_are_those_of_the_tables() -> None:
    dropped, _ = page()
    facts = pages.numbers(dropped)
    assert facts["factorial models"] == str(sum(len(set(names) & set(TINY)) for names in factorial.DESIGN.values()))
    assert facts["factorial seeds"] == f"{len(factorial.DESIGN)} training seeds"
    shown = pages.shown_effects(effects.effects(dropped)).set_index("effect")
    for name, effect in zip(("targets", "format", "sparsity"), effects.MAIN, strict=True):
        assert facts[f"factorial {name}"] == shown.loc[effect, "over problems too"]
    sparsity = pages.shown_sparsity(dropped).set_index(["problems", "stages"])
    assert sparsity["within 5 points"].tolist() == 4 * ["yes"] + 3 * ["not shown"] + ["yes"]
    for name, kind in zip(("clean", "noisy"), pages.KINDS, strict=True):
        assert facts[f"factorial sparse {name}"] == sparsity.loc[("variable binding", kind), "mean, 90 % interval"]
    levels = pages.shown_levels(dropped).set_index(["problems", "learned last"])["drop, points"]
    for name, task in (("clean", "all"), ("clean variable binding", "variable binding"), ("noisy", "all")):
        assert facts[f"factorial {name}"] == levels.loc[(task, pages.LAST[name.split()[0]])]
    assert pages.shown_tests(dropped)["effect"].tolist() == list(effects.MAIN)
    pairs = [("wide", "sparse"), ("qwen2", "olmoe")]
    between = pages.shown_between_architectures(dropped[dropped["seed"] == 0], pairs).set_index("last stage")
    assert between.index.tolist() == [*[effects.STAGE_NAMES[stage] for stage in factorial.CELLS], effects.TUNED_MEAN]
    means = between.loc[effects.TUNED_MEAN].tolist()
    assert [facts["factorial wide"], facts["factorial family"]] == means


def test_every_number_that_a_page_quotes_is_there() -> None:
    paths = [ROOT / "index.md", *(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").rglob("*.ipynb")]
    quoted = {key for path in paths for key in re.findall(r"\{number\}`(factorial [^`]+)`", path.read_text())}
    assert {"factorial clean", "factorial sparse noisy"} <= quoted <= pages.numbers(page()[0]).keys()


def test_what_remains_of_a_dose_stands_beside_it() -> None:
    dropped, _ = page()
    shown = pages.shown_doses(effects.doses(dropped))
    assert shown["wrong targets"].tolist() == ["5%", "15%", "30%"]
    assert [cell[0] for cell in shown["what remains"]] == ["+", "+", "+"]


def test_a_row_for_each_architecture_with_both_effects() -> None:
    first = page()[0].query("seed == 0")
    shown = pages.shown_within_architecture(first).set_index("architecture")
    assert shown.index.tolist() == list(ARCHITECTURES)
    row = effects.within_architecture(first).query("architecture == 'sparse' and effect == @effects.MAIN[0]").iloc[0]
    assert shown.loc["sparse", effects.MAIN[0]] == with_interval(*(100 * row[["estimate", "low", "high"]]))


def test_training_takes_what_its_models_take() -> None:
    names = sorted({name for design in factorial.DESIGN.values() for name in design}, reverse=True)
    minutes = [60.0 if name.endswith("base") else 3.0 for name in names]
    costs = pd.DataFrame({"model": names, "minutes": minutes, "weights": 1_800_000, "at work": 600_000})
    shown = pages.shown_training(costs).set_index("architecture")
    assert shown.index.tolist() == ["dense", "sparse", "wide", "qwen2", "olmoe", "all"]
    assert shown.loc["sparse", "models"] == "15"
    assert shown.loc["sparse", "all, h"] == f"{(3 * 60 + 12 * 3) / 60:.1f}"
    assert shown.loc["dense", "all, h"] == f"{(3 * 60 + 15 * 3) / 60:.1f}"
    assert shown.loc["all", "models"] == str(sum(map(len, factorial.DESIGN.values())))
    assert shown.loc["wide", ["weights", "at work", "pretraining, min", "last stage, min"]].tolist() == [
        "1,800,000",
        "600,000",
        "60",
        "3.0",
    ]


def test_models_routing_stands_in_a_table_with_adjusted_p_values() -> None:
    rng = np.random.default_rng(7)
    columns = {"problem_id": np.arange(400) % 50, "tokens": rng.random(400), "experts": rng.random(400)}
    table = pd.DataFrame(columns).assign(entropy=0.5, wrong=rng.random(400) < 0.5, greedy_wrong=rng.random(400) < 0.7)
    p = float(routing.beyond_tokens(table).loc["experts", "p"])
    shown = pages.shown_divergence({"one": table, "two": table}).set_index("model")
    assert shown.loc["one", "routing entropy, nats"] == "0.50"
    assert float(shown.loc["two", "p"]) == pytest.approx(min(1, 2 * p), rel=0.05)
    wrong = table[table["greedy_wrong"]]
    assert shown.loc["one", "parted from wrong: right"] == f"{(~wrong['wrong']).sum()} of {len(wrong)}"
    right = table[~table["greedy_wrong"]]
    assert shown.loc["one", "parted from right: wrong"] == f"{right['wrong'].sum()} of {len(right)}"


@cache
def cells() -> pd.DataFrame:
    return effects.planned_cells(page()[1])


def curves() -> pd.DataFrame:
    found = factorial.curves(outcomes())
    return found.query(f"{effects.PLANNED} and architecture == 'dense' and stage in @factorial.CELLS")


DOSES = pd.DataFrame({"noise": [0, 0.3], "drop": [0.1, 0.4], "low": [0, 0.3], "high": [0.2, 0.5], "alone": [0.1, 0.4]})
PAPERS = {("sparse", "base"): "OLMoE"}
FIGURES: dict[str, Callable[[], Any]] = {
    "design": lambda: pages.design(cells(), PAPERS, *TEXT),
    "cost": lambda: pages.cost(cells(), *TEXT),
    "finding": lambda: pages.finding(page()[0], *TEXT),
    "curves": lambda: pages.curves(curves(), *TEXT),
    "forest": lambda: pages.forest(effects.sensitivity(outcomes()), *TEXT),
    "dose": lambda: pages.dose(DOSES, *TEXT),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_and_carries_its_text(name: str) -> None:
    assert_draws(FIGURES[name]())


def rows(name: str) -> list[dict[str, Any]]:
    [*tables] = FIGURES[name]().to_dict()["datasets"].values()
    return list(max(tables, key=len))


def test_a_dot_is_a_model_and_stands_at_its_drop() -> None:
    dots = rows("cost")
    assert len(dots) == len(cells())
    assert sorted(dot["drop"] for dot in dots) == sorted(cells()["drop"].round(5))


def test_the_finding_says_the_numbers_of_the_prose_and_shows_every_tuned_model() -> None:
    said = json.dumps(FIGURES["finding"]().to_dict()["datasets"], ensure_ascii=False)
    facts = pages.numbers(page()[0])
    for targets in ("clean", "noisy"):
        assert f"{facts[f'factorial {targets}']} points lost" in said
    dots = rows("finding")
    tuned = cells().query("stage != 'base'")
    assert sorted(dot["drop"] for dot in dots) == sorted(tuned["drop"].round(5))
    noisy = [dot["drop"] for dot in dots if "wrong" in dot["row"]]
    assert sorted(noisy) == sorted(tuned[tuned["stage"].str.contains("noisy")]["drop"].round(5))


def test_a_cell_counts_its_seeds_and_names_what_the_paper_had() -> None:
    shown = rows("design")
    assert len(shown) == 10
    assert [cell["stage"] for cell in shown if cell["had"]] == ["pretrained only"]
    assert {cell["seeds"].split()[0] for cell in shown} == set(
        cells().groupby(["architecture", "stage"])["seed"].nunique().map(str)
    )


def test_titles_follow_the_data() -> None:
    models = pd.DataFrame(
        {"stage": ["continued", "instruct", "instruct-noisy", "base"], "drop": [0.02, 0.04, 0.2, 0.9]}
    )
    assert pages.cost_title(models) == "T = 1 costs 3 points after right answers and 20 after random wrong ones"
    lines = models.assign(architecture="dense", temperature=1.0, middle=1 - models["drop"])
    assert pages.curves_title(lines) == (
        "At T = 1, dense models answer 97% right after right answers and 80% after random wrong ones"
    )
    rising = pd.DataFrame({"noise": [0.1, 0.0, 0.3], "drop": [0.2, 0.1, 0.3]})
    assert pages.dose_title(rising).startswith("The more answers")
    assert "do not always" in pages.dose_title(rising.assign(drop=[0.05, 0.1, 0.3]))
    analyses = pd.DataFrame({"effect": ["a", "a", "b", "b"], "low": [1, -1, -2, -3], "high": [2, 1, -1, 3]})
    assert pages.forest_title(analyses) == "Told from no effect: a in 1 of 2; b in 1 of 2 analyses"
    cells = pd.DataFrame({"architecture": ["dense", "sparse"], "stage": ["base", "base"]})
    assert pages.design_title(cells, {("sparse", "base"): "O", ("wide", "base"): "P"}) == (
        "The paper had models in 1 of these 2 cells"
    )


def test_the_difference_of_two_drops_says_whether_they_are_the_same() -> None:
    rows = [
        {"model": model, "problem_id": f"p{i}", "cluster": f"p{i}", "expected": 1, "temperature": t, "run": 0}
        | {"correct": t == 0 or (model == "steady") or i >= lost}
        for model, lost in (("steady", 0), ("shaky", 60))
        for t in (0.0, 1.0)
        for i in range(100)
    ]
    [said] = pages.drop_difference(pd.DataFrame(rows), "shaky", "steady")
    assert said.startswith("shaky loses +60.0 [")
    assert said.endswith("within 5 points is not shown.")
