"""The engine beside its peers: `python -m lmrel.bench`, all in one process and one run; see the book's page on it.

Every contestant draws the same experiment, the paper's: 240 problems, greedy and `runs` draws at each of three
temperatures, 16 new tokens. Each repeat runs all of them, so ratios are of paired times; the median is reported.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import GenerationConfig

from lmrel import records
from lmrel.decoding import Decoder
from lmrel.floor import bare_forward, distinct_prefixes
from lmrel.models import REGISTRY, TINY_SUITE, load_model
from lmrel.problems import paper_problems
from lmrel.prompts import encode, render
from lmrel.sampling import sample

TEMPERATURES = (0.1, 0.5, 1.0)
NEW_TOKENS = 16
SAMPLED = {"one prompt at a time": 24, "continuous batching": 12}  # one problem in so many is timed, and scaled up
MARKS = {
    True: [("eos, 4 runs", "one prompt at a time", 80), ("eos, 4 runs", "batched generate", 15)],
    False: [
        ("eos, 4 runs", "one prompt at a time", 70),
        ("eos, 4 runs", "batched generate", 7),
        ("decided, 4 runs", "one prompt at a time", 200),
    ],
}
Task = Callable[[], int]


class Bench:
    """One model, its prompts, and what each contestant does with them."""

    def __init__(self, name: str, problems: pd.DataFrame) -> None:
        self.name, self.problems = name, problems
        self.model, self.tokenizer = load_model(name)
        rows: list[Any] = problems.to_dict("records")
        self.prompts = [encode(render(row, "few_shot"), self.tokenizer) for row in rows]
        self.draws = [0.0, *(t for t in TEMPERATURES for _ in range(4))]
        self.nodes: dict[str, int] = {}

    def generate(self, prompts: Sequence[Sequence[int]]) -> int:
        """Every draw for prompts of equal length, as the paper made them: `generate` with its scores."""
        ids = torch.tensor(prompts, device=self.model.device)
        for temperature in self.draws:
            drawing = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
            self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW_TOKENS,
                do_sample=temperature > 0,
                output_scores=True,
                return_dict_in_generate=True,
                **drawing,
            )
        return len(prompts) * len(self.draws)

    def one_at_a_time(self) -> int:
        """Prompt by prompt, on a sample of them."""
        return sum(self.generate([prompt]) for prompt in self.prompts[:: SAMPLED["one prompt at a time"]])

    def batched(self) -> int:
        """All prompts of one length at once."""
        by_length = defaultdict(list)
        for prompt in self.prompts:
            by_length[len(prompt)].append(prompt)
        return sum(self.generate(prompts) for prompts in by_length.values())

    def continuous(self) -> int:
        """transformers' continuous batching, on a sample of prompts."""
        from transformers.generation.configuration_utils import ContinuousBatchingConfig

        prompts = self.prompts[:: SAMPLED["continuous batching"]]
        for temperature in (0.0, *TEMPERATURES):
            drawing = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
            config = GenerationConfig(
                max_new_tokens=NEW_TOKENS,
                do_sample=temperature > 0,
                eos_token_id=self.model.generation_config.eos_token_id,
                pad_token_id=0,
                **drawing,
            )
            room = ContinuousBatchingConfig(num_blocks=256, page_size=32, max_batch_tokens=4096)
            self.model.generate_batch(
                prompts * (4 if temperature else 1), generation_config=config, continuous_batching_config=room
            )
        return len(prompts) * len(self.draws)

    def ctranslate2(self, generator: Any) -> int:
        """CTranslate2: all prompts at once, several hypotheses each, in its own choice of batches."""
        tokens = [self.tokenizer.convert_ids_to_tokens(prompt) for prompt in self.prompts]
        for temperature in (0.0, *TEMPERATURES):
            drawing = {"sampling_temperature": temperature, "sampling_topk": 0, "num_hypotheses": 4}
            generator.generate_batch(
                tokens,
                max_length=NEW_TOKENS,
                include_prompt_in_result=False,
                return_scores=True,
                max_batch_size=240,
                **(drawing if temperature else {"sampling_topk": 1}),
            )
        return len(self.prompts) * len(self.draws)

    def engine(self, stop: str, runs: int) -> int:
        """This engine, from prompts to the finished table."""
        decoders = [Decoder(t, max_new_tokens=NEW_TOKENS, stop=stop) for t in (0.0, *TEMPERATURES)]
        draws = sample(self.model, self.tokenizer, self.problems, decoders, runs=runs)
        self.nodes[f"{stop}, {runs} runs"] = sum(map(len, distinct_prefixes(draws, self.problems)))
        return len(draws)

    def floor(self) -> Task:
        """See `lmrel.floor`."""
        decoders = [Decoder(t, max_new_tokens=NEW_TOKENS) for t in (0.0, *TEMPERATURES)]
        draws = sample(self.model, self.tokenizer, self.problems, decoders)
        return bare_forward(self.model, self.prompts, distinct_prefixes(draws, self.problems))


