"""Extends texts by drawing: every draw of every decoder is a path in one tree, each token drawn by inverse CDF.

Draws that have the same tokens so far stand on one node, which is computed once. The module knows token ids and logits;
what is asked, and what a model is, it does not know.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel.answers import Verdict
from lmrel.decoding import Decoder, stops
from lmrel.engine.forest import Prompts, walk
from lmrel.tokens import PieceReader, eos_ids

CANDIDATES = 512  # of each node, the tokens that are sorted, at most; and an eighth of the vocabulary at most
BLOCK = {"cpu": 1 << 20, "cuda": 1 << 24}  # numbers in a block as wide as the vocabulary: as a CPU's cache holds


class Uniforms:
    """Uniform numbers in [0, 1) that are a function of (seed, problem id, run, step) and of nothing else.

    They do not depend on temperature, decoder or model, so contrasts between those are paired (common random
    numbers), nor on how many runs, in what order, or in what chunks. Philox, keyed by seed and problem, with the step
    in the counter and the run as the position in the stream.
    """

    def __init__(self, seed: int, problem_ids: Sequence[str]) -> None:
        self._bits = np.random.Philox(0)
        self._generator = np.random.Generator(self._bits)
        digests = [hashlib.blake2b(f"{seed} {name}".encode(), digest_size=16).digest() for name in problem_ids]
        self._keys = [np.frombuffer(digest, dtype="<u8") for digest in digests]

    def at(self, step: int, runs: int) -> np.ndarray:
        """The numbers of one step, float64 (problems, runs)."""
        # One generator is set anew for each problem: making one would take most of the time of a small model's step.
        state = self._bits.state
        numbers = np.empty((len(self._keys), runs))
        for i, key in enumerate(self._keys):
            state["state"] = {"key": key, "counter": np.array([0, step, 0, 0], dtype=np.uint64)}
            state["buffer_pos"] = 4  # past what the generator holds ready of another problem's stream
            self._bits.state = state
            numbers[i] = self._generator.random(runs)
        return numbers


@dataclass
class Draws:
    """What one chunk's walk gives. The arrays have one entry a draw, the lists one entry a distinct answer."""

    row: np.ndarray  # which prompt
    decoder: np.ndarray  # which of the decoders
    run: np.ndarray
    processed: np.ndarray  # sum of log-probs under the decoder's own distribution
    answer: np.ndarray  # index into the lists
    token_ids: list[list[int]]
    raw: list[float]  # sum of log-probs at temperature 1, nothing processed
    nodes: int
    widest: int  # nodes at the depth that has most, of all rows together


