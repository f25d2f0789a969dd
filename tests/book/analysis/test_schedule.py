from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest

from book.analysis.schedule import EVEN_SHARDS, SLACK, Rates, Work, best_shards, plan_jobs, work_of
from lmrel import InputError
from lmrel.registry import REGISTRY
from study import costs
from tests.conftest import ROOT

AT_ONCE = Rates(disk=math.inf, link=math.inf, overhead=0.0)
RATES = Rates(disk=2.0, link=math.inf, overhead=30.0)


@pytest.mark.parametrize("gpus", [1, 2, 5, 8, 64])
@pytest.mark.parametrize(("models", "shards"), [(1, 1), (3, 1), (3, 7), (30, 2), (64, 1)])
def test_equal_jobs_take_their_rounds(models: int, shards: int, gpus: int) -> None:
    work = Work(draw=4200.0, stored=14e9)
    found = plan_jobs([work] * models, shards, gpus, RATES)
    job = 14e9 / 2e9 + 30 + 4200 / shards
    assert found.wall == pytest.approx(math.ceil(models * shards / gpus) * job)
    assert found.spent["drawing"] == pytest.approx(models * 4200)
    assert found.spent["loading"] == pytest.approx(models * shards * 37)
    assert found.spent["download"] == 0


@pytest.mark.parametrize("seed", range(40))
def test_no_schedule_is_much_shorter(seed: int) -> None:
    chance = random.Random(seed)
    works = [Work(chance.uniform(10, 1000), chance.choice([2e9, 9e9, 40e9])) for _ in range(chance.randint(1, 6))]
    gpus, rates = chance.randint(1, 3), Rates(1.0, math.inf, 5.0)
    found = plan_jobs(works, 1, gpus, rates)
    assert sum(found.spent.values()) == pytest.approx(gpus * found.wall)
    times = [work.load(rates) + work.draw for work in works]
    shortest = min(
        max(sum(time for time, where in zip(times, places, strict=True) if where == gpu) for gpu in range(gpus))
        for places in itertools.product(range(gpus), repeat=len(times))
    )
    # Graham's bound for the longest job first.
    assert shortest - 1e-6 <= found.wall <= (4 / 3 - 1 / (3 * gpus)) * shortest + 1e-6


def test_jobs_wait_for_their_weights_and_for_enough_gpus() -> None:
    rates = Rates(disk=math.inf, link=1.0, overhead=0.0)
    found = plan_jobs(
        [Work(10.0, 20e9), Work(10.0, 5e9)], 1, 2, rates
    )  # the small one first: there after 5 s, then 25 s
    assert found.wall == 35
    assert found.spent["download"] == 5 + 25  # one GPU waits for each
    assert found.spent["stragglers"] == 35 - 15
    two = plan_jobs([Work(10.0, 0.0, gpus=2), Work(4.0, 0.0), Work(3.0, 0.0)], 1, 2, AT_ONCE)
    assert two.wall == 14
    assert two.spent["drawing"] == 27
    with pytest.raises(InputError, match="a job needs 2 GPUs of those that gpu_gb describes; there are 1"):
        plan_jobs([Work(10.0, 0.0, gpus=2)], 1, 1, AT_ONCE)


@pytest.mark.parametrize("seed", range(30))
def test_no_even_number_of_shards_is_much_better_than_the_best(seed: int) -> None:
    chance = random.Random(seed)
    works = [
        Work(chance.uniform(100, 5000), chance.choice([2e9, 14e9, 93e9]), chance.choice([1, 1, 2]))
        for _ in range(chance.randint(1, 12))
    ]
    gpus = chance.choice([2, 3, 8, 20])
    rates = Rates(chance.choice([0.5, 5.0]), chance.choice([0.1, 2.0, math.inf]), chance.choice([1.0, 60.0]))
    best = best_shards(works, gpus, rates)
    walls = {shards: plan_jobs(works, shards, gpus, rates).wall for shards in EVEN_SHARDS}
    assert walls[best] <= SLACK * min(walls.values())
    assert all(wall > SLACK * min(walls.values()) for fewer, wall in walls.items() if fewer < best)


def test_the_best_number_of_shards_follows_from_the_closed_form() -> None:
    work = Work(draw=4200.0, stored=14e9)
    for models, gpus in ((3, 8), (3, 64), (5, 64)):
        brute = {s: math.ceil(models * s / gpus) * (37 + 4200 / s) for s in range(1, 241) if 240 % s == 0}
        assert best_shards([work] * models, gpus, RATES) == min(brute, key=lambda s: brute[s])
    assert best_shards([work] * 64, 64, RATES) == 1
    assert best_shards([work], 1, RATES) == 1


def test_the_work_of_a_model_is_its_drawing_its_files_and_its_gpus() -> None:
    measured = costs.read_measured(ROOT / "book" / "data")
    work = work_of("olmoe-1b-7b", "auto", 13, 240, measured, 40)
    drawing = costs.estimate("olmoe-1b-7b", "auto", 13, 240, measured).seconds
    assert (work.draw, work.stored, work.gpus) == (drawing, 2 * REGISTRY["olmoe-1b-7b"].total, 1)
    assert work_of("tiny-dense-base", "auto", 13, 240, measured, 40).gpus == 1  # a job on a CPU takes a place, too


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0, 1, 1), "disk is 0; it must be a number above 0"),
        ((1, math.nan, 1), "link is nan"),
        ((1, 1, -5), "overhead is -5"),
        (("fast", 1, 1), "disk is 'fast'"),
    ],
)
def test_rates_are_numbers(values: tuple[Any, Any, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Rates(*values)
