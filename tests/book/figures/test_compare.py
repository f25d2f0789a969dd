from __future__ import annotations

from pathlib import Path

import nbformat
import pandas as pd
import pytest

import lmrel
from book.figures import compare
from lmrel import InputError, records
from study.runner import run_notebook
from tests.conftest import ROOT
from tests.lmrel.stats.test_comparison import two, written
from tests.lmrel.stats.test_metrics import table


def test_drops_are_paired_changes_of_runs_that_have_both_temperatures(tmp_path: Path) -> None:
    draws = pd.concat([table(temperature=0.0), table(temperature=1.0, correct=False)])
    folder = tmp_path / "mine"
    folder.mkdir()
    draws.to_parquet(folder / records.DRAWS)
    found = compare.changes_of(tmp_path, ["mine"])
    assert found[["model", "difference"]].to_numpy().tolist() == [["mine", -0.5]]
    assert compare.shown_changes(found).iloc[0, 1].startswith("\N{MINUS SIGN}50.0 [")
    assert compare.changes(table()).empty


def test_pairs_are_compared_or_it_is_said_why_not(tmp_path: Path) -> None:
    a, b = two()
    for name, draws in {"one": a, "two": b, "other": b.assign(decoder="x")}.items():
        written(tmp_path / name, draws)
    found = compare.comparisons(tmp_path, ["one", "two", "other"], margin=0.1)
    shown = compare.shown_pairs(found)
    assert shown[["run", "against"]].to_numpy().tolist() == [["one", "two"], ["one", "other"], ["two", "other"]]
    expected = lmrel.compare(a, b, margin=0.1)
    assert shown["the first"].iloc[0] == expected.verdict
    assert shown["difference of drops, points"].iloc[0] == expected.shown().loc["drop of correct, points"].iloc[-1]
    assert shown["the first"].iloc[1].startswith("not compared: at temperature 0 the decoder of a is 'd0'")
    told = compare.comparisons(tmp_path, ["one", "other"], margin=0.1, across=["decoder"])
    assert compare.shown_pairs(told)["the first"].iloc[0] == expected.verdict
    written_as_text = compare.comparisons(tmp_path, "['one', 'other']", margin=0.1, across="['decoder']")  # type: ignore[arg-type]
    assert compare.shown_pairs(written_as_text).equals(compare.shown_pairs(told))
    for runs in (["one"], ["one", "one"], "one"):
        with pytest.raises(InputError, match="it must be a list of at least two folders, each once"):
            compare.comparisons(tmp_path, runs)


def test_the_notebook_of_pairs_shows_sentence_table_and_figure_of_each(tmp_path: Path) -> None:
    a, b = two(problems=12)
    for name, draws in {"one": a, "two": b, "other": b.assign(expected=2)}.items():
        written(tmp_path / name, draws)
    parameters = {"runs": ["one", "two", "other"], "results_dir": str(tmp_path), "temperatures": [1.0, 0.0]}
    done = run_notebook(ROOT / "notebooks" / "versus.ipynb", tmp_path / "out.ipynb", parameters)
    outputs = [each for cell in nbformat.read(done, as_version=4)["cells"] for each in cell.get("outputs", [])]
    text = "\n".join(str(output["data"]) for output in outputs)
    assert "another right answer for problem" in text
    assert lmrel.compare(a, b, temperatures=(1.0, 0.0)).sentence.split(" points in")[0] in text
    assert sum("application/vnd.vegalite.v6+json" in output["data"] for output in outputs) == 1