@dataclass
class Sampler:
    """Chooses the children of a `walk` by drawing, for `prompts` of token ids, in `runs` (a greedy decoder in one).

    Runs before the one numbered `first` are left out: they were drawn before. A draw is an entry of each of ``decoder,
    run, row, at, node, processed``; ``alive`` numbers those that have not ended. A node of the present depth is an
    entry of each of ``frontier, raw, verdict, tails, seen``.
    """

    prompts: Prompts
    decoders: Sequence[Decoder]
    runs: int
    uniforms: Uniforms
    eos: Sequence[int]
    reader: PieceReader
    device: torch.device
    first: int = 0

    def __post_init__(self) -> None:
        rows, device = len(self.prompts), self.device
        ranges = [range(self.first, decoder.n_draws(self.runs)) for decoder in self.decoders]
        pairs = torch.tensor([(d, run) for d, runs in enumerate(ranges) for run in runs], device=device)
        self.decoder, self.run = pairs.repeat(rows, 1).unbind(1)
        self.runs = max(runs.stop for runs in ranges)  # one, where all are greedy
        self.row = torch.arange(rows, device=device).repeat_interleave(len(pairs))
        self.at = self.row.clone()  # which of the present depth's nodes a draw stands on
        self.node = self.row.clone()  # its last node, numbered through the whole tree of answers, roots first
        self.alive = torch.arange(len(self.row), device=device)
        self.processed = torch.zeros(len(self.row), dtype=torch.double, device=device)
        self.frontier = torch.arange(rows, device=device)  # the nodes' numbers in the whole tree
        self.raw = torch.zeros(rows, dtype=torch.double, device=device)  # their log-prob so far
        # Of all nodes: parent (of a root, a number below 0), token (of a root, none) and raw log-prob, depth by depth.
        self.nodes = [(self.frontier - rows, self.frontier, self.raw)]
        self.total, self.depth, self.widest = rows, 0, rows
        self.verdict = torch.zeros(rows, dtype=torch.long, device=device)
        # The ends of texts, where stop strings are looked for; and which tokens a repetition penalty has seen.
        self.tails = [""] * rows if any(decoder.stop_strings for decoder in self.decoders) else None
        self.seen: Tensor | None = None
        # The stop rules: of tokens, and of decoders.
        self.ends = torch.tensor(self.eos, dtype=torch.long, device=device)
        self.longest = torch.tensor([decoder.max_new_tokens for decoder in self.decoders], device=device)
        self.decided = torch.tensor([decoder.stop == "decided" for decoder in self.decoders], device=device)

    def children(self, numbers: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Let every living draw take its next token; the distinct nodes from which some go on. See `walk`."""
        if self.depth == 0 and any(decoder.repetition_penalty != 1.0 for decoder in self.decoders):
            self.seen = torch.zeros_like(logits, dtype=torch.bool)
            for row, prompt in enumerate(self.prompts):
                self.seen[row, list(prompt)] = True
        alive, vocabulary = self.alive, logits.shape[-1]
        normalizer, order = rank(logits)
        token = self._draw(logits, order)
        # Draws that take the same token on the same node share a child. Their pairs of node and token, each written as
        # one number, are made distinct; `inverse` says to which child each living draw goes.
        keys, inverse = _distinct(self.at[alive] * vocabulary + token, len(logits) * vocabulary)
        parent, child = keys // vocabulary, keys % vocabulary
        raw = self.raw[parent] + (logits[parent, child].float() - normalizer[parent])
        number = self.total + torch.arange(len(keys), device=self.device)
        self.nodes.append((self.frontier[parent], child, raw))
        self.total += len(keys)
        self.node[alive] = number[inverse]
        # One draw may end on a child, and another, of a decoder with other rules, go on from it. Only children from
        # which some draw goes on are computed: `on` picks them, and its running sum is their place in the next depth.
        ended = self._ended(parent, child, inverse)
        self.alive, going = alive[~ended], inverse[~ended]
        on = torch.zeros(len(keys), dtype=torch.bool, device=self.device)
        on[going] = True
        self.at[self.alive] = (on.cumsum(0) - 1)[going]
        self.frontier, self.raw, self.verdict = number[on], raw[on], self.verdict[on]
        if self.tails is not None:
            self.tails = [tail for tail, kept in zip(self.tails, on.tolist(), strict=True) if kept]
        if self.seen is not None:
            self.seen = self.seen[parent[on]].scatter(1, child[on, None], True)
        self.depth += 1
        self.widest = max(self.widest, len(self.frontier))
        return numbers[parent[on]], child[on]

    def _draw(self, logits: Tensor, order: Tensor) -> Tensor:
        """The next token of each living draw, from `logits` (nodes, vocabulary) and the `order` that `rank` gives."""
        token = torch.empty_like(self.alive)
        uniform = torch.from_numpy(self.uniforms.at(self.depth, self.runs)).to(self.device)
        for d, decoder in enumerate(self.decoders):
            mine = (self.decoder[self.alive] == d).nonzero().flatten()
            if len(mine):
                draw = self.alive[mine]
                used, which = _distinct(self.at[draw], len(logits))  # the nodes that this decoder's draws stand on
                seen = None if self.seen is None else self.seen[used]
                u = uniform[self.row[draw], self.run[draw]]
                token[mine], logprob = choose(decoder, logits[used], order[used], seen, which, u)
                self.processed[draw] += logprob
        return token

    def _ended(self, parent: Tensor, child: Tensor, inverse: Tensor) -> Tensor:
        """Which living draws end with the token they took: a mask of them. Verdicts and tails become the children's."""
        decoder = self.decoder[self.alive]
        ended = torch.isin(child, self.ends)[inverse] | (self.depth + 1 >= self.longest[decoder])
        self.verdict = self.verdict[parent]
        if self.decided.any():
            self.verdict = self.reader.read(self.verdict, child)
            ended |= self.decided[decoder] & (self.verdict == Verdict.DECIDED)[inverse]
        if self.tails is not None:
            pieces = [self.reader.piece(t) for t in child.tolist()]
            tails = [self.tails[p] for p in parent.tolist()]
            for d, rule in enumerate(self.decoders):
                found = [stops(tail, piece, rule.stop_strings) for tail, piece in zip(tails, pieces, strict=True)]
                ended |= (decoder == d) & torch.tensor(found, dtype=torch.bool, device=self.device)[inverse]
            kept = max(len(string) for rule in self.decoders for string in rule.stop_strings)
            self.tails = [(tail + piece)[-kept:] for tail, piece in zip(tails, pieces, strict=True)]
        return ended

    def collect(self, computed: int) -> Draws:
        """The finished draws, with each distinct answer's tokens read off the tree once."""
        parent, token, raw = (torch.cat(column).cpu().numpy() for column in zip(*self.nodes, strict=True))
        answers, answer = _distinct(self.node, self.total)
        ends, token_ids = answers.cpu().numpy(), []
        for node in ends:
            path: list[int] = []
            while parent[node] >= 0:
                path.append(int(token[node]))
                node = parent[node]
            token_ids.append(path[::-1])
        columns = (self.row, self.decoder, self.run, self.processed, answer)
        row, decoder, run, processed, which = (column.cpu().numpy() for column in columns)
        return Draws(row, decoder, run, processed, which, token_ids, raw[ends].tolist(), computed, self.widest)


def sample_chunk(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Prompts,
    problem_ids: Sequence[str],
    decoders: Sequence[Decoder],
    runs: int,
    seed: int,
    budget: float = math.inf,
    first: int = 0,
) -> Draws:
    """All draws of all decoders for `prompts`, token ids of any lengths, but for runs before the `first`."""
    uniforms, ends = Uniforms(seed, problem_ids), eos_ids(model, tokenizer)
    sampler = Sampler(prompts, decoders, runs, uniforms, ends, PieceReader(tokenizer, ends), model.device, first)
    return sampler.collect(walk(model, prompts, sampler.children, onward=True, budget=budget))


def rank(logits: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the log of the sum of exponentials, float32, and its most probable tokens, in descending order.

    The order is that of the raw logits, so one sort serves all decoders. Equal logits stand in order of token. Tokens
    equal to the lowest candidate are -1: `topk` lets in any of those.
    """
    normalizers, orders = [], []
    for block in _blocks(logits):
        rows = logits[block].float()
        normalizers.append(rows.logsumexp(dim=-1))
        values, order = rows.topk(min(CANDIDATES, -(-rows.shape[-1] // 8)), dim=-1)
        # By token, then stably by value: `topk` leaves the order of equal logits open, and draws must not depend on it.
        order, by_token = order.sort(dim=-1)
        values, by_value = values.gather(-1, by_token).sort(dim=-1, descending=True, stable=True)
        orders.append(order.gather(-1, by_value).masked_fill(values == values[:, -1:], -1))
    return torch.cat(normalizers), torch.cat(orders)


def choose(
    decoder: Decoder, logits: Tensor, order: Tensor, seen: Tensor | None, node: Tensor, u: Tensor
) -> tuple[Tensor, Tensor]:
    """The token of each draw, and its log-prob under `decoder` (float64), both (draws,).

    `logits` is (nodes, vocabulary), raw, of any floating type, `order` comes from `rank`, `seen` is a mask of the
    logits' shape or None; `node`, (draws,), says on which of them a draw stands, and `u`, float64 in [0, 1), which
    token it takes. Nothing as wide as the vocabulary is made per draw, and per node only for a block of nodes.
    """
    token = torch.empty_like(node)
    logprob = torch.empty(len(node), dtype=torch.double, device=node.device)
    for block in _blocks(logits):
        mine = (node >= block.start) & (node < block.stop)
        at, uniform = node[mine] - block.start, u[mine]
        probabilities = decoder.processed(logits[block], None if seen is None else seen[block])
        if decoder.greedy:
            taken = probabilities.argmax(dim=-1)[at]
        else:
            taken = _invert(probabilities, order[block], at, uniform)
            beyond = taken < 0
            if beyond.any():  # few are: only their nodes' whole distributions are sorted
                tail, which = torch.unique(at[beyond], return_inverse=True)
                full = logits[block][tail].float().argsort(dim=-1, descending=True, stable=True)
                taken[beyond] = _invert(probabilities[tail], full, which, uniform[beyond])
        token[mine], logprob[mine] = taken, probabilities[at, taken].log().double()
    return token, logprob


def _invert(probabilities: Tensor, order: Tensor, node: Tensor, u: Tensor) -> Tensor:
    """The token at which each draw's node's cumulative distribution first exceeds `u`; -1 if it is none of `order`.

    `probabilities` is (nodes, vocabulary), `order` (nodes, candidates) of its tokens, `node` and `u` are (draws,).
    """
    cumulative = probabilities.gather(-1, order.clamp(min=0)).double().masked_fill(order < 0, 0.0).cumsum(dim=-1)
    cumulative = cumulative.clamp(max=1.0)  # by rounding it may exceed 1 before the last, and the list must be sorted
    if order.shape == probabilities.shape:
        cumulative /= cumulative[:, -1:].clone()  # so that the last token with any mass ends at exactly 1
    else:
        cumulative[:, -1] = 1.0  # the last candidate, always -1, stands for all that is not among them
    # Node i's cumulative distribution is shifted to (i, i + 1], which makes all of them one sorted list, to be searched
    # for all draws at once instead of row by row.
    shifted = cumulative + torch.arange(len(cumulative), device=u.device)[:, None]
    # Below 1 by more than the rounding of the shift, lest a draw fall into the next node's interval.
    found = torch.searchsorted(shifted.flatten(), node + u.clamp(max=1 - 1e-9), right=True)
    return order.flatten()[found]


def _blocks(logits: Tensor) -> list[slice]:
    size = max(1, BLOCK.get(logits.device.type, BLOCK["cuda"]) // logits.shape[-1])
    return [slice(start, start + size) for start in range(0, len(logits), size)]


def _distinct(keys: Tensor, bound: int) -> tuple[Tensor, Tensor]:
    """The distinct `keys`, all below `bound`, in ascending order, and which of them each key is."""
    if bound > 8 * len(keys) + 1_000_000:
        return torch.unique(keys, return_inverse=True)
    # Without a sort, where a mask of all possible keys is small enough.
    there = torch.zeros(bound, dtype=torch.bool, device=keys.device)
    there[keys] = True
    return there.nonzero().flatten(), (there.cumsum(0) - 1)[keys]
