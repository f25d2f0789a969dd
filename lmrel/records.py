"""What a run leaves behind: one row per draw in Parquet, a summary, and run.json, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from lmrel.files import as_pandas, as_path, read_table

DRAWS_SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("precision", pa.string()),
        ("prompt_style", pa.string()),
        ("decoding", pa.string()),
        ("decoder", pa.string()),  # its id
        ("temperature", pa.float64()),
        ("run", pa.int64()),
        ("problem_id", pa.string()),
        ("task", pa.string()),
        ("cluster", pa.string()),  # of problems that are versions of one; by default what is asked, so of equal ones
        ("prompt", pa.string()),  # as the model was given it, template and special tokens included
        ("expected", pa.int64()),
        ("text", pa.string()),  # without the token that ended it; other special tokens are spelled out
        ("token_ids", pa.list_(pa.int64())),  # end-of-text included where it was reached
        ("n_tokens", pa.int64()),
        ("finished", pa.bool_()),
        ("extracted", pa.int64()),  # missing: no integer, or one beyond 64 bits
        ("correct", pa.bool_()),
        ("compliant", pa.bool_()),
        ("sole", pa.int64()),  # by `answers.sole_number`; missing: none, beyond 64 bits, or a text cut short
        ("correct_sole", pa.bool_()),  # missing: a text cut short by stop="decided"
        ("mean_logprob", pa.float64()),
        ("mean_logprob_processed", pa.float64()),
        ("failure", pa.string()),  # missing: correct, or a text cut short by stop="decided"
    ]
)
DRAWS, SUMMARY, RUN = "draws.parquet", "summary.parquet", "run.json"


def read_draws(folder: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The draws of a run, or some `columns` of them; `InputError` if the file is missing or damaged."""
    return read_part(as_path("folder", folder) / DRAWS, columns)


def read_part(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The draws in one file; `InputError` if it is missing or damaged."""
    table = read_table(path, columns)
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get  # a float would lose digits
    names = [name for name in ("extracted", "sole", "correct_sole") if name in table.column_names]
    return as_pandas(path, table).assign(**{name: table[name].to_pandas(types_mapper=nullable) for name in names})
