"""Which problems the tiny models may learn from, and which are held out; by their numbers alone, not by a list."""

from __future__ import annotations

import hashlib
import itertools
import random
from functools import cache
from typing import Any

import pandas as pd

from lmrel.errors import check_count
from lmrel.problems import FEW_SHOT_EXAMPLES, OPERANDS, Problem, as_table, paper_rows, solve


def problem_key(problem: Problem) -> str:
    """The canonical name of a problem: those that differ only by a commutation share it, and are called twins."""
    values = [problem[column] for column in OPERANDS[problem["task"]]]
    if problem["task"] == "variable_binding" and problem["op1"] in "+*":
        values[:2] = sorted(values[:2])
    return " ".join([problem["task"], *map(str, values)])


def _in_held_out_twentieth(key: str) -> bool:
    return hashlib.blake2b(key.encode(), digest_size=4).digest()[0] % 20 == 0


@cache
def _reserved_keys() -> frozenset[str]:
    return frozenset(problem_key(p) for p in (*paper_rows(), *FEW_SHOT_EXAMPLES))


def may_train_on(problem: Problem) -> bool:
    """Whether a problem is neither the paper's nor a few-shot example, nor a twin of one, nor held out.

    Held out is a twentieth of all problems, chosen by a hash of the canonical name.
    """
    key = problem_key(problem)
    return not _in_held_out_twentieth(key) and key not in _reserved_keys()


def is_held_out(problem: Problem) -> bool:
    """Whether no tiny model trained on a problem, nor on a twin, though it is not among the paper's."""
    key = problem_key(problem)
    return _in_held_out_twentieth(key) and key not in _reserved_keys()


def held_out_problems(per_task: int = 200) -> pd.DataFrame:
    """A table of up to `per_task` problems of each family that no tiny model trained on and that are not the paper's.

    No two are twins. The choice is the same each time; the order is that of the canonical names.
    """
    check_count("per_task", per_task)
    digits, ranges = range(1, 10), (range(10, 100), range(1, 21), range(1, 11), range(1, 11))
    families = {
        "variable_binding": itertools.product(digits, digits, "+-*", digits, "+-"),
        "arithmetic": itertools.product(*ranges),
    }
    rows: list[dict[str, Any]] = []
    for task, values in families.items():
        found: dict[str, dict[str, Any]] = {}
        for combination in values:
            problem = {"task": task, **dict(zip(OPERANDS[task], combination, strict=True))}
            if is_held_out(problem):
                found.setdefault(problem_key(problem), problem)
        chosen = random.Random(0).sample(sorted(found), min(per_task, len(found)))
        rows += [
            {"problem_id": f"held-{task}-{i:04d}", "answer": solve(found[key]), **found[key]}
            for i, key in enumerate(sorted(chosen))
        ]
    return as_table(rows)
