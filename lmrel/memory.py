"""Work in chunks that fit: how much memory is free, and halving a chunk that turns out too large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import psutil
import torch
from tqdm import tqdm

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
