from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmrel import InputError, charts
from lmrel.stats.inference import (
    clustered_wilson,
    failure_shares,
    summarize_with_intervals,
    t_interval,
    variance_of_mean,
    wilson,
    with_interval,
)
from tests.lmrel.stats.test_metrics import table


@pytest.mark.parametrize(("hits", "n"), [(0, 240), (9, 240), (73, 240), (240, 240)])
def test_wilson_equals_scipys(hits: int, n: int) -> None:
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high))


def test_one_draw_a_problem_gives_wilsons_own_interval() -> None:
    shares = np.repeat([1.0, 0.0], [60, 180])
    mean, low, high = clustered_wilson(shares)
    assert (low, high) == pytest.approx(wilson(0.25, 240))
    assert mean == 0.25


def test_a_thousand_equal_draws_a_problem_add_nothing() -> None:
    assert clustered_wilson([1.0, 0.0, 0.0, 0.0] * 60)[1:] == pytest.approx(wilson(0.25, 240))


def test_equal_shares_give_wilsons_own_interval_whatever_their_floats() -> None:
    for runs, problems in itertools.product(range(2, 11), (3, 10)):
        for right in range(1, runs):
            low, high = clustered_wilson([right / runs] * problems)[1:]
            assert (low, high) == pytest.approx(wilson(right / runs, problems))
    assert clustered_wilson([0.3, 0.1 + 0.2] * 5)[1:] == pytest.approx(wilson(0.3, 10))


def test_all_right_still_leaves_doubt() -> None:
    mean, low, high = clustered_wilson([1.0] * 240)
    assert mean == high == 1.0
    assert low == pytest.approx(wilson(1.0, 240)[0])


def test_clustered_interval_covers_at_its_level() -> None:
    # 2,000 studies of problems x 4 draws, problem difficulties from a Beta of mean 0.3. At a true coverage of 95 % a
    # share below 93.5 % has a probability of about 0.1 %. With few problems it may cover more than it says.
    rng = np.random.default_rng(0)
    for problems, a, b in ((120, 0.3, 0.7), (120, 3.0, 7.0), (5, 3.0, 7.0)):
        hits = 0
        for _ in range(2000):
            difficulty = rng.beta(a, b, size=problems)
            _, low, high = clustered_wilson(rng.binomial(4, difficulty) / 4)
            hits += low <= 0.3 <= high
        assert 0.935 <= hits / 2000 <= (0.965 if problems == 120 else 1.0)


def test_one_problem_has_no_t_interval_and_still_draws() -> None:
    assert np.isnan(t_interval(np.array([-1.0]))[1:]).all()
    draws = table()
    summary = summarize_with_intervals(draws[draws["problem_id"] == "a"])
    charts.confidence(summary[summary["task"] == "all"], "t", "d").to_dict()


def test_summary_has_the_interval_of_each_share() -> None:
    summary = summarize_with_intervals(table()).set_index("task")
    expected = clustered_wilson([0.75, 0.25])
    assert tuple(summary.loc["all", ["accuracy", "accuracy_low", "accuracy_high"]]) == pytest.approx(expected)
    compliance = summary.loc["arithmetic", ["compliance", "compliance_low", "compliance_high"]]
    assert tuple(compliance) == pytest.approx(clustered_wilson([1.0]))
    confidence = summary.loc["all", ["confidence", "confidence_low", "confidence_high"]]
    spread = stats.t.ppf(0.975, 1) * np.std([-1.0, -2.0], ddof=1) / np.sqrt(2)
    assert tuple(confidence) == pytest.approx((-1.5, -1.5 - spread, -1.5 + spread))


def test_failure_shares_are_of_the_wrong_draws_and_their_interval_is_of_problems() -> None:
    shares = failure_shares(table()).set_index("failure")
    assert shares["count"].to_dict() == {"extra_text": 2, "incomplete": 1, "numeric_error": 1}
    assert shares["share"].to_dict() == {"extra_text": 0.5, "incomplete": 0.25, "numeric_error": 0.25}
    assert tuple(shares.loc["extra_text", ["low", "high"]]) == pytest.approx(wilson(0.5, 2))


