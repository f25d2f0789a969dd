"""Which problems the tiny models may learn from, and which are held out."""

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
    """A canonical name: problems that differ only by a commutation share it."""
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
    """False for the paper's problems, the few-shot examples, their twins, and a further twentieth by hash."""
    key = problem_key(problem)
    return not _in_held_out_twentieth(key) and key not in _reserved_keys()


def held_out_problems(per_task: int = 200) -> pd.DataFrame:
    """Up to `per_task` problems of each family that no tiny model trained on and that are not the paper's.

    One problem per canonical key, so no two are twins; the order is that of the operands.
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
            key = problem_key(problem)
            if _in_held_out_twentieth(key) and key not in _reserved_keys():
                found.setdefault(key, problem)
        chosen = random.Random(0).sample(sorted(found), min(per_task, len(found)))
        rows += [
            {"problem_id": f"held-{task}-{i:04d}", "answer": solve(found[key]), **found[key]}
            for i, key in enumerate(sorted(chosen))
        ]
    return as_table(rows)
