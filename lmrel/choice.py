"""Drawing the next token: inverse CDF over the tokens in descending order of raw logit.

Only a node's most probable tokens are sorted, once for all decoders; the few draws that fall beyond them are found by
a sort of that one node's whole distribution. Nothing as wide as the vocabulary is made per draw, and per node only for
a block of nodes at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lmrel.decoding import Decoder

CANDIDATES = 512  # of each node, the tokens that are sorted, at most; and an eighth of the vocabulary at most
BLOCK = 1 << 24  # numbers in a block as wide as the vocabulary


def rank(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row the log of the sum of exponentials, float32, and its highest tokens in descending order.

    Equal logits stand in order of token. Tokens equal to the lowest candidate, of which chance let some in, are -1.
    """
    normalizers, orders = [], []
    for block in _blocks(logits):
        rows = logits[block].float()
        normalizers.append(rows.logsumexp(dim=-1))
        values, order = rows.topk(min(CANDIDATES, -(-rows.shape[-1] // 8)), dim=-1)
        order, by_token = order.sort(dim=-1)
        values, by_value = values.gather(-1, by_token).sort(dim=-1, descending=True, stable=True)
        orders.append(order.gather(-1, by_value).masked_fill(values == values[:, -1:], -1))
    return torch.cat(normalizers), torch.cat(orders)


def choose(
    decoder: Decoder, logits: Tensor, order: Tensor, seen: Tensor | None, node: Tensor, u: Tensor
) -> tuple[Tensor, Tensor]:
    """The token of each draw, and its log-prob under `decoder` (float64).

    `logits` is (nodes, vocabulary), raw, of any floating type, `order` comes from `rank`, `seen` is a mask of the
    logits' shape or None; `node`, (draws,), says on which of them a draw stands, and `u`, float64 in [0, 1), which
    token it takes.
    """
    token = torch.empty_like(node)
    logprob = torch.empty(len(node), dtype=torch.double, device=node.device)
    for block in _blocks(logits):
        mine = (node >= block.start) & (node < block.stop)
        at, uniform = node[mine] - block.start, u[mine]
        probabilities = decoder.probabilities(logits[block], None if seen is None else seen[block])
        if decoder.greedy:
            taken = probabilities.argmax(dim=-1)[at]
        else:
            taken = _invert(probabilities, order[block], at, uniform)
            beyond = taken < 0
            if beyond.any():
                tail, which = torch.unique(at[beyond], return_inverse=True)
                full = logits[block][tail].float().argsort(dim=-1, descending=True, stable=True)
                taken[beyond] = _invert(probabilities[tail], full, which, uniform[beyond])
        token[mine], logprob[mine] = taken, probabilities[at, taken].log().double()
    return token, logprob


def _blocks(logits: Tensor) -> list[slice]:
    size = max(1, BLOCK // logits.shape[-1])
    return [slice(start, start + size) for start in range(0, len(logits), size)]


def _invert(probabilities: Tensor, order: Tensor, node: Tensor, u: Tensor) -> Tensor:
    """The token at which each node's cumulative distribution first exceeds `u`; -1 if it is none of `order`."""
    cumulative = probabilities.gather(-1, order.clamp(min=0)).double().masked_fill(order < 0, 0.0).cumsum(dim=-1)
    cumulative = cumulative.clamp(max=1.0)  # by rounding it may exceed 1 before the last, and the list must be sorted
    if order.shape == probabilities.shape:
        cumulative /= cumulative[:, -1:].clone()  # so that the last token with any mass ends at exactly 1
    else:
        cumulative[:, -1] = 1.0
    # Node i's cumulative distribution is shifted to (i, i + 1], which makes all of them one sorted list.
    shifted = cumulative + torch.arange(len(cumulative), device=u.device)[:, None]
    # Below 1 by more than the rounding of the shift, lest a draw fall into the next node's interval.
    found = torch.searchsorted(shifted.flatten(), node + u.clamp(max=1 - 1e-9), right=True)
    return order.flatten()[found]
