from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit

from lmrel import InputError
from lmrel.stats import contrasts, design


def drawn(chances: np.ndarray, temperature: float, uniform: np.ndarray) -> pd.DataFrame:
    """Draws of each problem, right where its run's number in `uniform` (problems, runs) is below its chance."""
    problems, runs = uniform.shape
    names = [f"p{i}" for i in range(problems)]
    table = {"problem_id": np.repeat(names, runs), "run": np.tile(range(runs), problems)}
    return pd.DataFrame(table | {"temperature": temperature, "correct": (uniform < chances[:, None]).ravel()})


def two_models(rng: np.random.Generator, problems: int) -> list[np.ndarray]:
    """Chances of two models at two temperatures; those of the first at the lower are certain, as of greedy decoding."""
    ease = rng.normal(0.3, 1.5, problems)
    greedy = (rng.random(problems) < expit(ease)).astype(float)
    return [greedy, expit(ease - 0.6), expit(ease + rng.normal(0.0, 0.5, problems)), expit(ease - 0.2)]


def test_power_is_what_simulated_studies_show() -> None:
    rng, problems, runs = np.random.default_rng(7), 240, 4
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


def test_power_of_a_difference_of_drops_is_what_simulated_studies_of_two_models_show() -> None:
    rng, problems, runs = np.random.default_rng(8), 300, 5
    cold_a, hot_a, cold_b, hot_b = chances = two_models(rng, 100_000)
    differences = cold_a - hot_a - (cold_b - hot_b)
    sampling = sum(float(np.mean(p * (1 - p))) for p in chances)
    given = {"between": float(differences.var()), "sampling": sampling}
    found = 0
    for _ in range(1000):
        some = rng.choice(100_000, problems, replace=False)
        shares = [rng.binomial(runs, p[some]) / runs for p in chances]
        found += stats.ttest_1samp(shares[0] - shares[1] - shares[2] + shares[3], 0.0).pvalue < 0.05
    assert 0.2 < found / 1000 < 0.98
    assert design.power(float(differences.mean()), problems, runs, **given) == pytest.approx(found / 1000, abs=0.05)


def test_the_number_of_problems_that_is_needed_has_that_power() -> None:
    needed = design.problems_needed(-0.03, 4, 0.01, 0.35)
    assert design.power(-0.03, needed, 4, 0.01, 0.35) >= 0.8 > design.power(-0.03, needed - 10, 4, 0.01, 0.35)
    assert design.problems_needed(0.03, 16, 0.01, 0.35) < needed
    with pytest.raises(InputError, match="size is 0; it must be"):
        design.problems_needed(0, 4, 0.01, 0.35)


def test_equivalence_is_shown_as_often_as_said_with_the_problems_that_it_needs() -> None:
    rng = np.random.default_rng(9)
    needed = design.problems_needed(0.05, 4, 0.02, 0.4, equivalence=True)
    values = rng.normal(0.0, math.sqrt(0.02 + 0.4 / 4), (2000, needed))
    shown = sum(contrasts.equivalence(row, 0.05)["equivalent"] for row in values)
    assert shown / 2000 == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("equivalence", [False, True])
def test_runs_that_are_needed_are_the_fewest_with_which_the_problems_suffice(equivalence: bool) -> None:
    given: dict[str, Any] = dict(between=0.02, sampling=0.4, equivalence=equivalence)
    runs = design.runs_needed(0.05, 150, **given)
    assert runs is not None
    assert design.problems_needed(0.05, runs, **given) <= 150 < design.problems_needed(0.05, runs - 1, **given)
    floor = design.problems_needed(0.05, math.inf, **given)
    assert design.runs_needed(0.05, floor - 1, **given) is None
    assert design.runs_needed(0.05, floor + 1, **given) is not None


def test_variances_find_the_truth_whether_models_share_random_numbers_or_not() -> None:
    rng, problems, runs = np.random.default_rng(10), 6000, 4
    chances = two_models(rng, problems)
    between = (chances[0] - chances[1] - chances[2] + chances[3]).var()
    uniform = rng.random((problems, runs))
    shared = [uniform[:, :1], uniform, uniform, uniform]
    own = [rng.random((problems, 1)), *(rng.random((problems, runs)) for _ in range(3))]
    independent = sum(float(np.mean(p * (1 - p))) for p in chances)
    for numbers, sampling in ((own, independent), (shared, None)):
        sides = [drawn(p, t, u) for p, t, u in zip(chances, (0.0, 1.0, 0.5, 1.0), numbers, strict=True)]
        found = design.variances([(sides[0], sides[1]), (sides[2], sides[3])])
        assert found["between"] == pytest.approx(between, abs=0.01)
        if sampling is not None:
            assert found["sampling"] == pytest.approx(sampling, rel=0.05)
        else:
            assert found["sampling"] < 0.8 * independent


