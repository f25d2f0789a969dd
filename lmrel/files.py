"""Files that are whole or not there: reading with one sentence for what is wrong, atomic writing, one lock, hashes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from lmrel.errors import InputError, quoted
from lmrel.parameters import is_path


def as_path(name: str, value: Any) -> Path:
    """`value` as a path; `InputError` for what cannot be one."""
    if not isinstance(value, (str, Path)) or not is_path(str(value)):
        raise InputError(f"{name} is {quoted(value)}; it must be a path.")
    return Path(value)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system refuses while `path` is written into an `InputError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        raise InputError(f"{path} could not be written: {getattr(error, 'strerror', None) or error}.") from error


def read_text(path: Path) -> str:
    """What a file holds. OSError for what is no file: a pipe would be waited for."""
    if path.exists() and not path.is_file():
        raise OSError("it is no file")
    return path.read_text(encoding="utf-8")


def read_object(path: Path, *names: str) -> dict[str, Any]:
    """The JSON object in `path`; `InputError` if it cannot be read, holds anything else, or lacks one of `names`."""
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} cannot be read: it is no JSON object.")
    if missing := [name for name in names if name not in found]:
        raise InputError(f"{path} holds something else: it has no {missing[0]!r}.")
    return found


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


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The Parquet file at `path`, or some of its columns; `InputError` if it is missing or damaged."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is missing or damaged: it is no file")
    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read(columns)
    except (OSError, ValueError, pa.ArrowException) as error:  # the footer has no checksum: anything may stand there
        raise InputError(f"{path} is missing or damaged: {str(error).splitlines()[0]}") from error


def as_pandas(path: Path, table: pa.Table) -> pd.DataFrame:
    """`table`, read from `path`, as pandas holds it; `InputError` if it cannot."""
    try:
        if len(set(table.column_names)) < table.num_columns:
            raise ValueError("columns have the same name")
        return table.to_pandas(ignore_metadata=True)
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise InputError(f"{path} is missing or damaged: {str(error).splitlines()[0]}") from error


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Holds a lock on the file `path`, which is made if missing; it ends with the process, however that ends.

    Where another process holds it, it waits, or, if there is a sentence `busy` to say, raises that as `InputError`.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=-1 if busy is None else 0, mode=0o644)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(str(busy)) from None
        except NotImplementedError:  # some network file systems know no locks
            pass
    try:
        yield
    finally:
        lock.release()


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
