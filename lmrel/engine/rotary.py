"""Rotary factors that depend on how long a text is (longrope), for texts of any lengths that go through together.

Such a model has short factors and long ones, and transformers chooses by the highest position of all that go through
it in one call. Here each text has its own, as if it went through alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel


def longest_short(model: PreTrainedModel) -> int | None:
    """Tokens of the longest text that gets the short factors; None for a model with one set of factors."""
    for module in _long_ropes(model):
        said = module.config.rope_parameters
        kinds = [said, *(kind for kind in said.values() if isinstance(kind, dict))]  # some differ by type of layer
        return int(next(kind[name] for kind in kinds if (name := "original_max_position_embeddings") in kind))
    return None


@contextmanager
def factors_by_text(model: PreTrainedModel, long: Tensor | None, short: int) -> Iterator[None]:
    """Give each token the factors of its text: `long`, (tokens,), says whose text has more than `short` tokens.

    With None for `long` the model is left alone.
    """
    with ExitStack() as hooks:
        if long is not None:
            for module in _long_ropes(model):
                hook = module.register_forward_hook(partial(_rotate, long, short), with_kwargs=True)
                hooks.callback(hook.remove)
        yield


def _rotate(long: Tensor, short: int, module: Any, args: tuple[Any, ...], knobs: dict[str, Any], found: Any) -> None:
    """Put right the factors `found`, (1, tokens, size) each: ask again, once for the short texts, once for the long."""
    asked = dict(zip(("x", "position_ids", "layer_type"), args, strict=False)) | knobs
    positions: Tensor = asked["position_ids"]
    # A long text's first tokens may come without the later ones, so a position is added that only long texts have.
    for mine, more in ((~long, []), (long, [short])):
        if not mine.any():
            continue
        some = torch.cat([positions[:, mine], positions.new_tensor([more])], dim=1)
        for factors, own in zip(found, module.forward(**asked | {"position_ids": some}), strict=True):
            factors[:, mine] = own[:, : own.shape[1] - len(more)]


def _long_ropes(model: PreTrainedModel) -> list[Any]:
    return [module for module in model.modules() if "longrope" in str(getattr(module, "rope_type", ""))]
