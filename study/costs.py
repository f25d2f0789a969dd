"""What a job asks for and takes: GPUs, memory, minutes; hours of drawing, from what was measured.

Arithmetic over the registry, the sizes of files and what benchmarks left. It knows nothing of torch and loads no model,
so that the Snakefile and a login node can ask it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrel.errors import InputError, check_number, is_text, quoted
from lmrel.files import as_path, read_object
from lmrel.parameters import served
from lmrel.registry import NF4_BITS, known

# The paper's experiment took "about 3.5 h" on one A100 with 40 GB, one prompt at a time (its repository's README).
PAPER_HOURS, PAPER_MODELS, PAPER_PROBLEMS, PAPER_DRAWS = 3.5, 3, 240, 13
ALONE = PAPER_HOURS * 3600 / (PAPER_MODELS * PAPER_PROBLEMS * PAPER_DRAWS)  # seconds of a draw that shares nothing
SMALL = 100e6  # bytes of weights; a smaller model is left to the CPU
SERVED = {"gpu": 0, "mem_mb": 4000, "runtime": 720}  # what is asked for a model that a server runs
UNKNOWN = {"gpu": 1, "mem_mb": 64_000, "runtime": 720}  # what is asked for a repo id that the registry lacks
ENGINE = ("eos, ", "decided, ")  # how the contestants of `make bench` begin that are this project's engine


# What a job asks for.


@dataclass(frozen=True)
class Size:
    """How large a checkpoint is: its precision once loaded, bytes on disk, and bytes of its weights in memory."""

    precision: str
    stored: float
    weights: float

    @property
    def memory(self) -> float:
        """The bytes of memory that a run of it is expected to need."""
        return memory_needed(self.weights)

    @property
    def small(self) -> bool:
        """Whether it is run on the CPU although there may be a GPU."""
        return self.weights < SMALL


def memory_needed(weights: float) -> float:
    """The bytes of memory that a run is expected to need for weights of so many bytes.

    To them come 15 % and 1.5 GB, for keys, values and logits of a few problems at a time and for the runtime itself.
    """
    return 1.15 * weights + 1.5e9


def size(model: str, precision: str) -> Size | None:
    """The size of a model in a precision: of a registry name, its repo id, or a folder; None for any other repo id.

    ``"auto"`` is the registry's precision; in a folder, that of the files. They are taken to be in 16 bit unless
    config.json says that they are float32 or quantized.
    """
    if spec := known(model.partition("@")[0]):
        precision = spec.precision if precision == "auto" else precision
        return Size(precision, spec.weights("fp32" if spec.tiny else "bf16"), spec.weights(precision))
    stored = sum(path.stat().st_size for path in Path(model).glob("*.safetensors"))
    if not stored:
        return None
    config = read_object(Path(model) / "config.json")
    if config.get("quantization_config"):
        return Size("nf4", stored, stored)
    own = "fp32" if "float32" in (config.get("dtype"), config.get("torch_dtype")) else "bf16"
    precision = own if precision == "auto" else precision
    width = {"fp32": 4.0, "nf4": NF4_BITS / 8}  # bytes of a weight; 2 in any other precision
    return Size(precision, stored, stored * width.get(precision, 2) / width.get(own, 2))


def request(model: str, precision: str, gpu_gb: float) -> dict[str, int]:
    """What one job of a model asks for: ``gpu`` (of `gpu_gb` GB), ``mem_mb`` of the host, ``runtime`` in minutes.

    As few GPUs as hold the model, none for a small one; host memory for its weights, which may pass through it, and
    8 GB; two hours and four minutes for each GB to be fetched. A repo id that the registry lacks gets one GPU, 64 GB
    and twelve hours, whatever it is; a model behind a server as long, and no GPU. `InputError` for a `gpu_gb` that is
    no number above 0.
    """
    check_number("gpu_gb", gpu_gb, 0.0, 1e6, open_below=True)
    if served(model):
        return dict(SERVED)
    found = size(model, precision)
    if found is None:
        return dict(UNKNOWN)
    if found.small:
        return {"gpu": 0, "mem_mb": 4000, "runtime": 60}
    gpus, memory = math.ceil(found.memory / (gpu_gb * 1e9)), 8000 + math.ceil(found.weights / 1e6)
    return {"gpu": gpus, "mem_mb": memory, "runtime": 120 + math.ceil(4 * found.stored / 1e9)}


def check_request(model: str, precision: str, gpu_gb: float, asked: Mapping[str, Any]) -> None:
    """Raise `InputError` for a request, whole or in part, that names something else or cannot hold the model.

    What it does not name is as in `request`. ``gpu: 0`` means the CPU: then ``mem_mb`` has to hold the model.
    """
    default = request(model, precision, gpu_gb)
    for name, value in asked.items():
        if name not in default:
            raise InputError(f"the request of {model} has {quoted(name)}; it may have {', '.join(default)}.")
        check_number(f"{name}, requested for {model},", value, 0 if name == "gpu" else 1, 10**9, whole=True)
    found, narrow = size(model, precision), size(model, "nf4")
    gpus, host = (int((default | dict(asked))[name]) for name in ("gpu", "mem_mb"))
    room = gpus * gpu_gb * 1e9 if gpus else host * 1e6
    if found is None or narrow is None or found.memory <= room:
        return
    has = f"{_gpus(gpus)} of {gpu_gb:g} GB" if gpus else f"no GPU and {host / 1000:g} GB of memory"
    would = _gpus(default["gpu"]) if default["gpu"] else f"{found.memory / 1e9:.1f} GB of memory"
    would += f" or precision nf4, {narrow.memory / 1e9:.0f} GB," if narrow.memory <= room else ""
    needs = f"{model} in {found.precision} needs {found.memory / 1e9:.0f} GB"
    raise InputError(f"{needs}, and its request is for {has}; {would} would do.")


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' * (count != 1)}"


# How long drawing takes.


@dataclass(frozen=True)
class Measured:
    """Rows that benchmarks left: `cpu` of ``make bench``, tiny models on one core; `gpu` of ``make bench-gpu``."""

    cpu: tuple[dict[str, Any], ...]
    gpu: tuple[dict[str, Any], ...]

    def points(self, model: str, stop: str, what: str) -> list[tuple[float, float]]:
        """Pairs of draws per problem and ``seconds`` or ``nodes`` that the engine took for all problems, in order.

        `InputError` unless the tiny `model` was measured with `stop` for two numbers of draws.
        """
        found = {}
        for row in self.cpu:
            if row["model"] == model and row["contestant"].startswith(f"{stop}, "):
                share = row["sample"]  # of the problems that were drawn; seconds were multiplied up, nodes were not
                found[row["draws"] / (PAPER_PROBLEMS * share)] = row[what] / (share if what == "nodes" else 1)
        if len(found) < 2:
            raise InputError(f"{model} was measured on a CPU, with {stop!r}, for fewer than two numbers of draws.")
        return sorted(found.items())


def read_measured(folder: Path) -> Measured:
    """What ``bench/cpu.json`` and ``gpu/*.json`` below `folder` (the book's ``book/data``) hold.

    `InputError` for a file in which something is missing or no number.
    """
    path = as_path("data", folder) / "bench" / "cpu.json"
    cpu = _rows(path, read_object(path), "model", "contestant")
    ours = [row for row in cpu if row["contestant"].startswith(ENGINE)]
    _check_numbers(path, ours, "draws", "sample", "seconds", "nodes")
    gpu = []
    for path in sorted((folder / "gpu").glob("*.json")):
        record = read_object(path)
        if "draws_per_problem" in record:  # other files there hold other things
            about = {"draws_per_problem": record["draws_per_problem"], "device": record.get("device", "a GPU")}
            rows = [row | about for row in _rows(path, record, "model", "precision", "logits")]
            _check_numbers(path, rows, "draws_per_problem", "new_tokens", "draws", "seconds")
            gpu += rows
    return Measured(tuple(cpu), tuple(gpu))


def _rows(path: Path, record: dict[str, Any], *texts: str) -> list[dict[str, Any]]:
    """The rows of a benchmark's record; `InputError` unless there are some and each has `texts`."""
    rows: Any = record.get("rows")
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path} holds no rows of `make bench` or `make bench-gpu`.")
    for row in rows:
        if not isinstance(row, dict) or not all(is_text(row.get(name)) for name in texts):
            raise InputError(f"{path} has the row {quoted(row)}; it must have {', '.join(texts)}.")
    return rows


def _check_numbers(path: Path, rows: Sequence[Mapping[str, Any]], *names: str) -> None:
    for row in rows:
        for name in names:
            check_number(f"{name} of {row['model']} in {path}", row.get(name), 0.0, 1e15, open_below=True)


def prolonged(points: Sequence[tuple[float, float]], draws: float) -> float:
    """The value at `draws` on the lines through `points` in logarithms, the last prolonged; below them, the first."""
    if draws <= points[0][0]:
        return points[0][1]
    i = next((i for i, (x, _) in enumerate(points[1:-1], 1) if draws <= x), len(points) - 1)
    (x0, y0), (x1, y1) = points[i - 1], points[i]
    return float(y0 * (y1 / y0) ** (math.log(draws / x0) / math.log(x1 / x0)))


@dataclass(frozen=True)
class Estimate:
    """Seconds that drawing takes, on one core for a small model, else on its GPUs; and what that rests on, in words."""

    seconds: float
    basis: str


def estimate(
    model: str, precision: str, draws: int, problems: int, measured: Measured, *, stop: str = "eos"
) -> Estimate:
    """The time to draw `draws` answers of 16 tokens to each of `problems` problems; loading is not in it.

    A small model: as its benchmark, or the slowest one's, at that many draws. A large one: as measured with uniform
    distributions, which share least, and in proportion to the draws beyond those. One that was not measured: as long
    as the paper's way takes for as many draws on average over its models, a bound for an engine that shares.
    """
    found, spec = size(model, precision), known(model.partition("@")[0])
    if found and found.small:
        names = {row["model"] for row in measured.cpu}
        each = [prolonged(measured.points(name, stop, "seconds"), draws) for name in names & {model} or names]
        return Estimate(max(each) * problems / PAPER_PROBLEMS, "measured on a CPU")
    wanted = (spec.shape, found.precision, "uniform") if spec and found else None
    rows = [row for row in measured.gpu if (row["model"], row["precision"], row["logits"]) == wanted]
    if not rows:
        return Estimate(ALONE * draws * problems, "assumed from the paper")
    fewest = min(row["new_tokens"] for row in rows)
    row = max((row for row in rows if row["new_tokens"] == fewest), key=lambda row: row["seconds"] / row["draws"])
    at_least = max(draws, row["draws_per_problem"])
    return Estimate(row["seconds"] / row["draws"] * at_least * problems, f"measured on {row['device']}")
