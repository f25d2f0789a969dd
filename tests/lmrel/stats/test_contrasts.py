from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmrel import InputError
from lmrel.stats import contrasts, metrics
from tests.lmrel.stats.test_metrics import table


def test_a_paired_difference_is_of_the_problems_in_both() -> None:
    first = pd.DataFrame({"problem_id": ["a", "a", "b"], "correct": [1, 0, 1]})
    second = pd.DataFrame({"problem_id": ["a", "c"], "correct": [1, 1]})
    assert contrasts.paired(first, second).tolist() == [0.5]
    with pytest.raises(InputError, match="no problem in common"):
        contrasts.paired(first, second.assign(problem_id="z"))


def test_unmatched_problems_are_left_out_of_a_paired_difference() -> None:
    draws = pd.concat([table(temperature=0.0), table(temperature=1.0).head(4), table(temperature=1.0, problem_id="c")])
    assert contrasts.paired_difference(draws, "correct", 0.0, 1.0)["problems"] == 1


def test_draws_of_two_models_and_an_absent_temperature_are_errors_in_a_sentence() -> None:
    cold, hot = table(temperature=0.0), table(temperature=1.0)
    both = pd.concat([cold, hot, cold.assign(model="other"), hot.assign(model="other")])
    with pytest.raises(InputError, match=r"are of 2 settings, with model \['m', 'other'\]"):
        contrasts.paired_difference(both, "correct", 0.0, 1.0)
    with pytest.raises(InputError, match=r"of 2 settings, with temperature \[0.0, 1.0\]"):
        contrasts.paired(pd.concat([cold, hot]), hot)
    with pytest.raises(InputError, match=r"no draw at temperature 0\.5\."):
        contrasts.paired_difference(pd.concat([cold, hot]), "correct", 0.0, 0.5)


def test_exact_curves_of_two_models_are_not_pooled() -> None:
    bounds = pd.DataFrame({"problem_id": ["a"], "temperature": 1.0, "metric": "correct", "lower": 0.5, "upper": 0.5})
    with pytest.raises(InputError, match="a problem twice at a temperature"):
        metrics.exact_curves(pd.concat([bounds, bounds.assign(lower=0.1)]))


def test_differences_of_differences_are_paired_by_problem_or_refused() -> None:
    rng = np.random.default_rng(6)
    levels = pd.DataFrame({"problem_id": [f"p{i}" for i in range(40)], "correct": rng.random(40)})
    of_one = contrasts.paired(levels, levels.assign(correct=levels["correct"] ** 2))
    of_other = contrasts.paired(levels.sample(frac=1, random_state=0), levels.assign(correct=levels["correct"] ** 2))
    assert contrasts.equivalence(of_one - of_other, 0.05)["p"] == 0.0
    shifted = of_other.rename(lambda name: f"p{int(name[1:]) + 1}")
    with pytest.raises(InputError, match="2 of 41 differences are missing, as for problems of one side only"):
        contrasts.equivalence(of_one - shifted, 0.05)


def test_equivalence_at_a_floor_warns_and_elsewhere_it_does_not() -> None:
    nothing = pd.DataFrame({"problem_id": range(240), "correct": False})
    little = nothing.assign(correct=nothing["problem_id"] < 4)
    for differences in (contrasts.paired(little, nothing), contrasts.paired(nothing, little)):
        with pytest.warns(UserWarning, match="one side has 0.0%, no more than the margin of 5.0%: so near a floor"):
            assert contrasts.equivalence(differences, 0.05)["equivalent"]
    most = nothing.assign(correct=True)
    assert contrasts.equivalence(contrasts.paired(most, most.assign(correct=~little["correct"])), 0.05)["equivalent"]


def test_paired_difference_equals_scipys_paired_t_interval() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random(50), rng.random(50)
    draws = pd.DataFrame(
        {
            "temperature": np.repeat([0.0, 1.0], 50),
            "problem_id": [f"p{i}" for i in range(50)] * 2,
            "score": np.concatenate([first, second]),
        }
    )
    result = contrasts.paired_difference(draws, "score", 0.0, 1.0)
    expected = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert (result["low"], result["high"]) == pytest.approx((expected.low, expected.high))
    assert result["difference"] == pytest.approx((second - first).mean())


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


def test_differences_of_copies_are_no_more_certain_than_those_of_their_questions() -> None:
    rng = np.random.default_rng(3)
    once = pd.DataFrame({"problem_id": list("abcdefgh"), "correct": rng.random(8), "cluster": list("abcdefgh")})
    copies = pd.concat([once.assign(problem_id=once["problem_id"] + str(copy)) for copy in range(30)])
    found = [contrasts.equivalence(contrasts.paired(t.assign(correct=0.5), t), 0.3) for t in (once, copies)]
    assert found[1]["p"] == pytest.approx(found[0]["p"])
    assert (found[1]["low"], found[1]["high"]) == pytest.approx((found[0]["low"], found[0]["high"]))
