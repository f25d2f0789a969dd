"""The problems: the paper's 240, or a user's own file, checked row by row.

Two task families (arXiv 2601.00942). *Variable binding*: ``c = a op1 b; d = c op2 k``, asked for ``d``.
*Arithmetic*: ``(x - y) * z + w``. A problem is a row; what a model is shown of it is `lmrel.prompts`' business.
"""

from __future__ import annotations

import json
import numbers
import random
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from lmrel.answers import Answer, as_answer, kind_of, only_answer, plain_text
from lmrel.errors import InputError, check_count, check_number, is_text, quoted
from lmrel.numerals import Number, as_text
from lmrel.records import DRAWS_SCHEMA
from lmrel.sources import Rows, read_rows, rows_of

OPERANDS: dict[str, tuple[str, ...]] = {
    "variable_binding": ("a", "b", "op1", "k", "op2"),
    "arithmetic": ("x", "y", "z", "w"),
}
COLUMNS = (
    "problem_id",
    "task",
    "answer",
    *OPERANDS["variable_binding"],
    *OPERANDS["arithmetic"],
    "question",
    "cluster",
)
INTEGERS = ("a", "b", "k", "x", "y", "z", "w")
TEXTS = ("problem_id", "task", "op1", "op2", "question", "cluster")
NAMES = {"problem_id", "task", "cluster"}  # which may be written as integers
RANGES = {"a": (1, 9), "b": (1, 9), "k": (1, 9), "x": (10, 99), "y": (1, 20), "z": (1, 10), "w": (1, 10)}  # the paper's
MOST_TRIES = 100_000
APPLY = {"+": lambda m, n: m + n, "-": lambda m, n: m - n, "*": lambda m, n: m * n}
FEW_SHOT_EXAMPLES: tuple[dict[str, Any], ...] = (
    {"task": "variable_binding", "a": 4, "b": 3, "op1": "+", "k": 2, "op2": "-"},
    {"task": "arithmetic", "x": 17, "y": 5, "z": 3, "w": 6},
)
Problem = Mapping[str, Any]


def solve(problem: Problem) -> int:
    """The right answer, from the operands."""
    if problem["task"] == "variable_binding":
        c = APPLY[problem["op1"]](problem["a"], problem["b"])
        return APPLY[problem["op2"]](c, problem["k"])
    return (problem["x"] - problem["y"]) * problem["z"] + problem["w"]


def draw_problem(task: str, rng: random.Random, ranges: Mapping[str, tuple[int, int]] = RANGES) -> dict[str, Any]:
    """One problem with operands from `ranges`, by default the paper's, drawn in the paper's order."""
    signs = {"op1": "+-*", "op2": "+-"}
    picked = {name: rng.choice(signs[name]) if name in signs else rng.randint(*ranges[name]) for name in OPERANDS[task]}
    return {"task": task, **picked}


def new_problems(
    n: int,
    seed: int,
    ranges: Mapping[str, tuple[int, int]] | None = None,
    allowed: Callable[[Problem], bool] = lambda problem: True,
) -> list[dict[str, Any]]:
    """`n` problems of each family as rows, of which each is `allowed`: with seed 42, in the paper's ranges, its own.

    `ranges` are the lowest and highest value of each operand. Raises `InputError` for a range that holds nothing, and
    where so many that are allowed are not found.
    """
    check_count("num_examples", n, most=10**6)
    bounds = {**RANGES, **(ranges or {})}
    for name, (low, high) in bounds.items():
        if not -(10**5) <= low <= high <= 10**5:
            raise InputError(f"the range of {name} is {low} to {high}; it must go up, within 100,000 of 0.")
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for task, prefix in (("variable_binding", "vb"), ("arithmetic", "ar")):
        for number in range(n):
            drawn = (draw_problem(task, rng, bounds) for _ in range(MOST_TRIES))
            if (problem := next(filter(allowed, drawn), None)) is None:
                raise InputError(f"only {number} problems of {task} were found; ask for fewer, or from wider ranges.")
            rows.append({"problem_id": f"{prefix}-{number:03d}", "answer": solve(problem), **problem})
    return rows


@cache
def paper_rows() -> tuple[dict[str, Any], ...]:
    """The paper's 240 problems as rows: see `paper_problems`."""
    return tuple(new_problems(120, 42))


def paper_problems() -> pd.DataFrame:
    """The paper's 240 problems in its order: 120 variable binding, then 120 arithmetic.

    Columns ``problem_id, task, answer``, the operands ``a b op1 k op2`` and ``x y z w`` (missing where they
    do not apply) and ``question`` (missing: these are shown from their operands). Source: `random.seed(42)`
    and the draw order of the paper's code, kabirrgrover/lm-reliability-sparsity.
    """
    return as_table(paper_rows())


