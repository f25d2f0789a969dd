from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from lmrel import InputError, answers, files, records
from lmrel.stats import metrics
from lmrel.stats.inference import summarize_with_intervals
from study import results
from tests.conftest import ROOT
from tests.lmrel.test_records import draws


def test_only_finished_runs_are_found(tmp_path: Path) -> None:
    for name in ("b", "a", "unfinished", ".parts"):
        (tmp_path / name).mkdir()
    for name in ("b", "a", ".parts"):  # the last as of a run whose output_dir is this folder
        (tmp_path / name / records.RUN).touch()
    assert [folder.name for folder in results.find_runs(tmp_path)] == ["a", "b"]


def summary(model: str) -> pd.DataFrame:
    return summarize_with_intervals(draws()).assign(model=model)


def test_runs_go_by_the_names_of_their_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished run below"):
        results.read_summaries(tmp_path)
    for name in ("mine", "yours"):  # the same model twice
        (tmp_path / name).mkdir()
        files.write_table(summary("a"), tmp_path / name / records.SUMMARY)
        files.write_json({"draws": 6}, tmp_path / name / records.RUN)
    runs = results.read_summaries(tmp_path)
    assert runs[["model", "checkpoint"]].drop_duplicates().to_numpy().tolist() == [["mine", "a"], ["yours", "a"]]
    assert results.count_draws(tmp_path, ["mine", "yours"]) == 12


def test_the_days_of_several_runs(tmp_path: Path) -> None:
    for name, day in (("a", "2026-01-03"), ("b", "2026-01-02"), ("c", "2026-01-02")):
        (tmp_path / name).mkdir()
        files.write_json({"started": f"{day}T10:00:00+00:00"}, tmp_path / name / "run.json")
    assert results.started(tmp_path, ["a", "b", "c"]) == "2026-01-02 to 2026-01-03"
    assert results.started(tmp_path, ["b", "c"]) == "2026-01-02"


def test_the_data_dictionary_has_every_column_of_what_a_run_writes() -> None:
    text = (ROOT / "book" / "data.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(\w+)`", text))
    assert set(records.DRAWS_SCHEMA.names) <= names
    written = ROOT / "results" / "tiny-dense-base"
    summary = pd.read_parquet(written / "summary.parquet").columns
    assert {re.sub("_(low|high)$", "", column) for column in summary} <= names
    record = json.loads((written / "run.json").read_text())
    inner = (record[key] for key in ("bits_per_weight", "determinism", "hashes", "seconds", "sha256"))
    assert set(record).union(*inner) <= names


def test_the_data_dictionary_has_the_type_of_every_column_and_what_a_failure_may_be() -> None:
    text = (ROOT / "book" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \| (.+?) \| (.+) \|$", text.split("## `summary.parquet`")[0], re.M)
    said = {name: kind for names, kind, _ in rows for name in re.findall(r"`(\w+)`", names)}
    words = {"string": "text", "double": "number", "int64": "integer", "bool": "yes or no"}
    written = ROOT / "results" / "tiny-dense-base"
    found = pq.read_schema(written / records.DRAWS)
    assert list(said) == found.names
    assert said == {field.name: words.get(str(field.type), "integers") for field in found}
    [holds] = [holds for names, _, holds in rows if names == "`failure`"]
    assert {*answers.PAPER_CLASSES, *answers.OTHER_CLASSES, "first"} == set(re.findall(r"`(\w+)`", holds))
    summary = pq.read_schema(written / records.SUMMARY)
    kinds = {field.name: words[str(field.type).removeprefix("large_")] for field in summary}
    texts_and_temperature = {name: said[name] for name in metrics.GROUP}
    numbers = dict.fromkeys(kinds.keys() - texts_and_temperature.keys(), "number")
    assert kinds == numbers | texts_and_temperature | {"problems": "integer", "runs": "integer"}


@pytest.mark.parametrize(
    "change",
    [
        {"accuracy": ["most"] * 2},
        {"temperature": ["hot"] * 2},
        {"checkpoint": ["a"] * 2},
        {"task": None},
        {"runs": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_table_that_is_no_summary_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    [(name, values)] = change.items()
    table = summary("a").drop(columns=name) if values is None else summary("a").assign(**change)
    (tmp_path / "mine").mkdir()
    files.write_table(table, tmp_path / "mine" / records.SUMMARY)
    files.write_json({}, tmp_path / "mine" / records.RUN)
    with pytest.raises(InputError, match="holds no summary of a run"):
        results.read_summaries(tmp_path)


@pytest.mark.parametrize("draws", [-5, True])
def test_draws_are_counted_only_as_counts(tmp_path: Path, draws: Any) -> None:
    (tmp_path / "mine").mkdir()
    files.write_json({"draws": draws}, tmp_path / "mine" / records.RUN)
    with pytest.raises(InputError, match=f"its draws is {draws}"):
        results.count_draws(tmp_path, ["mine"])


@pytest.mark.parametrize("runs", [[], "some", [None], None])
def test_runs_to_read_are_a_list_of_names(tmp_path: Path, runs: Any) -> None:
    with pytest.raises(InputError, match="the runs are .*; they must be a list of folders below"):
        results.started(tmp_path, runs)
    with pytest.raises(InputError, match=r"nope/run\.json cannot be read: .*No such file"):
        results.count_draws(tmp_path, ["nope"])
