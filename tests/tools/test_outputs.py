"""What `make outputs` reads and leaves, on small files of the published ones' form."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from book.analysis import outputs as analysis
from lmrel.errors import InputError
from tools import outputs

MODELS = ["deepseek-base-1.3b", "deepseek-instruct-1.3b", "mistral-7b", "mixtral-8x7b"]


@pytest.fixture
def clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with both clones, in which the published columns hold made-up answers; their hashes are expected."""
    rng = np.random.default_rng(0)
    for task in ("input", "output"):
        for t in (0.2, 0.8):
            rows = [
                {
                    "benchmark_id": "x",
                    "model": model,
                    "example_id": f"CRUXEval-{task}/{i}",
                    "pass1": c / 10,
                    "count": 10.0,
                }
                for model in MODELS
                for i, c in enumerate(rng.binomial(10, 0.6 - t / 10, 12))
            ]
            folder = tmp_path / "all-the-noises.github.io" / "main" / f"CRUXEval-{task}-T{t}" / "tables"
            folder.mkdir(parents=True)
            pd.DataFrame(rows).to_parquet(folder / "input.parquet")
    details = tmp_path / "jhu-llm-temperature" / "data" / "details"
    details.mkdir(parents=True)
    for model, prompt, t in [("m", outputs.PROMPT, t) for t in (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)] + [
        ("m", "baseline", 0.0)
    ]:
        table = pd.DataFrame(
            {
                "Date Time": "2024-06-07 19:43:29",
                **{"Model Name": model, "Agent Name": prompt, "Exam Name": outputs.EXAM, "Temperature": t},
                **{"Problem ID": range(1, 21), "Source": "s", "Problem": "Which,\n or none?"},
                **{f"Answer {run}": rng.choice(["A", "B", "N", ""], 20) for run in range(1, 11)},
                **{"Correct Answer": "A", "Error": ["Error: 'choices'", *[""] * 19]},
            }
        )
        table.to_csv(details / f"{model} - {prompt} - {outputs.EXAM} - temp-{t}.csv", index=False)
    for name, source in outputs.SOURCES.items():
        found = sorted((tmp_path / source.repository.rpartition("/")[2]).glob(source.files))
        table = outputs.canonical(pd.concat([source.read(path) for path in found])[source.columns])
        monkeypatch.setitem(outputs.SOURCES, name, replace(source, sha256=outputs.digest(table)))
    return tmp_path


@pytest.mark.parametrize("name", ["cruxeval", "renze"])
def test_a_clone_and_the_table_made_of_it_hold_the_same(name: str, clones: Path, tmp_path: Path) -> None:
    table = outputs.table_of(clones, name)
    assert list(table) == outputs.SOURCES[name].columns
    alone = tmp_path / "alone"
    alone.mkdir()
    table.sample(frac=1, random_state=0).to_parquet(alone / f"{name}.parquet")
    pd.testing.assert_frame_equal(outputs.table_of(alone, name), table)


def test_draws_carry_what_was_published(clones: Path) -> None:
    counts = outputs.table_of(clones, "cruxeval")
    functions = outputs.of_functions(counts)
    assert len(functions) == counts["draws"].sum()
    assert functions["correct"].sum() == counts["correct"].sum()
    assert functions["cluster"].nunique() == 12  # of 24 problems
    answers = outputs.table_of(clones, "renze")
    questions = outputs.of_questions(answers)
    asked = answers[answers["prompt"] == outputs.PROMPT]
    assert questions["correct"].sum() == (asked["answer"] == "A").sum()
    assert questions["extracted"].isna().sum() == (asked["answer"] == "").sum()
    assert set(questions.loc[questions["failed"], "problem_id"]) == {"1"}


def test_everything_is_left_with_what_it_was_made_of(clones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = clones / "kept"
    kept.mkdir()
    stored = {path.stem: list(pd.read_parquet(path)) for path in analysis.DATA.glob("*.parquet")}
    monkeypatch.setattr(analysis, "DATA", kept)
    monkeypatch.setattr(sys, "argv", ["outputs", str(clones)])
    outputs.main()
    made = {path.stem: pd.read_parquet(path) for path in kept.glob("*.parquet")}
    assert {name: list(table) for name, table in made.items()} == stored
    assert all(len(table) for table in made.values())
    facts = json.loads((kept / "sources.json").read_text())
    assert facts["renze"]["sha256"] == outputs.SOURCES["renze"].sha256


def test_other_data_are_refused_in_a_sentence(clones: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    with pytest.raises(InputError, match=r"neither renze\.parquet nor jhu-llm-temperature, a clone of matthewrenze/"):
        outputs.table_of(nothing, "renze")
    table = outputs.table_of(clones, "renze")
    table.loc[0, "answer"] = "C"
    table.to_parquet(nothing / "renze.parquet")
    with pytest.raises(InputError, match="renze has other rows than those that the pages are made of"):
        outputs.table_of(nothing, "renze")
    table.drop(columns="answer").to_parquet(nothing / "renze.parquet")
    with pytest.raises(InputError, match=r"renze\.parquet has no column 'answer'"):
        outputs.table_of(nothing, "renze")
    (nothing / "renze.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="missing or damaged"):
        outputs.table_of(nothing, "renze")
    [first, *_] = sorted((clones / "jhu-llm-temperature").rglob("*.csv"))
    first.write_text("Model Name,Agent Name\nm,baseline\n")
    with pytest.raises(InputError, match="has no column 'Exam Name'"):
        outputs.table_of(clones, "renze")
