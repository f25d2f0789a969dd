"""The engine: all draws for a problem are paths in one tree of token prefixes, and each prefix is computed once.

A node is a prefix. Its logits depend on neither temperature nor run nor decoder, so every draw that shares a prefix
shares the node, and each node is computed once, in a `Forest` with a row per problem. There is one walk, and there are
two ways to choose children: drawing them (`Sampler`, here) and following all that matter (`lmrel.enumeration`).

The engine knows token ids, not problems or answers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel.choice import choose, rank
from lmrel.decoding import Decoder, stops
from lmrel.errors import InputError, shown
from lmrel.forest import Forest
from lmrel.verdict import Verdict, read

AS_IS = {"clean_up_tokenization_spaces": False}
Children = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@torch.inference_mode()
def walk(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    children: Children,
    *,
    onward: bool = False,
    budget: float = math.inf,
) -> int:
    """Grow one tree per prompt (token ids, of any lengths); the number of nodes computed, roots included.

    ``children(numbers, logits)`` is given the numbers and the raw logits, (nodes, vocabulary), of the nodes just
    computed, at first those at the ends of the prompts, and answers with the nodes to compute next: each one's
    parent, by number, and its token. None ends the walk. Once a row has no parent, nothing
    grows there again. With `onward` parents are always among the nodes just computed. `budget`: see `Forest`.
    """
    forest = Forest(model, prompts, budget, onward=onward)
    logits, numbers = forest.logits, torch.arange(len(prompts), device=model.device)
    while True:
        if not torch.isfinite(logits.amax(dim=-1)).all():  # minus infinity is what a masked token has
            name = model.config.name_or_path or type(model).__name__
            raise InputError(f"{name} returned NaN or infinite logits; its weights or its precision are broken.")
        parent, token = children(numbers, logits)
        if not len(parent):
            return forest.computed
        forest.tidy(parent)
        numbers = forest.computed + torch.arange(len(token), device=model.device)
        logits = forest.grow(parent, token)


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
    widest: int  # nodes at the depth that has most, of all rows together


@dataclass
class Sampler:
    """Chooses children by drawing. `prompts` are token ids; greedy decoders have one run, the others `runs`.

    Runs before the one numbered `first` are left out: they were drawn before.
    """

    prompts: Sequence[Sequence[int]]
    decoders: Sequence[Decoder]
    runs: int
    uniforms: Uniforms
    eos: Sequence[int]
    reader: PieceReader
    device: torch.device
    first: int = 0

    def __post_init__(self) -> None:
        rows, device = len(self.prompts), self.device
        pairs = [
            (d, run) for d, decoder in enumerate(self.decoders) for run in range(self.first, decoder.draws(self.runs))
        ]
        self.decoder, self.run = (
            torch.tensor(column, device=device).repeat(rows) for column in zip(*pairs, strict=True)
        )
        self.runs = max(run for _, run in pairs) + 1  # one, where all are greedy
        self.row = torch.arange(rows, device=device).repeat_interleave(len(pairs))
        self.at = self.row.clone()  # which of the current depth's nodes a draw stands on
        self.node = self.row.clone()  # its last node, numbered through the whole tree of answers, roots first
        self.alive = torch.arange(len(self.row), device=device)
        self.processed = torch.zeros(len(self.row), dtype=torch.double, device=device)
        roots = torch.arange(rows, device=device)
        self.frontier = roots  # the current depth's nodes, by their number in the whole tree
        self.raw = torch.zeros(rows, dtype=torch.double, device=device)  # and their log-prob so far
        self.nodes = [(roots - rows, roots, self.raw)]  # parent, token and raw log-prob, depth by depth
        self.total, self.depth, self.widest = rows, 0, rows
        self.verdict = torch.zeros(rows, dtype=torch.long, device=device)
        self.tails = [""] * rows if any(decoder.stop_strings for decoder in self.decoders) else None
        self.seen: Tensor | None = None
        # The stop rules, for tokens and for decoders.
        self.ends = torch.tensor(self.eos, dtype=torch.long, device=device)
        self.longest = torch.tensor([decoder.max_new_tokens for decoder in self.decoders], device=device)
        self.decided = torch.tensor([decoder.stop == "decided" for decoder in self.decoders], device=device)

    def children(self, numbers: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Every living draw takes its next token; the distinct nodes that go on are returned. See `walk`."""
        if self.depth == 0 and any(decoder.repetition_penalty != 1.0 for decoder in self.decoders):
            self.seen = torch.zeros_like(logits, dtype=torch.bool)
            for row, prompt in enumerate(self.prompts):
                self.seen[row, list(prompt)] = True
        alive, vocabulary = self.alive, logits.shape[-1]
        normalizer, order = rank(logits)
        token = self._draw(logits, order)
        keys, inverse = _distinct(self.at[alive] * vocabulary + token, len(logits) * vocabulary)
        parent, child = keys // vocabulary, keys % vocabulary
        raw = self.raw[parent] + (logits[parent, child].float() - normalizer[parent])
        number = self.total + torch.arange(len(keys), device=self.device)
        self.nodes.append((self.frontier[parent], child, raw))
        self.total += len(keys)
        self.node[alive] = number[inverse]
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
        """The next token of each living draw."""
        token = torch.empty_like(self.alive)
        uniform = torch.from_numpy(self.uniforms.at(self.depth, self.runs)).to(self.device)
        for d, decoder in enumerate(self.decoders):
            mine = (self.decoder[self.alive] == d).nonzero().flatten()
            if len(mine):
                draw = self.alive[mine]
                used, which = _distinct(self.at[draw], len(logits))
                seen = None if self.seen is None else self.seen[used]
                u = uniform[self.row[draw], self.run[draw]]
                token[mine], logprob = choose(decoder, logits[used], order[used], seen, which, u)
                self.processed[draw] += logprob
        return token

    def _ended(self, parent: Tensor, child: Tensor, inverse: Tensor) -> Tensor:
        """Which living draws end with the token they took."""
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

    def draws(self, computed: int) -> Draws:
        """The finished draws, with each distinct answer's tokens read off the tree once."""
        parent, token, raw = (torch.cat(column).cpu().numpy() for column in zip(*self.nodes, strict=True))
        answers, answer = (column.cpu().numpy() for column in _distinct(self.node, self.total))
        token_ids = []
        for node in answers:
            path: list[int] = []
            while parent[node] >= 0:
                path.append(int(token[node]))
                node = parent[node]
            token_ids.append(path[::-1])
        columns = (self.row, self.decoder, self.run, self.processed)
        row, decoder, run, processed = (column.cpu().numpy() for column in columns)
        return Draws(row, decoder, run, processed, answer, token_ids, raw[answers].tolist(), computed, self.widest)


