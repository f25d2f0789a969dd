"""The engine beside its peers: ``python -m tools.bench``, every contestant in one process and one run.

All draw the paper's experiment: its problems, greedy and 4 runs at each of three temperatures, 16 new tokens, style
`few_shot`. Peers are given encoded prompts; the engine encodes, reads the answers and makes the table on the clock.
Each repeat runs all contestants, so ratios are of paired times. A peer that is not installed is named as such; what it
refuses stands in its own words. The module knows nothing of how the engine works.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from book.analysis.prefixes import distinct_prefixes
from lmrel import files
from lmrel.decoding import Decoder
from lmrel.engine.forest import shared_header
from lmrel.errors import InputError, command, quoted
from lmrel.models import load_model
from lmrel.parameters import Stop
from lmrel.problems import paper_problems
from lmrel.registry import REGISTRY, TINY_SUITE
from lmrel.sampling import sample
from lmrel.tokens import encode_problems
from tools.floor import bare_forward, by_length

PARTS = {  # what the names of a part's torch operators contain; the first part that fits counts
    "attention": ("scaled_dot_product", "flash_attention"),
    "matrix products": ("::mm", "::addmm", "::bmm", "::baddbmm", "grouped_mm", "::linear"),
    "copying and indexing": ("copy", "index", "zero", "fill", "::cat", "gather", "scatter", "nonzero"),
}
OTHER, OUTSIDE = "other tensor work", "outside torch"
TEMPERATURES = (0.0, 0.1, 0.5, 1.0)
RUNS, SLOW_REPEATS = 4, 3
DRAWS = [t for t in TEMPERATURES for _ in range(RUNS if t else 1)]  # the temperature of each draw of a problem
SINGLY, BATCHED, CONTINUOUS, HARNESS = "one prompt at a time", "batched generate", "continuous batching", "lm-eval"
STOPS: tuple[Stop, ...] = ("eos", "decided")
ENGINE = {(stop, runs): f"{stop}, {runs} runs" for stop in STOPS for runs in (RUNS, 100, 1000)}
# Timed on so many problems, spread evenly, and scaled up to all. A base model's draws run on and soon share nothing.
SAMPLED = {SINGLY: 10}
SAMPLED_BASE = {ENGINE["eos", 100]: 24, ENGINE["eos", 1000]: 8}
Task = Callable[[], pd.DataFrame | None]


class Bench:
    """One model and what it is given: the problems, their prompts as token ids, and these in groups of equal length.

    `sampled` holds the numbers of the problems on which a slow task is timed.
    """

    def __init__(self, name: str, problems: pd.DataFrame, model: Any, tokenizer: Any, new_tokens: int = 16) -> None:
        self.name, self.problems, self.model, self.tokenizer = name, problems, model, tokenizer
        self.new_tokens = new_tokens
        self.prompts = encode_problems(problems.to_dict("records"), "few_shot", self.tokenizer)  # type: ignore[arg-type]
        self.by_length = by_length(self.prompts)
        sampled = SAMPLED if "instruct" in name else SAMPLED | SAMPLED_BASE
        self.sampled = {task: spread(range(len(problems)), count) for task, count in sampled.items()}

    def share(self, task: str) -> float:
        """The share of the problems on which a task is timed."""
        return len(self.sampled[task]) / len(self.problems) if task in self.sampled else 1.0


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """Up to `count` of `items`, at even distances."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def knobs(temperature: float) -> dict[str, Any]:
    """Arguments of ``generate`` for pure sampling: transformers fills in ``top_k=50`` where it is told nothing."""
    drawing = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    return {"do_sample": temperature > 0, **drawing}


def generate(bench: Bench, batches: Sequence[Sequence[Sequence[int]]]) -> None:
    """Call ``model.generate`` for its scores, as the paper does: once for each batch and draw."""
    scores = {"max_new_tokens": bench.new_tokens, "output_scores": True, "return_dict_in_generate": True}
    for batch in batches:
        ids = torch.tensor(batch, device=bench.model.device)
        for temperature in DRAWS:
            bench.model.generate(ids, attention_mask=torch.ones_like(ids), **scores, **knobs(temperature))


