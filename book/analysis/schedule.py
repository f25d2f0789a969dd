"""How long many models take on many GPUs, and among how many jobs each is best divided, as the page on scale asks.

It simulates the simplest scheduler. What one model takes comes from `study.costs`; no study is planned by this.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lmrel.errors import InputError, check_number
from study.costs import PAPER_PROBLEMS, Measured, estimate, request, size

# The numbers of shards that deal the paper's problems out evenly, so that all jobs of a model take equally long.
EVEN_SHARDS = [shards for shards in range(1, PAPER_PROBLEMS + 1) if PAPER_PROBLEMS % shards == 0]
SLACK = 1.01  # times that differ by a smaller factor count as equal


@dataclass(frozen=True)
class Rates:
    """What is assumed of a machine; raises `InputError` for what is no such number.

    One job reads weights at `disk` GB/s, all downloads share `link` GB/s, and a job spends `overhead` seconds beside
    reading and drawing.
    """

    disk: float
    link: float
    overhead: float

    def __post_init__(self) -> None:
        for name in ("disk", "link"):
            check_number(name, getattr(self, name), 0.0, math.inf, open_below=True)
        check_number("overhead", self.overhead, 0.0, 1e9)


@dataclass(frozen=True)
class Work:
    """What one model takes: seconds of drawing in all, bytes to fetch once and to read in each job, GPUs of a job."""

    draw: float
    stored: float
    gpus: int = 1

    def load(self, rates: Rates) -> float:
        """The seconds of each job in which nothing is drawn."""
        return self.stored / (rates.disk * 1e9) + rates.overhead


def work_of(model: str, precision: str, draws: int, problems: int, measured: Measured, gpu_gb: float) -> Work:
    """The `Work` of a model with so many draws for each of so many problems, by `estimate`, `size` and `request`."""
    found = size(model, precision)
    seconds = estimate(model, precision, draws, problems, measured).seconds
    return Work(seconds, found.stored if found else 0.0, request(model, precision, gpu_gb)["gpu"] or 1)


@dataclass(frozen=True)
class Plan:
    """How long a study takes: `wall`, the seconds until its last job ends, and `spent`, the GPUs' seconds up to then.

    They are spent on ``drawing`` and ``loading``, or lost to ``download`` (nothing is there to run yet) and
    ``stragglers`` (nothing is left to run, or too few GPUs are free for the next job).
    """

    wall: float
    spent: dict[str, float]


def plan_jobs(works: Sequence[Work], shards: int, gpus: int, rates: Rates) -> Plan:
    """The `Plan` of `works`, each divided into `shards` equal jobs, on so many GPUs.

    A free GPU takes the longest job whose weights are there. Models are fetched one after the other, the smallest
    first. Raises `InputError` for a job that needs more GPUs than there are.
    """
    arrival, jobs = 0.0, []
    for work in sorted(works, key=lambda work: work.stored):
        if work.gpus > gpus:
            raise InputError(f"a job needs {work.gpus} GPUs of those that gpu_gb describes; there are {gpus}.")
        arrival += work.stored / (rates.link * 1e9)
        jobs += [(arrival, work.load(rates), work.draw / shards, work.gpus)] * shards
    free = [0.0] * gpus  # a heap of the moments at which each GPU is free again
    spent = dict.fromkeys(("drawing", "loading", "download"), 0.0)
    for arrival, load, draw, needed in sorted(jobs, key=lambda job: (job[0], -job[1] - job[2])):
        since = [heapq.heappop(free) for _ in range(needed)]
        start = max(arrival, since[-1])
        spent["drawing"] += needed * draw
        spent["loading"] += needed * load
        spent["download"] += sum(max(arrival - moment, 0.0) for moment in since)
        for _ in since:
            heapq.heappush(free, start + load + draw)
    wall = max(free)
    return Plan(wall, spent | {"stragglers": gpus * wall - sum(spent.values())})


def best_shards(works: Sequence[Work], gpus: int, rates: Rates) -> int:
    """The fewest of `EVEN_SHARDS` with which the last job ends first, or within one per cent of that."""
    walls: dict[int, float] = {}
    for shards in EVEN_SHARDS:
        busy = sum(work.gpus * (shards * work.load(rates) + work.draw) for work in works) / gpus
        if busy > min(walls.values(), default=math.inf):
            break  # no GPU idle, and still slower: more shards only add loading
        walls[shards] = plan_jobs(works, shards, gpus, rates).wall
    return next(shards for shards, wall in walls.items() if wall <= SLACK * min(walls.values()))
