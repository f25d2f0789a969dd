from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from book.analysis import design
from lmrel import InputError


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
    assert design.power(change, problems, runs, between, sampling) == pytest.approx(found / 1000, abs=0.05)


def test_the_number_of_problems_that_is_needed_has_that_power() -> None:
    needed = design.problems_needed(-0.03, 4, 0.01, 0.35)
    assert design.power(-0.03, needed, 4, 0.01, 0.35) >= 0.8 > design.power(-0.03, needed - 10, 4, 0.01, 0.35)
    assert design.problems_needed(0.03, 16, 0.01, 0.35) < needed
    with pytest.raises(InputError, match="change is 0; it must be"):
        design.problems_needed(0, 4, 0.01, 0.35)


def test_a_study_beyond_all_bounds_has_no_power() -> None:
    with pytest.raises(InputError, match="problems is a number of thousands of digits; it must be an integer"):
        design.power(0.1, 10**5000, 4, 0.1, 0.1)
    with pytest.raises(InputError, match="runs is a number of thousands of digits; it must be an integer"):
        design.power(0.1, 240, 10**5000, 0.1, 0.1)
    with pytest.raises(InputError, match="change is 1e-300; it must be a difference of at least 1e-09"):
        design.problems_needed(1e-300, 4, 0.1, 0.1)
