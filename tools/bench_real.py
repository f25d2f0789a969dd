"""The engine beside its peers on a real model: ``python -m tools.bench_real MODEL [--vllm PYTHON]``.

MODEL is the folder that `make real` leaves. Every contestant is a process of its own with its model loaded, and is
given the same prompts as token ids, one after the other, in every repeat; so ratios are of paired times. vLLM has its
own environment, whose Python is named. It leaves ``book/data/bench/smollm.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from book.analysis.prefixes import distinct_prefixes
from lmrel import files
from lmrel.decoding import Decoder
from lmrel.engine.forest import shared_header
from lmrel.errors import InputError, command
from lmrel.models import load_model
from lmrel.problems import paper_problems
from lmrel.sampling import sample
from lmrel.tokens import encode_problems
from tools.bench import TEMPERATURES, counted, knobs, spread, timed
from tools.floor import bare_forward

STYLE: Final = "few_shot"
OURS, SINGLY, BATCHED, VLLM, FLOOR = (
    "this engine", "one prompt at a time", "batched generate", "vLLM", "floor"
)  # fmt: skip
HERE = Path(__file__).parent


class Size(NamedTuple):
    """How much is drawn: new tokens at most, runs at each temperature but 0, and of how many problems."""

    new_tokens: int
    runs: int
    problems: int


SIZES = (Size(16, 4, 12), Size(128, 4, 3), Size(512, 4, 1), Size(16, 100, 3), Size(128, 100, 1))
ALONE = 2  # problems that are asked one prompt at a time, of those of the first size, and scaled up: more takes minutes
Work = Callable[[Size], int]


def prompts(size: Size, tokenizer: Any) -> tuple[Any, list[list[int]]]:
    """The problems of a size, spread evenly over the paper's, and their prompts."""
    problems = paper_problems()
    problems = problems.iloc[spread(range(len(problems)), size.problems)]
    return problems, encode_problems(problems.to_dict("records"), STYLE, tokenizer)  # type: ignore[arg-type]


def contestant(kind: str, model: Any, tokenizer: Any) -> Work:
    """What one of our own contestants does for a size; it returns how many tokens were drawn."""

    def draw(size: Size) -> Any:
        decoders = [Decoder(t, max_new_tokens=size.new_tokens) for t in TEMPERATURES]
        return sample(model, tokenizer, prompts(size, tokenizer)[0], decoders, runs=size.runs, prompt_style=STYLE)

    def generate(size: Size) -> int:
        """The calls of ``generate``: for all prompts and draws of a temperature at once, or for each alone."""
        given = prompts(size, tokenizer)[1]
        batches, drawn = ([given] if kind == BATCHED else [[prompt] for prompt in given]), 0
        for batch in batches:
            width = max(map(len, batch))
            there = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
            ids = torch.tensor([[0] * (width - len(p)) + p for p in batch])
            for t in TEMPERATURES:
                runs = size.runs if t else 1
                for _ in range(1 if kind == BATCHED else runs):
                    found = model.generate(
                        ids, attention_mask=there, max_new_tokens=size.new_tokens, pad_token_id=0,
                        num_return_sequences=runs if kind == BATCHED else 1, **knobs(t),
                    )  # fmt: skip
                    drawn += int((found[:, width:] != 0).sum())
        return drawn

    floors: dict[Size, tuple[Callable[[], None], int]] = {}

    def floor(size: Size) -> int:
        if size not in floors:
            problems, given = prompts(size, tokenizer)
            trees = distinct_prefixes(draw(size), problems)
            floors[size] = bare_forward(model, given, trees), sum(map(len, trees))
        floors[size][0]()
        return floors[size][1]

    return {OURS: lambda size: int(draw(size)["n_tokens"].sum()), FLOOR: floor}.get(kind, generate)


def serve(kind: str, folder: str, dtype: str) -> None:
    """Be one of our own contestants: a line of JSON with a size comes in, one with what it took goes out."""
    model, tokenizer = load_model(folder, dtype)
    work = contestant(kind, model, tokenizer)
    print("ready", flush=True)
    for line in sys.stdin:
        size, drawn = Size(*json.loads(line)["size"]), []
        if kind == FLOOR:
            work(size)  # its trees are drawn, and its masks made, off the clock
        seconds, peak, _ = timed(lambda: drawn.append(work(size)), model.device)  # noqa: B023
        print(json.dumps({"seconds": seconds, "peak_mb": peak, "tokens": drawn[0]}), flush=True)


