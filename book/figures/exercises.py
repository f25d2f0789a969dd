"""The exercises of the lessons: each a question with a number for an answer, and what is said to the answers given.

A notebook checks what its student's code returns. The site asks the same question in a field with a button, and says
the same (``learn.js``). Solutions are worked out here, from what the lesson has computed.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from book.figures import lessons
from lmrel.errors import InputError
from lmrel.stats.inference import wilson


@dataclass(frozen=True)
class Exercise:
    """A question that is answered by a number, and what is said to one."""

    question: str
    unit: str
    tolerance: float
    right: str
    hints: tuple[tuple[float, float, str], ...]  # from, to, and what to look at; the first that fits is said
    otherwise: str


@dataclass(frozen=True)
class Checked:
    """An answer to an exercise. A notebook shows what is said to it; the site asks the question, if it is not right."""

    exercise: Exercise
    answer: float
    given: float | None

    def __repr__(self) -> str:
        """What is said to the answer."""
        exercise = self.exercise
        if self.given is None or not math.isfinite(self.given):
            return "No answer yet: a number goes here."
        if abs(self.given - self.answer) <= exercise.tolerance:
            return f"Right. {exercise.right}"
        fitting = (said for low, high, said in exercise.hints if low <= self.given <= high)
        return f"Not yet ({self.given:.4g}{exercise.unit}). {next(fitting, exercise.otherwise)}"

    def _repr_html_(self) -> str:
        """What is said, and for a wrong answer all that the site needs to ask the question."""
        said = f"<p>{html.escape(repr(self))}</p>"
        if repr(self).startswith("Right"):
            return said
        question = vars(self.exercise) | {"answer": self.answer}
        return f'<div class="lmrel-exercise" data-exercise="{html.escape(json.dumps(question))}">{said}</div>'


def temperature_of(table: pd.DataFrame, bits: float) -> float:
    """The temperature at which the next token has so many bits of entropy, by halving."""
    low, high = 0.01, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if lessons.entropy(table, [middle])["bits"][0] < bits else (low, middle)
    return low


def same_draw(one: pd.Series, other: pd.Series) -> float:
    """The percentage of u with which two distributions over the same tokens draw the same."""
    tops, others = one.cumsum().to_numpy(), other.cumsum().to_numpy()
    both = np.minimum(tops, others) - np.maximum(tops - one.to_numpy(), others - other.to_numpy())
    return 100 * float(both.clip(min=0).sum())


EXERCISES: dict[str, tuple[Exercise, Callable[..., float]]] = {
    "softmax": (
        Exercise(
            "Two tokens are all there is; their scores are 3 and 0. What is the probability of the first, in per cent?",
            " %",
            0.2,
            "e³ is about 20, so the first has 20 of 21 parts.",
            (
                (99.9, 100.1, "That is the score's share of the sum. Take exponentials before you divide."),
                (74, 76, "Take exponentials first; a score is no share."),
                (20, 20.2, "That is how many times likelier it is. Now divide by the sum, 20.1 + 1."),
                (0.9, 1, "Nearly: the question asks for per cent."),
                (4, 5.5, "That is the second token's."),
            ),
            "The two exponentials are e³ = 20.1 and e⁰ = 1; divide the first by their sum.",
        ),
        lambda: 100 * math.exp(3) / (math.exp(3) + 1),
    ),
    "two bits": (
        Exercise(
            "At which temperature does our token have 2 bits of entropy? Move the line on the curve to find it.",
            "",
            0.12,
            "At this T the choice is as open as a fair one among four. Another token has 2 bits at another T.",
            ((0, 1.9, "Too low: there the entropy is below 2 bits."), (2.6, 10, "Too high: there it is above 2 bits.")),
            "Look where the curve crosses the height of 2.",
        ),
        lambda table: temperature_of(table, 2.0),
    ),
    "same u": (
        Exercise(
            "With the same u for both: for what share of all u do T = 1 and T = 2 draw the same token, in per cent?",
            " %",
            2.5,
            "The same luck strikes both. What still differs is the temperature alone.",
            (
                (44, 49, "That is with a number u of its own for each. Give both the same."),
                (0.5, 1, "Nearly: the question asks for per cent."),
                (99, 100, "The pieces of the two temperatures do not end at the same places."),
            ),
            "Write down where each token's piece begins and ends at T = 1 and at T = 2, and add up what overlaps.",
        ),
        same_draw,
    ),
    "top-p": (
        Exercise(
            "T = 3 and top-p = 0.8: how many tokens are left?",
            "",
            0.1,
            "A token stays if those before it hold less than top-p. The likeliest always stays.",
            (
                (3, 3, "Nearly. The token that crosses the line is kept as well."),
                (2, 2, "That is at T = 1. The temperature comes first."),
                (128, 128, "Nothing was cut away."),
            ),
            "Add up the probabilities from the top. Stop at the token with which the sum reaches 0.8.",
        ),
        lambda table: float((lessons.distribution(table, 3.0, top_p=0.8)["probability"] > 0).sum()),
    ),
    "long answer": (
        Exercise(
            "An answer has 100 tokens, and each must be right. How likely must each be, in per cent, for the answer "
            "to be right in half of all draws?",
            " %",
            0.03,
            "That is one slip in 145 tokens.",
            (
                (95, 95, "0.95 to the power 100 is 0.6 %. Look for the number whose power 100 is one half."),
                (99, 99.1, "Close. 0.99 to the power 100 is 37 %."),
                (0.99, 0.9999, "Nearly: the question asks for per cent."),
                (50, 50, "That would do for one token. All hundred must be right."),
            ),
            "What undoes a power? The answer is the 100th root of one half.",
        ),
        lambda: 100 * 0.5 ** (1 / 100),
    ),
    "vote": (
        Exercise(
            "The fifteen draws above vote. Which number wins?",
            "",
            0.1,
            "It wins, and it is wrong. Here a larger vote only makes the wrong answer surer.",
            ((69, 69, "That is the right answer, but it is not the commonest one."),),
            "Count how often each number was drawn.",
        ),
        lambda answers: float(pd.Series(answers).mode()[0]),
    ),
    "silence": (
        Exercise(
            "The model now answers only where its confidence is at least 50 %. What share of its answers is right, in "
            "per cent? The table has both numbers that you need.",
            " %",
            0.5,
            "Fewer answers, and more of them right: confidence ranks answers well here.",
            ((85, 87, "That is the share over all answers. Leave out those below 50 %."),),
            "Of the answers with a confidence of at least 50 %, how many are right?",
        ),
        lambda confident, right: 100 * float(right[confident >= 0.5].mean()),
    ),
    "best T": (
        Exercise(
            "At which temperature is the right answer likeliest? Move the line on the curves to find it.",
            "",
            0.11,
            "The curve is flat there: thousands of draws would be needed to see its top.",
            ((0, 0, "At T = 0 the right answer has no chance at all."), (1.5, 2, "There it is falling again.")),
            "Look for the highest point of the right answer's curve.",
        ),
        lambda found, right: float(
            found[found["answer"] == right].set_index("temperature")["probability"].astype(float).idxmax()
        ),
    ),
    "interval": (
        Exercise(
            "The published 14 of 240 is 5.8 %. How wide is its 95 % interval, in points?",
            " points",
            0.3,
            "Six points wide, and the fall is two. Whether intervals overlap is no test, but the widths say enough.",
            (
                (0, 0, "A share without an interval is taken as certain. It is not."),
                (2.8, 3.2, "That is half of it. How far is it from one end to the other?"),
            ),
            "It reaches from about 3.5 % to 9.5 %.",
        ),
        lambda share, n: 100 * float(np.diff(wilson(share, n))[0]),
    ),
}


def check(name: str, given: float | None, *context: Any) -> Checked:
    """What is to be said to `given`, an answer to the exercise `name`; its solution is worked out from `context`.

    Raises `InputError` for an exercise that there is not.
    """
    if name not in EXERCISES:
        raise InputError(f"there is no exercise {name!r}, only {', '.join(EXERCISES)}.")
    exercise, answer = EXERCISES[name]
    return Checked(exercise, round(answer(*context), 4), None if given is None else float(given))
