"""How a file of problems is read: JSON, JSON Lines, CSV or Parquet, here or in a dataset on the Hugging Face hub."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmrel.errors import InputError, guess, quoted
from lmrel.files import as_path

HUB = "hf://"
ON_HUB = re.compile(r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")
CONVERTED = "refs/convert/parquet"  # where the hub keeps every dataset as Parquet
Rows = list[tuple[str, Any]]  # each with where it stands


def read_rows(source: str, columns: Mapping[str, str] | None = None) -> Rows:
    """The rows in a file of problems, unchecked, each with where it stands.

    `source` is a path, or ``hf://datasets/OWNER/NAME/FILE`` on the hub; without FILE, the one file that the dataset
    has there as Parquet. `columns` says under which names our columns stand in it, as ``{"question": "prompt"}``.
    Raises `InputError` for a file that is missing, damaged, of another kind or empty, and for a column that is not
    there.
    """
    path = _from_hub(source) if isinstance(source, str) and source.startswith(HUB) else as_path("problems", source)
    if not os.path.isfile(path):  # unlike the path's own, false where nothing may be looked up
        kinds = ", ".join(READERS)
        raise InputError(f"problems is {str(path)!r}; it must be 'paper' or an existing file ({kinds}).")
    if path.suffix not in READERS:
        raise InputError(f"problems is {str(path)!r}; its name must end in {', '.join(READERS)}.")
    if not (rows := READERS[path.suffix](path)):
        raise InputError(f"{path} holds no problems.")
    return renamed(rows, columns or {}, path)


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, what is missing left out; unchecked. A number of 32 bits is as it is written: 0.1 is 0.1."""
    short = table.select_dtypes(["float16", "float32"]).columns
    table = table.astype(dict.fromkeys(short, "str")).astype(dict.fromkeys(short, "float64"))
    rows: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    return [{name: value for name, value in row.items() if not _missing(value)} for row in rows]


def renamed(rows: Rows, columns: Mapping[str, str], path: Path) -> Rows:
    """The rows with `columns` under our names; a column of the file that has one of these names gives way.

    Raises `InputError` for a column that no row has.
    """
    there = {name: None for _, row in rows if isinstance(row, dict) for name in row}
    for theirs in columns.values():
        if theirs not in there:
            known = f"{guess(theirs, there)} It has {', '.join(map(str, there))}."
            raise InputError(f"columns names {quoted(theirs)}, which {path} does not have.{known}")

    def renamed(row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        kept = {name: value for name, value in row.items() if name not in columns and name not in columns.values()}
        return kept | {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}

    return [(where, renamed(row)) for where, row in rows]


def _text(path: Path) -> str:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _read_lines(path: Path) -> Rows:
    lines = enumerate(_text(path).split("\n"), start=1)
    return [(where := f"{path}, line {number}", _parsed(line, where)) for number, line in lines if line.strip()]


def _read_array(path: Path) -> Rows:
    found = _parsed(_text(path), str(path))
    if not isinstance(found, list):
        raise InputError(f"{path} must hold an array of problems; lines of objects belong into a .jsonl file.")
    return [(f"{path}, item {number}", row) for number, row in enumerate(found, start=1)]


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({error}).") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no name occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def _read_csv(path: Path) -> Rows:
    """Read rows below a line of names; an empty cell is missing, and a column without one, as pandas' index, too."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)  # splitlines would part U+2028, too
    rows: Rows = []
    try:
        names = [name.strip() for name in next(reader, [])]
        if len(set(named := list(filter(None, names)))) < len(named):
            raise InputError(f"{path}, line 1: two columns have one name.")
        for cells in filter(None, reader):
            where = f"{path}, line {reader.line_num}"
            if len(cells) != len(names):
                raise InputError(f"{where}: {len(cells)} cells, and line 1 names {len(names)} columns.")
            pairs = zip(names, cells, strict=True)
            rows.append((where, {name: cell for name, cell in pairs if name and cell.strip()}))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not valid CSV ({error}).") from error
    return rows


def _read_parquet(path: Path) -> Rows:
    """Without what pandas noted in the file, which may be damaged; no integer becomes a float, which loses digits."""
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
        names = [name for name in table.column_names if not name.startswith("__index_level_")]  # pandas adds these
        if len(set(names)) < len(names):
            raise ValueError("two columns have one name")
        rows = rows_of(table.select(names).replace_schema_metadata().to_pandas(integer_object_nulls=True))
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet: {str(error).partition(chr(10))[0]}") from error
    return [(f"{path}, row {number}", row) for number, row in enumerate(rows)]


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _read_lines,
    ".json": _read_array,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _from_hub(source: str) -> Path:
    """The local copy of a dataset's file; `InputError` if it has no such file, or cannot be reached."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if not (named := ON_HUB.fullmatch(source)):
        raise InputError(f"problems is {quoted(source)}; a dataset is named hf://datasets/OWNER/NAME/FILE.")
    repo, file, revision = named["repo"], named["file"], named["revision"]
    try:
        if file is None:
            revision = revision or CONVERTED
            files = HfApi().list_repo_files(repo, repo_type="dataset", revision=revision)
            data = [name for name in files if Path(name).suffix in READERS]
            if len(data) != 1:
                listed = ", ".join(f"{HUB}datasets/{repo}@{revision.replace('/', '%2F')}/{name}" for name in data[:5])
                raise InputError(f"{repo} has {len(data)} files of data; name one, such as {listed or 'none of them'}.")
            [file] = data
        revision = revision.replace("%2F", "/") if revision else None
        return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        raise InputError(f"{source} could not be downloaded: there is no connection to the hub.") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(f"{source} cannot be had from the hub: {str(error).strip().splitlines()[0]}") from error


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value) or value is pd.NA
