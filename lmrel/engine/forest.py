"""Where the trees live: keys and values of the prompts and of all that grew from them, and the attention over both.

The nodes of a step, whatever tree they belong to, go through the model packed into one sequence, without padding.
Attention alone must know who sees whom. It is replaced for the length of a call by `attend`: a node sees what all
prompts begin with, in one product with all other nodes, then its own prompt, in one with the nodes of that prompt, and
its ancestors, which it looks up. So it costs the same however many others there are. Prompts may differ in length; what
all of them begin with is computed once, and kept once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from lmrel.engine.memory import bytes_of_prompts, bytes_per_token, is_lack_of_memory, query_heads
from lmrel.engine.rotary import factors_by_text, longest_short
from lmrel.errors import InputError

ATTENTION = "lmrel_forest"
OWN_ATTENTION = "its attention, if it has any, does more than go through transformers' AttentionInterface"
Prompts = Sequence[Sequence[int]]  # token ids, of any lengths
FOREST: ContextVar[Forest] = ContextVar("forest")  # whose forward this is; not every model hands on keywords


def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **knobs: Any) -> tuple[Tensor, None]:
    """Attention of packed nodes, (1, heads, nodes, size), over their own rows: transformers' attention interface."""
    scaling = knobs.get("scaling") or query.shape[-1] ** -0.5
    scoring = Scoring(scaling, knobs.get("sliding_window"), knobs.get("softcap"), knobs.get("s_aux"))
    return FOREST.get().attend(query, key, value, scoring), None


AttentionInterface.register(ATTENTION, attend)


def shared_header(prompts: Prompts) -> int:
    """How many tokens all `prompts` begin with, none of them to its end."""
    differs = (i for i, tokens in enumerate(zip(*prompts, strict=False)) if len(set(tokens)) > 1)
    shortest = min(map(len, prompts)) - 1
    return min(next(differs, shortest), shortest)


def refusal(model: PreTrainedModel) -> str:
    """How a sentence begins that says why the engine does not run on `model`."""
    return f"{type(model).__name__} cannot be run as a tree of prefixes"


class Scoring(NamedTuple):
    """How a layer turns products of queries and keys into weights."""

    scaling: float
    window: int | None  # a token sees so many, itself the last
    softcap: float | None  # scores are squeezed to between minus this and this
    sinks: Tensor | None  # (heads,), the score of something that takes weight and has no value

    def weights(self, products: Tensor, mask: Tensor, sinks: Tensor | None) -> Tensor:
        """The softmax of scaled `products`, (..., keys), over the keys that `mask` lets see; `sinks` are (..., 1)."""
        if self.softcap is not None:
            products = self.softcap * (products / self.softcap).tanh()
        scores = products.masked_fill_(~mask, float("-inf"))
        if sinks is None:
            return scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)
        scores = torch.cat([scores, sinks.to(scores.dtype).expand(*scores.shape[:-1], 1)], dim=-1)
        return scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)[..., :-1]


class Step(NamedTuple):
    """What attention must know of the tokens that go through the model in one call."""

    row: Tensor  # (tokens,): the prompt of each
    slot: Tensor  # (tokens,): its number among those of that prompt
    most: int  # tokens of one prompt, at most
    rows: int  # prompts
    mask: Tensor  # what each sees: (most, columns) of prompts' tokens, the same for all rows, (nodes, columns) of nodes
    ancestors: Tensor | None = None  # of nodes: (nodes, path), the numbers of those that each may see
    position: Tensor | None = None  # of nodes: (nodes,), in the text
    depth: Tensor | None = None  # of nodes: (nodes,), how many ancestors each has

    def within(self, window: int | None) -> Tensor:
        """The mask without what lies `window` tokens back or more."""
        size, columns = self.mask.shape
        if window is None or columns <= window:
            return self.mask
        if self.ancestors is None or self.position is None or self.depth is None:
            return self.mask.triu(columns - size - window + 1)
        back = self.position[:, None] - torch.arange(columns, device=self.mask.device)
        path = self.depth[:, None] - torch.arange(self.ancestors.shape[1], device=self.mask.device)
        back[:, columns - path.shape[1] :] = path
        return self.mask & (back < window)


