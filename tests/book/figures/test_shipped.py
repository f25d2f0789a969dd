"""The pages that tell what came of the shipped models, and that they can be made of nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from book.figures.shipped import HOW, PROTOCOL, shipped
from lmrel import InputError, records
from lmrel.parameters import Parameters
from lmrel.registry import TINY_SUITE
from study.code import sources
from study.runner import run_notebook
from tests.conftest import ROOT


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The four runs, in which a test may change something."""
    for name in TINY_SUITE:
        (tmp_path / name).mkdir()
        for file in (records.RUN, records.DRAWS, records.SUMMARY):
            shutil.copy(ROOT / "results" / name / file, tmp_path / name)
    return tmp_path


def changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = json.loads((folder / records.RUN).read_text())
    change(record)
    (folder / records.RUN).write_text(json.dumps(record))


def code(path: Path) -> str:
    """A module, or the code of a notebook."""
    text = path.read_text(encoding="utf-8")
    cells = json.loads(text)["cells"] if path.suffix == ".ipynb" else []
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code") if cells else text


def reads_runs(path: Path) -> bool:
    """Whether a module or notebook itself reads what runs left."""
    return bool(re.search(r"read_draws|read_part|read_summaries|find_runs|[\"']draws\.parquet", code(path)))


def test_the_shipped_runs_pass_and_what_the_protocol_says_is_what_make_book_runs() -> None:
    assert shipped(ROOT / "results") == TINY_SUITE
    study = yaml.safe_load((ROOT / "study.yaml").read_text())
    assert study["models"] == list(TINY_SUITE)
    asked, told = (asdict(Parameters("m", **given)) for given in (study["parameters"], PROTOCOL))
    assert {name: asked[name] for name in asked if name not in HOW} == {n: told[n] for n in told if n not in HOW}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record["parameters"].update(runs=8), "has 8 as its runs, and .* tell of 4"),
        (lambda record: record["parameters"].update(temperatures=[0.0, 2.0]), r"has \[0.0, 2.0\] as its temperatures"),
        (lambda record: record["parameters"].update(system="Be brief."), "'Be brief.' as its system, and .* None"),
        (lambda record: record["parameters"].update(limit=1), "has 1 as its limit"),
        (lambda record: record["parameters"].update(answer="last"), "has 'last' as its answer"),
        (lambda record: record["parameters"].update(new=True), "has True as its new"),
        (lambda record: record["parameters"].update(model="org/x"), "has 'org/x' as its model"),
        (lambda record: record["hashes"].update(weights="0"), "has '0' as its hash of weights"),
        (lambda record: record["sha256"].update(draws="0"), "has '0' as its hash of draws.parquet"),
        (lambda record: record.update(parameters=[]), "has None as its model"),
        (lambda record: record.pop("hashes"), "it has no 'hashes'"),
    ],
)
def test_any_other_run_is_refused_by_file_and_difference(
    results: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    changed(results / "tiny-sparse-base", change)
    with pytest.raises(InputError, match=rf"tiny-sparse-base/run\.json .*{said}"):
        shipped(results)


def test_how_a_run_was_made_does_not_matter(results: Path) -> None:
    changed(results / "tiny-dense-base", lambda record: record["parameters"].update(shards=4, output_dir="x"))
    assert shipped(results) == TINY_SUITE
    shutil.rmtree(results / "tiny-dense-base")
    with pytest.raises(InputError, match=r"tiny-dense-base/run\.json cannot be read"):
        shipped(results)


def test_the_pages_that_read_runs_are_known_and_each_of_the_books_own_checks_them() -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "book" / "figures").rglob("*.py") if reads_runs(path)}
    assert modules == {"book/figures/compare.py", "book/figures/live.py"}
    assert "shipped(results)" in code(ROOT / "book" / "figures" / "live.py")
    readers = set()
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        behind = {str(one.relative_to(ROOT)) for one in sources(str(path.relative_to(ROOT)))}
        if reads_runs(path) or behind & modules:
            readers.add(path.stem)
    assert readers == {
        "compare",
        "study",
    }  # the latter, as evaluate, is executed for any runs and says nothing of these
    assert "shipped(results_dir)" in code(ROOT / "notebooks" / "compare.ipynb")


def test_the_page_of_a_study_names_no_model_of_the_book_and_no_paper() -> None:
    cells = json.loads((ROOT / "notebooks" / "study.ipynb").read_text())["cells"]
    words = " ".join(
        "".join(cell["source"]) for cell in cells if cell["metadata"].get("tags") != ["parameters", "remove-cell"]
    )
    assert not re.search(r"tiny|paper|grid|sparse|instruct", words, re.I)


def test_what_happened_is_not_told_of_other_runs(results: Path) -> None:
    changed(results / "tiny-sparse-base", lambda record: record["parameters"].update(max_new_tokens=32))
    with pytest.raises(InputError, match="InputError: .*has 32 as its max_new_tokens"):
        run_notebook(ROOT / "notebooks" / "compare.ipynb", results / "out.ipynb", {"results_dir": str(results)})
