"""Tables of the page on large models: what each is and needs, and the commands that evaluate it.

What is known of a model comes from `lmrel.registry`; times are read from what `tools.bench_gpu` left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from shlex import quote
from typing import Any

import pandas as pd

from book.figures.text import Lines, plain
from lmrel.registry import REGISTRY, ModelSpec
from study.costs import memory_needed

DEVICES = {  # bytes that programs can use
    "laptop GPU, 8 GB": 7.5e9,
    "T4, 16 GB": 15.5e9,
    "RTX 4090, 24 GB": 24.5e9,
    "A100, 40 GB": 42e9,
    "A100 or H100, 80 GB": 84e9,
    "H200, 141 GB": 148e9,
}


def fits_on(memory: float) -> str:
    """The name of the smallest of `DEVICES` that has `memory` bytes, or "several GPUs" where none has."""
    return next((name for name, size in DEVICES.items() if size >= memory), "several GPUs")


def known_models() -> pd.DataFrame:
    """The registry's large models: what each is, where it comes from, and the memory for its own precision."""
    rows = [
        {
            "model": spec.name,
            "fits on": fits_on(_needs(spec, spec.precision)),
            "memory": f"{_needs(spec, spec.precision) / 1e9:.1f} GB",
            "precision": spec.precision,
            "kind": f"{'sparse' if spec.sparse else 'dense'}, {'instruct' if spec.instruct else 'base'}",
            "parameters": _billions(spec.total),
            "for one token": _billions(spec.active),
            "licence": spec.licence,
            "gated": "yes" if spec.gated else "",
            "repo": spec.repo,
            "revision": spec.revision[:7],
        }
        for spec in REGISTRY.values()
        if not spec.tiny
    ]
    return plain(pd.DataFrame(rows))


def commands(models: Iterable[str], precision: str = "nf4", runs: int = 16) -> list[str]:
    """A shell command for each of `models` that evaluates it, all in one precision and with pure decoding."""
    return [
        f"papermill notebooks/evaluate.ipynb {quote(f'{name}.ipynb')} -p model {quote(name)} -p precision {precision} "
        f"-p decoding pure -p stop decided -p runs {runs} -p output_dir {quote(f'results/{name}')}"
        for name in models
    ]


def memory_by_precision() -> pd.DataFrame:
    """The memory that the registry's large models need in each precision, and the smallest device that has it."""
    specs = {spec.shape: spec for spec in REGISTRY.values() if not spec.tiny}
    cells = {}
    for precision in ("nf4", "bf16", "fp32"):
        needed = [_needs(spec, precision) for spec in specs.values()]
        cells[precision] = [f"{memory / 1e9:.1f} GB · {fits_on(memory)}" for memory in needed]
    return plain(pd.DataFrame({"model": list(specs), **cells}))


def _needs(spec: ModelSpec, precision: str) -> float:
    """The bytes that a run of a model in this precision needs."""
    return memory_needed(spec.weights(precision))


def _billions(count: int) -> str:
    """A count in billions, like ``6.92 B``."""
    return f"{count / 1e9:.2f} B"


def basis(record: Mapping[str, Any]) -> Lines:
    """Where the times at full size were measured, or that they were not."""
    if not record:
        return Lines(["Not measured: no GPU was at hand for this book. On a CUDA machine, make bench-gpu measures it."])
    where = f"{record['date']} on {record['device']}, with random weights at full size"
    return Lines([f"Measured on {where}, by {record['command']}."])


def full_size(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `tools.bench_gpu`: seconds for the whole experiment, and how many times as long its peers take."""
    columns = {
        "model": rows["model"] + ", " + rows["precision"],
        "logits": rows["logits"],
        "new tokens": rows["new_tokens"].map(str),
        "seconds": rows["seconds"].map("{:.1f}".format),
        "one at a time": rows["one prompt at a time, ratio"].map("{:.0f} times".format),
        "batched": rows["batched generate, ratio"].map("{:.1f} times".format),
        "bare forward": rows["floor, share"].map("{:.0%}".format),
        "tokens a second": rows["tokens_per_second"].map("{:,.0f}".format),
        "peak": (rows["peak_mb"] / 1000).map("{:.1f} GB".format),
    }
    return plain(pd.DataFrame(columns))
