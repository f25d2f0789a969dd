"""The problems: the paper's 240, or a user's own file, checked row by row.

Two task families (arXiv 2601.00942). *Variable binding*: ``c = a op1 b; d = c op2 k``, asked for ``d``.
*Arithmetic*: ``(x - y) * z + w``. A problem is a row; what a model is shown of it is `lmrel.prompts`' business.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmrel.errors import InputError, check_count, check_number, is_text, quoted
from lmrel.files import as_path

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
INTEGERS = ("answer", "a", "b", "k", "x", "y", "z", "w")
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


def draw_problem(task: str, rng: random.Random) -> dict[str, Any]:
    """One problem with operands from the paper's ranges, drawn in the paper's order."""
    if task == "variable_binding":
        a, b, op1 = rng.randint(1, 9), rng.randint(1, 9), rng.choice("+-*")
        return {"task": task, "a": a, "b": b, "op1": op1, "k": rng.randint(1, 9), "op2": rng.choice("+-")}
    x, y, z, w = rng.randint(10, 99), rng.randint(1, 20), rng.randint(1, 10), rng.randint(1, 10)
    return {"task": task, "x": x, "y": y, "z": z, "w": w}


@cache
def paper_rows() -> tuple[dict[str, Any], ...]:
    """The paper's 240 problems as rows: see `paper_problems`."""
    rng = random.Random(42)
    rows = []
    for task, prefix in (("variable_binding", "vb"), ("arithmetic", "ar")):
        for i in range(120):
            problem = draw_problem(task, rng)
            rows.append({"problem_id": f"{prefix}-{i:03d}", "answer": solve(problem), **problem})
    return tuple(rows)


def paper_problems() -> pd.DataFrame:
    """The paper's 240 problems in its order: 120 variable binding, then 120 arithmetic.

    Columns ``problem_id, task, answer``, the operands ``a b op1 k op2`` and ``x y z w`` (missing where they
    do not apply) and ``question`` (missing: these are shown from their operands). Source: `random.seed(42)`
    and the draw order of the paper's code, kabirrgrover/lm-reliability-sparsity.
    """
    return as_table(paper_rows())


def load_problems(source: str, limit: int | None = None) -> pd.DataFrame:
    """``"paper"``, or the problems in a JSONL or Parquet file; the first `limit` of each task if given.

    A row has a unique ``problem_id`` and either ``task`` with that family's operands, or a ``question`` in
    words with its integer ``answer`` (task ``custom`` unless named). Versions of one question may have one ``cluster``,
    a text: then intervals do not count them as independent. Raises `InputError` naming the line.
    """
    if limit is not None:
        check_count("limit", limit)
    path = as_path("problems", source)
    problems = paper_problems() if str(path) == "paper" else as_table(_checked(_read(path)))
    return problems if limit is None else problems.groupby("task", sort=False).head(limit).reset_index(drop=True)


