from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from scipy.special import expit

from book.analysis import effects
from tiny import factorial
from tiny.shapes import ARCHITECTURES

PAIR = ("qwen2", "olmoe")


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
    assert found["units"].tolist() == [3, 6, 6, 3, 3, 3, 3]
    assert found["equivalent"].tolist() == [False, False, True, True, True, True, True]
    of_seeds = effects.effects(synthetic(targets=0.12, noise=0.01), unit="seed").set_index("effect")
    of_bases = effects.effects(synthetic(targets=0.12, noise=0.01)).set_index("effect")
    assert of_seeds["units"].tolist() == 7 * [3]
    np.testing.assert_allclose(of_seeds["estimate"], of_bases["estimate"])


def test_intervals_cover_as_often_as_they_say_and_the_equivalence_test_holds_its_level() -> None:
    rng = np.random.default_rng(1)
    covered = wrongly = 0
    for _ in range(1000):
        table = synthetic(sparse=effects.MARGIN)
        table["drop"] += 0.02 * rng.standard_normal(len(table))
        row = effects.effects(table).set_index("effect").loc["sparse minus dense"]
        covered += row["low"] < effects.MARGIN < row["high"]
        wrongly += bool(row["equivalent"])  # the truth stands on the margin: the test's level
    assert covered / 1000 == pytest.approx(0.95, abs=0.02)
    assert wrongly / 1000 <= 0.07


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
    assert found["units"].tolist() == [3, 6, 6, 3, 3, 3, 3]


def outcomes() -> pd.DataFrame:
    return factorial.measured()


def test_the_analyses_are_what_their_names_say() -> None:
    every, found = outcomes(), effects.sensitivity(outcomes()).set_index(["analysis", "effect"])["estimate"]
    assert found.index.get_level_values("analysis").nunique() == 11
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
    base = by_problem(seeds=1).query("stage == 'instruct'").assign(stage="base")
    table = pd.concat([by_problem(seeds=1, sparse=0.03, targets=0.1).query("stage in @factorial.TUNED"), base])
    table["drop"] += 0.02 * (table["architecture"] == "sparse") * np.where(table["problem_id"] < 20, 1, -1)
    found = effects.between_architectures(table, "dense", "sparse").set_index("stage")
    assert found.index.tolist() == [*factorial.CELLS, effects.TUNED_MEAN]
    np.testing.assert_allclose(found["difference"], [0] + 5 * [0.03], atol=1e-9)
    half = scipy.stats.t.ppf(0.975, 39) * 0.02 * math.sqrt(40 / 39) / math.sqrt(40)  # 40 problems, 20 up and 20 down
    np.testing.assert_allclose(found["high"] - found["difference"], half, atol=1e-9)
    np.testing.assert_allclose(found["difference"] - found["low"], half, atol=1e-9)


def test_within_an_architecture_effects_are_those_of_its_own_models() -> None:
    dense = by_problem(seeds=1, targets=0.12, format=-0.01).query("architecture == 'dense'")
    other = by_problem(seeds=1, targets=0.02).query("architecture == 'sparse'").assign(architecture="qwen2")
    found = effects.within_architecture(pd.concat([dense, other]))
    assert found["architecture"].tolist() == ["dense", "dense", "qwen2", "qwen2"]
    assert found["effect"].tolist() == 2 * list(effects.MAIN[:2])
    np.testing.assert_allclose(found["estimate"], [0.12, -0.01, 0.02, 0.0], atol=1e-9)
    assert (found["low"] <= found["high"]).all()


def test_doses_stand_beside_what_the_noise_alone_would_take() -> None:
    rows = [
        {"seed": 0, "architecture": "dense", "stage": stage, "problem_id": p, "hot": 0.85, "drop": drop + 0.01 * p}
        for stage, drop in (("continued", 0.05), ("continued-05", 0.1), ("continued-30", 0.4))
        for p in (-1, 0, 1)
    ]
    found = effects.doses(pd.DataFrame(rows)).set_index("noise")
    assert found.index.tolist() == [0.0, 0.05, 0.3]
    np.testing.assert_allclose(found["drop"], [0.05, 0.1, 0.4])
    np.testing.assert_allclose(found["alone"], [0.05, 0.05 + 0.05 * 0.85, 0.05 + 0.3 * 0.85])
    np.testing.assert_allclose(found["rest"], found["drop"] - found["alone"], atol=1e-12)
    np.testing.assert_allclose(found["rest_high"], found["rest"], atol=1e-12)  # every problem shows the same
    assert (found["low"] < found["drop"]).all()


def test_sparsity_is_taken_apart_by_targets_and_seed() -> None:
    models = synthetic(sparse=0.03)
    noisy = models["stage"].str.endswith("noisy") & (models["architecture"] == "sparse")
    models.loc[noisy & (models["seed"] == 1), "drop"] += 0.2
    base = [{"seed": s, "architecture": a, "stage": "base", "drop": 0.2} for s in range(3) for a in ("dense", "sparse")]
    found = effects.sparsity(pd.concat([models.query("stage != 'base'"), pd.DataFrame(base)])).set_index("stages")
    np.testing.assert_allclose(found.loc["clean targets", [0, 1, 2]].astype(float), 0.03, atol=1e-12)
    np.testing.assert_allclose(found.loc["noisy targets", [0, 1, 2]].astype(float), [0.03, 0.23, 0.03], atol=1e-12)
    np.testing.assert_allclose(found.loc[effects.TUNED_MEAN, [0, 1, 2]].astype(float), [0.03, 0.13, 0.03], atol=1e-12)
    assert found["equivalent"].tolist() == [True, True, False, False]


