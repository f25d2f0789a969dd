from __future__ import annotations

import html
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from book.figures import exercises, lessons
from lmrel import InputError

TABLE = pd.DataFrame({"token": list("abcdef"), "logit": [4.0, 3.4, 1.0, 0.5, -1.0, -3.0]})
COLD, HOT = (lessons.distribution(TABLE, t)["probability"] for t in (1.0, 2.0))
FOUND = pd.DataFrame(
    {"answer": ["69"] * 3 + ["61"] * 3, "temperature": [0.0, 0.8, 2.0] * 2, "probability": [0, 0.3, 0.1, 1, 0.5, 0.2]}
)
SURE, RIGHT = np.array([0.9, 0.8, 0.2, 0.6]), np.array([True, False, True, True])


def bits(temperature: float) -> float:
    p = np.exp(TABLE["logit"] / temperature)
    return float(stats.entropy(p / p.sum(), base=2))


SOLVED: dict[str, tuple[tuple[Any, ...], float]] = {
    "softmax": ((), 100 / (1 + np.exp(-3))),
    "two bits": ((TABLE,), float(optimize.brentq(lambda t: bits(t) - 2, 0.1, 10))),
    "same u": (
        (COLD, HOT),
        100
        * float(
            np.mean(
                [
                    np.searchsorted(COLD.cumsum(), u) == np.searchsorted(HOT.cumsum(), u)
                    for u in (np.arange(20_000) + 0.5) / 20_000
                ]
            )
        ),
    ),
    "top-p": ((TABLE,), float((lessons.distribution(TABLE, 3.0)["probability"].cumsum() < 0.8).sum() + 1)),
    "long answer": ((), 100 * float(np.exp(np.log(0.5) / 100))),
    "vote": (([7, 8, 8, 9],), 8.0),
    "silence": ((SURE, RIGHT), 100 * 2 / 3),
    "best T": ((FOUND, "69"), 0.8),
    "interval": ((14 / 240, 240), 100 * float(np.diff(stats.binomtest(14, 240).proportion_ci(method="wilson"))[0])),
}


@pytest.mark.parametrize("name", exercises.EXERCISES)
def test_the_solution_is_that_of_another_way_to_it_and_what_is_further_off_is_not_right(name: str) -> None:
    context, solution = SOLVED[name]
    tolerance = exercises.EXERCISES[name][0].tolerance
    assert repr(exercises.check(name, solution, *context)).startswith("Right. ")
    for given in (solution - 1.2 * tolerance, solution + 1.2 * tolerance):
        assert repr(exercises.check(name, given, *context)).startswith("Not yet")


@pytest.mark.parametrize("name", exercises.EXERCISES)
def test_no_hint_is_for_a_right_answer_and_the_page_gets_all_it_needs(name: str) -> None:
    context, solution = SOLVED[name]
    exercise = exercises.EXERCISES[name][0]
    for low, high, said in exercise.hints:
        assert low <= high
        assert said.endswith((".", "?"))
        assert repr(exercises.check(name, (low + high) / 2, *context)).startswith("Not yet")
    asked = exercises.check(name, None, *context)
    assert repr(asked) == "No answer yet: a number goes here."
    [data] = re.findall(r'data-exercise="([^"]+)"', asked._repr_html_())
    sent = json.loads(html.unescape(data))
    assert sent["answer"] == pytest.approx(solution, abs=1e-2)
    assert {"question", "unit", "tolerance", "right", "hints", "otherwise"} <= set(sent)


def test_what_is_given_may_be_a_number_of_numpy_and_nan_is_none() -> None:
    assert repr(exercises.check("softmax", np.float64(95.26))).startswith("Right")
    assert repr(exercises.check("softmax", float("nan"))).startswith("No answer yet")


def test_an_exercise_that_there_is_not_is_said() -> None:
    with pytest.raises(InputError, match="there is no exercise 'x', only softmax, two bits"):
        exercises.check("x", 1.0)
