"""From a text to an answer: the paper's first-integer rule, compliance, and a stricter rule beside them.

Digits are ASCII 0-9 and white space is ASCII white space; any other character is text. A minus sign counts as a
sign when it stands right before the digits, whatever stands before it ("5-3" holds 5, then -3). A plus sign counts as a
sign too; the paper's pattern for compliance knows only the minus.
"""

from __future__ import annotations

import re

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
