"""What a run leaves behind: one row per draw in Parquet, a summary, and run.json, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmrel.files import as_pandas, as_path, atomically, read_table

DRAWS_SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("precision", pa.string()),
        ("prompt_style", pa.string()),
        ("decoding", pa.string()),
        ("decoder", pa.string()),  # its id
        ("temperature", pa.float64()),
        ("top_k", pa.int64()),
        ("top_p", pa.float64()),
        ("min_p", pa.float64()),
        ("repetition_penalty", pa.float64()),
        ("run", pa.int64()),
        ("problem_id", pa.string()),
        ("task", pa.string()),
        ("cluster", pa.string()),  # of problems that are versions of one; by default what is asked, so of equal ones
        ("prompt", pa.string()),  # as the model was given it, template and special tokens included
        ("expected", pa.int64()),  # text, as `extracted`, where not all answers of the problems are whole numbers
        ("text", pa.string()),  # without the token that ended it; other special tokens are spelled out
        ("token_ids", pa.list_(pa.int64())),  # end-of-text included where it was reached
        ("n_tokens", pa.int64()),
        ("finished", pa.bool_()),
        ("ended", pa.string()),  # by what: eos, stop_string, length (cut off), or decided
        ("answer", pa.string()),  # the rule by which the answer was read
        ("extracted", pa.int64()),  # missing: no answer, no whole one, or one beyond 64 bits
        ("correct", pa.bool_()),
        ("compliant", pa.bool_()),
        ("runaway", pa.bool_()),  # cut off in a loop
        ("mean_logprob", pa.float64()),
        ("mean_logprob_processed", pa.float64()),
        ("failure", pa.string()),  # missing: correct, or a text cut short by stop="decided"
    ]
)
ANSWERS = ("expected", "extracted")
# What draws of other tools say: a word that nobody said, and in `answer` whose verdict it is. Of counts the order of a
# problem's runs means nothing.
UNKNOWN, IMPORTED, COUNTS = "unknown", "imported", "counts"
DRAWS, SUMMARY, RUN = "draws.parquet", "summary.parquet", "run.json"


def schema(found: pa.Schema) -> pa.Schema:
    """That of draws with the columns of `found`: further ones come last, as text, and so do answers that are text."""
    texts = [name for name in ANSWERS if name in found.names and not pa.types.is_integer(found.field("expected").type)]
    fields = [pa.field(field.name, pa.string()) if field.name in texts else field for field in DRAWS_SCHEMA]
    return pa.schema([*fields, *[(name, pa.string()) for name in found.names if name not in DRAWS_SCHEMA.names]])


def write_draws(draws: pd.DataFrame, path: Path) -> Path:
    """Write `draws`, which must have the columns of `DRAWS_SCHEMA`, as one Parquet file with checksums."""
    table = pa.Table.from_pandas(
        draws, schema=schema(pa.Schema.from_pandas(draws, preserve_index=False)), preserve_index=False
    )
    return atomically(path, lambda temporary: pq.write_table(table, temporary, write_page_checksum=True))


def read_draws(folder: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The draws of a run, or some `columns` of them; `InputError` if the file is missing or damaged."""
    return read_part(as_path("folder", folder) / DRAWS, columns)


def read_part(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The draws in one file; `InputError` if it is missing or damaged."""
    return as_draws(path, read_table(path, columns))


def as_draws(path: Path, table: pa.Table) -> pd.DataFrame:
    """The draws in a `table` that came from `path`, as pandas holds them."""
    found = as_pandas(path, table)
    if "extracted" in table.column_names and pa.types.is_integer(table["extracted"].type):  # a float would lose digits
        found["extracted"] = table["extracted"].to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return found
