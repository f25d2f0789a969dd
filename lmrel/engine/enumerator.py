"""Extends the likeliest undecided texts first, and bounds what the rest could do to each outcome.

The probability of each prefix is known at all temperatures of a grid at once, since its logits depend on none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lmrel.decoding import Decoder
from lmrel.engine.automaton import Lexer

METRICS = ("correct", "compliant", "strict", "finished", "mean_logprob")
AT_ONCE = 4, 48  # nodes of one problem computed in one step: at least and at most
BLOCK = 1 << 22  # probabilities formed at a time
IMPOSSIBLE = -1e30  # log-prob of what never happens, which must not make 0 times infinity


@dataclass
class Branches:
    """Prefixes, one an entry: those waiting to be computed, or those that just were."""

    row: Tensor  # its problem
    parent: Tensor  # number of its parent node
    token: Tensor  # its last
    reading: Tensor  # its state: see `Lexer`
    progress: Tensor
    depth: Tensor  # tokens so far
    raw: Tensor  # their summed log-prob
    mass: Tensor  # (entries, temperatures): its probability

    def __getitem__(self, index: Tensor) -> Branches:
        return Branches(*(getattr(self, field.name)[index] for field in fields(self)))

    def __add__(self, other: Branches) -> Branches:
        names = [field.name for field in fields(self)]
        return Branches(*(torch.cat([getattr(self, name), getattr(other, name)]) for name in names))


@dataclass
class Enumerator:
    """Chooses the children of a `walk`: the most probable undecided prefixes, at whatever temperature."""

    lexer: Lexer
    decoders: Sequence[Decoder]  # one a temperature, else alike
    eos: Sequence[int]
    tolerance: float  # a row stops growing when each of its bounds is as narrow,
    max_nodes: int  # or when it has as many nodes
    limit: int  # tokens of a text, at most
    to_end: bool  # whether a prefix whose answer is decided is followed to the end of its text

    def __post_init__(self) -> None:
        rows, device = len(self.lexer.target), self.lexer.target.device
        self.grid = torch.tensor([decoder.temperature for decoder in self.decoders], dtype=torch.double, device=device)
        self.vocabulary = self.lexer.next.shape[1]
        self.ends = torch.isin(torch.arange(self.vocabulary, device=device), torch.tensor(self.eos, device=device))
        # Of each (row, temperature, metric), summed over the texts accounted for: the least and the most it can be.
        self.lower = torch.zeros(rows, len(self.grid), len(METRICS), dtype=torch.double, device=device)
        self.upper = torch.zeros_like(self.lower)
        self.nodes = torch.zeros(rows, dtype=torch.long, device=device)
        root, zero = torch.arange(rows, device=device), torch.zeros(rows, dtype=torch.long, device=device)
        mass = torch.ones(rows, len(self.grid), dtype=torch.double, device=device)
        self.computing = Branches(root, root, zero, zero, zero, zero, zero.double(), mass)
        self.waiting = self.computing[root[:0]]
        self.harmonic = torch.cat([zero[:1], 1 / torch.arange(1, self.limit + 1, device=device)]).double().cumsum(0)

    def children(self, numbers: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Account for every child of the nodes just computed, and choose what to compute next. See `walk`."""
        self.nodes += torch.bincount(self.computing.row, minlength=len(self.nodes))
        size, left = max(1, BLOCK // (len(self.grid) * self.vocabulary)), (self.max_nodes - self.nodes).clamp(min=0)
        for start in range(0, len(numbers), size):
            index = torch.arange(start, min(start + size, len(numbers)), device=numbers.device)
            self.waiting += self._expand(self.computing[index], numbers[index], logits[index])
            if len(self.waiting.row) > 2 * len(left) * self.max_nodes:  # more than can ever be computed, in memory
                self._cut(left)
        lower, upper = self._with_waiting()
        held = METRICS.index("mean_logprob") if self.to_end else METRICS.index("finished")
        wide = (upper - lower)[:, :, :held].amax(dim=(1, 2)) > self.tolerance
        rank = self._cut(left * wide)
        # A step computes at most half as many nodes as the tree has: enough at once to be fast, and few that are there
        # only because the better ones, children of this step, are not known yet.
        at_once = rank < (self.nodes // 2).clamp(*AT_ONCE)[self.waiting.row]
        self.computing, self.waiting = self.waiting[at_once], self.waiting[~at_once]
        return self.computing.parent, self.computing.token

    def _cut(self, left: Tensor) -> Tensor:
        """Give up what waits behind the best `left` of its row; the rank in its row, from 0, of each that is kept."""
        order = self.waiting.mass.amax(dim=1).argsort(descending=True, stable=True)
        order = order[self.waiting.row[order].argsort(stable=True)]
        row = self.waiting.row[order]
        counts = torch.bincount(row, minlength=len(self.nodes))
        rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        kept = rank < left[row]
        self._settle(self.waiting[order[~kept]])
        self.waiting = self.waiting[order[kept]]
        return rank[kept]

    def _expand(self, nodes: Branches, numbers: Tensor, logits: Tensor) -> Branches:
        """Add what the nodes' children settle to the bounds; the children that are worth computing.

        `logits` are (nodes, vocabulary), and so is what is worked out here, of every child of every node, but for
        ``mass``, (nodes, temperatures, vocabulary).
        """
        raw = (nodes.raw[:, None] + logits.double().log_softmax(dim=-1)).clamp(min=IMPOSSIBLE)
        mass = torch.stack([_probabilities(decoder, logits) for decoder in self.decoders], dim=1)
        mass *= nodes.mass[:, :, None]
        reading, progress = self.lexer.step(nodes.row, nodes.reading, nodes.progress)
        depth = nodes.depth[:, None] + 1
        ended = self.ends | (depth >= self.limit)
        known, lost = self.lexer.settled(reading, progress)
        go_on = ~ended if self.to_end else ~(ended | (known & lost))
        # A child so light that `max_nodes` like it would not matter is never computed. Its mass is not dropped: like
        # that of a child that ended, it goes into the bounds now, as far as its outcome is known.
        worth = go_on & (mass.amax(dim=1) > self.tolerance / (4 * self.max_nodes))
        lower, upper = self._outcomes(nodes.row[:, None], reading, progress, depth, raw, ended, self.ends)
        self._add(nodes.row, mass * ~worth[:, None], lower, upper)
        at, token = worth.nonzero(as_tuple=True)
        return Branches(
            nodes.row[at],
            numbers[at],
            token,
            reading[at, token],
            progress[at, token],
            nodes.depth[at] + 1,
            raw[at, token],
            mass[at, :, token],
        )

    def _outcomes(
        self, row: Tensor, reading: Tensor, progress: Tensor, depth: Tensor, raw: Tensor, ended: Tensor, eos: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The least and the greatest value that each of `METRICS` can have after these prefixes.

        All arguments broadcast to (nodes, children), and so do the values; only the least expected log-prob depends on
        temperature, and is (nodes, temperatures, children).
        """
        correct, compliant = self.lexer.outcome(row, reading, progress)
        known, lost = self.lexer.settled(reading, progress)
        known, lost = known | ended, lost | (ended & ~compliant)
        surely, maybe = correct & known, correct | ~known
        low = [surely, compliant & ended, surely & compliant & ended, eos & ended]
        high = [maybe, ~lost, maybe & ~lost, eos | ~ended]
        # The mean log-prob of a text whose n tokens have sum s, and whose m tokens to come have r <= 0, is (s + r) /
        # (n + m): at most s / (n + m), and at least s / n + the sum of r_j / (n + j). Of a token to come the expected
        # log-prob is at least -log V, at a temperature T above 1 at least that times T.
        worst = self.grid.clamp(min=1.0)[:, None] * math.log(self.vocabulary)
        rest = self.harmonic[self.limit] - self.harmonic[depth]
        left = torch.where(ended, 0.0, rest).expand(raw.shape)
        longest = torch.where(ended, depth, self.limit)
        low_mean = (raw / depth).unsqueeze(-2) - worst * left.unsqueeze(-2)
        return [*(v.double() for v in low), low_mean], [*(v.double() for v in high), raw / longest]

    def _add(self, row: Tensor, mass: Tensor, lower: list[Tensor], upper: list[Tensor]) -> None:
        """Add to the bounds of `row` the expectation over children, `mass` being (nodes, temperatures, children)."""
        for total, values in ((self.lower, lower), (self.upper, upper)):
            sums = [
                (mass * (value if value.ndim == 3 else value.expand(len(mass), -1)[:, None])).sum(dim=-1)
                for value in values
            ]
            total.index_add_(0, row, torch.stack(sums, dim=-1))

    def _settle(self, given_up: Branches) -> None:
        """Add prefixes to the bounds as they stand: whatever may follow them."""
        if len(given_up.row):
            columns = (given_up.row, given_up.reading, given_up.progress, given_up.depth, given_up.raw)
            row, reading, progress, depth, raw = (column[:, None] for column in columns)
            no = torch.zeros_like(row, dtype=torch.bool)
            bounds = self._outcomes(row, reading, progress, depth, raw, no, no)
            self._add(given_up.row, given_up.mass[:, :, None], *bounds)

    def _with_waiting(self) -> tuple[Tensor, Tensor]:
        """The bounds as they are now, whatever may follow the prefixes that wait."""
        before = self.lower.clone(), self.upper.clone()
        self._settle(self.waiting)
        now = self.lower, self.upper
        self.lower, self.upper = before
        return now

    @torch.inference_mode()
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds, each (rows, temperatures, metrics); probabilities lie in [0, 1]."""
        lower, upper = self._with_waiting()
        # Sums of probabilities may be off by rounding. A log-prob is at most 0.
        least = lower.new_tensor([0.0] * (len(METRICS) - 1) + [-math.inf])
        most = lower.new_tensor([1.0] * (len(METRICS) - 1) + [0.0])
        upper = upper.clamp(least, most)
        return torch.minimum(lower.clamp(least, most), upper), upper


def _probabilities(decoder: Decoder, logits: Tensor) -> Tensor:
    """Next-token distributions, float64 (nodes, vocabulary): in double precision where only temperature is set."""
    if decoder.greedy or not decoder.pure:
        return decoder.distribution(logits)
    logits = logits.double()
    return ((logits - logits.amax(dim=-1, keepdim=True)) / decoder.temperature).softmax(dim=-1)
