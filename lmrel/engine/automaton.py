"""Follows, token by token, whether a text can still become right or compliant under the paper's answer rule.

A text so far is a state: how far the rules of `lmrel.answers` have got in it, and how its first integer compares with
the expected one, digit by digit. The first part does not depend on the problem, the second not on the tokenizer.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from lmrel.answers import Verdict, advance
from lmrel.tokens import PieceReader


class Lexer:
    """The states of answers to problems whose `expected` integers are given, over the tokens of a vocabulary.

    A state is a pair of tensors: reading, a `Verdict`, and progress. Progress 0: no integer yet; 1 + k: the first
    integer, leading zeros aside, is so far the first k digits of the expected one, sign included; `dead`: it is not.
    """

    def __init__(self, reader: PieceReader, vocabulary: int, expected: Sequence[int], device: torch.device) -> None:
        runs: dict[str, int] = {"": 0}
        tables = []
        pieces = [reader.piece(token) for token in range(vocabulary)]
        for reading in Verdict:
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
        if progress - 1 > len(digits):
            return self.dead
        sofar = digits[: max(progress - 1, 0)]
        number = (sofar + added).lstrip("0")
        return len(number) + 1 if digits.startswith(number) else self.dead

    def step(self, problem: Tensor, reading: Tensor, progress: Tensor) -> tuple[Tensor, Tensor]:
        """Next readings and progress, each (nodes, vocabulary), after every token."""
        choices = self.progress[self.target[problem], progress]  # (nodes, runs of digits, 2)
        index = self.digits[reading] * 2 + self.minus[reading]
        return self.next[reading], choices.flatten(1).gather(1, index)

    def outcome(self, problem: Tensor, reading: Tensor, progress: Tensor) -> tuple[Tensor, Tensor]:
        """Whether a text that ends in this state is correct, and whether it is compliant; shapes broadcast."""
        return progress == self.full[problem], (reading == Verdict.NUMBER) | (reading == Verdict.AFTER)

    def settled(self, reading: Tensor, progress: Tensor) -> tuple[Tensor, Tensor]:
        """Whether nothing later can change correctness, and whether compliance is lost for good."""
        over = (reading == Verdict.AFTER) | (reading == Verdict.DECIDED)
        return over | (progress == self.dead), reading > Verdict.AFTER
