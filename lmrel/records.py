"""What a run leaves behind: one row per draw in Parquet, a summary, and run.json, each written whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmrel.errors import InputError, as_path, read_object, shown, visible, writing

DRAWS_SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("precision", pa.string()),
        ("prompt_style", pa.string()),
        ("decoding", pa.string()),
        ("temperature", pa.float64()),
        ("run", pa.int64()),
        ("problem_id", pa.string()),
        ("task", pa.string()),
        ("prompt", pa.string()),  # as the model was given it, template and special tokens included
        ("expected", pa.int64()),
        ("text", pa.string()),  # special tokens left out
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
NUMBERS = {"temperature", "runs", "accuracy", "compliance", "confidence"}  # some columns of a summary


def write_part(draws: pd.DataFrame, path: Path) -> Path:
    """`draws`, checked against `DRAWS_SCHEMA`, as one Parquet file with checksums."""
    table = pa.Table.from_pandas(draws, schema=DRAWS_SCHEMA, preserve_index=False)
    return atomically(path, lambda temporary: pq.write_table(table, temporary, write_page_checksum=True))


def is_whole(path: Path, rows: int) -> bool:
    """Whether `path` is an undamaged part with that many rows."""
    try:
        return path.exists() and _read_as_draws(path).num_rows == rows
    except InputError:
        return False


def join_parts(paths: Sequence[Path], folder: Path) -> Path:
    """The parts in their order as ``folder/draws.parquet``, one at a time in memory."""
    return join_tables(map(_read_as_draws, paths), folder)


def join_tables(tables: Iterable[pa.Table], folder: Path) -> Path:
    """Tables of draws in their order as ``folder/draws.parquet``.

    An older run's run.json goes at the last moment: from here on until the new one is written the run is unfinished.
    """

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, DRAWS_SCHEMA, write_page_checksum=True) as writer:
            for table in tables:
                writer.write_table(table)

    return atomically(folder / DRAWS, write, before=lambda: (folder / RUN).unlink(missing_ok=True))


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """`table` as Parquet."""
    content = pa.Table.from_pandas(table, preserve_index=False)
    return atomically(path, lambda temporary: pq.write_table(content, temporary))


def write_json(value: Any, path: Path) -> Path:
    """`value` as indented JSON with a final newline."""
    return write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)


def write_text(text: str, path: Path) -> Path:
    """`text` in UTF-8."""
    return atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def atomically(path: Path, write: Callable[[Path], Any], before: Callable[[], Any] = lambda: None) -> Path:
    """Write beside `path`, to the disk; then call `before` and take its place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with writing(path):
            write(temporary)
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            before()
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # where the disk has become read-only, that is what is said
            temporary.unlink(missing_ok=True)
    return path


