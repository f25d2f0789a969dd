"""The pages on what other people's models wrote, computed anew: ``make outputs DATA=folder``.

The folder holds clones of the two public repositories named below, at those commits, or the tables that were made of
them, ``cruxeval.parquet`` and ``renze.parquet``. What is computed goes to ``book/data/outputs/``; the data do not.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from book.analysis import gates, outputs
from lmrel.errors import InputError, command
from lmrel.files import as_pandas, read_table, write_json, write_table
from lmrel.outputs import read_outputs
from lmrel.stats.independence import checks

COUNTS = ["model", "task", "temperature", "problem_id", "draws", "correct"]
DRAWS = ["model", "prompt", "exam", "source", "temperature", "run", "problem_id", "answer", "expected", "error"]
PROMPT, EXAM = "chain_of_thought", "comprehensive-100"  # of which there are all models
RUNS = 10


@dataclass(frozen=True)
class Source:
    """Where a table comes from, and the hash of its rows."""

    repository: str
    commit: str
    files: str
    licence: str
    sha256: str
    columns: list[str]
    read: Callable[[Path], pd.DataFrame]


def counts_of(path: Path) -> pd.DataFrame:
    """One of the tables of all-the-noises: a model's right answers to each problem of a task at a temperature."""
    table = as_pandas(path, read_table(path))
    named = re.fullmatch(r"CRUXEval-(input|output)-T([0-9.]+)", path.parent.parent.name)
    if named is None or not {"model", "example_id", "pass1", "count"} <= set(table):
        raise InputError(f"{path} is no table of CRUXEval's answers.")
    right = (table["pass1"] * table["count"]).round()
    said = {"problem_id": table["example_id"], "draws": table["count"], "correct": right}
    return table[["model"]].assign(task=named[1], temperature=float(named[2]), **said)


def draws_of(path: Path) -> pd.DataFrame:
    """One of the files of Renze and Guven: ten answers of a model to each problem of an exam."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    names = {
        "Model Name": "model",
        "Agent Name": "prompt",
        "Exam Name": "exam",
        "Source": "source",
        "Temperature": "temperature",
        "Problem ID": "problem_id",
        "Correct Answer": "expected",
        "Error": "error",
    }
    answers = {f"Answer {run + 1}": run for run in range(RUNS)}
    if lacking := [name for name in (*names, *answers) if name not in table]:
        raise InputError(f"{path} has no column {lacking[0]!r}.")
    long = table.rename(columns=names).melt(list(names.values()), list(answers), "run", "answer")
    return long.assign(run=long["run"].map(answers), temperature=long["temperature"].astype(float))


SOURCES = {
    "cruxeval": Source(
        "all-the-noises/all-the-noises.github.io",
        "929a82c",
        "main/CRUXEval-*-T0.?/tables/input.parquet",
        "samples published by facebookresearch/cruxeval under MIT",
        "cc9f390530aa86c691b89a84fd5379bfaa76d1b6d25c2c75a03e6583f30e15a5",
        COUNTS,
        counts_of,
    ),
    "renze": Source(
        "matthewrenze/jhu-llm-temperature",
        "b00cfb6",
        "data/details/*.csv",
        "BSD-2-Clause",
        "246311635f7cc79ec06f90b2b97811a2c2c2d6508169aab28eafff8456d65ce7",
        DRAWS,
        draws_of,
    ),
}


def table_of(folder: Path, name: str) -> pd.DataFrame:
    """The table of that name in `folder`, or made of the repository's clone there; `InputError` if it is another."""
    source, path = SOURCES[name], folder / f"{name}.parquet"
    clone = folder / source.repository.rpartition("/")[2]
    if path.is_file():
        table = as_pandas(path, read_table(path, source.columns))
    elif found := sorted(clone.glob(source.files)):
        table = pd.concat([source.read(file) for file in found])
    else:
        raise InputError(
            f"{folder} has neither {path.name} nor {clone.name}, a clone of {source.repository} at {source.commit}."
        )
    if lacking := [column for column in source.columns if column not in table]:
        raise InputError(f"{path} has no column {lacking[0]!r}.")
    table = canonical(table[source.columns])
    if digest(table) != source.sha256:
        raise InputError(f"{name} has other rows than those that the pages are made of; is it at {source.commit}?")
    return table


def canonical(table: pd.DataFrame) -> pd.DataFrame:
    """`table` in one order, with whole numbers as such."""
    whole = {name: "int64" for name in ("run", "draws", "correct") if name in table}
    table = table.astype(whole | {"problem_id": str})
    return table.sort_values(table.columns.tolist()).reset_index(drop=True)


def digest(table: pd.DataFrame) -> str:
    """The SHA-256 of a table's rows."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def as_draws(table: pd.DataFrame) -> pd.DataFrame:
    """The draws of a plain table, read as any user's are."""
    with tempfile.TemporaryDirectory() as folder:
        return read_outputs(write_table(table, Path(folder) / "draws.parquet"))


def of_functions(counts: pd.DataFrame) -> pd.DataFrame:
    """CRUXEval's draws; both tasks ask about the same 800 functions, which are the units."""
    draws = as_draws(counts)
    return draws.assign(cluster=draws["problem_id"].str.rpartition("/")[2])


def of_questions(answers: pd.DataFrame) -> pd.DataFrame:
    """Renze and Guven's draws of all models, with ``failed``: whether an error was noted for the problem."""
    some = answers[(answers["prompt"] == PROMPT) & (answers["exam"] == EXAM)]
    draws = as_draws(some.drop(columns=["prompt", "exam", "source", "error"]))
    at = ["model", "temperature", "problem_id"]
    failed = some.set_index(at)["error"].ne("").groupby(at).any().rename("failed")
    return draws.join(failed, at)


def computed(functions: pd.DataFrame, questions: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tables behind the pages, by name."""
    problems = outputs.by_problem(functions)
    yield "losses", outputs.losses(problems)
    yield "pairs", outputs.compare(problems)
    checked = checks(questions)
    dependent = outputs.dependent(checked)
    yield "checks", checked
    yield "changes", outputs.changes(questions, dependent)
    yield "consistency", outputs.consistency(questions)
    yield "agreement", outputs.agreement_lost(questions)
    yield "mixing", outputs.mixing(questions)
    cooler = questions[questions["temperature"] <= 1]
    of_source = {"cruxeval": gates.gates(functions), "renze": gates.gates(cooler)}
    table = pd.concat([table.assign(source=name) for name, table in of_source.items()], ignore_index=True)
    yield "design", table.assign(independent=~table["model"].isin(dependent))


@command()
def main() -> None:
    """Compute every table and note what it was made of."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds the clones, or the two tables")
    folder = parser.parse_args().folder
    functions, questions = of_functions(table_of(folder, "cruxeval")), of_questions(table_of(folder, "renze"))
    for name, table in computed(functions, questions):
        write_table(table, outputs.DATA / f"{name}.parquet")
    facts: dict[str, Any] = {
        name: {key: getattr(source, key) for key in ("repository", "commit", "files", "licence", "sha256")}
        for name, source in SOURCES.items()
    }
    write_json(facts, outputs.DATA / "sources.json")


if __name__ == "__main__":
    main()
