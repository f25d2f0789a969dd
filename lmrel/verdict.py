"""What is known of an answer before it ends: the stop rule that reads text one character at a time."""

from __future__ import annotations

from enum import IntEnum

WHITE_SPACE = frozenset(" \t\n\r\f\v")
DIGITS = frozenset("0123456789")


class Verdict(IntEnum):
    """What is known of a text so far. Only `DECIDED` can't change: the integer is over and compliance is lost."""

    BLANK = 0  # white space only
    SIGN = 1  # white space and a sign
    NUMBER = 2  # a number so far, and nothing else but white space before it
    AFTER = 3  # a number and white space after it: still compliant, the integer is over
    TEXT = 4  # other text, no integer yet
    NUMBER_IN_TEXT = 5  # other text, and an integer still growing
    DECIDED = 6


def read(verdict: Verdict, text: str) -> Verdict:
    """The verdict after `text` follows what led to `verdict`."""
    for character in text:
        if verdict is Verdict.DECIDED:
            return verdict
        verdict = _read_one(verdict, character)
    return verdict


def _read_one(verdict: Verdict, character: str) -> Verdict:
    digit, space = character in DIGITS, character in WHITE_SPACE
    if verdict is Verdict.NUMBER_IN_TEXT:
        return verdict if digit else Verdict.DECIDED
    if verdict is Verdict.TEXT:
        return Verdict.NUMBER_IN_TEXT if digit else verdict
    if verdict is Verdict.AFTER:
        return verdict if space else Verdict.DECIDED
    if verdict is Verdict.NUMBER:
        return verdict if digit else Verdict.AFTER if space else Verdict.DECIDED
    if digit:
        return Verdict.NUMBER
    if verdict is Verdict.BLANK and (space or character in "+-"):
        return verdict if space else Verdict.SIGN
    return Verdict.TEXT
