from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from book.analysis import targets
from tiny import arms, factorial

DROPS = {"continued": 2.0, "rule": 2.0, "slips": 18.0, "forms": 2.0, "own": 1.0, "soft": 18.0}
DROPS |= {"base-right": 3.0, "late-slips": 18.0, "few-right": 2.0, "few-slips": 8.0, "slips-6400": 18.0}
BINDING = [f"vb-{number:03}" for number in range(120)]
RULED = targets.ruled_problems()


def table(changes: Mapping[str, float] | None = None, seeds: int = 6, noise: float = 0.5) -> pd.DataFrame:
    """Rows of `targets.levels`: models whose drops are known, the same on all problems, and noise."""
    rng = np.random.default_rng(0)
    rows = []
    stages = DROPS | dict(changes or {})
    for seed, kind, stage in itertools.product(range(seeds), ("dense", "sparse"), stages):
        if seed < 3 or stage in ("continued", "slips"):
            drop = stages[stage] + noise * rng.standard_normal()
            for task in (targets.BINDING, targets.ALL):
                row = {"seed": seed, "architecture": kind, "stage": stage, "task": task, "metric": "correct"}
                rows.append(row | {"greedy": 96.0, "hot": 96 - drop, "drop": drop, "log_odds": 1.0})
    return pd.DataFrame(rows)


def outcomes(values: Mapping[tuple[str, float], Mapping[str, float]], seed: int = 0) -> pd.DataFrame:
    """Exact outcomes in which all problems are alike: (stage, temperature) to a value of each metric."""
    rows: list[dict[str, Any]] = []
    for (stage, temperature), metrics in values.items():
        for (metric, value), name in itertools.product(metrics.items(), [*BINDING[:3], *sorted(RULED)[-3:], "ar-001"]):
            task = targets.BINDING if name.startswith("vb") else targets.ARITHMETIC
            row = {"seed": seed, "architecture": "dense", "stage": stage, "precision": "fp32"}
            row |= {"prompt_style": "few_shot", "task": task, "problem_id": name, "temperature": temperature}
            rows.append(row | {"metric": metric, "lower": value, "upper": value})
    return pd.DataFrame(rows)


def test_what_was_predicted_is_shown_and_corrected_for_the_family() -> None:
    found = targets.compare(table()).set_index("name")
    assert found["verdict"].tolist() == ["shown"] * 11
    assert found.loc["slips minus rule", "estimate"] == pytest.approx(16, abs=0.7)
    assert found.loc["slips minus right, beyond the rate", "estimate"] == pytest.approx(16 - 0.15 * 94, abs=0.7)
    assert found.loc["few pages' slips minus slips", "estimate"] == pytest.approx(-10, abs=1)
    assert found["units"].tolist() == [6] * 11
    assert found.loc["sparse minus dense, slips", "planned"] == 6
    assert (found["holm"] >= found["p"]).all()
    assert found["holm"].max() < 0.05
    assert set(targets.refuted(table(), found.reset_index()).values()) == {targets.OUT}
    assert set(targets.by_seed(table())["units"]) == {3}
    without = targets.compare(table(), without=(0,))
    assert without["units"].tolist() == [4] * 9 + [5, 5]
    assert "not run" not in set(without["verdict"])


def test_t_tests_are_those_of_scipy() -> None:
    from scipy import stats

    values = np.array([1.0, 2.5, -0.5, 1.5, 0.0, 2.0])
    within, above = targets.COMPARISONS[3], targets.COMPARISONS[1]
    one_sided = [stats.ttest_1samp(values, m, alternative=a).pvalue for m, a in ((-3, "greater"), (3, "less"))]
    assert within.p(values) == pytest.approx(max(one_sided))
    assert above.p(values) == pytest.approx(stats.ttest_1samp(values, 5, alternative="greater").pvalue)
    assert above.p(np.full(6, 9.0)) == 0


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"rule": 18.0}, "wrong answers cost although they can be predicted"),
        ({"rule": 19.0}, "random slips cost no more than slips by a rule"),
        ({"forms": 12.0}, "random forms of right answers cost"),
        ({"soft": 2.0}, "drawing costs, and the distribution alone does not"),
        ({"slips": 28.0}, "the rate of slips does not explain what they cost"),
        ({"late-slips": 4.0}, "what was learned last does not count"),
    ],
)
def test_what_would_refute_us_does(changes: Mapping[str, float], what: str) -> None:
    wrong = table(changes)
    assert targets.refuted(wrong, targets.compare(wrong))[what] == targets.TRUE


