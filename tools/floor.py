"""The least time any engine could take: one plain forward over the tokens that none can avoid.

The floor knows the trees beforehand: nothing is chosen and nothing is kept, which an engine cannot do without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from book.analysis.prefixes import Prefix
from lmrel.engine.forest import shared_header

T = TypeVar("T")


def by_length(items: Sequence[T], length: Callable[[T], int] = len) -> list[list[T]]:  # type: ignore[assignment]
    """The items in groups of equal length, in the order in which lengths first occur."""
    groups = defaultdict(list)
    for item in items:
        groups[length(item)].append(item)
    return list(groups.values())


def bare_forward(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], trees: Sequence[Sequence[Prefix]], rows: int | None = None
) -> Callable[[], None]:
    """A function that computes `prompts` and their trees; the header that all prompts share goes through once.

    Prompts are token ids; a tree holds the prefixes of its answers, parents first. Masks are made beforehand, so that
    only forwards are on the clock. At most `rows` prompts go through at once, all if None.
    """
    shared = shared_header(prompts)
    rest = [(prompt[shared:], tree) for prompt, tree in zip(prompts, trees, strict=True)]
    alike = by_length(rest, lambda row: len(row[0]))
    groups = [group[i : i + (rows or len(group))] for group in alike for i in range(0, len(group), rows or len(group))]
    batches = [[tensor.to(model.device) for tensor in floor_batch(group, shared)] for group in groups]
    header = torch.tensor([list(prompts[0][:shared])], device=model.device)

    @torch.inference_mode()
    def forward() -> None:
        first = DynamicCache()
        model(header, past_key_values=first, use_cache=True, logits_to_keep=1)
        for ids, positions, mask in batches:
            kept = [(layer.keys, layer.values) for layer in first.layers]
            cache = DynamicCache([tuple(tensor.expand(len(ids), -1, -1, -1) for tensor in pair) for pair in kept])
            model(ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True)

    return forward


def floor_batch(rows: Sequence[tuple[Sequence[int], Sequence[Prefix]]], shared: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, positions and mask of a forward over `rows`: what is left of a prompt, all of one length, and its tree.

    Ids and positions are (rows, width); the mask is boolean (rows, 1, width, shared + width). A node sees the header of
    `shared` tokens, the rest of its prompt, its ancestors and itself.
    """
    length = len(rows[0][0])
    width = max(length + len(tree) - 1 for _, tree in rows)
    ids, positions = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(2))
    mask = torch.zeros(len(rows), width, shared + width, dtype=torch.bool)
    mask[:, :, :shared] = True
    mask[:, :length, shared : shared + length] = torch.ones(length, length, dtype=torch.bool).tril()
    for r, (prompt, tree) in enumerate(rows):
        place = {prefix: length - 1 + i for i, prefix in enumerate(tree)}
        for prefix, at in place.items():
            if prefix:
                ids[r, at], positions[r, at] = prefix[-1], shared + length + len(prefix) - 1
                mask[r, at] = mask[r, place[prefix[:-1]]]
                mask[r, at, shared + at] = True
        ids[r, :length], positions[r, :length] = torch.tensor(prompt), shared + torch.arange(length)
    return ids, positions, mask[:, None]