def test_what_noise_costs_beyond_its_rate_is_nothing_for_a_model_that_only_reproduces_it() -> None:
    table = by_problem()
    noisy, clean = table["stage"].str.endswith("noisy"), 0.8 + 0.1 * table["hard"]
    table = table.assign(hot=clean * np.where(noisy, 1 - effects.RATE, 1))
    found = effects.beyond_rate(table.assign(drop=1 - table["hot"]))
    assert found["estimate"] == pytest.approx(0, abs=1e-12)
    assert found["alone"] == pytest.approx(effects.RATE * 0.8)
    more = effects.beyond_rate(table.assign(drop=1 - table["hot"] + 0.03 * noisy))
    assert more["estimate"] == pytest.approx(0.03)


def test_the_planned_tests_are_corrected_as_a_family() -> None:
    table = synthetic(targets=0.12, noise=0.01)
    found = effects.effects(table).set_index("effect")
    raw = [*found.loc[list(effects.MAIN[:2]), "p"], found.loc[effects.MAIN[2], "p_equivalent"]]
    for rank, (place, adjusted) in enumerate(sorted(zip(raw, effects.planned_tests(table).values(), strict=True))):
        assert adjusted >= min(1.0, (3 - rank) * place) - 1e-12
    wide = table[table["architecture"].isin(["dense", "sparse"]) & (table["stage"] != "base")]
    wide = wide.pivot(index=["seed", "architecture"], columns="stage", values="drop")
    style = (wide["instruct"] + wide["instruct-noisy"] - wide["continued"] - wide["continued-noisy"]) / 2
    assert raw[1] == pytest.approx(scipy.stats.ttest_1samp(style, 0).pvalue)


def page() -> tuple[pd.DataFrame, pd.DataFrame]:
    dropped = effects.drops(outcomes()).query(effects.PLANNED)
    return dropped, effects.robustness(dropped)


def test_what_the_page_says_of_the_drops_is_what_was_measured() -> None:
    _, models = page()
    cells = effects.planned_cells(models)
    drop = cells.groupby("stage")["drop"].agg(["min", "max"])
    noisy, clean = ["base", "continued-noisy", "instruct-noisy"], ["continued", "instruct"]
    assert drop.loc[noisy, "min"].min() > 1.5 * drop.loc[clean, "max"].max()
    assert drop.loc[noisy, "min"].min() > 0.15  # "about a fifth of all answers"
    assert drop.loc[noisy, "max"].max() < 0.27
    greedy = cells[cells["stage"] == "base"].pivot(index="seed", columns="architecture", values="greedy")
    assert (greedy["dense"] > greedy["sparse"]).tolist() == [True, False, False]
    steep = cells[cells["stage"].isin(noisy)]
    assert steep["slope"].corr(steep["greedy"]) < -0.9
    curves = factorial.curves(outcomes()).query(effects.PLANNED)
    assert (curves["upper"] - curves["lower"]).max() < 0.02  # exact


def test_what_the_page_says_of_levels_is_what_was_measured() -> None:
    dropped, models = page()
    found = effects.levels(dropped).set_index(["task", "targets"])
    clean = found.loc[("all", "clean")]
    assert clean["drop"] > effects.MARGIN
    assert clean["low"] < effects.MARGIN  # "not shown, and probably untrue"
    assert found.loc[("variable_binding", "clean"), "high"] < 0.03  # "about 2 points"
    assert 0.11 < found.loc[("arithmetic", "clean"), "drop"] < 0.14  # "about 12"
    assert (found.loc["variable_binding", "greedy"] > 0.9).all()  # "which all models learned"
    greedy = effects.robustness(dropped.query("task == 'arithmetic'"))
    lowest, highest = effects.planned_cells(greedy)["greedy"].agg(["min", "max"])
    assert lowest < 0.5 < 0.95 < highest  # "which only some did"
    assert effects.planned_cells(effects.robustness(dropped.query(effects.BINDING)))["greedy"].min() > 0.85
    tests = effects.planned_tests(dropped)
    assert [p < 0.05 for p in tests.values()] == [True, False, True]
    beyond = effects.beyond_rate(dropped)
    assert beyond["crossed_low"] > 0
    assert beyond["alone"] > 0.7 * effects.effects(models).set_index("effect").loc[effects.MAIN[0], "estimate"]