def test_an_interval_that_crosses_its_bound_rules_nothing_out() -> None:
    near = table({"slips": 21.1})
    compared = targets.compare(near)
    third = compared.set_index("number").loc[3]
    assert third["low"] < 5 < third["high"]
    assert targets.refuted(near, compared)["the rate of slips does not explain what they cost"] == targets.OPEN


def test_seeds_as_units_are_tested_as_the_same_family() -> None:
    found = targets.by_seed(table()).set_index("number")
    one = targets.COMPARISONS[1]
    seeds = one.of(table()[table()["seed"] < 3]).unstack("architecture").mean(axis=1).to_numpy()
    assert found.loc[2, "estimate"] == pytest.approx(seeds.mean())
    assert found.loc[2, "holm"] >= one.p(seeds)
    assert ((found["holm"] > 0) & (found["holm"] <= 1)).all()


def test_what_is_lost_on_problems_that_both_get_right_leaves_the_others_out() -> None:
    keys = {"seed": 0, "architecture": "dense", "metric": "correct", "task": targets.BINDING}
    chances = {
        ("a", "continued"): (1, 0.9),
        ("a", "forms"): (1, 0.5),
        ("b", "continued"): (1, 0.8),
        ("b", "forms"): (0, 0.1),
    }
    rows = [
        keys | {"problem_id": problem, "stage": stage, "temperature": t, "lower": p, "upper": p,
                "precision": "fp32", "prompt_style": "few_shot"}
        for (problem, stage), both in chances.items()
        for t, p in zip((0.0, 1.0), both, strict=True)
    ]  # fmt: skip
    found = targets.both_right(pd.DataFrame(rows), "forms", "continued")
    assert found.to_numpy() == pytest.approx([40.0])
    assert targets.both_right(pd.DataFrame(rows), "slips", "continued").empty


def test_what_was_not_run_or_failed_counts_with_p_1_and_decides_nothing() -> None:
    whole = table()
    part = whole[(whole["seed"] < 2) & ~whole["stage"].isin(["late-slips", "few-slips", "slips-6400"])]
    found = targets.compare(part)
    assert set(found["verdict"]) == {"not run"}
    assert (found[["p", "holm"]] == 1).all(axis=None)
    some = found.set_index("number")
    assert some.loc[1, "units"] == 4  # shown as far as it goes
    assert some.loc[1, "low"] < some.loc[1, "estimate"] < some.loc[1, "high"]
    assert some.loc[7, "units"] == 0
    assert set(targets.refuted(part, found).values()) == {targets.NOT_RUN}
    failed = targets.compare(whole, frozenset({"rule"})).set_index("number")
    assert failed.loc[[1, 2], "verdict"].tolist() == ["failed", "failed"]
    assert failed.loc[3, "verdict"] == "shown"
    assert failed.loc[3, "holm"] == pytest.approx(10 * failed.loc[3, "p"], rel=9)
    ways = targets.refuted(whole, failed.reset_index())
    assert ways["wrong answers cost although they can be predicted"] == targets.NOT_RUN
    alone = targets.compare(whole[(whole["seed"] == 0) & (whole["architecture"] == "dense")])
    assert alone.set_index("number").loc[1, "units"] == 1
    assert targets.compare(whole[whole["seed"] == 0], without=(0,))["units"].tolist() == [0] * 11
    assert math.isnan(alone.set_index("number").loc[1, "low"])


def test_what_is_reported_beside_the_family() -> None:
    found = targets.secondary(table()).set_index("what")
    assert found["units"].tolist() == [6, 6, 6, 6, 6, 6]
    assert found["estimate"].abs().max() < 4
    row = found.loc["soft minus right, beyond the rate"]
    assert row["low"] < row["low_90"] < row["estimate"] < row["high_90"] < row["high"]
    part = targets.secondary(table().query("stage == 'continued' and seed == 0")).set_index("what")
    assert part["units"].tolist() == [1, 1, 0, 0, 0, 0]


def test_of_sparsity_both_kinds_have_to_hold() -> None:
    whole = table()
    off = whole.assign(drop=whole["drop"] + 9 * ((whole["architecture"] == "sparse") & (whole["stage"] == "slips")))
    found = targets.compare(off).query("number == 10")
    assert found["p"].tolist()[0] < 0.001 < found["p"].tolist()[1]
    assert found["verdict"].tolist() == ["not shown", "not shown"]


