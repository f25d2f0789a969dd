"""One start, two bodies: a dense model widened, and the same model with experts, each computing what it computed.

Every second feed-forward block is replaced. At first both bodies give the logits of the original, whatever the router
does, and both run twice its neurons a token; only routing differs. See the book's plan of the experiment on a real
model. The module changes a model in place and knows no data.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lmrel.errors import InputError

EXPERTS, CHOSEN = 4, 2  # as many neurons run as in the widened body
SPREAD = 0.1  # of the weights' own deviation: by how much the two of a pair of neurons differ


class Experts(nn.Module):
    """Copies of a feed-forward block behind a router that gives each token to `CHOSEN` of them, as in Mixtral.

    Their weights are the softmax over the chosen, so they sum to 1 and copies give what the block gave.
    """

    def __init__(self, block: nn.Module, width: int, seed: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, EXPERTS, bias=False)
        self.experts = nn.ModuleList(copy.deepcopy(block) for _ in range(EXPERTS))
        with torch.no_grad():
            self.router.weight.copy_(_drawn(self.router.weight, seed, 0.02))

    def forward(self, hidden: Tensor) -> Tensor:
        """What the chosen experts make of `hidden` (…, width), weighted."""
        tokens = hidden.reshape(-1, hidden.shape[-1])
        best, chosen = self.router(tokens).topk(CHOSEN, dim=-1)
        weights = best.softmax(dim=-1)
        out = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            token, place = (chosen == number).nonzero(as_tuple=True)
            out = out.index_add(0, token, expert(tokens[token]) * weights[token, place, None])
        return out.view_as(hidden)


def widen(model: Any, seed: int = 0) -> Any:
    """The model with every second feed-forward block twice as wide: each neuron there twice, both at half weight.

    Twins would get the same gradients and never part. So their output weights differ by a draw that cancels.
    """
    for number, layer in _replaced(model):
        block = layer.mlp
        inner = block.gate_proj.out_features
        for name in ("gate_proj", "up_proj"):
            setattr(block, name, _linear(getattr(block, name).weight.repeat(2, 1)))
        half = block.down_proj.weight / 2
        apart = _drawn(half, seed + number, SPREAD * float(half.std()))
        block.down_proj = _linear(torch.cat([half + apart, half - apart], dim=1))
        block.intermediate_size = 2 * inner
    return model


def upcycle(model: Any, seed: int = 0) -> Any:
    """The model with `EXPERTS` copies of every second feed-forward block as its experts, behind a fresh router."""
    for number, layer in _replaced(model):
        layer.mlp = Experts(layer.mlp, layer.mlp.gate_proj.in_features, seed + number)
    return model


@torch.no_grad()
def permute(model: Any, by: int = 1) -> None:
    """Let every router of an upcycled model give its tokens to other experts, `by` numbers further on."""
    for module in model.modules():
        if isinstance(module, Experts):
            module.router.weight.copy_(module.router.weight.roll(by, dims=0))


def _replaced(model: Any) -> list[tuple[int, Any]]:
    """Every second layer of a Llama-like model with its number; `InputError` for blocks that are built otherwise."""
    layers = list(enumerate(model.model.layers))[1::2]
    for number, layer in layers:
        parts = [getattr(layer.mlp, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
        if not all(type(part) is nn.Linear and part.bias is None for part in parts):
            raise InputError(f"the feed-forward block {number} is no plain gated one without biases, as Llama's are.")
    return layers


def _linear(weight: Tensor) -> nn.Linear:
    with torch.device(weight.device):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.detach().clone())
    return linear


def _drawn(like: Tensor, seed: int, deviation: float) -> Tensor:
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    return (deviation * drawn).to(like)
