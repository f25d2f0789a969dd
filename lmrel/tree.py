"""The engine: all draws for a problem are paths in one tree of token prefixes, and the tree lives in the mask.

A node is a prefix. Its logits depend on neither temperature nor run nor decoder, so every draw that shares a prefix
shares the node, and each node is computed once. A row of the batch is a problem, not a draw: the prompt is read once,
the nodes of each depth join the row's key-value cache as extra queries, and a 4-D boolean mask lets a node see the
prompt and its own ancestors only. Nothing in the cache is ever copied or reordered.

The engine knows token ids, not problems or answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from lmrel.decoding import Decoder, Verdict, read
from lmrel.errors import InputError

AS_IS = {"clean_up_tokenization_spaces": False}
Children = Callable[[int, Tensor], tuple[Tensor, Tensor]]


@torch.inference_mode()
def walk(model: PreTrainedModel, prompts: Tensor, children: Children) -> int:
    """Grow one tree per row of `prompts`, (rows, length) token ids; the number of nodes computed, roots included.

    ``children(depth, logits)`` is given the raw logits, (nodes, vocabulary), of all nodes at `depth` (at 0 the ends
    of the prompts) and answers with the nodes to compute next: the index of each one's parent among those, in
    ascending order, and its token. None ends the walk.
    """
    rows, length = prompts.shape
    device = prompts.device
    cache = DynamicCache()  # without windows: the caller makes sure that everything fits
    logits = model(prompts, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
    row, slot = torch.arange(rows, device=device), torch.zeros(rows, dtype=torch.long, device=device)
    ancestors = torch.zeros(rows, 1, 0, dtype=torch.bool, device=device)
    depth, computed = 0, rows
    while True:
        if torch.isnan(logits).any():
            raise InputError(
                f"the model returned NaN logits at depth {depth}; its weights or its precision are broken."
            )
        parent, token = children(depth, logits)
        if not len(parent):
            return computed
        new_row = row[parent]
        counts = torch.bincount(new_row, minlength=rows)
        new_slot = torch.arange(len(parent), device=device) - (counts.cumsum(0) - counts)[new_row]
        width = int(counts.max())
        ids = torch.zeros(rows, width, dtype=torch.long, device=device)
        ids[new_row, new_slot] = token
        inherited = torch.zeros(rows, width, ancestors.shape[-1], dtype=torch.bool, device=device)
        inherited[new_row, new_slot] = ancestors[new_row, slot[parent]]
        itself = torch.eye(width, dtype=torch.bool, device=device).expand(rows, -1, -1)
        ancestors = torch.cat([inherited, itself], dim=-1)
        mask = torch.cat([ancestors.new_ones(rows, width, length), ancestors], dim=-1)[:, None]
        positions = torch.full((rows, width), length + depth, device=device)
        logits = model(ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True).logits[
            new_row, new_slot
        ]
        row, slot = new_row, new_slot
        depth, computed = depth + 1, computed + len(parent)


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
        """Float64 (problems, runs)."""
        state = self._bits.state
        numbers = np.empty((len(self._keys), runs))
        for i, key in enumerate(self._keys):
            state["state"] = {"key": key, "counter": np.array([0, step, 0, 0], dtype=np.uint64)}
            state["buffer_pos"] = 4
            self._bits.state = state
            numbers[i] = self._generator.random(runs)
        return numbers


class PieceReader:
    """Applies `read` token by token; what a token adds to the text is looked up once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        # SentencePiece drops a space at the start of a text, so a piece is read behind another one.
        self.anchor = tokenizer.encode("1", add_special_tokens=False)
        self.skip = len(tokenizer.decode(self.anchor, **AS_IS))
        self.pieces: dict[int, str] = {}

    def piece(self, token: int) -> str:
        """What `token` adds to a text that has begun."""
        if token not in self.pieces:
            text = self.tokenizer.decode([*self.anchor, token], skip_special_tokens=True, **AS_IS)
            self.pieces[token] = text[self.skip :]
        return self.pieces[token]

    def read(self, verdicts: Tensor, tokens: Tensor) -> Tensor:
        """The verdict of each child, from its parent's and its token."""
        pairs = zip(verdicts.tolist(), tokens.tolist(), strict=True)
        return torch.tensor([read(Verdict(v), self.piece(t)) for v, t in pairs], device=tokens.device)


@dataclass
class Draws:
    """What one chunk's walk gives. The first four have one entry a draw, the lists one entry a distinct answer."""

    row: np.ndarray
    decoder: np.ndarray
    run: np.ndarray
    processed: np.ndarray  # sum of log-probs under the decoder's own distribution
    answer: np.ndarray  # index into the lists
    token_ids: list[list[int]]
    raw: list[float]  # sum of log-probs at temperature 1, nothing processed
    nodes: int