def _distinct(keys: Tensor, bound: int) -> tuple[Tensor, Tensor]:
    """The distinct `keys`, all below `bound`, in ascending order, and which of them each key is."""
    if bound > 8 * len(keys) + 1_000_000:
        return torch.unique(keys, return_inverse=True)
    there = torch.zeros(bound, dtype=torch.bool, device=keys.device)
    there[keys] = True
    return there.nonzero().flatten(), (there.cumsum(0) - 1)[keys]


def sample_chunk(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    problem_ids: Sequence[str],
    decoders: Sequence[Decoder],
    runs: int,
    seed: int,
    budget: float = math.inf,
    first: int = 0,
) -> Draws:
    """All draws of all decoders for `prompts`, token ids of any lengths, but for runs before the `first`."""
    uniforms, reader = Uniforms(seed, problem_ids), PieceReader(tokenizer)
    sampler = Sampler(prompts, decoders, runs, uniforms, eos_ids(model, tokenizer), reader, model.device, first)
    return sampler.draws(walk(model, prompts, sampler.children, onward=True, budget=budget))


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a text: the checkpoint's generation config's, or else the tokenizer's."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    if configured is None:
        configured = tokenizer.eos_token_id
    if configured is None:
        return []
    ids = list(configured) if isinstance(configured, (list, tuple)) else [configured]
    size = model.config.get_text_config().vocab_size
    if not all(isinstance(token, int) and not isinstance(token, bool) and 0 <= token < size for token in ids):
        raise InputError(f"the end-of-text token is {shown(configured)}; this model has tokens from 0 to {size - 1}.")
    return ids
