from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from lmrel import Decoder, effects, factorial, paper_problems, sample
from tests.conftest import tiny


def synthetic(seeds: int = 3, noise: float = 0.0, **true: float) -> pd.DataFrame:
    """Models whose drops are sums of known effects."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for seed, architecture, stage in itertools.product(range(seeds), ("dense", "sparse"), factorial.TUNED):
        style, targets = factorial.TUNED[stage]
        drop = (
            0.1
            + 0.02 * seed
            + true.get("targets", 0) * (targets == "noisy")
            + true.get("format", 0) * (style == "chat")
        )
        drop += true.get("sparse", 0) * (architecture == "sparse") + noise * rng.standard_normal()
        rows.append({"seed": seed, "architecture": architecture, "stage": stage, "drop": drop})
    rows.append({"seed": 0, "architecture": "wide", "stage": "continued", "drop": 9.0})
    rows.append({"seed": 0, "architecture": "dense", "stage": "base", "drop": 9.0})
    return pd.DataFrame(rows)


def test_known_effects_are_found_and_others_are_not() -> None:
    found = effects.effects(synthetic(targets=0.12, format=-0.01, sparse=0.03)).set_index("effect")
    expected = {"noisy minus clean targets": 0.12, "chat minus plain format": -0.01, "sparse minus dense": 0.03}
    for effect, row in found.drop("mean of the cells").iterrows():
        assert row["estimate"] == pytest.approx(expected.get(str(effect), 0.0), abs=1e-12)
    assert found["units"].tolist() == [6, 6, 6, 6, 3, 3, 3]
    assert found["equivalent"].tolist() == [False, False, True, True, True, True, True]


def test_intervals_cover_as_often_as_they_say_and_the_equivalence_test_holds_its_level() -> None:
    rng = np.random.default_rng(1)
    covered = wrongly = 0
    for _ in range(2000):
        table = synthetic(sparse=effects.MARGIN)
        table["drop"] += 0.02 * rng.standard_normal(len(table))
        row = effects.effects(table).set_index("effect").loc["sparse minus dense"]
        covered += row["low"] < effects.MARGIN < row["high"]
        wrongly += bool(row["equivalent"])  # the truth stands on the margin: the test's level
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)
    assert wrongly / 2000 <= 0.065


def test_one_seed_gives_estimates_without_intervals() -> None:
    found = effects.effects(synthetic(seeds=1, sparse=0.03)).set_index("effect").loc["sparse minus dense"]
    assert found["estimate"] == pytest.approx(0.03)
    assert math.isnan(found["low"])
    assert found["equivalent"] is None


def test_robustness_by_hand() -> None:
    setting = {"seed": 0, "architecture": "dense", "stage": "base", "precision": "fp32", "prompt_style": "few_shot"}
    rows = [
        {
            **setting,
            "metric": "correct",
            "temperature": t,
            "problem_id": p,
            "task": "arithmetic",
            "lower": value - 0.01,
            "upper": value + 0.01,
        }
        for t, values in ((0.0, (0.9, 0.7)), (1.0, (0.6, 0.4)))
        for p, value in enumerate(values)
    ]
    row = effects.robustness(effects.drops(pd.DataFrame(rows))).iloc[0]
    assert row["greedy"] == pytest.approx(0.8)
    assert row["drop"] == pytest.approx(0.3)
    assert row["retained"] == pytest.approx(0.625)
    assert row["width"] == pytest.approx(0.02)
    assert expit(math.log(0.8 / 0.2) + row["slope"]) == pytest.approx(0.5)


def by_problem(seeds: int = 3, problems: int = 40, **true: float) -> pd.DataFrame:
    """`synthetic` with problems: half of them lose twice as much as the other half lose less."""
    models = synthetic(seeds, **true)
    extra = pd.DataFrame({"problem_id": range(problems), "hard": np.tile([0.05, -0.05], problems // 2)})
    table = models.merge(extra, how="cross")
    return table.assign(drop=table["drop"] + table["hard"], greedy=1.0)


def test_problems_widen_an_interval_only_where_they_disagree() -> None:
    found = effects.effects(by_problem(targets=0.12)).set_index("effect")
    noisy = found.loc["noisy minus clean targets"]
    assert noisy["estimate"] == pytest.approx(0.12)
    assert noisy["crossed_high"] - noisy["crossed_low"] == pytest.approx(0, abs=1e-9)  # every problem shows the same
    mean = found.loc["mean of the cells"]
    assert mean["crossed_high"] - mean["crossed_low"] > 0.02
    assert (found["crossed_low"] <= found["low"]).all()
    assert (found["crossed_high"] >= found["high"]).all()
    assert found["units"].tolist() == [6, 6, 6, 6, 3, 3, 3]


def outcomes() -> pd.DataFrame:
    return factorial.measured()


def test_the_analyses_are_what_their_names_say() -> None:
    every, found = outcomes(), effects.sensitivity(outcomes()).set_index(["analysis", "effect"])["estimate"]
    assert found.index.get_level_values("analysis").nunique() == 10
    dropped = effects.drops(every)
    planned = effects.effects(dropped.query(effects.PLANNED)).set_index("effect")["estimate"]
    assert found["as planned"].equals(planned[list(effects.MAIN)])
    tasks = (found["variable binding"] + found["arithmetic"]) / 2  # as many problems of each
    np.testing.assert_allclose(tasks, found["as planned"], atol=1e-6)
    in_nf4 = effects.quantized(dropped).query("metric == 'correct' and prompt_style == 'few_shot'")
    change = effects.effects(in_nf4).set_index("effect")["estimate"][list(effects.MAIN)]
    np.testing.assert_allclose(found["in NF4"], found["as planned"] + change, atol=1e-6)


def test_problems_solved_by_all_are_solved_by_each() -> None:
    kept = effects.solved_by_all(effects.drops(outcomes()).query(effects.PLANNED))
    assert (kept["greedy"] == 1).all()
    for _, some in kept.groupby("seed"):
        models = some.groupby(["architecture", "stage"]).ngroups
        assert (some.groupby("problem_id").size() == models).all()


def test_two_architectures_are_compared_problem_by_problem() -> None:
    table = by_problem(seeds=1, sparse=0.03)
    found = effects.against(table, "dense", "sparse")
    assert found["stage"].tolist() == list(factorial.TUNED)
    np.testing.assert_allclose(found[["difference", "low", "high"]], 0.03, atol=1e-9)
    assert effects.against(table, "qwen2", "olmoe").empty


def test_doses_stand_beside_what_the_noise_alone_would_take() -> None:
    rows = [
        {"seed": 0, "architecture": "dense", "stage": stage, "problem_id": p, "greedy": 0.9, "drop": drop + 0.01 * p}
        for stage, drop in (("continued", 0.05), ("continued-05", 0.1), ("continued-30", 0.4))
        for p in (-1, 0, 1)
    ]
    found = effects.doses(pd.DataFrame(rows)).set_index("noise")
    assert found.index.tolist() == [0.0, 0.05, 0.3]
    np.testing.assert_allclose(found["drop"], [0.05, 0.1, 0.4])
    np.testing.assert_allclose(found["alone"], [0.05, 0.05 + 0.05 * 0.9, 0.05 + 0.3 * 0.9])
    assert (found["low"] < found["drop"]).all()


def test_what_the_page_says_in_words_is_what_was_measured() -> None:
    dropped = effects.drops(outcomes()).query(effects.PLANNED)
    models = effects.robustness(dropped)
    cells = models[models["architecture"].isin(["dense", "sparse"])]
    drop = cells.groupby("stage")["drop"].agg(["min", "max"])
    noisy, clean = ["base", "continued-noisy", "instruct-noisy"], ["continued", "instruct"]
    assert drop.loc[noisy, "min"].min() > 1.5 * drop.loc[clean, "max"].max()
    assert drop.loc[noisy, "min"].min() > 0.15  # "about a fifth of all answers"
    assert drop.loc[noisy, "max"].max() < 0.27
    main = effects.effects(dropped).set_index("effect")
    assert main.loc["sparse minus dense", ["units", "equivalent"]].tolist() == [3, True]
    assert not main.loc["targets by sparsity", "equivalent"]
    other = effects.sensitivity(outcomes()).query("effect == 'sparse minus dense' and not equivalent")
    assert set(other["analysis"]) == {"in NF4", "to T = 2", "solved by all"}
    greedy = cells[cells["stage"] == "base"].pivot(index="seed", columns="architecture", values="greedy")
    assert (greedy["dense"] > greedy["sparse"]).tolist() == [True, False, False]
    curves = factorial.curves(outcomes()).query(effects.PLANNED)
    assert (curves["upper"] - curves["lower"]).max() < 0.02  # exact


def test_runs_scatter_around_the_exact_accuracy() -> None:
    decoders = [Decoder(t, stop="decided") for t in (0.0, 1.0)]
    draws = sample(*tiny("tiny-dense-continued"), paper_problems(), decoders, runs=4)
    row = effects.shown_runs(outcomes(), draws.assign(model="tiny-dense-continued")).iloc[0]
    runs = [float(accuracy) for accuracy in row["runs"].split()]
    assert len(runs) == 4
    assert float(row["exact"]) == pytest.approx(np.mean(runs), abs=4 * float(row["expected"]) / 2)


def test_tables_are_text_and_numbers_have_signs() -> None:
    table = effects.effects(synthetic(targets=0.12, sparse=-0.03, noise=0.01))
    shown = effects.shown_effects(table).set_index("effect")
    assert shown.loc["sparse minus dense", "points"].startswith("\N{MINUS SIGN}")
    assert shown.loc["noisy minus clean targets", "within 5 points"] == "not shown"
    assert effects.points(0.1, math.nan, math.nan) == "+10.0"
    models = effects.robustness(effects.drops(outcomes()).query(effects.PLANNED))
    cells = effects.shown_cells(models)
    assert len(cells) == models.groupby(["architecture", "stage"]).ngroups - models["stage"].str.contains(r"-\d").sum()
    facts = effects.numbers(models, table)
    assert facts["factorial targets"].startswith("+12")
    lone = effects.numbers(synthetic(1), effects.effects(synthetic(1, sparse=0.03)))
    assert lone["factorial sparsity"] == "+3.0 (one seed, so undecided)"
    lopsided = effects.numbers(synthetic(3).query("architecture == 'dense' or seed == 0"), table)
    assert lopsided["factorial seeds"] == "3 dense and 1 sparse and 1 wide training seeds"
    assert facts["factorial verdict"] in ("is excluded", "is undecided")
    assert len(effects.shown_measures(models)) == 3