def test_levels_by_task_and_what_was_taught() -> None:
    right = {"correct": 0.9}
    found = targets.levels(outcomes({("continued", 0.0): right, ("continued", 1.0): {"correct": 0.8}})).set_index(
        ["task", "metric"]
    )
    assert set(found.index) == {
        (task, metric)
        for task in ("variable_binding", "arithmetic", "all")
        for metric in ("correct", "taught", "unruled")
    }
    row = found.loc[(targets.ALL, "correct")]
    assert (row["greedy"], row["hot"]) == (pytest.approx(90), pytest.approx(80))
    assert row["log_odds"] == pytest.approx(math.log(9) - math.log(4))
    rule = outcomes({("rule", t): {"correct": 0.5, "taught": 0.9 - 0.1 * t} for t in (0.0, 1.0)})
    of_rule = targets.levels(rule).set_index(["task", "metric"])
    assert of_rule.loc[(targets.BINDING, "taught"), "drop"] == pytest.approx(10)
    assert of_rule.loc[(targets.BINDING, "correct"), "drop"] == pytest.approx(0)


def test_effective_temperature_is_where_the_base_model_retains_as_much() -> None:
    base = {("base", t): {"correct": c} for t, c in ((0.0, 0.8), (0.5, 0.6), (1.0, 0.4), (2.0, 0.2))}
    tuned = {("continued", 0.0): {"correct": 1.0}, ("continued", 1.0): {"correct": 0.875}}
    found = targets.effective_temperatures(outcomes(base | tuned))
    assert found["temperature"].tolist() == [pytest.approx(0.25)]  # 0.875 is half-way from 1 to 0.75
    none = targets.effective_temperatures(outcomes(base | {("continued", t): {"correct": 0.7} for t in (0.0, 1.0)}))
    assert none["temperature"].tolist() == [0.0]
    worse = {("slips", 0.0): {"correct": 1.0}, ("slips", 1.0): {"correct": 0.1}}
    assert targets.effective_temperatures(outcomes(base | worse))["temperature"].tolist() == [math.inf]
    assert targets.effective_temperatures(outcomes(tuned)).empty


def test_accuracy_is_compared_where_the_entropy_is_the_same() -> None:
    def at(correct: float, bits: float) -> dict[str, float]:
        return {"correct": correct, "text_entropy": bits, "tokens": 4.0, "answer_entropy": bits}

    base = {("base", 0.0): at(0.9, 0), ("base", 1.0): at(0.5, 2), ("base", 2.0): at(0.1, 6)}
    tuned = {("slips", 0.0): at(0.9, 0), ("slips", 1.0): at(0.6, 1), ("forms", 1.0): at(0.9, 7)}
    found = targets.at_the_same_entropy(outcomes(base | tuned)).set_index("stage")
    assert found.loc["slips", "difference"] == pytest.approx(100 * (0.6 - 0.7))
    assert math.isnan(found.loc["forms", "difference"])
    branching = targets.curves(outcomes(base)).set_index("temperature")
    assert branching.loc[1.0, "branching_lower"] == pytest.approx(2 ** (2 / 4))


def test_an_arm_that_did_not_learn_its_targets_fails() -> None:
    ruled = {("rule", t): {"correct": 0.1, "taught": 0.7} for t in (0.0, 1.0)}
    right = {("continued", t): {"correct": 0.9} for t in (0.0, 1.0)}
    own = {("own", t): {"correct": 0.9, "taught": 0.85} for t in (0.0, 1.0)}
    forms = {("forms", 1.0): {"correct": 0.9, "form_entropy": 2.9}, ("forms", 0.0): {"correct": 0.9}}
    said = {(0, "dense", "few-slips"): {"measured": {"reproduced": 9, "slips on the pages": 10}}}
    found = targets.gates(outcomes(ruled | right | own | forms), said).set_index("what")
    assert found["passed"].tolist() == [False, True, True, True, True]
    assert found["value"].tolist() == pytest.approx([0.7, 80, 2.9, 0.9, 0.85])
    empty = targets.gates(outcomes(right), {})
    assert empty["passed"].tolist() == [None] * 5


def test_the_measured_files_are_those_of_the_plan_and_whole() -> None:
    planned = {(seed, *name.split("-", 2)[1:]) for seed, name in arms.ORDER}
    stored = factorial.measured(arms.DATA)
    said = targets.noted()
    assert set(said) == set(stored[targets.MODEL].drop_duplicates().itertuples(index=False, name=None)) <= planned
    for model, about in said.items():
        assert "measured" in about, model
    assert set(stored["metric"]) >= {"correct", *targets.ENTROPIES}
    targets.compare(targets.levels(stored))
