"""Where the time of a call goes: shares of its parts, by torch's own profiler."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

PARTS = {  # what stands for a part, in the name of an operator of torch; the first that fits counts
    "attention": ("scaled_dot_product", "flash_attention"),
    "matrix products": ("::mm", "::addmm", "::bmm", "::baddbmm", "grouped_mm", "::linear"),
    "copying and indexing": ("copy", "index", "zero", "fill", "::cat", "gather", "scatter", "nonzero"),
}
OTHER, OUTSIDE = "other tensor work", "outside torch"


def part_of(operator: str) -> str:
    """The part that an operator belongs to."""
    return next((part for part, names in PARTS.items() if any(name in operator for name in names)), OTHER)


def shares(task: Callable[[], Any]) -> dict[str, float]:
    """The share of each part in the time of ``task()`` on the CPU; they add up to 1.

    The profiler slows small operators and Python down, so the last two parts are somewhat too large.
    """
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        began = time.perf_counter()
        task()
        seconds = time.perf_counter() - began
    found = dict.fromkeys([*PARTS, OTHER], 0.0)
    for event in profiled.key_averages():
        found[part_of(event.key)] += event.self_cpu_time_total / 1e6 / seconds
    return found | {OUTSIDE: 1 - sum(found.values())}
