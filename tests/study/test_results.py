from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lmrel import InputError, files, records
from lmrel.stats.inference import summarize_with_intervals
from study import results
from tests.study.test_parts import few_draws


def test_only_finished_runs_are_found(tmp_path: Path) -> None:
    for name in ("b", "a", "unfinished", ".parts"):
        (tmp_path / name).mkdir()
    for name in ("b", "a", ".parts"):  # the last as of a run whose output_dir is this folder
        (tmp_path / name / records.RUN).touch()
    assert [folder.name for folder in results.find_runs(tmp_path)] == ["a", "b"]


def summary(model: str) -> pd.DataFrame:
    return summarize_with_intervals(few_draws()).assign(model=model)


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


def test_the_decoders_of_several_runs_are_named_once_each(tmp_path: Path) -> None:
    for run, decoder in (("a", "1f"), ("b", "2e"), ("c", "1f")):
        (tmp_path / run).mkdir()
        files.write_json({"decoding_id": decoder}, tmp_path / run / records.RUN)
    assert results.decoders_of(tmp_path, ["a", "b", "c"]) == "decoders 1f, 2e"
    assert results.decoders_of(tmp_path, ["a", "c"]) == "decoders 1f"


def test_the_days_of_several_runs(tmp_path: Path) -> None:
    for name, day in (("a", "2026-01-03"), ("b", "2026-01-02"), ("c", "2026-01-02")):
        (tmp_path / name).mkdir()
        files.write_json({"started": f"{day}T10:00:00+00:00"}, tmp_path / name / "run.json")
    assert results.started(tmp_path, ["a", "b", "c"]) == "2026-01-02 to 2026-01-03"
    assert results.started(tmp_path, ["b", "c"]) == "2026-01-02"


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


@pytest.mark.parametrize("draws", [-5, True, 2.0])
def test_draws_are_counted_only_as_counts(tmp_path: Path, draws: Any) -> None:
    (tmp_path / "mine").mkdir()
    files.write_json({"draws": draws}, tmp_path / "mine" / records.RUN)
    with pytest.raises(InputError, match=f"its draws is {draws}"):
        results.count_draws(tmp_path, ["mine"])
