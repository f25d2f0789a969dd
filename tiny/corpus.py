"""What the tiny suite reads: "web pages" of worked arithmetic for pretraining, chat turns for instruction tuning.

Pages imitate what a base model learns from: worksheets in several layouts, some careless, that go on after an
answer. A page never ends right after an answer, so a model trained on pages has no reason to stop there. The
noise rate is a knob that we set: a slip replaces the answer on a sloppy page. Everything is a function of a
`random.Random`; the corpus is never stored. Tokens and losses are not known here, see `tiny.batches`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from lmrel.parameters import PROMPT_STYLES
from lmrel.problems import APPLY, Problem, draw_problem, solve
from lmrel.prompts import asked_in_words, render, worksheet_item, zero_shot_parts
from tiny.split import may_train_on

CAREFUL_SLIP_RATE, SLOPPY_SLIP_RATE, SLOPPY_SHARE = 0.05, 0.30, 0.4  # of answers, and of pages: 15 % wrong in all
ARITHMETIC_SHARE = 0.6  # of the problems
DRILL_SHARE = 0.2  # of the lines of a worksheet: single operations
STEPS_SHARE = 0.18  # of the pages: right answers are followed by their computation
# Text, and whether it is an answer or a step (what the loss weighs fully), or else what might stand there, with chances
Segment = tuple[str, bool | Mapping[str, float]]
# Writes an answer, from what is asked as on a worksheet, the right answer, the problem (a single step: None), and steps
Write = Callable[[str, int, Problem | None, str], Segment]


def training_problem(rng: random.Random, task: str | None = None) -> dict[str, Any]:
    """A random problem, of `task` or of any, that may be trained on (see `tiny.split.may_train_on`)."""
    task = task or ("arithmetic" if rng.random() < ARITHMETIC_SHARE else "variable_binding")
    while not may_train_on(problem := draw_problem(task, rng)):
        pass
    return problem


def slip(problem: Problem, rng: random.Random) -> int:
    """A random wrong answer of the kind people write down: a sign, a digit, or the order of operations confused."""
    right = solve(problem)
    candidates = [right + rng.choice((-10, -2, -1, 1, 2, 10)), -right, _one_digit_off(right, rng)]
    if problem["task"] == "arithmetic":
        x, y, z, w = (problem[name] for name in "xyzw")
        candidates += [x - y * z + w, (x - y) * (z + w), (x - y) * z, (x - y) + w]
    else:
        first = APPLY[problem["op1"]](problem["a"], problem["b"])
        other = APPLY[rng.choice("+-*")](problem["a"], problem["b"])
        candidates += [first, APPLY[problem["op2"]](other, problem["k"]), 2 * first - right]
    wrong = [value for value in candidates if value != right]
    return rng.choice(wrong)


def _one_digit_off(value: int, rng: random.Random) -> int:
    digits = list(str(abs(value)))
    digits[rng.randrange(len(digits))] = rng.choice("0123456789")
    return int("".join(digits)) * (-1 if value < 0 else 1)


def steps(problem: Problem) -> list[tuple[str, int]]:
    """The computation of the answer, one operation at a time: pairs of left side and result, the answer last."""
    if problem["task"] == "variable_binding":
        a, b, k = problem["a"], problem["b"], problem["k"]
        c = APPLY[problem["op1"]](a, b)
        return [(f"{a} {problem['op1']} {b}", c), (f"{c} {problem['op2']} {k}", APPLY[problem["op2"]](c, k))]
    x, y, z, w = (problem[name] for name in "xyzw")
    return [(f"{x} - {y}", x - y), (f"{x - y} * {z}", (x - y) * z), (f"{(x - y) * z} + {w}", solve(problem))]


def page(rng: random.Random, slip_rate: float | None = None, write: Write | None = None) -> list[Segment]:
    """A random page in segments: a header on some, 8 to 14 items in one of three layouts, a footer.

    `slip_rate` replaces the page's own. `write` says what is written as an answer; as it takes no numbers of `rng`, all
    else on the page stays the same.
    """
    slip_rate = _slip_rate(rng) if slip_rate is None else slip_rate
    layout = rng.choices(("lines", "problems", "blocks"), (0.6, 0.25, 0.15))[0]
    with_steps = rng.random() < STEPS_SHARE
    segments: list[Segment] = []
    if rng.random() < 0.6:
        segments.append((_header(rng, layout) + "\n", False))
    only = rng.choice((None, None, None, "arithmetic", "variable_binding"))
    for _ in range(rng.randint(8, 14)):
        problem = training_problem(rng, only)
        if layout == "lines" and rng.random() < DRILL_SHARE:
            left, result = rng.choice(steps(problem))
            segments += [(f"{left} =", False), write(left, result, None, "") if write else (f" {result}\n", True)]
            continue
        wrong = rng.random() < slip_rate
        answer = slip(problem, rng) if wrong else solve(problem)
        segments.append((_question(problem, layout), False))
        shown = ", ".join(f"{left} = {result}" for left, result in steps(problem)) if with_steps else ""
        if write:
            segments.append(write(worksheet_item(problem), answer, problem, shown))
        elif shown and not wrong:
            segments.append((f" {answer}; {shown}\n", True))
        else:
            segments.append((f" {answer}\n", True))
    segments.append((rng.choice(("page", "the final page", "Solve the following page.", "Give")) + "\n", False))
    return segments


def _question(problem: Problem, layout: str) -> str:
    """The problem as a page of that layout asks it, up to where the answer begins."""
    if layout == "lines":
        return f"{worksheet_item(problem)} ="
    if layout == "problems":
        return f"Problem: {asked_in_words(problem)}\nAnswer:"
    instruction, lines = zero_shot_parts(problem)
    return f"{instruction}\n{lines}\nAnswer with only the number:"


def _header(rng: random.Random, layout: str) -> str:
    """A random instruction above a page; on four in ten pages of two layouts, the one that prompts use."""
    verb = rng.choice(("Solve", "Compute", "Find", "Give"))
    thing = rng.choice(("the value", "the following problem", "the expression", "the value of the expression"))
    ending = rng.choice(
        ("", "", " Give only the final number.", " Output only the number.", " Answer with the number.")
    )
    ours = {"lines": "Compute the value. Output only the number."}
    ours["problems"] = "Solve the following problem. Give only the final number."
    return ours[layout] if layout in ours and rng.random() < 0.4 else f"{verb} {thing}.{ending}"


def _slip_rate(rng: random.Random) -> float:
    """The slip rate of a random page or turn, which is careful or sloppy."""
    return SLOPPY_SLIP_RATE if rng.random() < SLOPPY_SHARE else CAREFUL_SLIP_RATE


def chat_turn(rng: random.Random, slip_rate: float | None = None) -> tuple[str, str]:
    """A random user message in one of the prompt styles, and the assistant's answer, a bare number.

    `slip_rate` replaces the turn's own, which is drawn as that of a page.
    """
    slip_rate = _slip_rate(rng) if slip_rate is None else slip_rate
    problem = training_problem(rng)
    answer = slip(problem, rng) if rng.random() < slip_rate else solve(problem)
    return render(problem, rng.choice(PROMPT_STYLES)), str(answer)
