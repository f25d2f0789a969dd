"""The answer rules: how an answer is read from a text, each by name, and the paper's classes of failure.

The rules read characters. They know no model, no token and no problem. `advance` applies the first rule to a text that
is still being written, and says when nothing later can change its answer.
"""

from __future__ import annotations

import re
from enum import IntEnum

SPACES, DIGITS = " \t\n\r\f\v", frozenset("0123456789")  # ASCII only: any other space, digit or minus sign is text
FIRST_INTEGER = re.compile("[+-]?[0-9]+")
ONLY_A_NUMBER = re.compile(f"[{SPACES}]*[+-]?[0-9]+[{SPACES}]*")
MAX_DIGITS = 4300  # Python's own limit for int(str)


def extract_answer(text: str) -> tuple[int | None, bool]:
    """The first integer in `text` (None if there is none) and whether `text` is only a number.

    An integer of more than 4,300 digits is no answer (None) but can still be compliant.
    """
    found = FIRST_INTEGER.search(text)
    compliant = ONLY_A_NUMBER.fullmatch(text) is not None
    if found is None or len(found[0].lstrip("+-")) > MAX_DIGITS:
        return None, compliant
    return int(found[0]), compliant


class Verdict(IntEnum):
    """What `extract_answer` will find in a text, as far as it has been written.

    Only in the first five states may it still be compliant. Only `DECIDED` cannot change: the integer is over and
    compliance is lost.
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


_AFTER_TEXT = (Verdict.NUMBER_IN_TEXT, Verdict.TEXT, Verdict.TEXT_MINUS, Verdict.TEXT, Verdict.TEXT)
_AFTER_SIGN = (Verdict.NUMBER, *_AFTER_TEXT[1:])
_NEXT = {  # after a digit, white space, a minus sign, a plus sign, anything else
    Verdict.BLANK: (Verdict.NUMBER, Verdict.BLANK, Verdict.MINUS, Verdict.PLUS, Verdict.TEXT),
    Verdict.MINUS: _AFTER_SIGN,
    Verdict.PLUS: _AFTER_SIGN,
    Verdict.NUMBER: (Verdict.NUMBER, Verdict.AFTER, *[Verdict.DECIDED] * 3),
    Verdict.AFTER: (Verdict.DECIDED, Verdict.AFTER, *[Verdict.DECIDED] * 3),
    Verdict.TEXT: _AFTER_TEXT,
    Verdict.TEXT_MINUS: _AFTER_TEXT,
    Verdict.NUMBER_IN_TEXT: (Verdict.NUMBER_IN_TEXT, *[Verdict.DECIDED] * 4),
    Verdict.DECIDED: (Verdict.DECIDED,) * 5,
}
_KIND = dict.fromkeys(DIGITS, 0) | dict.fromkeys(SPACES, 1) | {"-": 2, "+": 3}  # of characters: columns of `_NEXT`


def advance(verdict: Verdict, text: str) -> tuple[Verdict, str, bool]:
    """The verdict after `text`, the digits that it adds to the first integer, and whether a minus opens that integer.

    The last is False where the integer had begun before.
    """
    digits, negative = "", False
    for character in text:
        before, verdict = verdict, _NEXT[verdict][_KIND.get(character, 4)]
        if verdict in (Verdict.NUMBER, Verdict.NUMBER_IN_TEXT):
            digits += character
            negative |= before in (Verdict.MINUS, Verdict.TEXT_MINUS)
    return verdict, digits, negative


def verdict_after(verdict: Verdict, text: str) -> Verdict:
    """The verdict after `text` follows what led to `verdict`."""
    return advance(verdict, text)[0]


# How `sole_number` reads what a model writes around, into or behind a number.
# A minus before a box is its sign, unless it follows a number or a variable.
SIGN = r"(?:(?:^|[=:({\[$]|[A-Za-z]{2}(?= )) *(-) *)?"
BOXED = re.compile(SIGN + r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}", re.MULTILINE)
WORD = r"\\(?:text|textrm|mathrm|operatorname)\s*\{[^{}0-9]*\}|(?<![A-Za-z\\])[A-Za-z]+"
# A word with its exponent or index, such as cm^2 and m², or x1; but the digits of USD106 are a number.
UNIT = re.compile(rf"(?<![A-Za-z\\])[A-Za-z]{{1,2}}[0-9](?![0-9])|(?:{WORD})(?:[\^_]\{{?[0-9]+\}}?|[\u00b2\u00b3])?")
SPACE = r"\{,\}|\\[,;:!]|[\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}]"
THOUSANDS = re.compile(rf"(?<=[0-9])(?:{SPACE})(?=[0-9]{{3}}(?![0-9]))")
DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u207b\u2212\u2796\ufe63\uff0d"), "-")  # written for minus
BRACED = re.compile(r"(?:\\(?:text|textrm|mathrm|operatorname))?\{\s*([+-]|[+-]?[0-9][0-9,.]*)\s*\}")
# A sign in words or set apart from its number; after a number it is an operator.
BETWEEN = r"(?:\\?[$\u20ac\u00a3\u00a5({]|\\left\b|\\[,;:!]|[\s\u200b\u2060])*"  # as in -$14 and -(14)
MINUS = re.compile(rf"(^|[=:({{\s$])(?:-|(?:minus|negative)\b){BETWEEN}(?=[0-9])", re.IGNORECASE)
NO_INTEGER = re.compile(r"\\[dt]?frac|[0-9][eE][+-]?[0-9]|\u00b1|\\pm\b")
RAISED = r"[\N{VULGAR FRACTION ONE HALF}\N{SUPERSCRIPT TWO}\N{SUPERSCRIPT THREE}]"
MORE = rf"(?:\s*(?:[/^*+]|\*\*)\s*[\{{(]?|[.,])[0-9]|\s*{RAISED}"  # what makes it a part of something else
NUMBER = re.compile(rf"(?P<less>(?<![0-9])\.)?[+-]?(?:[0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9])|[0-9]+)(?P<more>{MORE})?")


def sole_number(text: str) -> int | None:
    """The one integer that `text` commits to, and None if it holds none, several different ones, or no integer.

    Stricter than the first integer, and kinder to how it is written: ``1,234``, ``1{,}234`` and thin spaces are read as
    thousands separators, LaTeX is unwrapped, units and names are passed over with their exponents and digits (``cm^2``,
    ``x1``), and where something is boxed, the last box decides. A decimal, a fraction or a power is no integer.
    """
    plain = text.translate(DASHES)
    if boxes := BOXED.findall(plain):
        plain = "".join(boxes[-1])
    if NO_INTEGER.search(plain):
        return None
    plain = MINUS.sub(r"\1-", BRACED.sub(r"\1", THOUSANDS.sub(",", plain)))
    plain = UNIT.sub(" ", plain)
    numbers = list(NUMBER.finditer(plain))
    if any(number["less"] or number["more"] or len(number[0].lstrip("+-")) > MAX_DIGITS for number in numbers):
        return None
    values = {int(number[0].replace(",", "")) for number in numbers}
    return values.pop() if len(values) == 1 else None


# The paper's rules, in the paper's order, because order and patterns decide the shares: analyze_failures.py of
# kabirrgrover/lm-reliability-sparsity. Its class "wrong_operation" is named there and never assigned.
REFUSAL = re.compile(r"\b(i|sorry|cannot|can't|unable|please|clarify)\b")  # the bare word "I" included
REASONING = re.compile(r"\b(because|so|therefore|step|first|then|next|let'?s|the answer is)\b|\bcalculat")
PAPER_CLASSES = ("incomplete", "refusal", "hallucinated_steps", "extra_text", "numeric_error")


def paper_failure(text: str, extracted: int | None, correct: bool, compliant: bool) -> str | None:
    """Why the paper's rules call an answer wrong: one of `PAPER_CLASSES`, or None for a right answer."""
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
