"""Why an answer fails, by our own rules: exclusive classes in order of evidence, each with its reason in words.

An answer fails if it is wrong or more than a number. A class is a function from a `Case` to its reason, or None if the
case is none of this class; the first class with a reason counts. What the text is comes first (nothing, a refusal, a
right answer that runs on or that the rule passes over, a loop, no number, reasoning), then what the number is.
``book/data/failures.jsonl`` holds outputs that were labelled by hand; the tests say how often rules and labels agree.
The paper's rules are in `lmrel.answers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lmrel.answers import first_integer, in_loop, marked
from lmrel.errors import InputError, quoted
from lmrel.problems import APPLY, FEW_SHOT_EXAMPLES, Problem, solve

REFUSAL = re.compile(
    r"\b(sorry|cannot|can't|unable|not able|don't know|do not know|clarify|as an ai|please provide|I don't)\b", re.I
)
REASONING = re.compile(
    r"\b(because|since|so|therefore|hence|thus|step|first|then|next|let'?s|given|using|gives|we have|the expression)\b",
    re.I,
)
EQUATION = re.compile(r"\d\)?\s*[-+*/\N{MULTIPLICATION SIGN}]\s*\(?\d")

EXAMPLES = frozenset(solve(problem) for problem in FEW_SHOT_EXAMPLES)


@dataclass(frozen=True)
class Case:
    """A failed answer: the problem, what was written and whether it was finished, its first integer, the right one."""

    problem: Problem
    text: str
    finished: bool
    number: int | None
    right: int


def failure(problem: Problem, text: str, finished: bool) -> tuple[str, str] | None:
    """The class of a failed answer, and the reason; None for a right answer that is only a number."""
    number, compliant = first_integer(text)
    case = Case(problem, text, finished, number, int(problem["answer"] if "answer" in problem else solve(problem)))
    if compliant and number == case.right:
        return None
    return next((name, reason) for name, rule in CLASSES.items() if (reason := rule(case)) is not None)


def of_draws(draws: pd.DataFrame, problems: pd.DataFrame) -> pd.Series:
    """The class of each draw, missing where it did not fail. Texts must have been drawn to their end."""
    rows: list[dict[str, Any]] = problems.to_dict("records")  # type: ignore[assignment]
    known = {row["problem_id"]: row for row in rows}
    if strange := set(draws["problem_id"]) - known.keys():
        raise InputError(f"the draws have a problem {quoted(min(strange))} that is not among the problems.")
    columns = zip(draws["problem_id"], draws["text"], draws["finished"], strict=True)
    found = [failure(known[name], text, finished) for name, text, finished in columns]
    return pd.Series([None if one is None else one[0] for one in found], index=draws.index, dtype="str")


def empty(case: Case) -> str | None:
    """A text of nothing but white space."""
    return None if case.text.strip() else "the text is empty"


def refusal(case: Case) -> str | None:
    """A text that declines to answer."""
    found = REFUSAL.search(case.text)
    return f"it says {found[0]!r}" if found else None


def ran_on(case: Case) -> str | None:
    """A right answer with more text around it."""
    return "the first integer is right, and there is more text" if case.number == case.right else None


def misread(case: Case) -> str | None:
    """A text that marks the right answer as its answer, after other numbers: wrong only under the paper's rule."""
    return f"its answer is {case.right}, and the first integer another" if marked(case.text) == case.right else None


def runaway(case: Case) -> str | None:
    """A text that was cut off in a loop."""
    return "it was cut off while it repeated itself" if not case.finished and in_loop(case.text) else None


def truncated(case: Case) -> str | None:
    """A text that was cut off before any number."""
    return "it was cut off before a number" if case.number is None and not case.finished else None


def no_number(case: Case) -> str | None:
    """A text that ends without a number."""
    return "it holds no number" if case.number is None else None


def reasoning(case: Case) -> str | None:
    """A line of working, of which the first number is a part."""
    line = next(line for line in case.text.splitlines() if re.search(r"\d", line))
    found = REASONING.search(line) or EQUATION.search(line)
    return f"the line of its first number has {found[0]!r}" if found else None


def sign(case: Case) -> str | None:
    """The right number with the other sign."""
    return f"{case.number} is {case.right} with the other sign" if case.number == -case.right else None


def wrong_operation(case: Case) -> str | None:
    """The result of another operator, of another order of operations, or without the last steps."""
    return next((f"{how} gives {case.number}" for how, value in mistakes(case.problem) if value == case.number), None)


