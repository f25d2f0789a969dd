"""What every token does to the reading of an answer, for all texts at once: the verdict's automaton over tokens.

A text so far is a state: how far the rules of `lmrel.answers` have got in it, and how its first integer compares with
the expected one, digit by digit. The first part does not depend on the problem, the second not on the tokenizer.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

from lmrel.decoding import DIGITS, WHITE_SPACE
from lmrel.tree import PieceReader


class Reading(IntEnum):
    """How far a text has been read. Only in the first five may it still be compliant."""

    BLANK = 0  # white space only
    MINUS = 1  # and a minus sign
    PLUS = 2  # and a plus sign
    NUMBER = 3  # a number so far and nothing else but white space before it
    AFTER = 4  # a number, and white space after it
    TEXT = 5  # other text, no integer yet
    TEXT_MINUS = 6  # the same, ending in a minus sign
    NUMBER_IN_TEXT = 7  # other text, and an integer still growing
    OVER = 8  # other text, and the first integer is over


def advance(reading: Reading, text: str) -> tuple[Reading, str, bool]:
    """The reading after `text`, the digits that it adds to the first integer, and whether a minus opens that integer.

    The last is False where the integer had begun before.
    """
    digits, negative = "", False
    for character in text:
        before = reading
        reading = _advance_one(reading, character)
        if reading in (Reading.NUMBER, Reading.NUMBER_IN_TEXT):
            digits += character
            negative |= before in (Reading.MINUS, Reading.TEXT_MINUS)
    return reading, digits, negative


def _advance_one(reading: Reading, character: str) -> Reading:
    digit, space = character in DIGITS, character in WHITE_SPACE
    if reading is Reading.OVER:
        return reading
    if reading is Reading.NUMBER_IN_TEXT:
        return reading if digit else Reading.OVER
    if reading is Reading.AFTER:
        return reading if space else Reading.OVER
    if reading is Reading.NUMBER:
        return reading if digit else Reading.AFTER if space else Reading.OVER
    if reading in (Reading.TEXT, Reading.TEXT_MINUS):
        return Reading.NUMBER_IN_TEXT if digit else Reading.TEXT_MINUS if character == "-" else Reading.TEXT
    if digit:
        return Reading.NUMBER
    if reading is Reading.BLANK and (space or character in "+-"):
        return reading if space else Reading.MINUS if character == "-" else Reading.PLUS
    return Reading.TEXT_MINUS if character == "-" else Reading.TEXT


class Lexer:
    """The states of answers to problems whose `expected` integers are given, over the tokens of a vocabulary.

    A state is a pair of tensors (reading, progress). Progress 0: no integer yet; 1 + k: the first integer, leading
    zeros aside, is so far the first k digits of the expected one, sign included; `dead`: it is not.
    """

    def __init__(self, reader: PieceReader, vocabulary: int, expected: Sequence[int], device: torch.device) -> None:
        self.device = device
        runs: dict[str, int] = {"": 0}
        tables = []
        pieces = [reader.piece(token) for token in range(vocabulary)]
        for reading in Reading:
            rows = [advance(reading, piece) for piece in pieces]
            tables.append([(after, runs.setdefault(digits, len(runs)), minus) for after, digits, minus in rows])
        # (readings, vocabulary) each: the next reading, which run of digits is added, whether a minus opens it.
        self.next, self.digits, self.minus = torch.tensor(tables, dtype=torch.long, device=device).unbind(-1)
        targets = [(str(abs(value)) if value else "", value < 0, value == 0) for value in expected]
        self.dead = max(len(digits) for digits, *_ in targets) + 2
        distinct = {target: i for i, target in enumerate(dict.fromkeys(targets))}
        self.target = torch.tensor([distinct[target] for target in targets], device=device)
        self.progress = torch.tensor(
            [
                [
                    [[self._progress(target, progress, digits, minus) for minus in (False, True)] for digits in runs]
                    for progress in range(self.dead + 1)
                ]
                for target in distinct
            ],
            device=device,
        )  # (targets, progress, runs of digits, minus)
        self.full = torch.tensor([len(digits) + 1 for digits, *_ in targets], device=device)

    def of(self, problems: slice) -> Lexer:
        """The same for some of the problems, numbered from 0."""
        part = copy.copy(self)
        part.target, part.full = self.target[problems], self.full[problems]
        return part

    def _progress(self, target: tuple[str, bool, bool], progress: int, added: str, minus: bool) -> int:
        digits, negative, zero = target
        if not added or progress == self.dead:
            return progress
        if progress == 0 and minus != negative and not zero:
            return self.dead
        sofar = digits[: max(progress - 1, 0)]
        if progress - 1 > len(digits):
            return self.dead
        number = (sofar + added).lstrip("0")
        return len(number) + 1 if digits.startswith(number) else self.dead

    def step(self, problem: Tensor, reading: Tensor, progress: Tensor) -> tuple[Tensor, Tensor]:
        """Next readings and progress, each (nodes, vocabulary), after every token."""
        choices = self.progress[self.target[problem], progress]  # (nodes, runs of digits, 2)
        index = self.digits[reading] * 2 + self.minus[reading]
        return self.next[reading], choices.flatten(1).gather(1, index)

    def outcome(self, problem: Tensor, reading: Tensor, progress: Tensor) -> tuple[Tensor, Tensor]:
        """Whether a text that ends in this state is correct, and whether it is compliant; shapes broadcast."""
        return progress == self.full[problem], (reading == Reading.NUMBER) | (reading == Reading.AFTER)

    def settled(self, reading: Tensor, progress: Tensor) -> tuple[Tensor, Tensor]:
        """Whether nothing later can change correctness, and whether compliance is lost for good."""
        over = (reading == Reading.AFTER) | (reading == Reading.OVER)
        return over | (progress == self.dead), reading > Reading.AFTER