def continuous_batching(bench: Bench) -> Callable[[], None]:
    """A task that draws all answers by transformers' ``generate_batch``.

    On a CPU its defaults would take most of the memory; a small cache is much faster.
    """
    small = {"page_size": 16, "num_blocks": 128, "max_batch_tokens": 128, "scheduler_type": "prefill_first"}
    room = ContinuousBatchingConfig(**({} if bench.model.device.type == "cuda" else small))
    ends = {name: getattr(bench.model.generation_config, name) for name in ("eos_token_id", "pad_token_id")}

    def run() -> None:
        for temperature in TEMPERATURES:
            runs = RUNS if temperature else 1
            asked = {"max_new_tokens": bench.new_tokens, "num_return_sequences": runs, **ends, **knobs(temperature)}
            found = bench.model.generate_batch(bench.prompts, GenerationConfig(**asked), copy(room))
            if len(found) != len(bench.prompts) * runs:
                raise RuntimeError(f"{len(found)} of {len(bench.prompts) * runs} requests were answered")

    return run


def harness(bench: Bench) -> Callable[[], None]:
    """A task of lm-evaluation-harness: its transformers model is given all requests in one call and batches them."""
    from lm_eval.api.instance import Instance  # type: ignore[import-not-found,unused-ignore]
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found,unused-ignore]

    peer = HFLM(pretrained=bench.model, tokenizer=bench.tokenizer, batch_size=64, add_bos_token=False)
    texts = [bench.tokenizer.decode(prompt, clean_up_tokenization_spaces=False) for prompt in bench.prompts]

    def run() -> None:
        for temperature in DRAWS:
            asked = {"until": [], "max_gen_toks": bench.new_tokens, **knobs(temperature)}
            requests = [Instance("generate_until", {}, (text, asked), i) for i, text in enumerate(texts)]
            peer.generate_until(requests, disable_tqdm=True)

    return run


def ctranslate2(bench: Bench) -> Callable[[], None]:
    """A task of CTranslate2: batches of equal length, after the shared header, whose state it keeps."""
    import ctranslate2  # type: ignore[import-not-found,unused-ignore]
    from ctranslate2.converters import TransformersConverter  # type: ignore[import-not-found,unused-ignore]

    with tempfile.TemporaryDirectory() as folder:
        TransformersConverter(REGISTRY[bench.name].source).convert(folder, force=True)
        threads = torch.get_num_threads()
        peer = ctranslate2.Generator(folder, bench.model.device.type, intra_threads=threads, compute_type="float32")
    shared = shared_header(bench.prompts)
    words = bench.tokenizer.convert_ids_to_tokens
    suffixes = [[words(prompt[shared:]) for prompt in prompts] for prompts in bench.by_length]
    asked = {"static_prompt": words(bench.prompts[0][:shared]), "max_batch_size": 32, "max_length": bench.new_tokens}
    asked |= {"return_scores": True, "include_prompt_in_result": False}

    def run() -> None:
        for prompts in suffixes:
            for temperature in TEMPERATURES:
                drawing = {"sampling_topk": 0, "sampling_temperature": temperature, "num_hypotheses": RUNS}
                peer.generate_batch(prompts, **asked, **(drawing if temperature else {"sampling_topk": 1}))

    return run


PEERS = {CONTINUOUS: continuous_batching, HARNESS: harness, "CTranslate2": ctranslate2}
SLOW = (SINGLY, BATCHED, *PEERS)