def as_rows(problems: Any) -> list[dict[str, Any]]:
    """The rows of a table of problems as `load_problems` gives it, checked like those of a file.

    But its answers may be others than those of the operands: whoever makes a table may ask for any.
    """
    if not isinstance(problems, pd.DataFrame):
        raise InputError(f"problems is {quoted(problems)}; it must be a table, as from load_problems.")
    if not problems.columns.is_unique:
        raise InputError("problems has two columns of one name.")
    known = problems[[column for column in COLUMNS if column in problems]]
    return _checked([(f"problems, row {i}", row) for i, row in enumerate(rows_of(known))], solved=False)


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, what is missing left out; unchecked."""
    rows: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    return [{name: value for name, value in row.items() if not _missing(value)} for row in rows]


def as_table(rows: Iterable[Problem]) -> pd.DataFrame:
    """A table of the rows; a column never passes through floats, which would lose digits."""
    rows = list(rows)
    kinds: dict[str, Any] = {column: "Int64" if column in INTEGERS else "string" for column in COLUMNS}
    return pd.DataFrame({name: pd.array([row.get(name) for row in rows], dtype=kind) for name, kind in kinds.items()})


def one_of(problems: pd.DataFrame, number: int) -> pd.DataFrame:
    """The table of the one problem in row `number`, from 0."""
    check_number("problem", number, 0, len(problems) - 1, whole=True)
    return problems.iloc[[number]]


def _read(path: Path) -> list[tuple[str, Any]]:
    """The rows in a file, unchecked, each with where it stands."""
    if not os.path.isfile(path):  # unlike the path's own, false where nothing may be looked up
        raise InputError(f"problems is {str(path)!r}; it must be 'paper' or an existing .jsonl or .parquet file.")
    readers = {".jsonl": _read_lines, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise InputError(f"problems is {str(path)!r}; its name must end in .jsonl or .parquet.")
    if not (rows := readers[path.suffix](path)):
        raise InputError(f"{path} holds no problems.")
    return rows


def _read_lines(path: Path) -> list[tuple[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append((f"{path}, line {number}", json.loads(line, object_pairs_hook=_object)))
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}, line {number}: not valid JSON ({error}).") from error
    return rows


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no name occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def _read_parquet(path: Path) -> list[tuple[str, Any]]:
    """Without what pandas noted in the file, which may be damaged; no integer becomes a float, which loses digits."""
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
        names = [name for name in table.column_names if not name.startswith("__index_level_")]  # pandas adds these
        if len(set(names)) < len(names):
            raise ValueError("two columns have one name")
        rows = rows_of(table.select(names).replace_schema_metadata().to_pandas(integer_object_nulls=True))
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet: {str(error).partition(chr(10))[0]}") from error
    return [(f"{path}, row {number}", row) for number, row in enumerate(rows)]


def _checked(rows: list[tuple[str, Any]], *, solved: bool = True) -> list[dict[str, Any]]:
    """The rows, each with where it stands, checked one by one and against each other; `solved`: answers too."""
    seen: dict[str, str] = {}
    checked = []
    for where, row in rows:
        try:
            problem = _checked_row(row, solved)
        except ValueError as error:
            raise InputError(f"{where}: {error}.") from error
        name = problem["problem_id"]
        if name in seen:
            raise InputError(f"{where}: problem_id {quoted(name)} is already at {seen[name]}.")
        seen[name] = where
        checked.append(problem)
    return checked


def _checked_row(row: Any, solved: bool) -> dict[str, Any]:
    """One row, completed; ValueError, which says what is wrong, for one that is no problem."""
    if not isinstance(row, dict):
        raise ValueError(f"a problem must be a JSON object, not {type(row).__name__}")
    if unknown := [name for name in row if name not in COLUMNS]:
        raise ValueError(f"unknown field {quoted(unknown[0])}; known are {', '.join(COLUMNS)}")
    row = {key: _integer(value, key) if key in INTEGERS else value for key, value in row.items() if value is not None}
    for column, value in row.items():
        if column not in INTEGERS and not is_text(value):
            raise ValueError(f"{column} must be a non-empty string of valid Unicode, not {quoted(value)}")
    if "problem_id" not in row:
        raise ValueError("problem_id is missing")
    if "question" in row:
        if row.keys() & set(COLUMNS[3:-2]) or row.get("task") in (*OPERANDS, "all"):
            raise ValueError("a question goes without operands and with a task name of its own")
        if "answer" not in row:
            raise ValueError("a question needs its integer answer")
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


def _integer(value: Any, what: str) -> int:
    """`value` as an integer of at most 18 digits, so that it fits into a table; no float that may have lost some."""
    try:
        short = -(10**18) < value < 10**18  # first: a decimal number may stand for millions of digits
        whole = int(value) if short and not isinstance(value, bool) and int(value) == value else None
    except (TypeError, ValueError, ArithmeticError):
        whole = None
    if whole is None or (isinstance(value, float) and abs(value) >= 2**53):
        raise ValueError(f"{what} is {quoted(value)}; it must be an integer of at most 18 digits")
    return whole


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value) or value is pd.NA
