from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit

from lmrel import Decoder, InputError, paper_problems, sample
from lmrel.stats import contrasts
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


def test_a_paired_difference_is_of_the_problems_in_both() -> None:
    first = pd.DataFrame({"problem_id": ["a", "a", "b"], "correct": [1, 0, 1]})
    second = pd.DataFrame({"problem_id": ["a", "c"], "correct": [1, 1]})
    assert contrasts.paired(first, second).tolist() == [0.5]
    with pytest.raises(InputError, match="no problem in common"):
        contrasts.paired(first, second.assign(problem_id="z"))


def test_the_bootstrap_interval_covers_at_its_level() -> None:
    rng, hits = np.random.default_rng(0), 0
    for i in range(300):
        low, high = contrasts.bootstrap_interval(rng.binomial(4, 0.3, 80) / 4, seed=i)[1:]
        hits += low <= 0.3 <= high
    assert 0.91 <= hits / 300 <= 0.98
    assert contrasts.bootstrap_interval(np.ones(5)) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("runs", [1, 4])
def test_the_paired_test_and_the_trend_hold_their_level(runs: int) -> None:
    rng, paired, trends, studies = np.random.default_rng(runs), 0, 0, 250
    for _ in range(studies):
        draws = study(rng, runs=runs)
        difference = contrasts.paired(at(draws, 0.0), at(draws, 1.0))
        paired += stats.ttest_1samp(difference, 0.0).pvalue < 0.05
        trends += contrasts.trend(draws)["p"] < 0.05
    for found in (paired, trends):
        assert 0.015 <= found / studies <= 0.095  # 0.05 within three standard errors, and a little for 60 clusters


def test_the_trend_is_the_population_averaged_slope() -> None:
    rng = np.random.default_rng(8)
    found = contrasts.trend(study(rng, slope=-1.2, problems=3000, spread=0.0))
    assert found["slope"] == pytest.approx(-1.2, abs=0.12)
    assert found["low"] < -1.2 < found["high"]
    assert found["p"] < 1e-6
    # With problems of different difficulty the averaged slope is flatter than each problem's own.
    flat = contrasts.trend(study(rng, slope=-1.2, problems=3000, spread=2.0))["slope"]
    assert -1.0 < flat < -0.4


def test_what_never_varies_has_no_trend() -> None:
    with pytest.raises(InputError, match="correct never varies, so nothing"):
        contrasts.trend(study(np.random.default_rng(0)).assign(correct=True))


@pytest.mark.parametrize(("between", "of_problems"), [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
def test_the_crossed_interval_covers_when_units_and_problems_are_drawn_anew(between: float, of_problems: float) -> None:
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(2000):
        units, problems = between * rng.normal(size=(6, 1)), 4 * of_problems * rng.normal(size=(1, 60))
        _, low, high = contrasts.crossed(0.7 + units + problems + rng.normal(size=(6, 60)))
        covered.append(low < 0.7 < high)
    assert 0.93 <= np.mean(covered) <= 0.985


def test_a_single_unit_leaves_the_problems() -> None:
    values = np.random.default_rng(0).normal(size=(1, 30))
    test = stats.ttest_1samp(values[0], 0).confidence_interval(0.95)
    assert contrasts.crossed(values) == pytest.approx((values.mean(), test.low, test.high))
    assert contrasts.crossed(np.full((3, 4), 0.2)) == pytest.approx((0.2, 0.2, 0.2))


def test_equivalence_holds_its_level_at_the_margin_and_is_found_where_it_is() -> None:
    rng = np.random.default_rng(4)
    wrongly = sum(contrasts.equivalence(rng.normal(0.05, 0.2, 240), 0.05)["equivalent"] for _ in range(2000))
    assert wrongly / 2000 == pytest.approx(0.05, abs=0.015)
    rightly = sum(contrasts.equivalence(rng.normal(0.0, 0.2, 240), 0.05)["equivalent"] for _ in range(300))
    assert rightly / 300 > 0.95


def test_equivalence_agrees_with_its_interval_and_with_statsmodels() -> None:
    from statsmodels.stats.weightstats import DescrStatsW

    rng = np.random.default_rng(5)
    for mean in (-0.04, 0.0, 0.03, 0.08):
        values = rng.normal(mean, 0.2, 100)
        found = contrasts.equivalence(values, 0.05)
        assert found["p"] == pytest.approx(DescrStatsW(values).ttost_mean(-0.05, 0.05)[0])
        assert found["equivalent"] == (max(-found["low"], found["high"]) < 0.05)
    assert contrasts.equivalence(np.zeros(10), 0.05)["equivalent"]
    assert not contrasts.equivalence(np.full(10, 0.05), 0.05)["equivalent"]


def test_common_random_numbers_spare_variance_and_independent_draws_none() -> None:
    rng = np.random.default_rng(6)
    independent = contrasts.variance_reduction(study(rng, problems=2000), 0.5, 1.0)
    assert independent["common_numbers"] == pytest.approx(0.0, abs=0.05)
    assert independent["same_problems"] > 0.3
    model, tokenizer = tiny("tiny-dense-base")
    draws = sample(model, tokenizer, paper_problems(), [Decoder(0.5), Decoder(1.0)], runs=4)
    assert contrasts.variance_reduction(draws, 0.5, 1.0)["common_numbers"] > 0.2


def test_holm_by_hand() -> None:
    assert contrasts.holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_power_is_what_simulated_studies_show() -> None:
    rng, change, problems, runs = np.random.default_rng(7), -0.06, 240, 4
    ease = rng.normal(0.3, 1.5, 200_000)
    before = expit(ease)
    after = expit(ease + logit(0.5) - 0.42)
    between, sampling = float(np.var(after - before)), float(np.mean(before * (1 - before) + after * (1 - after)))
    change = float(np.mean(after - before))
    found = 0
    for _ in range(1000):
        some = rng.choice(len(ease), problems, replace=False)
        x, y = (rng.binomial(runs, p[some]) / runs for p in (before, after))
        found += stats.ttest_1samp(y - x, 0.0).pvalue < 0.05
    assert contrasts.power(change, problems, runs, between, sampling) == pytest.approx(found / 1000, abs=0.05)


def test_the_number_of_problems_that_is_needed_has_that_power() -> None:
    needed = contrasts.problems_needed(-0.03, 4, 0.01, 0.35)
    assert contrasts.power(-0.03, needed, 4, 0.01, 0.35) >= 0.8 > contrasts.power(-0.03, needed - 10, 4, 0.01, 0.35)
    assert contrasts.problems_needed(0.03, 16, 0.01, 0.35) < needed
    with pytest.raises(InputError, match="change is 0; it must be"):
        contrasts.problems_needed(0, 4, 0.01, 0.35)


def test_a_study_beyond_all_bounds_has_no_power() -> None:
    with pytest.raises(InputError, match="problems is a number of thousands of digits; it must be at most"):
        contrasts.power(0.1, 10**5000, 4, 0.1, 0.1)
    with pytest.raises(InputError, match="runs is a number of thousands of digits; it must be at most"):
        contrasts.power(0.1, 240, 10**5000, 0.1, 0.1)
    with pytest.raises(InputError, match="change is 1e-300; it must be a difference of at least 1e-09"):
        contrasts.problems_needed(1e-300, 4, 0.1, 0.1)
