from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from lmrel import Decoder, InputError, files, paper_problems, records, sample
from lmrel.files import writing
from tests.conftest import UNIX, tiny


def draws() -> pd.DataFrame:
    model, tokenizer = tiny("tiny-dense-instruct")
    return sample(model, tokenizer, paper_problems().head(3), [Decoder(1.0)], runs=2)


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
    path = tmp_path / "new" / "a.lock"
    for _ in ("not there", "there"):
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


def test_what_a_file_says_of_pandas_is_not_believed(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(draws(), schema=records.DRAWS_SCHEMA).replace_schema_metadata({"pandas": "{}"})
    pq.write_table(table, tmp_path / records.DRAWS)
    assert len(records.read_draws(tmp_path)) == 6
    pq.write_table(pa.Table.from_arrays([[1], [2]], names=["run", "run"]), tmp_path / records.DRAWS)
    with pytest.raises(InputError, match="columns have the same name"):
        records.read_draws(tmp_path)


@UNIX
@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_file_is_neither_hashed_nor_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / records.DRAWS
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    with pytest.raises(InputError, match="is no file that can be read"):
        files.sha256(tmp_path / records.DRAWS)
    with pytest.raises(InputError, match="is missing or damaged"):
        records.read_draws(tmp_path)