def mistakes(problem: Problem) -> list[tuple[str, int]]:
    """Calculations that resemble the right one, as text, each with its result; none for tasks of other kinds."""
    task = problem["task"]
    if task == "arithmetic":
        x, y, z, w = (problem[name] for name in "xyzw")
        found = [(f"{x} - {y} alone", x - y), (f"({x} - {y}) * {z} alone", (x - y) * z)]
        found += [(f"{x} - {y} * {z} + {w}", x - y * z + w), (f"({x} - {y}) * ({z} + {w})", (x - y) * (z + w))]
        chains = [(o, "*", "+") for o in "+*"] + [("-", o, "+") for o in "+-"] + [("-", "*", o) for o in "-*"]
        for one, two, three in chains:
            value = APPLY[three](APPLY[two](APPLY[one](x, y), z), w)
            found.append((f"(({x} {one} {y}) {two} {z}) {three} {w}", value))
        return found
    if task != "variable_binding":
        return []
    a, b, k, one, two = (problem[name] for name in ("a", "b", "k", "op1", "op2"))
    found = [(f"{a} {one} {b} alone", APPLY[one](a, b))]
    found += [(f"{a} {one} ({b} {two} {k})", APPLY[one](a, APPLY[two](b, k)))]
    found += [(f"({a} {o} {b}) {two} {k}", APPLY[two](APPLY[o](a, b), k)) for o in "+-*" if o != one]
    found += [(f"({a} {one} {b}) {o} {k}", APPLY[o](APPLY[one](a, b), k)) for o in "+-*" if o != two]
    return found


def transposed(case: Case) -> str | None:
    """The right digits in another order."""
    said, right = str(case.number), str(case.right)
    same = said != right and sorted(said) == sorted(right)
    return f"{said} has the digits of {right} in another order" if same else None


def _number(case: Case) -> int:
    """The number of a case that has one: the classes before have taken the others."""
    assert case.number is not None
    return case.number


def off_by_small(case: Case) -> str | None:
    """A number that is wrong by 1 or 2."""
    off = abs(_number(case) - case.right)
    return f"{case.number} is {off} away from {case.right}" if off <= 2 else None


def copied_operand(case: Case) -> str | None:
    """A number of the problem."""
    names = [name for name in ("a", "b", "k", "x", "y", "z", "w") if case.problem.get(name) == case.number]
    return f"{case.number} is the problem's {names[0]}" if names else None


def few_shot_copied(case: Case) -> str | None:
    """The answer of an example in the prompt."""
    return f"{case.number} answers an example of the prompt" if case.number in EXAMPLES else None


def one_digit(case: Case) -> str | None:
    """A number with one wrong digit, or one that is a power of ten away, as a forgotten carry is."""
    said, right = f"{_number(case):+}", f"{case.right:+}"
    off = str(abs(_number(case) - case.right))
    one = len(said) == len(right) and sum(a != b for a, b in zip(said, right, strict=True)) == 1
    return f"{case.number} differs from {case.right} in one digit" if one or off.strip("0") == "1" else None


def other_number(case: Case) -> str | None:
    """Any other number."""
    return f"{case.number} is none of these"


def precision_and_recall(labels: Sequence[str], said: Sequence[str]) -> pd.DataFrame:
    """How well rules agree with labels: ``class, precision, recall, labelled, said``.

    ``said`` is how often the rules name the class, ``precision`` the share of these that are labelled so; ``labelled``
    is how often the labels name it, ``recall`` the share of these of which the rules say so.
    """
    table = pd.crosstab(pd.Series(labels, name="label"), pd.Series(said, name="said"))
    classes = table.index.union(table.columns)
    table = table.reindex(index=classes, columns=classes, fill_value=0)
    hits = pd.Series(table.to_numpy().diagonal(), index=classes)
    by_label, by_rule = table.sum(axis=1), table.sum()
    found = {"precision": hits / by_rule, "recall": hits / by_label, "labelled": by_label, "said": by_rule}
    return pd.DataFrame(found).rename_axis("class").reset_index()


OF_TEXT = (empty, refusal, ran_on, misread, runaway, truncated, no_number, reasoning)
OF_NUMBER = (sign, wrong_operation, transposed, off_by_small, copied_operand, few_shot_copied, one_digit, other_number)
CLASSES: dict[str, Callable[[Case], str | None]] = {rule.__name__: rule for rule in (*OF_TEXT, *OF_NUMBER)}
