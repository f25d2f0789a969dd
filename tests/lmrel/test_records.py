from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from lmrel import Decoder, InputError, files, paper_problems, records, sample
from lmrel.files import writing
from lmrel.stats.inference import summarize_with_intervals
from study import parts, results
from tests.conftest import ROOT, tiny


def draws() -> pd.DataFrame:
    model, tokenizer = tiny("tiny-dense-instruct")
    return sample(model, tokenizer, paper_problems().head(3), [Decoder(1.0)], runs=2)


def test_draws_survive_the_round_trip(tmp_path: Path) -> None:
    written = draws()
    parts.write_part(written, tmp_path / records.DRAWS)
    read = records.read_draws(tmp_path)
    assert read["text"].tolist() == written["text"].tolist()
    assert [list(ids) for ids in read["token_ids"]] == written["token_ids"].tolist()
    assert read["mean_logprob"].tolist() == written["mean_logprob"].tolist()


def test_a_missing_column_is_no_draws_table(tmp_path: Path) -> None:
    with pytest.raises((KeyError, pa.ArrowInvalid)):
        parts.write_part(draws().drop(columns="text"), tmp_path / records.DRAWS)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json({"a": 1}, path)

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="could not be written: No space left on device"):
        files.atomically(path, fail)
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_what_safetensors_cannot_write_is_a_sentence_too(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "a.safetensors"
    with pytest.raises(InputError, match="a.safetensors could not be written: .*No such file"), writing(missing):
        save_file({"weight": torch.zeros(1)}, missing)


def test_a_lock_is_anothers_until_it_ends(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "new" / "a.lock"):
        busy = pytest.raises(InputError, match="it is busy")
        with files.locked(path, "it is busy."), busy, files.locked(path, "it is busy."):
            pass
        with files.locked(path, "it is busy."):
            pass


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="draws.parquet is missing or damaged"):
        records.read_draws(tmp_path)
    (tmp_path / records.DRAWS).write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match="draws.parquet is missing or damaged"):
        records.read_draws(tmp_path)


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


def test_some_columns_are_read_alone(tmp_path: Path) -> None:
    parts.write_part(draws(), tmp_path / records.DRAWS)
    whole = records.read_draws(tmp_path)
    for names in (["run", "correct"], ["extracted"]):
        pd.testing.assert_frame_equal(records.read_draws(tmp_path, names), whole[names])


def test_extracted_integers_keep_every_digit(tmp_path: Path) -> None:
    large = draws().assign(extracted=pd.array([2**53 + 1, None] * 3, dtype="Int64"))
    parts.write_part(large, tmp_path / records.DRAWS)
    assert records.read_draws(tmp_path)["extracted"].dropna().tolist() == [2**53 + 1] * 3


def test_joined_parts_are_the_rows_of_all_in_order(tmp_path: Path) -> None:
    whole = draws()
    paths = [parts.write_part(whole.iloc[a:b], tmp_path / f"{a}") for a, b in ((0, 2), (2, 5), (5, 6))]
    parts.join_parts(paths, tmp_path)
    joined = records.read_draws(tmp_path)
    assert joined[["problem_id", "run", "text"]].equals(whole[["problem_id", "run", "text"]])
    assert parts.is_whole(paths[1], 3)
    assert not parts.is_whole(paths[1], 2)
    assert not parts.is_whole(tmp_path / "nowhere", 2)


def test_a_part_with_any_bit_flipped_is_not_whole_or_reads_the_same(tmp_path: Path) -> None:
    path = parts.write_part(draws(), tmp_path / "part")
    data, good = path.read_bytes(), records.read_part(path)
    rng = random.Random(0)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")  # it has no checksum
    damaged = 0
    for start in [0] * 100 + [footer] * 400:
        changed = bytearray(data)
        changed[rng.randrange(start, len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        if parts.is_whole(path, len(good)):
            parts.join_parts([path], tmp_path)
            pd.testing.assert_frame_equal(records.read_draws(tmp_path), good)
        else:
            damaged += 1
    assert damaged > 100


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


def test_the_data_dictionary_has_every_column_of_what_a_run_writes() -> None:
    text = (ROOT / "book" / "data.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(\w+)`", text))
    assert set(records.DRAWS_SCHEMA.names) <= names
    written = ROOT / "results" / "tiny-dense-base"
    summary = pd.read_parquet(written / "summary.parquet").columns
    assert {re.sub("_(low|high)$", "", column) for column in summary} <= names
    assert set(json.loads((written / "run.json").read_text())) <= names


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


def test_what_a_file_says_of_pandas_is_not_believed(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(draws(), schema=records.DRAWS_SCHEMA).replace_schema_metadata({"pandas": "{}"})
    pq.write_table(table, tmp_path / records.DRAWS)
    assert len(records.read_draws(tmp_path)) == 6
    pq.write_table(pa.Table.from_arrays([[1], [2]], names=["run", "run"]), tmp_path / records.DRAWS)
    with pytest.raises(InputError, match="columns have the same name"):
        records.read_draws(tmp_path)


@pytest.mark.parametrize("draws", [-5, True])
def test_draws_are_counted_only_as_counts(tmp_path: Path, draws: Any) -> None:
    (tmp_path / "mine").mkdir()
    files.write_json({"draws": draws}, tmp_path / "mine" / records.RUN)
    with pytest.raises(InputError, match=f"its draws is {draws}"):
        results.count_draws(tmp_path, ["mine"])


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")], ids=["dir", "pipe", "link"]
)
def test_what_is_no_file_is_neither_hashed_nor_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / records.DRAWS)
    with pytest.raises(InputError, match="is no file that can be read"):
        files.sha256(tmp_path / records.DRAWS)
    with pytest.raises(InputError, match="is missing or damaged"):
        records.read_draws(tmp_path)
