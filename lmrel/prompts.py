"""What a model is shown: three prompt styles, a chat template where the tokenizer has one, exactly one BOS.

Three prompts claim to be the paper's (its README, its generator, its data file) and it is not known which one
made its table, so the prompt is a factor here. The shapes are the paper's, the wording is ours.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lmrel.errors import InputError, is_text, shown
from lmrel.problems import FEW_SHOT_EXAMPLES, Problem, solve

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

README = "Solve the following problem. Give only the final number.\nProblem: {problem}\nAnswer:"
FEW_SHOT = "Compute the value. Output only the number.\n{examples}{problem} ="
ZERO_SHOT = "{instruction}\n{problem}\nAnswer with only the number:"

PROMPT_STYLES = ("readme", "few_shot", "zero_shot")
TEMPLATE_SECONDS = 20.0  # that a chat template may take for one prompt


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


def render(problem: Problem, style: str) -> str:
    """The prompt text of `problem` in one of `PROMPT_STYLES`, without chat template.

    It never ends in white space: the answer's leading space belongs to the answer.
    """
    if style == "readme":
        return README.format(problem=asked_in_words(problem))
    if style == "few_shot":
        examples = "".join(f"{worksheet_item(p)} = {solve(p)}\n" for p in FEW_SHOT_EXAMPLES)
        return FEW_SHOT.format(examples=examples, problem=worksheet_item(problem))
    if style == "zero_shot":
        instruction, lines = zero_shot_parts(problem)
        return ZERO_SHOT.format(instruction=instruction, problem=lines)
    raise InputError(f"prompt_style is {shown(style)}; it must be one of {', '.join(PROMPT_STYLES)}.")


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of prompts, chat template applied where there is one, with one BOS if the tokenizer uses one.

    A templated string that is tokenized with special tokens gets a second BOS; hence no special tokens are
    added after templating, and one is added where the template leaves it out.
    """
    if not hasattr(tokenizer, "chat_template"):
        raise TypeError(f"a tokenizer is needed, as load_model gives one, not {type(tokenizer).__name__}")
    if not tokenizer.chat_template:
        return _ids(texts, tokenizer)
    templated = [_templated(text, tokenizer) for text in texts]
    if len(set(templated)) < len(set(texts)):
        raise InputError("the tokenizer's chat template leaves out what it is given: different prompts become one.")
    found = _ids(templated, tokenizer, add_special_tokens=False)
    bos = tokenizer.encode("")[:1]
    if bos != [tokenizer.bos_token_id]:
        return found
    return [ids if ids[:1] == bos else [*bos, *ids] for ids in found]


def _templated(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """`text` in the chat template: a program of the checkpoint, run in a sandbox, which raises what it likes."""
    chat = [{"role": "user", "content": text}]
    try:
        with limited(TEMPLATE_SECONDS):
            found = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        raise InputError(f"the tokenizer's chat template fails: {str(error) or type(error).__name__}") from error
    if not is_text(found):
        raise InputError(f"the tokenizer's chat template gives {found!r:.100}, which is no prompt.")
    return found


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` in what takes longer. Only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"it takes longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _ids(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, **options: bool) -> list[list[int]]:
    try:
        found: list[list[int]] = tokenizer(list(texts), **options)["input_ids"]
    except Exception as error:  # of its own kind, where a tokenizer has no token for what it does not know
        raise InputError(f"the tokenizer cannot read a prompt: {error}") from error
    return found


def encode_problems(problems: Iterable[Problem], style: str, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of the prompts of `problems` in `style`: see `render` and `encode`."""
    return encode([render(problem, style) for problem in problems], tokenizer)