class Forest:
    """The trees that grow from `prompts`, token ids that may differ in length; `logits` are those of their ends.

    Nodes are numbered in the order in which they were computed, from 0, the roots (the ends of the prompts) first.
    `onward` says that only the nodes computed last are ever extended; then less is kept of the others.
    A step that needs more than `budget` bytes is refused with `torch.OutOfMemoryError`, as a GPU would: where memory
    is the machine's own, the process would be killed.
    """

    def __init__(
        self, model: PreTrainedModel, prompts: Prompts, budget: float = math.inf, *, onward: bool = False
    ) -> None:
        self.model, self.device, self.budget, self.onward = model, model.device, budget, onward
        # Keys and values by layer: (heads, columns, size) of what all prompts begin with, (rows, heads, columns, size)
        # of the rest of each, (heads, nodes, size) of what grew. Layers are numbered as they attend: some models have
        # two of one `layer_idx`, or go through a layer twice.
        self.header: dict[int, list[Tensor]] = {}
        self.prompts: dict[int, list[Tensor]] = {}
        self.nodes: dict[int, list[Tensor]] = {}
        self.steps: dict[torch.device, Step] = {}  # the present one, on each device that holds layers
        self.heads = query_heads(model)
        rows, lengths = len(prompts), [len(prompt) for prompt in prompts]
        # Which rows get a longrope model's long factors, None where none does. Long and short ones share no header.
        self.short = longest_short(model) or max(lengths)
        self.long = self._tensor(lengths) > self.short if max(lengths) > self.short else None
        shared = shared_header(prompts) if rows > 1 and (self.long is None or self.long.all()) else 0
        if shared:  # what all prompts begin with goes through the model as one prompt of its own, before the rest
            own = torch.arange(shared, device=self.device)
            step = Step(own * 0, own, shared, 1, self._causal(shared, 0))
            self._forward(self._tensor(prompts[0][:shared]), own, step, 1)
            self.header = {layer: [kept[0] for kept in pair] for layer, pair in self.prompts.items()}
        own_lengths = self._tensor(lengths) - shared
        width = int(own_lengths.max())
        row = torch.arange(rows, device=self.device).repeat_interleave(own_lengths)
        slot, _ = _number_in_row(row)
        ids = self._tensor([token for prompt in prompts for token in prompt[shared:]])
        self._check(bytes_of_prompts(model, rows, len(ids), shared, width) + shared * bytes_per_token(model))
        step = Step(row, slot, width, rows, self._causal(width, shared))
        self.logits = self._forward(ids, shared + slot, step, own_lengths.cumsum(0) - 1)
        self.roots = self.computed = rows
        # Of each row: which columns its prompt fills. Of each node from number `first` on: its row, position, depth
        # and path, the numbers of its ancestors and its own, counted without the roots, then -1.
        self.filled = torch.arange(shared + width, device=self.device) < (shared + own_lengths)[:, None]
        self.row = torch.arange(rows, device=self.device)
        self.position, self.depth = shared + own_lengths - 1, self.row * 0
        self.path = torch.empty(rows, 0, dtype=torch.long, device=self.device)
        self.first = 0

    def grow(self, parent: Tensor, token: Tensor) -> Tensor:
        """Logits, (nodes, vocabulary), of new nodes: the number of each one's parent, and its token, both (nodes,)."""
        parent = parent - self.first
        row, depth, position = self.row[parent], self.depth[parent], self.position[parent] + 1
        slot, counts = _number_in_row(row)
        # A node's path is its parent's and itself, filed under its own number. Depths differ between rows, so the table
        # of paths is as wide as the deepest node needs; -1 stands in what a path leaves empty.
        if int(depth.max()) == self.path.shape[1]:
            self.path = torch.nn.functional.pad(self.path, (0, 1), value=-1)
        path = self.path[parent]
        numbers = self.computed - self.roots + torch.arange(len(row), device=self.device)
        path.scatter_(1, depth[:, None], numbers[:, None])
        self._check_room(len(row))
        tables = (row, depth + 1, position, path)
        if self.onward:  # nobody asks for the older nodes again: only their keys and values are kept
            self.first = self.computed
        else:
            older = (self.row, self.depth, self.position, self.path)
            tables = tuple(torch.cat(pair) for pair in zip(older, tables, strict=True))  # type: ignore[assignment]
        self.row, self.depth, self.position, self.path = tables
        self.computed += len(token)
        # What a node sees: the filled columns of its prompt, then its path. An empty place of a path is looked up as
        # node 0, and masked.
        sees = torch.cat([self.filled[row], path >= 0], dim=1)
        step = Step(row, slot, int(counts.max()), len(self.filled), sees, path.clamp(min=0), position, depth)
        return self._forward(token, position, step, 0)

    def tidy(self, parents: Tensor) -> None:
        """Drop the prompts of which no node is one of `parents`, by number, once they are half of all."""
        remaining = torch.unique(self.row[parents - self.first])
        if 2 * len(remaining) <= len(self.filled):
            for layer, (keys, values) in self.prompts.items():
                kept = remaining.to(keys.device)
                self.prompts[layer] = [keys[kept], values[kept]]
            self.filled = self.filled[remaining]
            self.long = None if self.long is None else self.long[remaining]
            # Nodes of other rows get a wrong one, and are never asked for again.
            self.row = torch.searchsorted(remaining, self.row).clamp(max=len(remaining) - 1)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring) -> Tensor:
        """File the new keys and values of one layer, then the tokens' attention: (1, tokens, heads, size)."""
        self.layer += 1
        # Query heads that share a key head stand together, so that no key is repeated: (heads, tokens, group, size).
        queries = query[0].unflatten(0, (key.shape[1], -1)).transpose(1, 2)  # type: ignore[no-untyped-call]
        if scoring.sinks is not None:  # (heads, group), as queries stand
            scoring = scoring._replace(sinks=scoring.sinks.view(len(queries), -1))
        step = self._step(key.device)
        attend = self._attend_prompts if step.ancestors is None else self._attend_nodes
        return attend(step, queries, key[0], value[0], scoring).transpose(0, 1).flatten(1, 2)[None]

    def _step(self, device: torch.device) -> Step:
        """The present step, where a layer is."""
        if device not in self.steps:
            moved = [part.to(device) if isinstance(part, Tensor) else part for part in self.steps[self.device]]
            self.steps[device] = Step(*moved)  # type: ignore[arg-type]
        return self.steps[device]

    def _attend_prompts(self, step: Step, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring) -> Tensor:
        """Prompts, padded to rows of one length, see each its own row: plain causal attention."""
        size = len(step.mask)
        filed = []
        for new in (key, value):
            rows = new.new_zeros(step.rows, new.shape[0], size, new.shape[-1])
            rows[step.row, :, step.slot] = new.transpose(0, 1)
            filed.append(rows)
        self.prompts[self.layer] = filed
        # One layer's whole rows at a time: what they share is kept once.
        keys, values = (
            torch.cat([header.expand(step.rows, -1, -1, -1), rows], dim=2)
            for header, rows in zip(self._header(key, value), filed, strict=True)
        )
        group, mask = query.shape[2], step.within(scoring.window)
        queries = _to_rows(query, step)
        if scoring.softcap is None and scoring.sinks is None:
            hidden = query.new_zeros(mask.shape).masked_fill(~mask, float("-inf")).repeat(group, 1)
            found = scaled_dot_product_attention(queries, keys, values, hidden, scale=scoring.scaling)
        else:
            sinks = None if scoring.sinks is None else scoring.sinks.repeat_interleave(size, dim=1)[..., None]
            products = (q * scoring.scaling @ k.mT for q, k in zip(queries, keys, strict=True))
            weights = (scoring.weights(of_row, mask.repeat(group, 1), sinks) for of_row in products)
            # Row by row: the scores of all at once may not fit.
            found = torch.stack([w @ v for w, v in zip(weights, values, strict=True)])
        return _from_rows(found, group, step)

    def _attend_nodes(self, step: Step, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring) -> Tensor:
        """Nodes see what all prompts begin with, their own prompt and their ancestors: one softmax over all scores.

        All nodes share the keys of the beginning, so those scores are one product, (heads, nodes, columns). The nodes
        of a row share the keys of its prompt: one product a row, (rows, heads, nodes, columns). Both are read once,
        however many nodes there are. Ancestors are few, at most one a depth, and differ from node to node, so their
        keys are gathered: (heads, nodes, path, size).
        """
        assert step.ancestors is not None
        query, ancestors = query * scoring.scaling, step.ancestors
        keys, values = (
            kept.index_select(1, ancestors.flatten()).view(len(kept), *ancestors.shape, -1)
            for kept in self._filed(key, value)
        )
        header_keys, header_values = self._header(key, value)
        prompt_keys, prompt_values = self.prompts[self.layer]
        group, sizes = query.shape[2], [header_keys.shape[1], prompt_keys.shape[2], ancestors.shape[1]]

        def by_header(nodes: Tensor, header: Tensor) -> Tensor:
            return (nodes.flatten(1, 2) @ header).unflatten(1, nodes.shape[1:3])  # type: ignore[no-untyped-call]

        def by_prompt(nodes: Tensor, prompts: Tensor) -> Tensor:
            return _from_rows(_to_rows(nodes, step) @ prompts, group, step)

        products = torch.cat(
            [by_header(query, header_keys.mT), by_prompt(query, prompt_keys.mT), query @ keys.mT], dim=-1
        )
        sinks = None if scoring.sinks is None else scoring.sinks[:, None, :, None]
        weights = scoring.weights(products, step.within(scoring.window)[:, None], sinks)
        of_header, of_prompt, of_path = weights.split(sizes, dim=-1)  # type: ignore[no-untyped-call]
        return by_header(of_header, header_values) + by_prompt(of_prompt, prompt_values) + of_path @ values

    def _header(self, key: Tensor, value: Tensor) -> list[Tensor]:
        """The layer's keys and values of what all prompts begin with; of no columns where that is nothing."""
        return self.header.get(self.layer) or [new[:, :0] for new in (key, value)]

    def _filed(self, key: Tensor, value: Tensor) -> list[Tensor]:
        """The layer's keys and values of all nodes, the new ones included; room is made for half as many again."""
        total = self.computed - self.roots
        old = self.nodes.get(self.layer, [])
        room = old[0].shape[1] if old else 0
        if room < total:
            self.nodes[self.layer] = [
                new.new_empty(new.shape[0], max(total, room * 3 // 2), new.shape[-1]) for new in (key, value)
            ]
            for kept, larger in zip(old, self.nodes[self.layer], strict=False):
                larger[:, :room] = kept
        for kept, new in zip(self.nodes[self.layer], (key, value), strict=True):
            kept[:, total - new.shape[1] : total] = new
        return self.nodes[self.layer]

    def _forward(self, ids: Tensor, position: Tensor, step: Step, keep: Any) -> Tensor:
        """Logits of the packed `ids` that `keep` selects."""
        self.steps, self.layer = {self.device: step}, 0
        config = self.model.config.get_text_config()
        before, token = config._attn_implementation, FOREST.set(self)
        config._attn_implementation = ATTENTION
        try:
            with factors_by_text(self.model, None if self.long is None else self.long[step.row], self.short):
                logits: Tensor = self.model(
                    input_ids=ids[None],
                    position_ids=position[None],
                    attention_mask=step.mask.view(1, 1, -1, step.mask.shape[-1]),  # passed on for its four dimensions
                    use_cache=False,
                    logits_to_keep=keep,
                ).logits[0]
            if not self.layer:
                raise NotImplementedError("nothing attended")
        except Exception as error:
            if self.layer or is_lack_of_memory(error):
                raise
            raise InputError(f"{refusal(self.model)}: {OWN_ATTENTION}.") from error
        finally:
            config._attn_implementation = before
            FOREST.reset(token)
        # Some models give the logits of all tokens, whatever they are asked for.
        return logits[keep] if isinstance(keep, Tensor) and len(logits) == len(ids) else logits

    def _check_room(self, new: int) -> None:
        """Raise `torch.OutOfMemoryError` if a step to `new` nodes does not fit into the budget."""
        trunk = self.filled.shape[1]
        pairs = [*self.header.values(), *self.prompts.values()]
        kept = sum(part.nbytes for pair in pairs for part in pair)
        in_layers = [sum(part[0, :, 0].nbytes for part in pair) for pair in self.prompts.values()]
        per_layer, per_node = max(in_layers), sum(in_layers)
        total = self.computed - self.roots + new
        stored = kept + total * 3 // 2 * (per_node + per_layer)  # grown by half, a layer at a time
        seen = new * (trunk + self.path.shape[1])
        self._check(stored + new * self.path.shape[1] * per_layer + seen * self.heads * 16)

    def _check(self, needed: float) -> None:
        if needed > self.budget:
            raise torch.OutOfMemoryError(f"out of memory: {needed:.3g} bytes are needed, {self.budget:.3g} are free")

    def _tensor(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)

    def _causal(self, size: int, header: int) -> Tensor:
        """What `size` tokens behind a header see: (size, header + size). Rows with fewer are padded on the right."""
        return torch.ones(size, header + size, dtype=torch.bool, device=self.device).tril(header)


def _number_in_row(row: Tensor) -> tuple[Tensor, Tensor]:
    """Each entry's number among those of its row, from 0, in order; and how many entries each row has."""
    counts = torch.bincount(row)
    order = torch.argsort(row, stable=True)
    number = torch.empty_like(row)
    number[order] = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row[order]]
    return number, counts


def _to_rows(tokens: Tensor, step: Step) -> Tensor:
    """(heads, tokens, group, x) as (rows, heads, group * most, x), zeros where a row has fewer tokens."""
    padded = tokens.new_zeros(step.rows, tokens.shape[0], tokens.shape[2], step.most, tokens.shape[-1])
    padded[step.row, :, :, step.slot] = tokens.transpose(0, 1)
    return padded.flatten(2, 3)


def _from_rows(padded: Tensor, group: int, step: Step) -> Tensor:
    """The reverse of `_to_rows`: (heads, tokens, group, x)."""
    return padded.unflatten(2, (group, -1))[step.row, :, :, step.slot].transpose(0, 1)  # type: ignore[no-untyped-call]


Children = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@torch.inference_mode()
def walk(
    model: PreTrainedModel, prompts: Prompts, children: Children, *, onward: bool = False, budget: float = math.inf
) -> int:
    """Grow one tree per prompt; the number of nodes computed, roots included.

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
