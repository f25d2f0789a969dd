from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from lmrel import enumerate_outcomes, factorial, paper_problems
from lmrel.registry import CHECKPOINTS
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
    found = factorial.effects(synthetic(targets=0.12, format=-0.01, sparse=0.03)).set_index("effect")
    expected = {"noisy minus clean targets": 0.12, "chat minus plain format": -0.01, "sparse minus dense": 0.03}
    for effect, row in found.iterrows():
        assert row["estimate"] == pytest.approx(expected.get(str(effect), 0.0), abs=1e-12)
    assert found["units"].tolist() == [6, 6, 6, 3, 3, 3]
    assert found["equivalent"].tolist() == [False, True, True, True, True, True]


def test_intervals_cover_as_often_as_they_say_and_the_equivalence_test_holds_its_level() -> None:
    rng = np.random.default_rng(1)
    covered = wrongly = 0
    for _ in range(2000):
        table = synthetic(sparse=factorial.MARGIN)
        table["drop"] += 0.02 * rng.standard_normal(len(table))
        row = factorial.effects(table).set_index("effect").loc["sparse minus dense"]
        covered += row["low"] < factorial.MARGIN < row["high"]
        wrongly += bool(row["equivalent"])  # the truth stands on the margin: the test's level
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)
    assert wrongly / 2000 <= 0.065


def test_one_seed_gives_estimates_without_intervals() -> None:
    found = factorial.effects(synthetic(seeds=1, sparse=0.03)).set_index("effect").loc["sparse minus dense"]
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
            "lower": value - 0.01,
            "upper": value + 0.01,
        }
        for t, values in ((0.0, (0.9, 0.7)), (1.0, (0.6, 0.4)))
        for p, value in enumerate(values)
    ]
    row = factorial.robustness(pd.DataFrame(rows)).iloc[0]
    assert row["greedy"] == pytest.approx(0.8)
    assert row["drop"] == pytest.approx(0.3)
    assert row["retained"] == pytest.approx(0.625)
    assert row["width"] == pytest.approx(0.02)
    assert expit(math.log(0.8 / 0.2) + row["slope"]) == pytest.approx(0.5)


def test_measuring_is_enumeration_in_every_precision_and_style(monkeypatch: pytest.MonkeyPatch) -> None:
    few = paper_problems().iloc[[3, 130]]
    monkeypatch.setattr(factorial, "paper_problems", lambda: few)
    found = factorial.measure(CHECKPOINTS / "tiny-dense-base", 0, (0.0, 1.0), max_nodes=50)
    assert len(found) == 2 * 3 * len(few) * 2 * 2
    assert set(found["stage"]) == {"base"}
    one = found.query("precision == 'fp32' and prompt_style == 'readme' and metric == 'correct'")
    again = enumerate_outcomes(*tiny("tiny-dense-base"), few, (0.0, 1.0), prompt_style="readme", max_nodes=50)
    expected = again[again["metric"] == "correct"]
    np.testing.assert_allclose(one["lower"], expected["lower"], atol=1e-5)
    assert one["task"].tolist() == ["variable_binding"] * 2 + ["arithmetic"] * 2


def test_a_measurement_that_stands_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def measure(folder: Path, seed: int) -> pd.DataFrame:
        made.append(folder)
        return pd.DataFrame({"seed": [seed], "stage": [folder.name]})

    monkeypatch.setattr(factorial, "measure", measure)
    for arguments in (["a/tiny-x", "b/tiny-y"], ["a/tiny-x", "c/tiny-z"]):
        monkeypatch.setattr("sys.argv", ["factorial", *arguments, "--seed", "2", "--out", str(tmp_path)])
        factorial.main()
    assert made == [Path("a/tiny-x"), Path("b/tiny-y"), Path("c/tiny-z")]
    assert factorial.measured(tmp_path)["stage"].tolist() == ["tiny-x", "tiny-y", "tiny-z"]