def contestants(bench: Bench) -> tuple[dict[str, Task], dict[str, int], dict[str, str]]:
    """The tasks that can be timed here, the nodes of the floors, and why other peers cannot be timed, each by name."""
    tasks: dict[str, Task] = {
        SINGLY: lambda: generate(bench, [[bench.prompts[i]] for i in bench.sampled[SINGLY]]),
        BATCHED: lambda: generate(bench, bench.by_length),
    }
    nodes: dict[str, int] = {}
    absent: dict[str, str] = {}
    for peer, prepare in PEERS.items():
        try:
            tasks[peer] = prepare(bench)
        except Exception as error:  # whatever a package of others comes up with
            absent[peer] = reason(error)
    for (stop, runs), task in ENGINE.items():
        decoders = [Decoder(t, max_new_tokens=bench.new_tokens, stop=stop) for t in TEMPERATURES]
        problems = bench.problems.iloc[bench.sampled[task]] if task in bench.sampled else bench.problems
        draw = partial(sample, bench.model, bench.tokenizer, problems, decoders, runs=runs, prompt_style="few_shot")
        tasks[task] = draw
        if runs == RUNS:
            trees = distinct_prefixes(draw(), problems)
            tasks[f"floor of {stop}"] = bare_forward(bench.model, bench.prompts, trees)
            nodes[f"floor of {stop}"] = sum(map(len, trees))
    return tasks, nodes, absent


def reason(error: Exception) -> str:
    """Why a peer cannot be timed: the first sentence of its error."""
    if isinstance(error, ModuleNotFoundError) and error.name in ("lm_eval", "ctranslate2"):
        return "not installed"
    return " ".join(str(error).split()).split(" (supported")[0].split(". ")[0][:200] or type(error).__name__


def part_of(operator: str) -> str:
    """The one of `PARTS`, or `OTHER`, to which an operator of torch belongs, by its name."""
    return next((part for part, names in PARTS.items() if any(name in operator for name in names)), OTHER)


def profile_shares(task: Callable[[], Any]) -> dict[str, float]:
    """The share of the time of ``task()`` on the CPU that each part takes; the shares add up to 1.

    The profiler slows small operators and Python down, so `OTHER` and `OUTSIDE` are somewhat too large.
    """
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        began = time.perf_counter()
        task()
        seconds = time.perf_counter() - began
    found = dict.fromkeys([*PARTS, OTHER], 0.0)
    for event in profiled.key_averages():
        found[part_of(event.key)] += event.self_cpu_time_total / 1e6 / seconds
    return found | {OUTSIDE: 1 - sum(found.values())}


