"""What a study asks of a machine, and what it costs: GPUs, memory and time of a job, hours, the best number of shards.

Arithmetic over the registry and the files that benchmarks left. It loads no model, and not torch.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrel.errors import InputError, check_count, check_number, is_text, quoted
from lmrel.files import as_path, read_object
from lmrel.registry import NF4_BITS, known

# The paper's experiment took "about 3.5 h" on one A100 with 40 GB, one prompt at a time (its repository's README).
PAPER_HOURS, PAPER_MODELS, PAPER_PROBLEMS, PAPER_DRAWS = 3.5, 3, 240, 13
ALONE = PAPER_HOURS * 3600 / (PAPER_MODELS * PAPER_PROBLEMS * PAPER_DRAWS)  # seconds of a draw that shares nothing
SMALL = 100e6  # bytes of weights that are left to a CPU
UNKNOWN = {"gpu": 1, "mem_mb": 64_000, "runtime": 720}  # of a repo id that the registry lacks
SLACK = 1.01  # wall times that differ by less count as equal


def memory_needed(weights: float) -> float:
    """Bytes that a run is expected to need, in chunks of a few problems, with `weights` bytes of weights.

    A share of them, and some bytes, go to keys, values, logits and the runtime.
    """
    return weights * 1.15 + 1.5e9


@dataclass(frozen=True)
class Size:
    """What is known of a checkpoint's size: precision, bytes on disk, bytes of the weights once loaded."""

    precision: str
    stored: float
    weights: float

    @property
    def memory(self) -> float:
        """Bytes that a run is expected to need."""
        return memory_needed(self.weights)

    @property
    def small(self) -> bool:
        """Whether it is left to a CPU."""
        return self.weights < SMALL


def size(model: str, precision: str) -> Size | None:
    """Of a registry name, its repo id, or a folder; None for another repo id. ``"auto"`` is the registry's precision.

    A folder's weights are in 16 bit unless its config.json says float32; under ``"auto"`` they stay as they are.
    """
    if spec := known(model):
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
    width = {"fp32": 4.0, "nf4": NF4_BITS / 8}
    return Size(precision, stored, stored * width.get(precision, 2) / width.get(own, 2))


def request(model: str, precision: str, gpu_gb: float) -> dict[str, int]:
    """What one job of a model asks for: ``gpu`` (of `gpu_gb` GB), ``mem_mb`` of the host, ``runtime`` in minutes.

    As few GPUs as hold the model, none for a small one; host memory for its weights, which may pass through it, and
    8 GB; two hours and four minutes for each GB to be fetched. A repo id that the registry lacks gets one GPU, 64 GB
    and twelve hours, whatever it is.
    """
    if isinstance(gpu_gb, bool) or not isinstance(gpu_gb, int | float) or not 0 < gpu_gb < 1e6:
        raise InputError(f"gpu_gb is {quoted(gpu_gb)}; it must be a number above 0, the memory of one GPU in GB.")
    found = size(model, precision)
    if found is None:
        return dict(UNKNOWN)
    if found.small:
        return {"gpu": 0, "mem_mb": 4000, "runtime": 60}
    gpus, memory = math.ceil(found.memory / (gpu_gb * 1e9)), 8000 + math.ceil(found.weights / 1e6)
    return {"gpu": gpus, "mem_mb": memory, "runtime": 120 + math.ceil(4 * found.stored / 1e9)}


