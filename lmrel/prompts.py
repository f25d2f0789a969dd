"""A problem as text: three prompt styles. What a tokenizer makes of them is `lmrel.tokens`' business.

Three prompts claim to be the paper's (its README, its generator, its data file) and it is not known which one
made its table, so the prompt is a factor here. The shapes are the paper's, the wording is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lmrel.errors import InputError, check_choice, quoted
from lmrel.files import read_text
from lmrel.parameters import PROMPT_STYLES
from lmrel.problems import FEW_SHOT_EXAMPLES, OPERANDS, Problem, solve

README = "Solve the following problem. Give only the final number.\nProblem: {problem}\nAnswer:"
FEW_SHOT = "Compute the value. Output only the number.\n{examples}{problem}"
ZERO_SHOT = "{instruction}\n{problem}\nAnswer with only the number:"


def assignments(problem: Problem) -> list[str]:
    """The four statements of a variable-binding problem."""
    return [
        f"a = {problem['a']}",
        f"b = {problem['b']}",
        f"c = a {problem['op1']} b",
        f"d = c {problem['op2']} {problem['k']}",
    ]


def expression(problem: Problem) -> str:
    """An arithmetic problem as a spaced expression."""
    return f"({problem['x']} - {problem['y']}) * {problem['z']} + {problem['w']}"


def bare(problem: Problem) -> str:
    """An arithmetic problem as its expression, a custom one as its question."""
    return expression(problem) if problem["task"] == "arithmetic" else str(problem["question"])


def worksheet_item(problem: Problem) -> str:
    """One line of a worksheet, up to (not including) its equals sign."""
    if problem["task"] == "variable_binding":
        return ", ".join([*assignments(problem), "d"])
    return bare(problem)


def asked_in_words(problem: Problem) -> str:
    """The problem as a question on one line."""
    if problem["task"] == "variable_binding":
        return ", ".join(assignments(problem)) + ". What is d?"
    return bare(problem)


def zero_shot_parts(problem: Problem) -> tuple[str, str]:
    """The instruction line and the lines below it."""
    if problem["task"] == "variable_binding":
        return "Find the value of d.", "\n".join(assignments(problem))
    if problem["task"] == "arithmetic":
        return "Find the value of the expression.", expression(problem)
    return "Solve the following problem.", str(problem["question"])


def read_template(path: str) -> str:
    """The text of a template: a file that holds ``{question}`` once. Raises `InputError` for any other."""
    try:
        text = read_text(Path(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"template is {quoted(path)}, which cannot be read: {error}.") from error
    if text.count("{question}") != 1:
        raise InputError(f"template is {quoted(path)}; it must hold {{question}} once, where the question is to stand.")
    return text


def rendered(problems: Iterable[Problem], style: str, template: str | None = None) -> list[str]:
    """The prompts of `problems` as texts, in `style` or in the file `template`: see `render`."""
    text = None if template is None else read_template(template)
    return [render(problem, style, text) for problem in problems]


def check_untemplated(system: str | None, chat_template_kwargs: Mapping[str, Any] | None) -> None:
    """Raise `InputError` for what only a chat template could hold, where none is used."""
    for name, value in {"system": system, "chat_template_kwargs": chat_template_kwargs}.items():
        if value is not None:
            raise InputError(f"{name} is given, and no chat template that could hold it is used.")


def render(problem: Problem, style: str, template: str | None = None) -> str:
    """The prompt text of `problem` in one of `PROMPT_STYLES`, or in the text `template`, without chat template.

    It never ends in white space: the answer's leading space belongs to the answer.
    """
    if template is not None:
        return template.replace("{question}", asked_in_words(problem)).rstrip()
    check_choice("prompt_style", style, PROMPT_STYLES)
    if style == "readme":
        return README.format(problem=asked_in_words(problem))
    if style == "few_shot":
        examples = "".join(f"{worksheet_item(p)} = {solve(p)}\n" for p in FEW_SHOT_EXAMPLES)
        item = worksheet_item(problem)
        in_words = problem["task"] not in OPERANDS and any(character.isalpha() for character in item)
        return FEW_SHOT.format(examples=examples, problem=item) + ("\nAnswer:" if in_words else " =")
    instruction, lines = zero_shot_parts(problem)
    return ZERO_SHOT.format(instruction=instruction, problem=lines)