@dataclass
class Sampler:
    """Chooses children by drawing: inverse CDF over the tokens in descending order of raw logit.

    `prompts` is (rows, length); greedy decoders have one run, numbered 0, the others `runs`.
    """

    prompts: Tensor
    decoders: Sequence[Decoder]
    runs: int
    uniforms: Uniforms
    eos: Sequence[int]
    reader: PieceReader

    def __post_init__(self) -> None:
        rows, device = len(self.prompts), self.prompts.device
        pairs = [
            (d, run) for d, decoder in enumerate(self.decoders) for run in range(1 if decoder.greedy else self.runs)
        ]
        self.decoder, self.run = (
            torch.tensor(column, device=device).repeat(rows) for column in zip(*pairs, strict=True)
        )
        self.row = torch.arange(rows, device=device).repeat_interleave(len(pairs))
        self.at = self.row.clone()  # which of the current depth's nodes a draw stands on
        self.node = self.row.clone()  # its last node, numbered through the whole tree, roots first
        self.alive = torch.ones(len(self.row), dtype=torch.bool, device=device)
        self.processed = torch.zeros(len(self.row), dtype=torch.double, device=device)
        roots = torch.arange(rows, device=device)
        self.frontier = roots  # the current depth's nodes, by their number in the whole tree
        self.raw = torch.zeros(rows, dtype=torch.double, device=device)  # and their log-prob so far
        self.nodes = [(roots - rows, roots, self.raw)]  # parent, token and raw log-prob, depth by depth
        self.total = rows
        self.verdict = torch.zeros(rows, dtype=torch.long, device=device)
        self.seen: Tensor | None = None

    def children(self, depth: int, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Every living draw takes its next token; the distinct nodes that go on are returned. See `walk`."""
        logits = logits.float()
        vocabulary = logits.shape[-1]
        if depth == 0 and any(decoder.repetition_penalty != 1.0 for decoder in self.decoders):
            self.seen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, self.prompts, True)
        alive = self.alive.nonzero().flatten()
        token = self._draw(depth, logits, alive)
        keys, inverse = torch.unique(self.at[alive] * vocabulary + token, return_inverse=True)
        parent, child = keys // vocabulary, keys % vocabulary
        raw = self.raw[parent] + (logits[parent, child] - logits.logsumexp(dim=-1)[parent])
        self.nodes.append((self.frontier[parent], child, raw))
        number = self.total + torch.arange(len(keys), device=keys.device)
        self.total += len(keys)
        self.node[alive] = number[inverse]
        ended, verdict = self._ended(depth, alive, parent, child, inverse)
        self.alive[alive] = ~ended
        on = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
        on[inverse[~ended]] = True
        self.at[alive] = (on.cumsum(0) - 1)[inverse]
        self.frontier, self.raw, self.verdict = number[on], raw[on], verdict[on]
        if self.seen is not None:
            self.seen = self.seen[parent[on]].scatter(1, child[on, None], True)
        return parent[on], child[on]

    def _draw(self, depth: int, logits: Tensor, alive: Tensor) -> Tensor:
        token = torch.empty_like(alive)
        order = logits.argsort(dim=-1, descending=True, stable=True)
        uniform = torch.from_numpy(self.uniforms.at(depth, self.runs)).to(logits.device)
        for d, decoder in enumerate(self.decoders):
            mine = (self.decoder[alive] == d).nonzero().flatten()
            if not len(mine):
                continue
            draw = alive[mine]
            used, which = torch.unique(self.at[draw], return_inverse=True)
            probabilities = decoder.probabilities(logits[used], None if self.seen is None else self.seen[used])
            if decoder.greedy:
                taken = probabilities.argmax(dim=-1)[which]
            else:
                cumulative = probabilities.gather(-1, order[used]).double().cumsum(dim=-1)
                cumulative /= cumulative[:, -1:].clone()  # so that the last token with any mass ends at exactly 1
                # Node i's cumulative distribution is shifted to (i, i + 1], which makes all of them one sorted list.
                shifted = cumulative + torch.arange(len(used), device=logits.device)[:, None]
                # Below 1 by more than the rounding of the shift, lest a draw fall into the next node's interval.
                u = uniform[self.row[draw], self.run[draw]].clamp(max=1 - 1e-9)
                found = torch.searchsorted(shifted.flatten(), which + u, right=True)
                taken = order[used].flatten()[found]
            token[mine] = taken
            self.processed[draw] += probabilities[which, taken].log()
        return token

    def _ended(
        self, depth: int, alive: Tensor, parent: Tensor, child: Tensor, inverse: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Which living draws end with the token they took, and the verdict on each new node."""
        device = child.device
        ended = torch.isin(child, torch.tensor(self.eos, dtype=torch.long, device=device))[inverse]
        longest = torch.tensor([decoder.max_new_tokens for decoder in self.decoders], device=device)
        ended |= depth + 1 >= longest[self.decoder[alive]]
        verdict = self.verdict[parent]
        by_verdict = torch.tensor([decoder.stop == "decided" for decoder in self.decoders], device=device)
        if by_verdict.any():
            verdict = self.reader.read(verdict, child)
            ended |= by_verdict[self.decoder[alive]] & (verdict == Verdict.DECIDED)[inverse]
        return ended, verdict

    def draws(self, computed: int) -> Draws:
        """The finished draws, with each distinct answer's tokens read off the tree once."""
        parent, token, raw = (torch.cat(column).cpu().numpy() for column in zip(*self.nodes, strict=True))
        answers, answer = np.unique(self.node.cpu().numpy(), return_inverse=True)
        token_ids = []
        for node in answers:
            path: list[int] = []
            while parent[node] >= 0:
                path.append(int(token[node]))
                node = parent[node]
            token_ids.append(path[::-1])
        columns = (self.row, self.decoder, self.run, self.processed)
        row, decoder, run, processed = (column.cpu().numpy() for column in columns)
        return Draws(row, decoder, run, processed, answer, token_ids, raw[answers].tolist(), computed)


def sample_chunk(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Tensor,
    problem_ids: Sequence[str],
    decoders: Sequence[Decoder],
    runs: int,
    seed: int,
) -> Draws:
    """All draws of all decoders for prompts of one length: `prompts` is (rows, length), on the model's device."""
    uniforms, reader = Uniforms(seed, problem_ids), PieceReader(tokenizer)
    sampler = Sampler(prompts, decoders, runs, uniforms, eos_ids(model, tokenizer), reader)
    return sampler.draws(walk(model, prompts, sampler.children))


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a text: the checkpoint's generation config's, or else the tokenizer's."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    if configured is None:
        configured = tokenizer.eos_token_id
    if configured is None:
        return []
    return list(configured) if isinstance(configured, (list, tuple)) else [int(configured)]
