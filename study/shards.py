"""A run dealt out among several jobs, by problems, and put together again: the draws are those of one job.

Shard `k` of `n` has every `n`-th problem from the `k`-th on, both tasks among them, and a folder below the run's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmrel.errors import InputError, check_count, quoted
from lmrel.records import DRAWS, RUN
from study import parts


def check_shards(shards: Any, shard: Any, problems: int) -> None:
    """Raise `InputError` unless `shards` is at most the number of problems and `shard` None or one of them, from 0."""
    check_count("shards", shards)
    if shards > problems:
        raise InputError(f"shards is {quoted(shards)}; there are only {problems} problems to deal out.")
    whole = isinstance(shard, int) and not isinstance(shard, bool)
    if shard is not None and not (whole and 0 <= shard < shards):
        raise InputError(f"shard is {quoted(shard)}; it must be None or an integer from 0 to {shards - 1}.")


def deal_problems(problems: pd.DataFrame, shards: int, shard: int) -> pd.DataFrame:
    """The problems of one shard."""
    return problems.iloc[shard::shards].reset_index(drop=True)


def shard_folder(output_dir: Path, shards: int, shard: int) -> Path:
    """Where a shard writes."""
    return output_dir / "shards" / f"{shard}-of-{shards}"


def finished_shard(folder: Path, parameters: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The run.json of a shard; `InputError` unless it is finished, with these parameters and inputs (see `parts`)."""
    record = parts.finished(folder, parameters, inputs)
    if record and record["parameters"]["runs"] == parameters["runs"]:
        return record
    state = "is of other parameters, code, weights or versions" if (folder / RUN).exists() else "is not finished"
    raise InputError(f"the shard in {folder} {state}; evaluate it with shard={parameters['shard']}, then join.")


def join_shards(folders: Sequence[Path], target: Path, problems: int, draws: int) -> Path:
    """The shards' draws, `draws` a problem, as ``target/draws.parquet`` in the order of an undivided run.

    Few problems at a time are in memory.
    """
    shards = [pq.ParquetFile(folder / DRAWS).iter_batches(draws) for folder in folders]
    tables = (
        pa.Table.from_batches(
            [next(shards[number % len(shards)]) for number in range(problems)[start : start + parts.BLOCK]]
        )
        for start in range(0, problems, parts.BLOCK)
    )
    return parts.join_tables(tables, target)


def combined_records(records: Sequence[dict[str, Any]], like: dict[str, Any]) -> dict[str, Any]:
    """The run.json `like`, with machines, times and probes of all `records`, which are of one run."""
    probes = [record["determinism"] for record in records]
    counts = {name: sum(probe[name] for probe in probes) for name in ("problems", "draws", "flipped")}
    seconds = {name: round(sum(record["seconds"][name] for record in records), 2) for name in ("load", "sample")}
    return like | {
        "device": " and ".join(dict.fromkeys(part for r in records for part in r["device"].split(" and "))),
        "determinism": counts | {"max_logit_difference": max(probe["max_logit_difference"] for probe in probes)},
        "started": min(record["started"] for record in records),
        "seconds": seconds,
    }
