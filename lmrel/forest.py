"""Where the trees live: one row of keys and values per problem, in which any node can be extended.

The nodes of a step, whatever row they belong to, go through the model packed into one sequence, without padding.
Only attention needs rows: it is replaced for the length of a call by `attend`, which files the new keys and values
under (row, column) and lets each node see its own prompt and ancestors by a 4-D mask. Prompts may differ in length;
what all of them begin with is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from lmrel.errors import InputError

ATTENTION = "lmrel_forest"
CROWDED = 4  # times more columns than a node has ancestors: then each goes on in a row to itself


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, forest: Forest, **knobs: Any
) -> tuple[Tensor, None]:
    """Attention of packed nodes, (1, heads, nodes, size), over their own rows: transformers' attention interface."""
    if knobs.get("softcap") is not None or knobs.get("s_aux") is not None:
        raise InputError(f"{type(module).__name__} caps its attention or has sinks, which the tree does not support.")
    return forest.attend(module.layer_idx, query, key, value, knobs["scaling"]), None


AttentionInterface.register(ATTENTION, attend)


def shared_header(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all `prompts` begin with, none of them to its end."""
    differs = (i for i, tokens in enumerate(zip(*prompts, strict=False)) if len(set(tokens)) > 1)
    shortest = min(map(len, prompts)) - 1
    return min(next(differs, shortest), shortest)


class Forest:
    """The trees that grow from `prompts`, token ids that may differ in length; `logits` are those of their ends.

    Nodes are numbered in the order in which they were computed, from 0, the roots (the ends of the prompts) first.
    `onward` says that only the nodes computed last are ever extended; then nothing is kept for the others.
    A store or a mask of more than `budget` bytes is refused with `torch.OutOfMemoryError`, as a GPU would: where memory
    is the machine's own, the process would be killed.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        budget: float = math.inf,
        *,
        onward: bool = False,
    ) -> None:
        self.model, self.device, self.budget, self.onward = model, model.device, budget, onward
        self.store: dict[int, tuple[Tensor, Tensor]] = {}
        self.bias: Tensor | None = None
        rows, lengths = len(prompts), [len(prompt) for prompt in prompts]
        shared = shared_header(prompts) if rows > 1 else 0
        if shared:
            self.columns = shared
            own = torch.arange(shared, device=self.device)
            self._forward(self._tensor(prompts[0][:shared]), own, self._causal(shared), (own * 0, own, own), 1)
            self.store = {
                layer: (keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1))
                for layer, (keys, values) in self.store.items()
            }
        own_lengths = self._tensor(lengths) - shared
        width = int(own_lengths.max())
        row = torch.arange(rows, device=self.device).repeat_interleave(own_lengths)
        slot = torch.arange(len(row), device=self.device) - (own_lengths.cumsum(0) - own_lengths)[row]
        header = torch.ones(rows, width, shared, dtype=torch.bool, device=self.device)
        mask = torch.cat([header, self._causal(width).expand(rows, -1, -1)], dim=-1)
        self.columns = shared + width
        ids = self._tensor([token for prompt in prompts for token in prompt[shared:]])
        column = shared + slot
        self.logits = self._forward(ids, column, mask, (row, slot, column), own_lengths.cumsum(0) - 1)
        self.computed = rows
        # Of each row: the columns that all its nodes see. Of each node: its row, position, and path of columns since.
        self.trunk = torch.arange(self.columns, device=self.device) < (shared + own_lengths)[:, None]
        self.row = torch.arange(rows, device=self.device)
        self.position, self.depth = shared + own_lengths - 1, self.row * 0
        self.path = torch.empty(rows, 0, dtype=torch.long, device=self.device)
        self.first = 0  # the number of the first node in these tables

    def grow(self, parent: Tensor, token: Tensor) -> Tensor:
        """Logits, (nodes, vocabulary), of new nodes: the number of each one's parent, and its token."""
        parent = parent - self.first
        row, depth, width = self.row[parent], self.depth[parent], self.path.shape[1]
        order = torch.argsort(row, stable=True)
        counts = torch.bincount(row, minlength=len(self.trunk))
        slot = torch.empty_like(row)
        slot[order] = torch.arange(len(row), device=self.device) - (counts.cumsum(0) - counts)[row[order]]
        if int(depth.max()) == width:
            self.path = torch.nn.functional.pad(self.path, (0, 1), value=-1)
        path = self.path[parent]
        path.scatter_(1, depth[:, None], (self.columns + slot)[:, None])
        queries = int(counts.max())
        self._check_room(queries)
        mask = torch.zeros(len(self.trunk), queries, self.columns + queries, dtype=torch.bool, device=self.device)
        mask[:, :, : self.trunk.shape[1]] = self.trunk[:, None]
        node, step = (path >= 0).nonzero(as_tuple=True)
        mask[row[node], slot[node], path[node, step]] = True
        position = self.position[parent] + 1
        column = self.columns + slot
        self.columns += queries
        logits = self._forward(token, position, mask, (row, slot, column), 0)
        tables = (row, depth + 1, path, position)
        if self.onward:
            self.first = self.computed
        else:
            older = (self.row, self.depth, self.path, self.position)
            tables = tuple(torch.cat(pair) for pair in zip(older, tables, strict=True))  # type: ignore[assignment]
        self.row, self.depth, self.path, self.position = tables
        self.computed += len(token)
        return logits

    def tidy(self, parents: Tensor) -> None:
        """Drop the rows that hold none of `parents`, node numbers, once they are half of all: nothing grows there.

        Onward, where sharing no longer pays, since a node sees but a small part of its row's columns, each goes on in a
        row to itself, its path as its trunk, if memory allows.
        """
        chosen = torch.unique(parents) - self.first
        rows, remaining = self.row[chosen], torch.unique(self.row[chosen])
        alone = self.trunk.shape[1] + int(self.depth[chosen].max())
        size = self._bytes_per_column(*self.store[min(self.store)])
        if self.onward and self.columns > CROWDED * alone and 3 * len(chosen) * alone * size < self.budget:
            path = self.path[chosen]
            own = torch.arange(self.trunk.shape[1], device=self.device).expand(len(rows), -1)
            column = torch.cat([own, path.clamp(min=0)], dim=1)
            self.trunk = torch.cat([self.trunk[rows], path >= 0], dim=1)
            self._replace(lambda kept: kept[rows[:, None], :, column].transpose(1, 2).contiguous())
            self.columns = column.shape[1]
            self.path, self.depth = self.path[:, :0], self.depth * 0
            self.row[chosen] = torch.arange(len(chosen), device=self.device)
        elif 2 * len(remaining) <= len(self.trunk):
            self._replace(lambda kept: kept[remaining])
            self.trunk = self.trunk[remaining]
            # Nodes of other rows get a wrong one, and are never asked for again.
            self.row = torch.searchsorted(remaining, self.row).clamp(max=len(remaining) - 1)

    def _replace(self, change: Callable[[Tensor], Tensor]) -> None:
        for layer, (keys, values) in self.store.items():
            self.store[layer] = change(keys), change(values)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """File the new keys and values of one layer, then the nodes' attention: (1, nodes, heads, size)."""
        row, slot, column = self.place
        for kept, new in zip(self._room(layer, key, value), (key, value), strict=True):
            kept[row, :, column] = new[0].transpose(0, 1)
        keys, values = (kept[:, :, : self.columns] for kept in self.store[layer])
        rows, queries = len(keys), self.mask.shape[1]
        shared, size = key.shape[1], query.shape[-1]
        groups = query.shape[1] // shared
        # Query heads that share a key head stand side by side as queries, so that no key is repeated.
        padded = query.new_zeros(rows, shared, groups, queries, size)
        padded[row, :, :, slot] = query[0].transpose(0, 1).view(-1, shared, groups, size)
        padded = padded.view(rows, shared, groups * queries, size)
        if self.bias is None or self.bias.shape[2] != groups * queries or self.bias.dtype != query.dtype:
            hidden = query.new_zeros(self.mask.shape).masked_fill(~self.mask, float("-inf"))
            self.bias = hidden[:, None, None].expand(-1, -1, groups, -1, -1).flatten(2, 3)
        found = scaled_dot_product_attention(padded, keys, values, attn_mask=self.bias, scale=scaling)
        found = found.view(rows, -1, groups, queries, found.shape[-1]).permute(0, 3, 1, 2, 4)
        return found[row, slot].flatten(1, 2)[None]

    def _forward(
        self, ids: Tensor, position: Tensor, mask: Tensor, place: tuple[Tensor, Tensor, Tensor], keep: Any
    ) -> Tensor:
        """Logits of the packed `ids` that `keep` selects; `place` is (row, query, column) of each."""
        # A query that stands for no node sees one column, or its attention would be NaN.
        self.mask, self.place, self.bias = mask, place, None
        self.mask[:, :, 0] |= ~mask.any(dim=-1)
        config = self.model.config.get_text_config()
        before = config._attn_implementation
        config._attn_implementation = ATTENTION
        try:
            logits = self.model(
                input_ids=ids[None],
                position_ids=position[None],
                attention_mask=mask[:, None],
                use_cache=False,
                logits_to_keep=keep,
                forest=self,
            ).logits[0]
        finally:
            config._attn_implementation = before
        return logits

    def _room(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's store, enlarged if the present columns do not fit. It begins as zeros: NaN would spread."""
        rows = self.mask.shape[0]
        old = self.store.get(layer)
        if old is None or old[0].shape[2] < self.columns:
            capacity = self.columns if old is None else max(self.columns, old[0].shape[2] * 3 // 2)
            fresh = tuple(new.new_zeros(rows, new.shape[1], capacity, new.shape[-1]) for new in (key, value))
            for kept, new in zip(old or (), fresh, strict=False):
                new[:, :, : kept.shape[2]] = kept
            self.store[layer] = fresh  # type: ignore[assignment]
        return self.store[layer]

    def _bytes_per_column(self, key: Tensor, value: Tensor) -> int:
        """Of one row and all layers."""
        sizes = key.shape[1] * key.shape[-1] + value.shape[1] * value.shape[-1]
        return int(sizes * key.itemsize * self.model.config.get_text_config().num_hidden_layers)

    def _check_room(self, queries: int) -> None:
        """Raise `torch.OutOfMemoryError` if a step with that many queries a row does not fit into the budget."""
        key, value = self.store[min(self.store)]
        config = self.model.config.get_text_config()
        groups = config.num_attention_heads // key.shape[1]
        columns = max(self.columns + queries, key.shape[2])
        if columns > key.shape[2]:
            columns += columns // 2 + key.shape[2] // config.num_hidden_layers  # grown by half, one layer at a time
        mask = queries * (self.columns + queries) * (1 + groups * key.itemsize)
        needed = len(self.trunk) * (columns * self._bytes_per_column(key, value) + mask)
        if needed > self.budget:
            raise torch.OutOfMemoryError(f"out of memory: {needed:.3g} bytes are needed, {self.budget:.3g} are free")

    def _tensor(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)

    def _causal(self, size: int) -> Tensor:
        return torch.ones(1, size, size, dtype=torch.bool, device=self.device).tril()
