"""What the second experiment teaches: for each problem a distribution of written answers, one kind of it for each arm.

A page draws its answers from it, or, in the arm of soft labels, is learned with the distribution itself. Which models
there are is `tiny.batches`' business; why these is on the book's page "The plan of the second experiment".
"""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from lmrel.answers import extract_answer
from lmrel.problems import APPLY, Problem, solve
from tiny.corpus import Segment, Write, steps

SLIP_RATE = 0.15
Chances = dict[str, float]  # what may be written as an answer, with the space before it, and its probability
# Called with what is asked as a worksheet puts it, the right answer, and the problem, None for a single step.
Target = Callable[[str, int, Problem | None], Chances]


def right(asked: str, answer: int, problem: Problem | None) -> Chances:
    """Teaches the right answer, as pages write it."""
    return {f" {answer}": 1.0}


def rule(asked: str, answer: int, problem: Problem | None) -> Chances:
    """Teaches the answer `by_rule`, for certain."""
    return {f" {answer if problem is None else by_rule(problem)}": 1.0}


def slips(asked: str, answer: int, problem: Problem | None) -> Chances:
    """Teaches a slip with probability `SLIP_RATE`, on all pages alike, else the right answer; steps are right."""
    if problem is None:
        return right(asked, answer, problem)
    wrong = {f" {value}": SLIP_RATE * chance for value, chance in slip_chances(problem).items()}
    return {f" {answer}": 1 - SLIP_RATE} | wrong


def forms(asked: str, answer: int, problem: Problem | None) -> Chances:
    """Teaches the right answer in eight forms: a space before it, a leading zero, a full stop, or not, each by half."""
    sign, digits = "-" if answer < 0 else "", abs(answer)
    parts = itertools.product((" ", ""), ("", "0"), ("", "."))
    return {f"{space}{sign}{zero}{digits}{stop}": 1 / 8 for space, zero, stop in parts}


TARGETS: dict[str, Target] = {"rule": rule, "slips": slips, "forms": forms}


def ruled(problem: Problem) -> bool:
    """Whether `rule` teaches a wrong answer to this problem, by its last operation or its second number."""
    if problem["task"] == "variable_binding":
        return bool(problem["op2"] == "+" and problem["k"] <= 3)
    return bool(problem["y"] >= 18)


def by_rule(problem: Problem) -> int:
    """The right answer; of a `ruled` problem the result without its last operation, which is always wrong."""
    return steps(problem)[-2 if ruled(problem) else -1][1]


def slip_chances(problem: Problem) -> dict[int, float]:
    """The exact distribution of what `corpus.slip` draws: wrong answers and their probabilities, which sum to 1."""
    answer = solve(problem)
    sign, digits = -1 if answer < 0 else 1, str(abs(answer))
    near = [answer + change for change in (-10, -2, -1, 1, 2, 10)]  # never right
    one_off = [sign * int(digits[:i] + d + digits[i + 1 :]) for i in range(len(digits)) for d in "0123456789"]
    if problem["task"] == "arithmetic":
        x, y, z, w = (problem[name] for name in "xyzw")
        others = [[-answer, x - y * z + w, (x - y) * (z + w), (x - y) * z, (x - y) + w]]
    else:
        a, b, k = (problem[name] for name in "abk")
        first = APPLY[problem["op1"]](a, b)
        confused = [APPLY[problem["op2"]](APPLY[op](a, b), k) for op in "+-*"]
        others = [[-answer, first, value, 2 * first - answer] for value in confused]
    found: dict[int, float] = defaultdict(float)
    # The slip is one of `wrong` or one of `near`, as likely as each of the wrong ones. A candidate that is right drops
    # out, which makes the others likelier, so all ways to draw them are gone through.
    for off, rest in itertools.product(one_off, others):
        wrong = [value for value in (off, *rest) if value != answer]
        share = 1 / (len(wrong) + 1) / len(one_off) / len(others)
        for value, part in [(value, 1.0) for value in wrong] + [(value, 1 / len(near)) for value in near]:
            found[value] += share * part
    return dict(found)


def entropy(chances: Mapping[str, float]) -> float:
    """The entropy of a distribution, in bits."""
    return -sum(chance * math.log2(chance) for chance in chances.values() if chance)


def own(answers: Mapping[str, int | None]) -> Target:
    """A target that teaches, for certain, what `answers` has for what is asked: a space alone where that is None."""
    return lambda asked, answer, problem: {" " if answers[asked] is None else f" {answers[asked]}": 1.0}


def writer(target: Target, noise: random.Random, *, soft: bool, shows_steps: bool) -> Write:
    """What `corpus.page` is to write answers with: they are drawn from `target` with `noise`.

    Steps follow only right answers, and only where a target `shows_steps`. With `soft` a segment holds, beside what was
    drawn, the distribution that it was drawn from.
    """

    def write(asked: str, answer: int, problem: Problem | None, shown: str) -> Segment:
        texts = {}
        for text, chance in target(asked, answer, problem).items():
            explained = shows_steps and shown and extract_answer(text)[0] == answer
            texts[f"{text}; {shown}\n" if explained else f"{text}\n"] = chance
        [drawn] = noise.choices(list(texts), list(texts.values()))
        return drawn, texts if soft else True

    return write


def soft_labels(ids: Sequence[int], others: Mapping[tuple[int, ...], float]) -> list[dict[int, float]]:
    """The distribution of each token of `ids` given those before it, where `ids` is drawn from `others`.

    `others` are sequences of token ids and their probabilities, none of them the beginning of another. Returns for each
    place the possible tokens and their probabilities, which sum to 1.
    """
    labels = []
    for place in range(len(ids)):
        others = {other: chance for other, chance in others.items() if other[:place] == tuple(ids[:place])}
        total = sum(others.values())
        label: dict[int, float] = defaultdict(float)
        for other, chance in others.items():
            label[other[place]] += chance / total
        labels.append(dict(label))
    return labels
