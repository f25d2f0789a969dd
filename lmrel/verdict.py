"""What is known of an answer before it ends: the stop rule that reads text one character at a time."""

from __future__ import annotations

from enum import IntEnum

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


def read(verdict: Verdict, text: str) -> Verdict:
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