def contestants(bench: Bench) -> tuple[dict[str, Task], dict[str, str]]:
    """What can be timed here, and why the rest cannot."""
    tasks: dict[str, Task] = {
        "one prompt at a time": bench.one_at_a_time,
        "batched generate": bench.batched,
        "continuous batching": bench.continuous,
        "floor": bench.floor(),
    }
    for stop in ("eos", "decided"):
        # A base model's draws run on and soon share nothing: a hundred to the end are minutes of one core.
        for runs in (4, 100, 1000) if stop == "decided" or REGISTRY[bench.name].instruct else (4,):
            tasks[f"{stop}, {runs} runs"] = lambda stop=stop, runs=runs: bench.engine(stop, runs)  # type: ignore[misc]
    absent: dict[str, str] = {}
    try:
        import ctranslate2  # type: ignore[import-not-found,unused-ignore]
        from ctranslate2.converters import TransformersConverter  # type: ignore[import-not-found,unused-ignore]

        with tempfile.TemporaryDirectory() as folder:
            TransformersConverter(REGISTRY[bench.name].source).convert(folder, force=True)
            generator = ctranslate2.Generator(folder, intra_threads=torch.get_num_threads(), compute_type="float32")
        tasks["CTranslate2"] = lambda: bench.ctranslate2(generator)
    except ImportError:
        absent["CTranslate2"] = "not installed"
    except ValueError as error:
        absent["CTranslate2"] = str(error).split(" (supported")[0]
    return tasks, absent


def measure(name: str, problems: pd.DataFrame, repeats: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of times and of ratios for one model."""
    bench = Bench(name, problems)
    tasks, absent = contestants(bench)
    times: dict[str, list[float]] = defaultdict(list)
    drawn, peak = {}, {}
    for repeat in range(repeats + 1):  # the first is to warm up
        for task, run in list(tasks.items()):
            gc.collect()
            reset_peak()
            began = time.perf_counter()
            try:
                drawn[task] = run()
            except Exception as error:  # a peer's own refusal, whatever it is
                absent[task] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                del tasks[task]
                continue
            if bench.model.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - began
            peak[task] = peak_megabytes()
            if repeat:
                times[task].append(seconds * SAMPLED.get(task, 1))
    rows = [
        {
            "model": name,
            "contestant": task,
            "seconds": round(statistics.median(times[task]), 3),
            "draws": drawn[task] * SAMPLED.get(task, 1),
            "nodes": bench.nodes.get(task),
            "peak_megabytes": peak[task],
            "note": f"one problem in {SAMPLED[task]} timed, scaled up" if task in SAMPLED else "",
        }
        for task in tasks
    ]
    rows += [{"model": name, "contestant": task, "note": reason} for task, reason in absent.items()]
    return rows, ratios(name, times)


def reset_peak() -> None:
    """Begin to watch for the most memory that the process holds (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_megabytes() -> int:
    """The most that the process, everything in it included, held in memory since."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def ratios(name: str, times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Medians over repeats of paired ratios, beside the marks that were set for them."""
    instruct = REGISTRY[name].instruct
    wanted: list[tuple[str, str, str, float, bool]] = [
        (f"{slow} / {fast}", slow, fast, mark, True) for fast, slow, mark in MARKS[instruct]
    ]
    stop = "eos" if instruct else "decided"
    wanted += [
        (f"1,000 runs / 4 runs, {stop}", f"{stop}, 1000 runs", f"{stop}, 4 runs", 5, False),
        ("engine / floor", "eos, 4 runs", "floor", 1.3, False),
    ]
    found = []
    for label, above, below, mark, at_least in wanted:
        value = statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))
        reached = value >= mark if at_least else value <= mark
        found.append({"model": name, "ratio": label, "value": round(value, 2), "mark": mark, "reached": reached})
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(TINY_SUITE), choices=TINY_SUITE)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--problems", type=int, default=240)
    parser.add_argument("--out", type=Path, default=Path("book/data/bench"))
    arguments = parser.parse_args()
    problems = paper_problems().iloc[:: 240 // arguments.problems]
    rows, found = [], []
    for name in arguments.models:
        measured = measure(name, problems, arguments.repeats)
        rows += measured[0]
        found += measured[1]
        print(pd.DataFrame(measured[0]).to_string(), pd.DataFrame(measured[1]).to_string(), sep="\n\n", flush=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    record = {
        "command": "python -m lmrel.bench",
        "date": datetime.now(UTC).date().isoformat(),
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "versions": {package: version(package) for package in ("lmrel", "torch", "transformers")},
        "problems": len(problems),
        "repeats": arguments.repeats,
        "rows": rows,
        "ratios": found,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(records.write_json(record, arguments.out / f"{device}.json"))


if __name__ == "__main__":
    main()
