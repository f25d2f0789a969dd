"""Exact response to temperature: instead of drawing, follow every continuation that matters, with certified bounds.

The probability of each prefix is known at all temperatures of a grid at once, since its logits depend on none. The tree
grows best first: by the highest probability, over the grid, of what is still undecided. What was not followed
counts as unknown, so the truth lies between the bounds wherever the walk stops (up to the model's own arithmetic).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel.decoding import Decoder
from lmrel.errors import InputError, check_count, shown
from lmrel.lexer import Lexer
from lmrel.memory import free_memory, in_halves
from lmrel.probes import check_model, check_tree
from lmrel.problems import as_rows
from lmrel.prompts import encode_problems
from lmrel.tree import PieceReader, eos_ids, walk

METRICS = ("correct", "compliant", "strict", "finished", "mean_logprob")
CHUNK = 64  # problems whose trees grow together
AT_ONCE = 48  # nodes of one problem computed in one step, at most
BLOCK = 1 << 22  # probabilities formed at a time
IMPOSSIBLE = -1e30  # log-prob of what never happens, which must not make 0 times infinity


def enumerate_outcomes(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: pd.DataFrame,
    temperatures: Iterable[float],
    *,
    tolerance: float = 0.01,
    max_nodes: int = 1000,
    prompt_style: str = "few_shot",
    max_new_tokens: int = 16,
    stop: str = "decided",
    chunk: int = CHUNK,
    **knobs: Any,
) -> pd.DataFrame:
    """Bounds on what sampling does with each problem: columns ``problem_id, temperature, metric, lower, upper``.

    Metrics are probabilities that an answer is ``correct`` (its first integer), ``compliant`` (only a number),
    ``strict`` (both) and ``finished`` (end of text within `max_new_tokens`), and ``mean_logprob``, the expected mean
    log-prob per token, raw, in nats. A problem's tree grows until the first three are known to `tolerance` at every
    temperature or until it has `max_nodes` nodes; then the bounds are as wide as they are. Temperature 0 is greedy.

    With ``stop="decided"`` a branch is closed once nothing later can change the first three; how it ends is
    then unknown, and ``finished`` and ``mean_logprob`` are bounded only. ``"eos"`` follows each branch to its end and
    holds ``finished`` to the tolerance too. ``attrs["nodes"]`` is the number of nodes computed.
    `knobs` are those of a `Decoder` beside temperature, such as ``top_p=0.8``; without any sampling is pure. Repetition
    penalty and stop strings are not supported. Raises `InputError` for parameters out of range.
    """
    given: Any = temperatures
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"temperatures is {shown(temperatures)}; it must be a list such as [0.0, 0.7].")
    decoders = [Decoder(t, max_new_tokens=max_new_tokens, stop=stop, **knobs) for t in temperatures]
    if len({decoder.temperature for decoder in decoders}) < len(decoders):
        raise InputError(f"temperatures is {shown(temperatures)}; each may occur once.")
    if any(decoder.repetition_penalty != 1 or decoder.stop_strings for decoder in decoders):
        raise InputError("enumeration supports no repetition_penalty and no stop_strings.")
    check_count("max_nodes", max_nodes, most=10**9)
    check_count("chunk", chunk)
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance <= 1:
        raise InputError(f"tolerance is {shown(tolerance)}; it must be a number from 0 to 1.")
    rows = as_rows(problems)
    if not rows or not decoders:
        raise InputError("there is nothing to enumerate: no problems or no temperatures.")
    encoded = encode_problems(rows, prompt_style, tokenizer)
    check_model(model, encoded, max_new_tokens)
    check_tree(model, encoded[0])
    eos, vocabulary = eos_ids(model, tokenizer), model.config.get_text_config().vocab_size
    lexer = Lexer(PieceReader(tokenizer), vocabulary, [int(row["answer"]) for row in rows], model.device)

    def grow(block: slice) -> tuple[Tensor, Tensor, int]:
        enumerator = Enumerator(lexer.of(block), decoders, eos, tolerance, max_nodes, max_new_tokens, stop == "eos")
        nodes = walk(model, encoded[block], enumerator.children, budget=0.8 * free_memory(model.device))
        return *enumerator.bounds(), nodes

    chunks = [slice(start, min(start + chunk, len(rows))) for start in range(0, len(rows), chunk)]
    parts = [part for whole in chunks for _, part in in_halves(whole, grow)]
    lowers, uppers, nodes = zip(*parts, strict=True)
    lower, upper = (torch.cat(column).cpu().flatten().numpy() for column in (lowers, uppers))
    index = pd.MultiIndex.from_product(
        [[row["problem_id"] for row in rows], [float(decoder.temperature) for decoder in decoders], METRICS],
        names=["problem_id", "temperature", "metric"],
    )
    table = index.to_frame(index=False).assign(lower=lower, upper=upper)
    table.attrs["nodes"] = sum(nodes)
    return table


@dataclass
class Branches:
    """Prefixes, one an entry: those waiting to be computed, or those that just were."""

    row: Tensor  # its problem
    parent: Tensor  # number of its parent node
    token: Tensor
    reading: Tensor
    progress: Tensor
    depth: Tensor  # tokens so far
    raw: Tensor  # their summed log-prob
    mass: Tensor  # (entries, temperatures): its probability

    def __getitem__(self, index: Tensor) -> Branches:
        return Branches(*(getattr(self, field.name)[index] for field in fields(self)))

    def __add__(self, other: Branches) -> Branches:
        names = [field.name for field in fields(self)]
        return Branches(*(torch.cat([getattr(self, name), getattr(other, name)]) for name in names))


class Enumerator:
    """Chooses children by following the most probable undecided prefixes. See `walk`."""

    def __init__(
        self,
        lexer: Lexer,
        decoders: Sequence[Decoder],
        eos: Sequence[int],
        tolerance: float,
        max_nodes: int,
        limit: int,
        to_end: bool,
    ) -> None:
        self.lexer, self.decoders, self.tolerance, self.max_nodes = lexer, decoders, tolerance, max_nodes
        self.limit, self.to_end = limit, to_end
        rows, device = len(lexer.target), lexer.target.device
        self.grid = torch.tensor([decoder.temperature for decoder in decoders], dtype=torch.double, device=device)
        self.vocabulary = lexer.next.shape[1]
        self.eos = torch.isin(torch.arange(self.vocabulary, device=device), torch.tensor(list(eos), device=device))
        # Of each (row, temperature, metric): what is certain, and what is not.
        self.lower = torch.zeros(rows, len(self.grid), len(METRICS), dtype=torch.double, device=device)
        self.upper = torch.zeros_like(self.lower)
        self.nodes = torch.zeros(rows, dtype=torch.long, device=device)
        root, zero = torch.arange(rows, device=device), torch.zeros(rows, dtype=torch.long, device=device)
        mass = torch.ones(rows, len(self.grid), dtype=torch.double, device=device)
        self.computing = Branches(root, root, zero, zero, zero, zero, zero.double(), mass)
        self.waiting = self.computing[root[:0]]
        self.harmonic = torch.cat([zero[:1], 1 / torch.arange(1, limit + 1, device=device)]).double().cumsum(0)

    def children(self, numbers: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Account for every child of the nodes just computed; the prefixes to compute next."""
        self.nodes += torch.bincount(self.computing.row, minlength=len(self.nodes))
        size, left = max(1, BLOCK // (len(self.grid) * self.vocabulary)), (self.max_nodes - self.nodes).clamp(min=0)
        for start in range(0, len(numbers), size):
            index = torch.arange(start, min(start + size, len(numbers)), device=numbers.device)
            self.waiting += self._expand(self.computing[index], numbers[index], logits[index])
            if len(self.waiting.row) > 2 * len(left) * self.max_nodes:
                self._cut(left)
        lower, upper = self._with_waiting()
        held = METRICS.index("mean_logprob") if self.to_end else METRICS.index("finished")
        wide = (upper - lower)[:, :, :held].amax(dim=(1, 2)) > self.tolerance
        rank = self._cut(left * wide)
        at_once = rank < (self.nodes // 2).clamp(4, AT_ONCE)[self.waiting.row]
        self.computing, self.waiting = self.waiting[at_once], self.waiting[~at_once]
        return self.computing.parent, self.computing.token

    def _cut(self, left: Tensor) -> Tensor:
        """Give up what stands behind the best `left` of its row; of what is left its rank in its row, from 0."""
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
        """Add what the nodes' children settle to the bounds; the children that are worth computing."""
        raw = (nodes.raw[:, None] + logits.double().log_softmax(dim=-1)).clamp(min=IMPOSSIBLE)
        mass = torch.stack([_probabilities(decoder, logits) for decoder in self.decoders], dim=1)
        mass *= nodes.mass[:, :, None]
        reading, progress = self.lexer.step(nodes.row, nodes.reading, nodes.progress)
        depth = nodes.depth[:, None] + 1
        ended = self.eos | (depth >= self.limit)
        right, no_more = self.lexer.settled(reading, progress)
        go_on = ~ended & (torch.full_like(ended, self.to_end) | ~(right & no_more))
        worth = go_on & (mass.amax(dim=1) > self.tolerance / (4 * self.max_nodes))
        lower, upper = self._outcomes(nodes.row[:, None], reading, progress, depth, raw, ended, self.eos)
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
        self,
        row: Tensor,
        reading: Tensor,
        progress: Tensor,
        depth: Tensor,
        raw: Tensor,
        ended: Tensor,
        finished: Tensor,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The least and the greatest value that each of `METRICS` can have after these prefixes, given the grid.

        The shapes of all broadcast; an expected log-prob has one more dimension for the grid, the second.
        """
        correct, compliant = self.lexer.outcome(row, reading, progress)
        known, lost = self.lexer.settled(reading, progress)
        known, lost = known | ended, lost | (ended & ~compliant)
        low = [correct & known, compliant & ended, correct & known & compliant & ended, finished & ended]
        high = [correct | ~known, ~lost, (correct | ~known) & ~lost, finished | ~ended]
        # Per token, the expected log-prob is at least -log V, at a temperature above 1 at least that times T; and
        # (s + r) / (n + m) with r <= 0 is at least s / n + the sum of r_j / (n + j).
        worst = self.grid.clamp(min=1.0)[:, None] * math.log(self.vocabulary)
        rest = self.harmonic[self.limit] - self.harmonic[depth]
        mean = raw / depth
        left = torch.where(ended, 0.0, rest)
        longest = torch.where(ended, depth, self.limit)
        low_mean = mean.unsqueeze(-2) - worst * left.expand(mean.shape).unsqueeze(-2)
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
        if len(given_up.row):
            self._add(given_up.row, given_up.mass[:, :, None], *self._outcomes_of(given_up))

    def _outcomes_of(self, branches: Branches) -> tuple[list[Tensor], list[Tensor]]:
        columns = (branches.row, branches.reading, branches.progress, branches.depth, branches.raw)
        row, reading, progress, depth, raw = (column[:, None] for column in columns)
        no = torch.zeros_like(row, dtype=torch.bool)
        return self._outcomes(row, reading, progress, depth, raw, no, no)

    def _with_waiting(self) -> tuple[Tensor, Tensor]:
        """The bounds as they are now, everything that waits being unknown."""
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
    """In double precision where temperature is alone, and else as sampled."""
    if decoder.greedy:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits, dtype=torch.double).scatter_(1, best, 1.0)
    if not decoder.pure:
        return decoder.probabilities(logits, None).double()
    logits = logits.double()
    return ((logits - logits.amax(dim=-1, keepdim=True)) / decoder.temperature).softmax(dim=-1)