@pytest.mark.parametrize("dtype", ["int64", "float64", "object"])
def test_failure_shares_take_draws_that_were_merged_or_read_from_csv(dtype: str) -> None:
    pd.testing.assert_frame_equal(failure_shares(table().astype({"correct": dtype})), failure_shares(table()))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0.5, 5, 2), "level is 2; it must be a number above 0 to 1"),
        (("x", 5), "share is 'x'; it must be a number from 0 to 1"),
        ((None, 5), "share is None"),
        ((0.5, 10**200), "n is 1000.*; it must be a number above 0 to"),
    ],
    ids=["level", "text", "None", "huge n"],
)
def test_what_is_no_share_of_trials_has_no_interval(arguments: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        wilson(*arguments)


def test_shares_beyond_one_are_named() -> None:
    with pytest.raises(InputError, match="the shares go from 2 to 3; each must be from 0 to 1"):
        clustered_wilson([2, 3])


def test_versions_of_one_question_are_one_unit() -> None:
    clusters = [question for question in "abcde" for _ in range(40)]
    assert clustered_wilson([1.0] * 200, clusters=clusters)[1:] == wilson(1.0, 5)
    assert clustered_wilson([1.0] * 200)[1] > 0.98
    shares = np.repeat([0.0, 0.25, 0.5, 1.0, 1.0], 40)  # copies add nothing: the interval is that of the five
    repeated = clustered_wilson(shares, clusters=clusters)
    assert repeated == pytest.approx(clustered_wilson([0.0, 0.25, 0.5, 1.0, 1.0]))
    assert t_interval(shares, clusters=clusters) == pytest.approx(t_interval(shares[::40]))


def test_the_variance_of_a_mean_is_the_usual_one_for_single_problems_and_by_hand_for_clusters() -> None:
    values = np.array([0.1, 0.9, 0.4, 0.4, 0.7])
    assert variance_of_mean(values) == (pytest.approx(values.var(ddof=1) / 5), 5)
    sums = [0.1 + 0.9 - 2 * 0.5, 0.4 + 0.4 + 0.7 - 3 * 0.5]
    found = variance_of_mean(values, ["x", "x", "y", "y", "y"])
    assert found == (pytest.approx(sum(s * s for s in sums) / 25 * 2), 2)


def test_a_summary_of_forty_copies_is_as_wide_as_that_of_one() -> None:
    once = pd.DataFrame({"problem_id": list("abcde"), "correct": [True, True, True, False, False]})
    once = pd.concat([once.assign(run=run) for run in (0, 1)])
    copies = pd.concat(
        [once.assign(problem_id=once["problem_id"] + str(i), cluster=once["problem_id"]) for i in range(40)]
    )
    rest = table().iloc[0].drop(["problem_id", "correct", "run"]).to_dict()
    copies = copies.assign(**rest).astype({"correct": bool})
    honest, blind = (summarize_with_intervals(t).iloc[0] for t in (copies, copies.drop(columns="cluster")))
    assert honest["accuracy"] == blind["accuracy"] == 0.6
    assert honest["accuracy_high"] - honest["accuracy_low"] > 3 * (blind["accuracy_high"] - blind["accuracy_low"])


def test_an_interval_has_a_real_minus_and_no_brackets_where_there_is_none() -> None:
    assert with_interval(-1.24, -3, 0.5) == "\N{MINUS SIGN}1.2 [\N{MINUS SIGN}3.0, +0.5]"
    assert with_interval(0.1, math.nan, math.nan) == "+0.1"
    assert with_interval(14, 3.5, 9.5, form="{:.0f} of 240", ends="{:.1f} %") == "14 of 240 [3.5 %, 9.5 %]"
