"""Where the trees live: keys and values of the prompts, a row each, and of all nodes that have grown from them.

The nodes of a step, whatever tree they belong to, go through the model packed into one sequence, without padding.
Attention alone must know who sees whom. It is replaced for the length of a call by `attend`: a node sees its prompt, in
one product with the other nodes of that prompt, and its ancestors, which it looks up. So it costs the same however many
others there are. Prompts may differ in length; what all of them begin with is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import psutil
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from lmrel.decoding import Decoder
from lmrel.errors import InputError

T = TypeVar("T")
OUT_OF_MEMORY = ("out of memory", "not enough memory", "alloc")  # what torch says on one device or another


def free_memory(device: torch.device) -> int:
    """Bytes that are free where the model is."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch holds it, unused
        return int(torch.cuda.mem_get_info(device)[0] + cached)
    return int(psutil.virtual_memory().available)


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
            if isinstance(error, RuntimeError) and not any(said in str(error).lower() for said in OUT_OF_MEMORY):
                raise
            if length == 1:
                raise InputError("out of memory with a single problem; use fewer runs, nodes or new tokens.") from error
            middle = part.start + length // 2
            tqdm.write(f"out of memory with {length} problems at once; going on with {length // 2}")
            waiting[:0] = [slice(part.start, middle), slice(middle, part.stop)]


def bytes_per_token(model: PreTrainedModel) -> int:
    """What the keys and values of a token take, all layers together."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * model.dtype.itemsize)


def bytes_of_prompts(model: PreTrainedModel, rows: int, tokens: int, columns: int, width: int) -> float:
    """What the forward over prompts takes: their keys and values, activations of `tokens`, and the mask."""
    config = model.config.get_text_config()
    inner = (getattr(config, "intermediate_size", None) or 4 * config.hidden_size) * (
        getattr(config, "num_experts_per_tok", None) or 1
    )
    activations = tokens * (8 * config.hidden_size + 3 * inner) * model.dtype.itemsize
    attention = rows * width * config.hidden_size * 3 * model.dtype.itemsize
    mask = width * columns * config.num_attention_heads * model.dtype.itemsize
    return rows * columns * bytes_per_token(model) * 1.5 + activations + attention + mask


DRAW_BYTES = 1000  # at least, of a draw in a table; `jobs.ROW_MB` is what one takes at its summary


def rows_that_fit_in_memory(
    model: PreTrainedModel, length: int, decoders: Sequence[Decoder], runs: int, width: int | None = None
) -> int:
    """Rows for which half of the free memory suffices if a problem has `width` distinct nodes at a depth."""
    config = model.config.get_text_config()
    draws = sum(decoder.n_draws(runs) for decoder in decoders)
    width = min(draws, 16 * math.isqrt(draws) if width is None else max(width, 1))
    steps = max(decoder.max_new_tokens for decoder in decoders)
    cache = bytes_per_token(model) * 2 * width * steps + bytes_of_prompts(model, 1, length, length, length)
    logits = width * config.vocab_size * (model.dtype.itemsize + 1)
    scores = 16 * width * (length + steps) * config.num_attention_heads
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