class Peer:
    """A contestant's process, which is asked by `ask`; its own words go to a file beside the results."""

    def __init__(self, argv: list[str], said: Path, threads: int) -> None:
        omp = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self.argv, self.log = argv, said.open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=os.environ | omp
        )
        self._wait("ready")

    def _wait(self, beginning: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(beginning):
                return line
        self.end()
        raise InputError(f"{' '.join(self.argv[:4])} ended; what it said stands in {self.log.name}.")

    def ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Its answer to a request: ``seconds``, ``peak_mb`` and ``tokens``."""
        assert self.process.stdin is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return dict(json.loads(self._wait("{")))

    def end(self) -> None:
        """Kill it and close its files."""
        self.process.kill()
        self.process.communicate()
        self.log.close()


@contextlib.contextmanager
def peers(argvs: dict[str, list[str]], logs: Path, threads: int) -> Iterator[dict[str, Peer]]:
    """The contestants' processes by name, which end with the block."""
    started: dict[str, Peer] = {}
    try:
        for name, argv in argvs.items():
            started[name] = Peer(argv, logs / f"{name.replace(' ', '-')}.log", threads)
            print(f"{name} is ready", flush=True)
        yield started
    finally:
        for peer in started.values():
            peer.end()


def takes_part(name: str, size: Size) -> bool:
    """Whether a contestant draws so much: one prompt at a time, more than the first size would take too long."""
    return name != SINGLY or size.new_tokens * size.runs <= 16 * 4


def measure(started: dict[str, Peer], tokenizer: Any, repeats: int, size: Size) -> list[dict[str, Any]]:
    """A row for each contestant of a size: its times in seconds, scaled up to all problems, its memory, and its tokens.

    ``tokens`` of the floor are the distinct ones of the answers, ``prompt_tokens`` those of the prompts.
    """
    rows: list[dict[str, Any]] = []
    given = prompts(size, tokenizer)[1]
    shared = shared_header(given) if len(given) > 1 else 0
    own = shared + sum(len(prompt) - shared for prompt in given)
    asked = {"size": size, "prompts": given, "temperatures": TEMPERATURES}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in started if takes_part(name, size)}
    for repeat in range(repeats + 1):  # the first is to warm up
        for name, answers in found.items():
            alone = min(ALONE, size.problems) if name == SINGLY else size.problems
            answer = started[name].ask(asked | {"size": size._replace(problems=alone)})
            answer["seconds"] *= size.problems / alone
            if repeat:
                answers.append(answer)
            print(size, name, {key: round(value or 0, 2) for key, value in answer.items()}, flush=True)
    for name, answers in found.items():
        times = [round(answer["seconds"], 3) for answer in answers]
        row = size._asdict() | {"contestant": name, "times": times, "seconds": statistics.median(times)}
        row |= {"prompt_tokens": own}
        rows.append(row | {key: max(answer[key] or 0 for answer in answers) for key in ("peak_mb", "tokens")})
    return rows


def product_rate(size: int = 2048, times: int = 10) -> float:
    """Billions of operations a second in a product of two square matrices in 32 bit: what this machine can do."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    began = time.perf_counter()
    for _ in range(times):
        a @ b
    return 2e-9 * size**3 * times / (time.perf_counter() - began)


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="the folder of the real model, as `make real` leaves it")
    parser.add_argument("--serve", help=argparse.SUPPRESS)  # be a contestant
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--vllm", help="the Python of an environment that has vLLM")
    parser.add_argument("--repeats", type=counted, default=3)
    parser.add_argument("--threads", type=counted, default=torch.get_num_threads())
    parser.add_argument("--sizes", type=counted, nargs="*", help="which of the sizes, by number from 1; all by default")
    parser.add_argument("--out", type=Path, default=Path("book/data/bench/smollm.json"))
    given = parser.parse_args()
    if given.serve:
        return serve(given.serve, given.model, given.dtype)
    argvs = {
        name: [sys.executable, "-m", "tools.bench_real", given.model, "--serve", name, "--dtype", given.dtype]
        for name in (OURS, SINGLY, BATCHED, FLOOR)
    }
    if given.vllm:
        argvs[VLLM] = [given.vllm, str(HERE / "worker_vllm.py"), given.model, given.dtype]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    sizes = tuple(SIZES[number - 1] for number in given.sizes or range(1, len(SIZES) + 1))
    rate = product_rate()
    model, tokenizer = load_model(given.model, given.dtype)
    record: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "machine": platform.machine()}
    record |= {"threads": given.threads, "dtype": given.dtype, "gflops": round(rate, 1), "repeats": given.repeats}
    record |= {"parameters": model.num_parameters(), "head": model.get_output_embeddings().weight.numel()}
    record |= {"versions": {package: version(package) for package in ("lmrel", "torch", "transformers")}}
    rows: list[dict[str, Any]] = []
    with peers(argvs, given.out.parent, given.threads) as started:
        for size in sizes:  # what is measured is kept, whatever comes of the next
            rows += measure(started, tokenizer, given.repeats, size)
            print(files.write_json(record | {"rows": rows}, given.out), flush=True)
    return None


if __name__ == "__main__":
    main()