def check_request(model: str, precision: str, gpu_gb: float, asked: Mapping[str, Any]) -> None:
    """Raise `InputError` for a request, whole or in part, that names something else or cannot hold the model.

    ``gpu: 0`` means the CPU: then ``mem_mb`` has to hold it.
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


@dataclass(frozen=True)
class Measured:
    """Rows that benchmarks left: of `tools.bench`, tiny models on one core; of `tools.bench_gpu`, full size, if any."""

    cpu: tuple[dict[str, Any], ...]
    gpu: tuple[dict[str, Any], ...]

    def points(self, model: str, stop: str, what: str) -> list[tuple[float, float]]:
        """Draws per problem, and ``seconds`` or ``nodes`` of the engine for all problems, of a tiny model."""
        found = {}
        for row in (row for row in self.cpu if row["model"] == model and row["contestant"].startswith(f"{stop}, ")):
            for name in (what, "draws", "sample"):
                check_number(f"{name} of {model}, {row['contestant']},", row.get(name), 0.0, 1e15, open_below=True)
            share = row["sample"] if what == "nodes" else 1
            found[row["draws"] / (PAPER_PROBLEMS * row["sample"])] = row[what] / share
        if len(found) < 2:
            raise InputError(f"{model} was measured on a CPU, with {stop!r}, for fewer than two numbers of draws.")
        return sorted(found.items())


def read_measured(folder: Path) -> Measured:
    """What is measured, from ``bench/cpu.json`` and ``gpu/*.json`` below `folder` (the book's ``book/data``)."""
    folder = as_path("data", folder)
    cpu = _rows(folder / "bench" / "cpu.json", ("model", "contestant"))
    rows = []
    for path in sorted((folder / "gpu").glob("*.json")):
        record = read_object(path)
        if "draws_per_problem" in record:  # other files there hold other things
            check_count(f"draws_per_problem in {path}", record["draws_per_problem"])
            about = {"draws_per_problem": record["draws_per_problem"], "device": record.get("device", "a GPU")}
            found = _rows(path, ("model", "precision", "logits"), ("new_tokens", "draws", "seconds"))
            rows += [row | about for row in found]
    return Measured(tuple(cpu), tuple(rows))


def _rows(path: Path, texts: Sequence[str], numbers: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Those in a file; `InputError` unless there are some, with these names."""
    rows: Any = read_object(path).get("rows")
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path} holds no rows of `make bench` or `make bench-gpu`.")
    for row in rows:
        if not isinstance(row, dict) or not all(is_text(row.get(name)) for name in texts):
            raise InputError(f"{path} has the row {quoted(row)}; it must have {', '.join((*texts, *numbers))}.")
        for name in numbers:
            check_number(f"{name} of a row in {path}", row.get(name), 0.0, 1e15, open_below=True)
    return rows


def prolonged(points: Sequence[tuple[float, float]], draws: float) -> float:
    """The value at `draws` on the lines through `points` in logarithms, the last prolonged; below them, the first."""
    if draws <= points[0][0]:
        return points[0][1]
    i = next((i for i, (x, _) in enumerate(points[1:-1], 1) if draws <= x), len(points) - 1)
    (x0, y0), (x1, y1) = points[i - 1], points[i]
    return float(y0 * (y1 / y0) ** (math.log(draws / x0) / math.log(x1 / x0)))


@dataclass(frozen=True)
class Estimate:
    """Seconds that drawing takes, on one core for a small model, else on its GPUs; and what they rest on."""

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
    found = size(model, precision)
    share = problems / PAPER_PROBLEMS
    if found and found.small:
        names = {row["model"] for row in measured.cpu}
        each = [prolonged(measured.points(name, stop, "seconds"), draws) for name in names & {model} or names]
        return Estimate(max(each) * share, "measured on a CPU")
    spec = known(model)
    rows = [row for row in measured.gpu if spec and found and row["model"] == spec.shape]
    rows = [row for row in rows if found and row["precision"] == found.precision and row["logits"] == "uniform"]
    fewest = min((row["new_tokens"] for row in rows), default=0)
    rows = [row for row in rows if row["new_tokens"] == fewest]
    if not rows:
        return Estimate(ALONE * draws * problems, "assumed from the paper")
    row = max(rows, key=lambda row: row["seconds"] / row["draws"])
    at_least = max(draws, row["draws_per_problem"])
    return Estimate(row["seconds"] / row["draws"] * at_least * problems, f"measured on {row['device']}")


@dataclass(frozen=True)
class Rates:
    """Of a machine: GB a second that a job reads weights at, and that all downloads share; a job's other seconds."""

    disk: float
    link: float
    overhead: float

    def __post_init__(self) -> None:
        for name in ("disk", "link"):
            check_number(name, getattr(self, name), 0.0, math.inf, open_below=True)
        check_number("overhead", self.overhead, 0.0, 1e9)


@dataclass(frozen=True)
class Work:
    """One model's: seconds of drawing, bytes to fetch once and read in each job, GPUs of a job."""

    draw: float
    stored: float
    gpus: int = 1

    def load(self, rates: Rates) -> float:
        """Seconds of a job in which nothing is drawn."""
        return self.stored / (rates.disk * 1e9) + rates.overhead


def work_of(model: str, precision: str, draws: int, problems: int, measured: Measured, gpu_gb: float) -> Work:
    """A model's, by `estimate`, `size` and `request`."""
    found = size(model, precision)
    seconds = estimate(model, precision, draws, problems, measured).seconds
    return Work(seconds, found.stored if found else 0.0, request(model, precision, gpu_gb)["gpu"] or 1)


@dataclass(frozen=True)
class Plan:
    """Seconds until the last job ends, and how the GPUs' time up to then splits into four."""

    wall: float
    drawing: float
    loading: float
    download: float  # nothing to run yet
    stragglers: float  # nothing left to run, or too few GPUs free for the next job

    @property
    def shares(self) -> list[tuple[str, float]]:
        """The four as shares of the GPUs' time, the largest first: the largest, and the largest loss."""
        parts = {name: getattr(self, name) for name in ("drawing", "loading", "download", "stragglers")}
        return sorted(
            ((name, part / (sum(parts.values()) or 1.0)) for name, part in parts.items()), key=lambda pair: -pair[1]
        )


def plan_jobs(works: Sequence[Work], shards: int, gpus: int, rates: Rates) -> Plan:
    """`works`, each in so many equal jobs, on so many GPUs: whichever is free takes the longest job that is there.

    Models are fetched one after the other, the smallest first, and can run as soon as they are there.
    """
    check_count("shards", shards, most=10**5)
    check_count("gpus", gpus, most=10**5)
    arrival, jobs = 0.0, []
    for work in sorted(works, key=lambda work: work.stored):
        if not 0 < work.gpus <= gpus:
            raise InputError(f"a job needs {work.gpus} GPUs; it may have 1 to {gpus}.")
        arrival += work.stored / (rates.link * 1e9)
        jobs += [(arrival, work.load(rates), work.draw / shards, work.gpus)] * shards
    free = [0.0] * gpus
    drawing = loading = download = stragglers = 0.0
    for arrival, load, draw, needed in sorted(jobs, key=lambda job: (job[0], -job[1] - job[2])):
        held = [heapq.heappop(free) for _ in range(needed)]
        start = max(arrival, held[-1])
        late = sum(max(arrival - since, 0.0) for since in held)
        download += late
        stragglers += sum(start - since for since in held) - late
        loading += needed * load
        drawing += needed * draw
        for _ in held:
            heapq.heappush(free, start + load + draw)
    wall = max(free)
    return Plan(wall, drawing, loading, download, stragglers + sum(wall - since for since in free))


def best_shards(works: Sequence[Work], gpus: int, rates: Rates, most: int = PAPER_PROBLEMS) -> int:
    """The fewest shards, at most `most`, with which the last job ends within about 2 % of the earliest possible."""
    check_count("gpus", gpus, most=10**5)
    if not works:
        raise InputError("there is no model to deal out.")
    arrivals = sum(work.stored for work in works) / (rates.link * 1e9)
    last = sorted(works, key=lambda work: work.stored)[-1]

    def bound(shards: int) -> float:  # no plan is shorter: all GPUs busy, or the model that arrives last
        busy = sum(work.gpus * (shards * work.load(rates) + work.draw) for work in works) / gpus
        return max(busy, arrivals + last.load(rates) + last.draw / shards)

    bounds, walls = [bound(shards) for shards in range(1, most + 1)], []
    for shards in range(1, most + 1):
        walls.append(plan_jobs(works, shards, gpus, rates).wall)
        if min(walls) <= SLACK * min(bounds[shards:], default=math.inf):
            break
    return 1 + next(i for i, wall in enumerate(walls) if wall <= SLACK * min(walls))