def measure_model(name: str, problems: pd.DataFrame, repeats: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row per contestant for one model, and where the engine's time goes, as `profile_shares`.

    A row holds its ``times`` in seconds, scaled up to all problems, their median ``seconds``, and what was computed; or
    a ``note`` that says why there is no time.
    """
    bench = Bench(name, problems, *load_model(name))
    tasks, nodes, absent = contestants(bench)
    share = {task: bench.share(task) for task in tasks}
    draws = {task: round(bench.share(task) * len(problems)) * len(DRAWS) for task in SLOW}
    times: dict[str, list[float]] = {task: [] for task in tasks}
    peak: dict[str, int | None] = {}
    for repeat in range(repeats + 1):  # the first is to warm up
        for task in list(tasks):
            if repeat > SLOW_REPEATS and (task in SLOW or share[task] < 1):
                continue
            try:
                seconds, peak[task], table = timed(tasks[task], bench.model.device)
            except Exception as error:
                if task not in PEERS:
                    raise
                absent[task] = reason(error)
                del tasks[task]
                continue
            if repeat:
                times[task].append(seconds / share[task])
            elif table is not None:
                draws[task], nodes[task] = len(table), sum(map(len, distinct_prefixes(table, problems)))
    rows = []
    for task in tasks:
        runs = int(task.split()[1]) if task.endswith(" runs") else RUNS
        stop = "decided" if "decided" in task else "eos"
        row: dict[str, Any] = {"model": name, "contestant": task, "stop": stop, "runs": runs}
        row |= {"seconds": statistics.median(times[task]), "times": times[task], "draws": draws.get(task)}
        row |= {"nodes": nodes.get(task), "peak_mb": peak[task], "sample": share[task]}
        rows.append(row | {"note": f"1 problem in {1 / share[task]:g}" if share[task] < 1 else ""})
    rows += [{"model": name, "contestant": task, "note": note} for task, note in absent.items()]
    return rows, profile_shares(tasks[ENGINE["eos", RUNS]])


def timed(task: Task, device: torch.device) -> tuple[float, int | None, pd.DataFrame | None]:
    """How long ``task()`` took in seconds, the most memory meanwhile in MB, and its result.

    The memory is that of the whole process, or on a GPU that of tensors there; None where the system does not tell it.
    """
    cuda, status = device.type == "cuda", Path("/proc/self/status")
    gc.collect()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    elif status.exists():
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark of memory begins anew
    began = time.perf_counter()
    result = task()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    if cuda:
        return seconds, torch.cuda.max_memory_allocated() // 1_000_000, result
    peak = status.read_text().partition("VmHWM:")[2].split()[:1] if status.exists() else []
    return seconds, int(peak[0]) * 1024 // 1_000_000 if peak else None, result


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times as long one contestant takes as another, from the rows of one model.

    A ``value`` is the median over repeats of the ratio of paired times; ``reached`` says whether it keeps the ``mark``
    that was set for it, None where there is none.
    """
    name, instruct = rows[0]["model"], REGISTRY[rows[0]["model"]].instruct
    times = {row["contestant"]: row["times"] for row in rows if "times" in row}
    grown = "eos" if instruct else "decided"
    wanted: list[tuple[str, str, float | None]] = [
        (SINGLY, "eos, 4 runs", 80 if instruct else 70),
        (BATCHED, "eos, 4 runs", 15 if instruct else 7),
        (SINGLY, "decided, 4 runs", None if instruct else 200),
        *((peer, "eos, 4 runs", None) for peer in PEERS),
        (f"{grown}, 1000 runs", f"{grown}, 4 runs", 5),
        ("eos, 4 runs", "floor of eos", 1.3),
        ("decided, 4 runs", "floor of decided", None),
    ]
    found = []
    for above, below, mark in wanted:
        if times.keys() >= {above, below}:
            value = statistics.median(a / b for a, b in zip(times[above], times[below], strict=False))
            at_most = above.startswith(grown) or "floor" in below
            reached = None if mark is None else value <= mark if at_most else value >= mark
            ratio = {"model": name, "ratio": f"{above} / {below}", "above": above, "below": below}
            found.append(ratio | {"value": value, "mark": mark, "at_most": at_most, "reached": reached})
    return found


def counted(text: str) -> int:
    """An integer of at least 1 from a command line."""
    found = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if not found:
        raise InputError(f"{quoted(text)} is no integer of at least 1.")
    return found


@command()
def main() -> None:
    """Command line."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(TINY_SUITE), help="names, separated by commas")
    parser.add_argument("--repeats", type=counted, default=5, help=f"of slow contestants {SLOW_REPEATS} at most")
    parser.add_argument("--problems", type=counted, default=240)
    parser.add_argument("--out", type=Path, default=Path(f"book/data/bench/{device}.json"))
    arguments = parser.parse_args()
    problems = paper_problems()
    problems = problems.iloc[spread(range(len(problems)), arguments.problems)]
    rows, found, profiles = [], [], []
    for name in arguments.models.split(","):
        measured, parts = measure_model(name, problems, arguments.repeats)
        rows += measured
        found += ratios(measured)
        profiles += [{"model": name, "part": part, "share": share} for part, share in parts.items()]
    known = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    record: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu ({platform.machine()})",
        "cpu": known.partition("model name\t: ")[2].partition("\n")[0] or platform.processor(),
        "threads": torch.get_num_threads(),
        "versions": {package: version(package) for package in ("lmrel", "torch", "transformers")},
    }
    record |= {"problems": len(problems), "repeats": arguments.repeats}
    record |= {"rows": rows, "ratios": found, "profiles": profiles}
    for table in (rows, found, profiles):
        print(pd.DataFrame(table).drop(columns=["times", "above", "below"], errors="ignore").round(3).to_string())
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    print(files.write_json(record, arguments.out))


if __name__ == "__main__":
    main()
