"""Every estimate of bytes: what is free, what prompts and nodes take, and how many problems fit at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psutil
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from lmrel.decoding import Decoder
from lmrel.errors import InputError

T = TypeVar("T")
DRAW_BYTES = 1000  # at least, of a draw in a table; `jobs.ROW_MB` is what one takes at its summary
OUT_OF_MEMORY = ("out of memory", "not enough memory", "alloc")  # what torch says on one device or another


def free_memory(device: torch.device) -> int:
    """Bytes that are free where the model is."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch holds it, unused
        return int(torch.cuda.mem_get_info(device)[0] + cached)
    return int(psutil.virtual_memory().available)


def is_lack_of_memory(error: Exception) -> bool:
    """Whether `error` says, on one device or another, that memory does not suffice."""
    said = isinstance(error, RuntimeError) and any(said in str(error).lower() for said in OUT_OF_MEMORY)
    return said or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def in_halves(chunk: slice, work: Callable[[slice], T]) -> Iterator[tuple[slice, T]]:
    """``work`` on a chunk of problems, or on halves of it where memory does not suffice; says so.

    Raises `InputError` where it does not suffice for a single one.
    """
    waiting = [chunk]
    while waiting:
        part = waiting.pop(0)
        length = part.stop - part.start
        try:
            yield part, work(part)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_lack_of_memory(error):
                raise
            if length == 1:
                raise InputError("out of memory with a single problem; use fewer runs, nodes or new tokens.") from error
            middle = part.start + length // 2
            tqdm.write(f"out of memory with {length} problems at once; going on with {length // 2}")
            waiting[:0] = [slice(part.start, middle), slice(middle, part.stop)]


def _layers(model: PreTrainedModel) -> list[Any]:
    """The configuration of each layer: there are models whose layers differ in their heads."""
    config = model.config.get_text_config()
    same = [config] * getattr(config, "num_hidden_layers", 1)
    return list(config.per_layer_config) if config.is_heterogeneous else same


def query_heads(model: PreTrainedModel) -> int:
    """Heads of a layer's attention, at most; 1 for a model that has none."""
    return max(getattr(layer, "num_attention_heads", 1) for layer in _layers(model))


def bytes_per_token(model: PreTrainedModel) -> int:
    """What the keys and values of a token take, all layers together."""
    total = 0
    for layer in _layers(model):
        heads = getattr(layer, "num_attention_heads", 1)
        size = getattr(layer, "head_dim", None) or layer.hidden_size // heads
        total += 2 * (getattr(layer, "num_key_value_heads", None) or heads) * size
    return total * model.dtype.itemsize


def bytes_of_prompts(model: PreTrainedModel, rows: int, tokens: int, shared: int, width: int) -> float:
    """What the forward over prompts takes: their keys and values, activations of `tokens`, and the mask.

    Behind `shared` tokens, which are kept once and not counted here, a row has `width`. One layer at a time sees both.
    """
    config = model.config.get_text_config()
    widths = [getattr(layer, "intermediate_size", None) or 4 * config.hidden_size for layer in _layers(model)]
    inner = max(max(width) if isinstance(width, list) else width for width in widths)
    inner *= getattr(config, "num_experts_per_tok", None) or 1
    activations = tokens * (8 * config.hidden_size + 3 * inner) * model.dtype.itemsize
    attention = rows * width * config.hidden_size * 3 * model.dtype.itemsize
    columns, per_token = shared + width, bytes_per_token(model)
    mask = width * columns * query_heads(model) * model.dtype.itemsize
    whole = rows * columns * per_token / len(_layers(model))
    return rows * width * per_token * 1.5 + whole + activations + attention + mask


def rows_that_fit(
    model: PreTrainedModel, length: int, shared: int, decoders: Sequence[Decoder], runs: int, width: int | None = None
) -> int:
    """Rows for which half of the free memory suffices if a problem has `width` distinct nodes at a depth.

    Prompts have `length` tokens, at most, of which all share the first `shared`.
    """
    config = model.config.get_text_config()
    n_draws = sum(decoder.n_draws(runs) for decoder in decoders)
    width = min(n_draws, 16 * math.isqrt(n_draws) if width is None else max(width, 1))
    steps, own = max(decoder.max_new_tokens for decoder in decoders), length - shared
    cache = bytes_per_token(model) * 2 * width * steps + bytes_of_prompts(model, 1, own, shared, own)
    logits = width * config.vocab_size * (model.dtype.itemsize + 1)
    scores = 16 * width * (length + steps) * query_heads(model)
    return max(1, int(free_memory(model.device) / 2 / (cache + logits + scores)))


def check_size(draws: int) -> None:
    """Raise `InputError` if a table of so many draws, all of them in memory, is more than this machine can hold."""
    memory = psutil.virtual_memory().total
    if draws * DRAW_BYTES > memory:
        some = f"{draws:,}" if draws < 10**15 else "more than 10^15"
        raise InputError(
            f"these are {some} draws; a table of them does not fit into the memory of this machine, "
            f"{memory / 1e9:.0f} GB: use fewer runs, or shards of the problems."
        )