def read_draws(folder: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The draws of a run, or some `columns` of them; `InputError` if the file is missing or damaged."""
    return read_part(as_path("folder", folder) / DRAWS, columns)


def read_part(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The draws in one file; `InputError` if it is missing or damaged."""
    table = _read_table(path, columns)
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get  # a float would lose digits
    names = [name for name in ("extracted", "sole", "correct_sole") if name in table.column_names]
    return _as_pandas(path, table).assign(**{name: table[name].to_pandas(types_mapper=nullable) for name in names})


def _read_as_draws(path: Path) -> pa.Table:
    table = _read_table(path)
    try:
        return table.cast(DRAWS_SCHEMA)
    except (ValueError, pa.ArrowException) as error:
        raise InputError(f"{path} holds no draws: {str(error).splitlines()[0]}") from error


def _read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is missing or damaged: it is no file")
    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read(columns)
    except (OSError, ValueError, pa.ArrowException) as error:  # the footer has no checksum: anything may stand there
        raise InputError(f"{path} is missing or damaged: {str(error).splitlines()[0]}") from error


def _as_pandas(path: Path, table: pa.Table) -> pd.DataFrame:
    try:
        if len(set(table.column_names)) < table.num_columns:
            raise ValueError("columns have the same name")
        return table.to_pandas(ignore_metadata=True)
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise InputError(f"{path} is missing or damaged: {str(error).splitlines()[0]}") from error


def find_runs(results: Path) -> list[Path]:
    """The folders below `results` that hold a finished run, in order of name."""
    folder = as_path("results", results)
    return sorted(path.parent for path in folder.glob(f"[!.]*/{RUN}"))  # not the parts of one in `results` itself


def read_summaries(results: Path) -> pd.DataFrame:
    """The summaries of all finished runs directly below `results`.

    ``model`` is the folder's name, which no two runs share; what it was before is ``checkpoint``.
    """
    folders = find_runs(results)
    if not folders:
        raise InputError(f"there is no finished run below {results}.")
    tables = []
    for folder in folders:
        path = folder / SUMMARY
        table = _as_pandas(path, _read_table(path))
        numbers = set(table.select_dtypes("number").columns)
        if not {"model", "task"} <= set(table) or not numbers >= NUMBERS or "checkpoint" in table:
            raise InputError(f"{path} holds no summary of a run.")
        tables.append(table.rename(columns={"model": "checkpoint"}).assign(model=visible(folder.name)))
    return pd.concat(tables, ignore_index=True)


def count_draws(results: Path, runs: Collection[str]) -> int:
    """Of `runs` below `results`, all together."""
    return sum(_of_records(results, runs, "draws", int))


def _of_records(results: Path, runs: Collection[str], name: str, kind: type) -> list[Any]:
    """What the run.json of each of `runs` below `results` has under `name`; `InputError` if there is no run."""
    if isinstance(runs, str) or not runs or not all(isinstance(run, str) for run in runs):
        raise InputError(f"the runs are {shown(runs)}; they must be a list of folders below {results}.")
    paths = [as_path("results", results) / run / RUN for run in runs]
    found = [read_object(path, name)[name] for path in paths]
    for path, value in zip(paths, found, strict=True):
        if not isinstance(value, kind) or value is True or (isinstance(value, int) and value < 0):
            raise InputError(f"{path} is no record of a run: its {name} is {shown(value)}.")
    return found


def decoders_of(results: Path, runs: Collection[str]) -> str:
    """For figures over several `runs` below `results`: the ids of their decoders, each once."""
    return "decoders " + ", ".join(dict.fromkeys(_of_records(results, runs, "decoding_id", str)))


def started(results: Path, runs: Collection[str]) -> str:
    """On which days the `runs` below `results` began, as in ``2026-11-24`` or ``2026-11-24 to 2026-11-25``."""
    days = sorted({moment[:10] for moment in _of_records(results, runs, "started", str)})
    return " to ".join(dict.fromkeys([days[0], days[-1]]))


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Holds a lock on a folder, or on a file that is made; `InputError` with the sentence `busy` if another has it.

    It ends with the process.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY | (0 if path.is_dir() else os.O_CREAT), 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(busy) from error
        except OSError:
            pass  # some network file systems know no locks
        yield
    finally:
        os.close(handle)


def check_writable(folder: Path) -> None:
    """Make `folder` and try to write in it; `InputError` if that fails."""
    probe = folder / f".probe.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)  # a run in this folder may have cleaned it up
    except UnicodeEncodeError as error:
        raise InputError(f"output_dir is {str(folder)!r}, which this machine's file names cannot hold.") from error
    except OSError as error:
        raise InputError(f"output_dir is {str(folder)!r}, which cannot be written to: {error.strerror}.") from error


def sha256(*paths: Path) -> str:
    """One hash over the contents of `paths` in the given order; `InputError` for one that cannot be read."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            if not path.is_file():  # a pipe would be waited for
                raise InputError(f"{path} is no file that can be read.")
            with open(path, "rb") as handle:
                while block := handle.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()