def test_what_the_page_says_of_sparsity_is_what_was_measured() -> None:
    dropped, models = page()
    binding = effects.sparsity(effects.robustness(dropped.query(effects.BINDING)))
    assert binding["equivalent"].tolist() == [True, True, True, True]
    by_kind = effects.sparsity(models).set_index("stages").loc[["clean targets", "noisy targets"], [0, 1, 2]]
    assert np.corrcoef(by_kind.astype(float))[0, 1] < -0.8  # "the two cancel"
    assert (
        2 * effects.levels(dropped).set_index(["task", "targets"])["drop"]["variable_binding", "clean"] < effects.MARGIN
    )
    assert effects.sparsity(models)["equivalent"].tolist() == [False, False, False, True]
    signs = np.sign(effects.sparsity(models).set_index("stages").loc["clean targets", [0, 1, 2]].astype(float))
    assert set(signs) == {-1, 1}
    for value, wide in (("retained", 0.1), ("slope", 0.7)):
        row = effects.effects(models, value).set_index("effect").loc[effects.MAIN[2]]
        assert row["low"] < -wide  # and with the log-odds, wider than the effect of targets
        assert row["high"] > wide
    other = effects.sensitivity(outcomes()).query("effect == 'sparse minus dense' and not equivalent")
    assert set(other["analysis"]) == {"in NF4", "to T = 2", "solved by all"}
    first, last = (
        effects.between_architectures(dropped[dropped["seed"] == s], "dense", "sparse").set_index("stage")
        for s in (0, 2)
    )
    assert first.loc["continued", "low"] > 0 > last.loc["continued", "difference"]


def test_what_the_page_says_of_the_format_is_what_was_measured() -> None:
    found = effects.sensitivity(outcomes()).query("effect == @effects.MAIN[1]").set_index("analysis")
    assert found.drop("strict accuracy")["estimate"].abs().max() < 0.03
    assert found.loc["as planned", "estimate"] < 0 < found.loc["solved by all", "low"]
    assert not found.loc["arithmetic", "equivalent"]
    for column in ("greedy", "hot"):
        row = effects.effects(page()[0], column).set_index("effect").loc[effects.MAIN[1]]
        assert row["crossed_high"] < 0
        assert row["estimate"] == pytest.approx(-0.04, abs=0.01)  # "some 4 points worse"
    noise = effects.effects(page()[0], "greedy").set_index("effect").loc[effects.MAIN[0]]
    assert noise["low"] < 0 < noise["high"]


def test_what_the_page_says_of_the_dose_and_of_four_bits_is_what_was_measured() -> None:
    dropped, _ = page()
    dose = effects.doses(dropped).set_index("noise")
    assert (dose["rest_low"] > 0).tolist() == [False, False, True, True]
    assert dose["drop"].is_monotonic_increasing
    assert (dose["rest"] < 0.5 * (dose["drop"] - dose["drop"].iloc[0])).iloc[1:].all()  # "most of it is the rate"
    every = effects.drops(outcomes()).query("metric == 'correct' and prompt_style == 'few_shot'")
    found = effects.effects(effects.quantized(every)).set_index("effect")
    assert found.loc["mean of the cells", "estimate"] < 0
    assert found.loc[effects.MAIN[0], ["crossed_low", "crossed_high"]].abs().max() < 0.03
    means = effects.planned_cells(every).groupby("precision")["greedy"].mean()
    assert means["nf4"] < means["fp32"] - 0.05


def test_what_the_page_says_of_other_architectures_is_what_was_measured() -> None:
    dropped, models = page()
    found = effects.within_architecture(dropped[dropped["seed"] == 0]).set_index(["architecture", "effect"])
    for kind in ARCHITECTURES:
        assert found.loc[(kind, effects.MAIN[0]), "low"] > 3 * abs(found.loc[(kind, effects.MAIN[1]), "estimate"])
    wide, family = (
        effects.between_architectures(dropped[dropped["seed"] == 0], *p).iloc[-1] for p in (("wide", "sparse"), PAIR)
    )
    assert max(abs(wide["low"]), wide["high"]) < effects.MARGIN
    assert 0 < family["low"] < effects.MARGIN < family["high"]
    cells = models[models["architecture"].isin(PAIR)].pivot(index="stage", columns="architecture")
    assert (cells["greedy"]["olmoe"] > cells["greedy"]["qwen2"] + 0.1).all()
    assert (cells["retained"]["olmoe"] - cells["retained"]["qwen2"]).abs().max() < 0.03


@pytest.mark.parametrize(("between", "of_problems"), [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
def test_the_crossed_interval_covers_when_units_and_problems_are_drawn_anew(between: float, of_problems: float) -> None:
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(2000):
        units, problems = between * rng.normal(size=(6, 1)), 4 * of_problems * rng.normal(size=(1, 60))
        _, low, high = effects.crossed(0.7 + units + problems + rng.normal(size=(6, 60)))
        covered.append(low < 0.7 < high)
    assert 0.93 <= np.mean(covered) <= 0.985


def test_a_single_unit_leaves_the_problems() -> None:
    values = np.random.default_rng(0).normal(size=(1, 30))
    test = scipy.stats.ttest_1samp(values[0], 0).confidence_interval(0.95)
    assert effects.crossed(values) == pytest.approx((values.mean(), test.low, test.high))
    assert effects.crossed(np.full((3, 4), 0.2)) == pytest.approx((0.2, 0.2, 0.2))
