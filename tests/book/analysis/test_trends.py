from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

from book.analysis import trends
from lmrel import Decoder, InputError, paper_problems, sample
from lmrel.stats.contrasts import paired
from tests.conftest import tiny


def study(
    rng: np.random.Generator, slope: float = 0.0, problems: int = 60, runs: int = 4, spread: float = 1.5
) -> pd.DataFrame:
    """Draws at four temperatures, problems of different difficulty, log-odds that fall by `-slope` per unit."""
    rows = []
    ease = rng.normal(0.3, spread, problems)
    for temperature in (0.0, 0.1, 0.5, 1.0):
        p = expit(ease + slope * temperature)
        for run in range(runs):
            correct = rng.random(problems) < p
            columns = {"temperature": temperature, "problem_id": np.arange(problems), "run": run, "correct": correct}
            rows.append(pd.DataFrame(columns))
    return pd.concat(rows, ignore_index=True)


def at(draws: pd.DataFrame, temperature: float) -> pd.DataFrame:
    return draws[draws["temperature"] == temperature]


@pytest.mark.parametrize("runs", [1, 4])
def test_the_paired_test_and_the_trend_hold_their_level(runs: int) -> None:
    rng, differ, slope, studies = np.random.default_rng(runs), 0, 0, 250
    for _ in range(studies):
        draws = study(rng, runs=runs)
        difference = paired(at(draws, 0.0), at(draws, 1.0))
        differ += stats.ttest_1samp(difference, 0.0).pvalue < 0.05
        slope += trends.trend(draws)["p"] < 0.05
    for found in (differ, slope):
        assert 0.015 <= found / studies <= 0.095  # 0.05 within three standard errors, and a little for 60 clusters


def test_the_trend_is_the_population_averaged_slope() -> None:
    rng = np.random.default_rng(8)
    found = trends.trend(study(rng, slope=-1.2, problems=3000, spread=0.0))
    assert found["slope"] == pytest.approx(-1.2, abs=0.12)
    assert found["low"] < -1.2 < found["high"]
    assert found["p"] < 1e-6
    # With problems of different difficulty the averaged slope is flatter than each problem's own.
    flat = trends.trend(study(rng, slope=-1.2, problems=3000, spread=2.0))["slope"]
    assert -1.0 < flat < -0.4


def test_the_mean_is_tested_as_by_scipy_over_clusters_and_by_signs_where_nothing_varies() -> None:
    values = np.random.default_rng(3).normal(0.3, 1.0, 20)
    names = [f"p{i}" for i in range(20)]
    differences = pd.Series(values, index=pd.Index(names, name="problem_id"))
    assert trends.mean_test(differences) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)
    halves = pd.MultiIndex.from_arrays([names, [f"c{i // 2}" for i in range(20)]], names=["problem_id", "cluster"])
    clustered = trends.mean_test(pd.Series(values, index=halves))
    assert clustered == pytest.approx(stats.ttest_1samp(values.reshape(10, 2).mean(axis=1), 0.0).pvalue)
    assert trends.mean_test(differences * 0) == 1.0
    assert trends.mean_test(differences[:5] * 0 + 0.5) == 2 / 2**5


def test_what_never_varies_has_no_trend() -> None:
    with pytest.raises(InputError, match="correct never varies, so nothing"):
        trends.trend(study(np.random.default_rng(0)).assign(correct=True))


def test_common_random_numbers_spare_variance_and_independent_draws_none() -> None:
    rng = np.random.default_rng(6)
    independent = trends.variance_reduction(study(rng, problems=2000), 0.5, 1.0)
    assert independent["common_numbers"] == pytest.approx(0.0, abs=0.05)
    assert independent["same_problems"] > 0.3
    model, tokenizer = tiny("tiny-dense-base")
    draws = sample(model, tokenizer, paper_problems(), [Decoder(0.5), Decoder(1.0)], runs=4)
    assert trends.variance_reduction(draws, 0.5, 1.0)["common_numbers"] > 0.2


def test_holm_by_hand() -> None:
    assert trends.holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_the_bootstrap_interval_covers_at_its_level() -> None:
    rng, hits = np.random.default_rng(0), 0
    for i in range(300):
        low, high = trends.bootstrap_interval(rng.binomial(4, 0.3, 80) / 4, seed=i)[1:]
        hits += low <= 0.3 <= high
    assert 0.91 <= hits / 300 <= 0.98
    assert trends.bootstrap_interval(np.ones(5)) == (1.0, 1.0, 1.0)