def load_problems(source: str, limit: int | None = None, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """``"paper"``, or the problems in a file; the first `limit` of each task if given.

    The file is JSON Lines, a JSON array, CSV or Parquet, here or on the hub, and `columns` says under which names our
    columns stand in it: see `sources.read_rows`. A row has a ``question`` in words with its ``answer`` (task ``custom``
    unless named), or ``task`` with that family's operands. Answers are numbers, letters of a choice, or short texts, of
    one kind in a file; those that are not all whole come as text. A row has a unique ``problem_id``; where none has,
    they are numbered from 1. Versions of one question may have one ``cluster``, a text: then intervals do not count
    them as independent. Further columns are kept, as text. Raises `InputError` naming the line.
    """
    if limit is not None:
        check_count("limit", limit)
    if source == "paper" and columns:
        raise InputError("columns names those of a file, and problems is 'paper'; name the file, or leave them out.")
    problems = paper_problems() if source == "paper" else as_table(_checked(read_rows(source, columns)))
    return problems if limit is None else problems.groupby("task", sort=False).head(limit).reset_index(drop=True)


def as_rows(problems: Any) -> list[dict[str, Any]]:
    """The rows of a table of problems as `load_problems` gives it, checked like those of a file.

    But its answers may be others than those of the operands: whoever makes a table may ask for any.
    """
    if not isinstance(problems, pd.DataFrame):
        raise InputError(f"problems is {quoted(problems)}; it must be a table, as from load_problems.")
    if not problems.columns.is_unique:
        raise InputError("problems has two columns of one name.")
    return _checked([(f"problems, row {i}", row) for i, row in enumerate(rows_of(problems))], solved=False)


def as_table(rows: Iterable[Problem]) -> pd.DataFrame:
    """A table of the rows; a column never passes through floats, which would lose digits.

    Answers are integers if all of them are, else text.
    """
    rows = list(rows)
    whole = {*INTEGERS, *(["answer"] if all(isinstance(row.get("answer"), int) for row in rows) else [])}
    names = [*COLUMNS, *extra_columns(rows)]
    kinds: dict[str, Any] = {name: "Int64" if name in whole else "string" for name in names}
    cells = {name: [_cell(row, name, whole) for row in rows] for name in names}
    return pd.DataFrame({name: pd.array(cells[name], dtype=kinds[name]) for name in names})


def _cell(row: Problem, name: str, whole: set[str]) -> Any:
    value = row.get(name)
    return value if value is None or name in whole else str(value)


def extra_columns(rows: Iterable[Problem]) -> list[str]:
    """The columns of `rows` beside those of every problem, in the order in which they come."""
    return list({name: None for row in rows for name in row if name not in COLUMNS})


def one_of(problems: pd.DataFrame, number: int) -> pd.DataFrame:
    """The table of the one problem in row `number`, from 0."""
    check_number("problem", number, 0, len(problems) - 1, whole=True)
    return problems.iloc[[number]]


def _checked(rows: Rows, *, solved: bool = True) -> list[dict[str, Any]]:
    """The rows, each with where it stands, checked one by one and against each other; `solved`: answers too."""
    named = any(isinstance(row, dict) and "problem_id" in row for _, row in rows)
    seen: dict[str, str] = {}
    checked = []
    for number, (where, row) in enumerate(rows, start=1):
        try:
            problem = _checked_row(row, solved, None if named else str(number))
        except ValueError as error:
            raise InputError(f"{where}: {error}.") from error
        name = problem["problem_id"]
        if name in seen:
            raise InputError(f"{where}: problem_id {quoted(name)} is already at {seen[name]}.")
        seen[name] = where
        checked.append(problem)
    _make_alike(checked, list(seen.values()))
    return checked


def _make_alike(problems: list[dict[str, Any]], places: list[str]) -> None:
    """Make all answers text where not all are whole numbers, and letters beside texts texts.

    Raises `InputError` where some are numbers and others are not.
    """
    kinds = [kind_of(problem["answer"]) for problem in problems]
    if "number" in kinds and (other := next((i for i, kind in enumerate(kinds) if kind != "number"), None)) is not None:
        found = [f"{quoted(problems[i]['answer'])} ({places[i]})" for i in (kinds.index("number"), other)]
        raise InputError(f"answers are of two kinds, such as {found[0]} and {found[1]}; put them into two files.")
    if not all(isinstance(problem["answer"], int) for problem in problems):
        for problem in problems:
            text = as_answer(problem["answer"])
            problem["answer"] = plain_text(text) if "text" in kinds else text


def _checked_row(row: Any, solved: bool, number: str | None) -> dict[str, Any]:
    """One row, completed; ValueError, which says what is wrong, for one that is no problem.

    `number` is its name where no row of its file has one.
    """
    if not isinstance(row, dict):
        raise ValueError(f"a problem must be a JSON object, not {type(row).__name__}")
    row = {key: value for key, value in row.items() if value is not None}
    for key in row.keys() & set(INTEGERS):
        row[key] = _integer(row[key], key)
    if number is not None:
        row["problem_id"] = number
    for column in row.keys() & NAMES:
        if isinstance(row[column], (int, np.integer)) and not isinstance(row[column], bool):
            row[column] = str(row[column])
    for column in row.keys() & set(TEXTS):
        if not is_text(row[column]):
            raise ValueError(f"{column} must be a non-empty string of valid Unicode, not {quoted(row[column])}")
    if "problem_id" not in row:
        raise ValueError("problem_id is missing")
    if not row.keys() & {"question", "task"}:
        there = ", ".join(quoted(name) for name in row if name != "problem_id") or "nothing"
        raise ValueError(f"it has neither a question nor a task, but {there}; columns says which is the question")
    if "answer" in row:
        row["answer"] = right_answer(row["answer"])
    row = {name: value if name in COLUMNS else _extra(name, value) for name, value in row.items()}
    if "question" in row:
        if row.keys() & set(COLUMNS[3:-2]) or row.get("task") in (*OPERANDS, "all"):
            raise ValueError("a question goes without operands and with a task name of its own")
        if "answer" not in row:
            raise ValueError("a question needs its answer")
        return {"task": "custom", **row}
    task = row.get("task")
    if task not in OPERANDS:
        raise ValueError(f"task is {quoted(task)}; without a question it must be one of {', '.join(OPERANDS)}")
    if missing := [column for column in OPERANDS[task] if column not in row]:
        raise ValueError(f"{task} needs {', '.join(OPERANDS[task])}; {missing[0]} is missing")
    for column, allowed in (("op1", tuple(APPLY)), ("op2", ("+", "-"))):
        if row.get(column, "+") not in allowed:
            raise ValueError(f"{column} is {quoted(row[column])}; it must be one of {' '.join(allowed)}")
    solution = _integer(solve(row), "the answer")
    if row.setdefault("answer", solution) != solution and solved:
        raise ValueError(f"answer is {row['answer']}, but the operands give {solution}")
    return row


def right_answer(value: Any) -> Answer:
    """A right answer as tables hold it: an int, or a decimal, a fraction, a letter or a text, as text.

    Of a worked solution that ends in ``#### 42`` it is what stands there.
    """
    found: Answer | None = None
    if isinstance(value, (bool, np.bool_)):
        found = str(value).lower()
    elif isinstance(value, (numbers.Real, Decimal)):
        found = _exactly(value)
    elif is_text(value):
        found = only_answer(value.rpartition("####")[2])
    if found is None or (not isinstance(found, str) and max(abs(found.numerator), found.denominator) >= 10**18):
        raise ValueError(f"answer is {quoted(value)}; it must be a number of at most 18 digits, a letter or a text")
    return found if isinstance(found, (int, str)) else as_text(found)


def _exactly(value: Any) -> Number | None:
    """A number of Python's or numpy's, exactly; None for one that is not finite, or may have lost digits."""
    try:  # the range first: a decimal number may stand for millions of digits
        if value == 0 or 1e-18 < abs(value) < (2**53 if isinstance(value, float) else 10**18):
            found = Fraction(str(value))
            return found.numerator if found.denominator == 1 else found
    except ArithmeticError:
        pass
    return None


def _extra(name: Any, value: Any) -> str:
    """A further column's value, as text."""
    if not is_text(name):
        raise ValueError(f"a column has the name {quoted(name)}; it must be a text")
    if name in DRAWS_SCHEMA.names:
        other = f"give it another with columns={{'my_{name}': '{name}'}}"
        raise ValueError(f"a further column may not have the name {quoted(name)}, as draws have it; {other}")
    text = value if isinstance(value, str) else json.dumps(value, default=_in_json, ensure_ascii=False)
    if text and not is_text(f".{text}"):
        raise ValueError(f"{name} must be valid Unicode, not {quoted(value)}")
    return text


def _in_json(value: Any) -> Any:
    """What JSON has no form for: a list of Parquet's, which is an array, as a list; all else as text."""
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def _integer(value: Any, what: str) -> int:
    """`value` as an integer of at most 18 digits, so that it fits into a table; no float that may have lost some.

    It may be written as text, as all is in CSV.
    """
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value, re.ASCII):
        return int(value)
    try:
        short = -(10**18) < value < 10**18  # first: a decimal number may stand for millions of digits
        whole = int(value) if short and not isinstance(value, bool) and int(value) == value else None
    except (TypeError, ValueError, ArithmeticError):
        whole = None
    if whole is None or (isinstance(value, float) and abs(value) >= 2**53):
        raise ValueError(f"{what} is {quoted(value)}; it must be an integer of at most 18 digits")
    return whole
