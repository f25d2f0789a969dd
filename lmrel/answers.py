"""Why an answer is wrong: the paper's rules, in the paper's order, because order and patterns decide the shares.

Source: analyze_failures.py of kabirrgrover/lm-reliability-sparsity. Its class "wrong_operation" is named there
and never assigned; the refusal pattern includes the bare word "I".
"""

from __future__ import annotations

import re
from enum import IntEnum

FIRST_INTEGER = re.compile(r"[+-]?[0-9]+")
ONLY_A_NUMBER = re.compile(r"[ \t\n\r\f\v]*[+-]?[0-9]+[ \t\n\r\f\v]*")
BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
WORD = r"\\(?:text|textrm|mathrm|operatorname)\s*\{[^{}0-9]*\}|(?<![A-Za-z\\])[A-Za-z]+"
UNIT = re.compile(rf"(?:{WORD})(?:\^?\{{?[0-9]\}}?)?")
SPACE = r"\{,\}|\\[,;:!]|[\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}]"
THOUSANDS = re.compile(rf"(?<=[0-9])(?:{SPACE})(?=[0-9]{{3}}(?![0-9]))")
MINUS = re.compile(r"(^|[=:({\s])-\s+(?=[0-9])")
NO_INTEGER = re.compile(r"\\[dt]?frac|[0-9][eE][+-]?[0-9]")
RAISED = r"[\N{VULGAR FRACTION ONE HALF}\N{SUPERSCRIPT TWO}\N{SUPERSCRIPT THREE}]"
MORE = rf"(?:\s*(?:[/^*+]|\*\*)\s*[\{{(]?|[.,])[0-9]|\s*{RAISED}"
NUMBER = re.compile(rf"(?P<less>(?<![0-9])\.)?[+-]?(?:[0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9])|[0-9]+)(?P<more>{MORE})?")
MAX_DIGITS = 4300  # Python's own limit for int(str)


def extract_answer(text: str) -> tuple[int | None, bool]:
    """The first integer in `text` (None if there is none) and whether `text` is only a number.

    An integer of more than 4,300 digits is no answer (None) but can still be compliant.
    """
    _check_text(text)
    found = FIRST_INTEGER.search(text)
    compliant = ONLY_A_NUMBER.fullmatch(text) is not None
    if found is None or len(found[0].lstrip("+-")) > MAX_DIGITS:
        return None, compliant
    return int(found[0]), compliant


def sole_number(text: str) -> int | None:
    """The one integer that `text` commits to, and None if it holds none, several different ones, or no integer.

    Stricter than the first integer, and kinder to how it is written: ``1,234``, ``1{,}234`` and thin spaces are read as
    thousands separators, LaTeX is unwrapped, units and names are passed over with their exponents and digits (``cm^2``,
    ``x1``), and where something is boxed, the last box decides. A decimal, a fraction or a power is no integer.
    """
    _check_text(text)
    boxes = BOXED.findall(text)
    plain = (boxes[-1] if boxes else text).replace("\N{MINUS SIGN}", "-")
    if NO_INTEGER.search(plain):
        return None
    plain = MINUS.sub(r"\1-", THOUSANDS.sub(",", UNIT.sub(" ", plain)))
    numbers = list(NUMBER.finditer(plain))
    found = {number[0].replace(",", "") for number in numbers}
    whole = all(not n["less"] and not n["more"] and len(n[0].lstrip("+-")) <= MAX_DIGITS for n in numbers)
    if not found or not whole:
        return None
    values = {int(number) for number in found}
    return values.pop() if len(values) == 1 else None


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"an answer is read from a str, not from {type(text).__name__}")


WHITE_SPACE = frozenset(" \t\n\r\f\v")
DIGITS = frozenset("0123456789")


class Verdict(IntEnum):
    """What is known of a text so far. Only in the first five may it still be compliant.

    Only `DECIDED` can't change: the integer is over and compliance is lost.
    """

    BLANK = 0  # white space only
    MINUS = 1  # and a minus sign
    PLUS = 2  # and a plus sign
    NUMBER = 3  # a number so far, and nothing else but white space before it
    AFTER = 4  # a number and white space after it: still compliant, the integer is over
    TEXT = 5  # other text, no integer yet
    TEXT_MINUS = 6  # the same, ending in a minus sign
    NUMBER_IN_TEXT = 7  # other text, and an integer still growing
    DECIDED = 8


def verdict_after(verdict: Verdict, text: str) -> Verdict:
    """The verdict after `text` follows what led to `verdict`."""
    return advance(verdict, text)[0]


def advance(verdict: Verdict, text: str) -> tuple[Verdict, str, bool]:
    """The verdict after `text`, the digits that it adds to the first integer, and whether a minus opens that integer.

    The last is False where the integer had begun before.
    """
    digits, negative = "", False
    for character in text:
        if verdict is Verdict.DECIDED:
            break
        before, verdict = verdict, _advance_one(verdict, character)
        if verdict in (Verdict.NUMBER, Verdict.NUMBER_IN_TEXT):
            digits += character
            negative |= before in (Verdict.MINUS, Verdict.TEXT_MINUS)
    return verdict, digits, negative


def _advance_one(verdict: Verdict, character: str) -> Verdict:
    digit, space = character in DIGITS, character in WHITE_SPACE
    if verdict is Verdict.NUMBER_IN_TEXT:
        return verdict if digit else Verdict.DECIDED
    if verdict is Verdict.AFTER:
        return verdict if space else Verdict.DECIDED
    if verdict is Verdict.NUMBER:
        return verdict if digit else Verdict.AFTER if space else Verdict.DECIDED
    if verdict in (Verdict.TEXT, Verdict.TEXT_MINUS):
        return Verdict.NUMBER_IN_TEXT if digit else Verdict.TEXT_MINUS if character == "-" else Verdict.TEXT
    if digit:
        return Verdict.NUMBER
    if verdict is Verdict.BLANK and (space or character in "+-"):
        return verdict if space else Verdict.MINUS if character == "-" else Verdict.PLUS
    return Verdict.TEXT_MINUS if character == "-" else Verdict.TEXT


REFUSAL = re.compile(r"\b(i|sorry|cannot|can't|unable|please|clarify)\b")
REASONING = re.compile(r"\b(because|so|therefore|step|first|then|next|let'?s|the answer is)\b|\bcalculat")
PAPER_CLASSES = ("incomplete", "refusal", "hallucinated_steps", "extra_text", "numeric_error")


def paper_failure(text: str, extracted: int | None, correct: bool, compliant: bool) -> str | None:
    """One of `PAPER_CLASSES`, or None for a right answer."""
    if correct:
        return None
    text = text.strip()
    if not text:
        return "incomplete"
    if REFUSAL.search(text.lower()):
        return "refusal"
    if REASONING.search(text.lower()):
        return "hallucinated_steps"
    if extracted is None:
        return "incomplete"
    if not compliant and len(text) > len(str(extracted)) + 5:
        return "extra_text"
    return "numeric_error"