def test_variances_of_one_drop_add_up_to_that_of_its_differences_and_take_unequal_runs() -> None:
    rng, p = np.random.default_rng(11), np.random.default_rng(12).random(500)
    cold, hot = drawn(np.round(p), 0.0, rng.random((500, 1))), drawn(p**2, 1.0, rng.random((500, 4)))
    found = design.variances([(cold, hot)])
    total = contrasts.paired(cold, hot).var(ddof=1)
    assert found["between"] + found["sampling"] / 4 == pytest.approx(total)
    more = drawn(p**2, 1.0, rng.random((500, 8)))
    both = design.variances([(cold, hot), (cold, more)])
    of_means = [side.groupby("problem_id")["correct"].var(ddof=1).mean() / n for side, n in ((hot, 4), (more, 8))]
    assert both["sampling"] == pytest.approx(4 * sum(of_means), rel=0.1)  # but for chance covariances of runs 0 to 3


def test_single_draws_that_were_sampled_have_no_variance_to_estimate() -> None:
    rng, p = np.random.default_rng(13), np.full(20, 0.5)
    cold, hot = drawn(p.round(), 0.0, rng.random((20, 1))), drawn(p, 1.0, rng.random((20, 1)))
    assert math.isnan(design.variances([(cold, hot)])["sampling"])
    with pytest.raises(InputError, match="sampling is nan; it must be a number"):
        design.power(0.1, 240, 4, 0.1, math.nan)


def test_a_study_beyond_all_bounds_has_no_power() -> None:
    with pytest.raises(InputError, match="problems is a number of thousands of digits; it must be an integer"):
        design.power(0.1, 10**5000, 4, 0.1, 0.1)
    with pytest.raises(InputError, match="runs is a number of thousands of digits; it must be an integer"):
        design.power(0.1, 240, 10**5000, 0.1, 0.1)
    with pytest.raises(InputError, match="size is 1e-300; it must be a difference of at least 1e-09"):
        design.problems_needed(1e-300, 4, 0.1, 0.1)


def test_the_smallest_size_is_found_or_shown_with_just_the_chance_that_was_asked() -> None:
    size = design.smallest(300, 4, 0.01, 0.35)
    assert design.power(size, 300, 4, 0.01, 0.35) == pytest.approx(0.8, abs=1e-4)
    assert design.problems_needed(size * 1.0001, 4, 0.01, 0.35) == 300
    shown = design.smallest(300, 4, 0.0, 0.35, equivalence=True, chance=0.9)
    assert design.problems_needed(shown * 1.0001, 4, 0.0, 0.35, equivalence=True, chance=0.9) == 300
    assert design.smallest(300, math.inf, 0.01, 0.35) == pytest.approx(design.smallest(300, 1, 0.01, 0.0))
    with pytest.raises(InputError, match="neither problems nor draws vary"):
        design.smallest(300, 4, 0.0, 0.0)


@pytest.mark.parametrize(("problems", "runs"), [(60, 1), (100, 4)])
@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_a_gate_fails_as_often_as_simulated_evaluations_do(problems: int, runs: int, loss: float) -> None:
    """Each share is of 20,000 evaluations, so by chance alone it is off by 0.014 once in 20,000 times."""
    rng = np.random.default_rng(11)
    ease = rng.beta(2.0, 2.0, (20_000, problems)) * (1 - loss) + loss  # so that no chance falls below 0
    fixed, again = ease[0], rng.permuted(ease.ravel()).reshape(ease.shape)
    for before, after, between in [
        (np.broadcast_to(fixed, ease.shape),) * 2 + (0.0,),
        (ease, again, 2 * float(ease.var())),
    ]:
        sampling = float(np.mean(before * (1 - before) + (after - loss) * (1 - after + loss)))
        right = [rng.binomial(runs, chances).sum(axis=1) for chances in (before, after - loss)]
        for percent in (1, 2, 5, 10):
            # In whole draws, as a share of 0.07 is not just 7 of 100.
            found = float(np.mean(100 * (right[0] - right[1]) > percent * problems * runs))
            said = design.gate(percent / 100, problems, runs, between, sampling, loss)
            assert said == pytest.approx(found, abs=0.015)


def test_a_gate_on_draws_that_never_vary_fails_just_what_lost_more() -> None:
    assert [design.gate(0.05, 100, 1, 0.0, 0.0, loss) for loss in (0.0, 0.05, 0.06)] == [0.0, 0.0, 1.0]
    with pytest.raises(InputError, match="fall is -0.1"):
        design.gate(-0.1, 100, 1, 0.0, 0.2)
