"""Which format a file of draws has, recognised from its content; and the plain table, which no tool wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lmrel import logs
from lmrel.errors import InputError
from lmrel.files import read_object
from lmrel.logs import Found, Row
from lmrel.sources import READERS, Rows, renamed

COLUMNS = (  # of a plain table, by our names
    "model",
    "task",
    "problem_id",
    "cluster",
    "temperature",
    "run",
    "prompt",
    "text",
    "n_tokens",
    "mean_logprob",
    "answer",
    "expected",
    "correct",
    "draws",
)
SUFFIXES = (".jsonl", ".json", ".eval", ".csv", ".parquet")  # of files that are looked for in a folder
TOOLS: dict[frozenset[str], Callable[[Rows, Path, str | None], Found]] = {  # by the names that tell their lines
    frozenset({"doc_id", "resps", "filtered_resps"}): logs.read_harness,
    frozenset({"evaluation_id", "sample_id", "interaction_type"}): logs.read_ever,
}
DRAWN = {"decoder", "decoding", "prompt_style"}  # of a draws table of our own
KNOWN = (logs.HARNESS, logs.INSPECT, logs.EVER)
LOG = {"status", "eval"}  # of Inspect
BESIDE = ({"results", "configs"}, {"evaluation_id", "evaluation_results"})  # say something of draws in other files


def files_of(path: Path) -> list[Path]:
    """`path` itself, or the files below a folder that may hold draws, in the order of their names."""
    if not path.is_dir():
        return [path]
    inside = [one for one in sorted(path.rglob("*")) if one.suffix in SUFFIXES and one.is_file()]
    return [one for one in inside if not any(part.startswith(".") for part in one.relative_to(path).parts)]


def read_file(path: Path, columns: Mapping[str, str] | None = None, verdict: str | None = None) -> Found | None:
    """What `path` says; None for a file that only says something of the draws in others.

    `columns` are those of a plain table by our names; `verdict` names the one of a tool's that is meant, and "" any.
    Raises `InputError` for a file that is damaged, or of no known format.
    """
    start = _start(path)
    rows = [(str(path), logs.unpacked(path))] if start.startswith(b"PK") else _rows(path, start)
    if not rows:
        raise InputError(f"{path} holds no rows.")
    first = rows[0][1]
    there = set(first) if isinstance(first, dict) else set()
    if any(marks <= there for marks in BESIDE):
        return None
    tool = next((read for marks, read in TOOLS.items() if marks <= there), None)
    if tool is None and not there >= LOG:
        return _table(rows, path, columns or {}, verdict)
    if columns:
        raise InputError(f"columns are those of a plain table, and {path} is none; leave them out.")
    if tool:
        return tool(rows, path, verdict)
    return logs.read_inspect(logs.by_its_own_reader(path) or first, path, verdict)


def _start(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe would be waited for
            raise InputError(f"{path} is no file or folder that can be read.")
        with open(path, "rb") as file:
            return file.read(4096)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _rows(path: Path, start: bytes) -> Rows:
    """The rows of a table, the lines or the items of JSON, or the one object that a file is."""
    if start.startswith(b"PAR1"):
        return READERS[".parquet"](path)
    text = start.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if not text.startswith("{"):
        return READERS[".json" if text.startswith("[") else ".csv"](path)
    over_lines = text.partition("\n")[0].rstrip() == "{"
    return [(str(path), read_object(path))] if over_lines else READERS[".jsonl"](path)


def _table(rows: Rows, path: Path, columns: Mapping[str, str], verdict: str | None) -> Found:
    """The rows of a plain table; a row of counts stands for as many draws as it has ``draws``."""
    if verdict:
        raise InputError(f"verdict names one of a tool's, and {path} is a plain table: columns says which is correct.")
    said: list[Row] = []
    for where, row in renamed(rows, columns, path):
        if not isinstance(row, dict):
            raise InputError(f"{where}: a row must be an object with names, not {type(row).__name__}.")
        said.append({"where": where} | {name: row[name] for name in COLUMNS if row.get(name) is not None})
    if not any("problem_id" in row for row in said):
        there = ", ".join(map(str, dict.fromkeys(name for _, row in rows for name in row)))
        raise InputError(
            f"{path} has no problem_id but {there or 'nothing'}: it is neither a plain table, whose columns may have "
            f"other names, nor written by {', '.join(KNOWN)}."
        )
    if {name for _, row in rows for name in row} >= DRAWN:
        raise InputError(f"{path} is a table of draws already; lmrel.records.read_draws reads it.")
    return Found("counts" if any("draws" in row for row in said) else "table", None, said)
