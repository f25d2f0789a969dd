"""Follows, token by token, whether a text can still become right or compliant under the paper's answer rule.

A text so far is a state: how far the rules of `lmrel.answers` have got in it, and how its first integer compares with
the expected one, digit by digit. The first part does not depend on the problem, the second not on the tokenizer.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import product

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
        runs: dict[str, int] = {"": 0}  # the runs of digits that tokens add, numbered
        tables = []
        pieces = [reader.piece(token) for token in range(vocabulary)]
        for reading in Verdict:
            rows = [advance(reading, piece) for piece in pieces]
            tables.append([(after, runs.setdefault(digits, len(runs)), minus) for after, digits, minus in rows])
        # (readings, vocabulary) each: the next reading, which run of digits is added, whether a minus opens it.
        self.next, self.digits, self.minus = torch.tensor(tables, dtype=torch.long, device=device).unbind(-1)
        targets = [(str(abs(value)).lstrip("0"), value < 0) for value in expected]  # zero has no digits
        self.dead = max(len(digits) for digits, _ in targets) + 2
        distinct = {target: i for i, target in enumerate(dict.fromkeys(targets))}
        self.target = torch.tensor([distinct[target] for target in targets], device=device)
        shape = (len(distinct), self.dead + 1, len(runs), 2)  # (targets, progress, runs of digits, minus)
        cases = product(distinct, range(self.dead + 1), runs, (False, True))
        after = [self._progress(*target, progress, added, minus) for target, progress, added, minus in cases]
        self.progress = torch.tensor(after, device=device).view(shape)
        self.full = torch.tensor([len(digits) + 1 for digits, _ in targets], device=device)

    def _progress(self, digits: str, negative: bool, progress: int, added: str, minus: bool) -> int:
        """The progress towards the target once the digits `added` follow, opened by a `minus` sign or not."""
        if not added or progress == self.dead:
            return progress
        if progress == 0 and minus != negative and digits:  # to zero, either sign leads
            return self.dead
        number = (digits[: max(progress - 1, 0)] + added).lstrip("0")
        return len(number) + 1 if digits.startswith(number) else self.dead

    def of(self, problems: slice) -> Lexer:
        """The same lexer for some of the problems, which are then numbered from 0."""
        part = copy.copy(self)
        part.target, part.full = self.target[problems], self.full[problems]
        return part

    def step(self, problem: Tensor, reading: Tensor, progress: Tensor) -> tuple[Tensor, Tensor]:
        """Readings and progress after every token, each (nodes, vocabulary), for nodes in these states, (nodes,)."""
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
