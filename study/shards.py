"""A run dealt out among several jobs, by problems, and put together again: the draws are those of one job.

Shard `k` of `n` has every `n`-th problem from the `k`-th on, both tasks among them, and a folder below the run's. How
the jobs are started is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmrel.errors import InputError
from lmrel.records import DRAWS
from study import parts


def deal_problems(problems: pd.DataFrame, shards: int, shard: int) -> pd.DataFrame:
    """The problems of one of so many shards, counted from 0."""
    return problems.iloc[shard::shards].reset_index(drop=True)


def shard_folder(output_dir: Path, shards: int, shard: int) -> Path:
    """The folder that one of so many shards of the run in `output_dir` writes to."""
    return output_dir / "shards" / f"{shard}-of-{shards}"


def finished_shard(folder: Path, parameters: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The run.json of a shard; `InputError` unless it is finished, with these parameters and inputs (see `parts`)."""
    found = parts.held(folder, parameters, inputs)
    if found.same and found.complete(parameters):
        return found.record
    state = f"holds other draws: {found.said()}" if found.differs else "is not finished"
    again = f"shard={parameters['shard']}" + (" and replace=True" if found.differs else "")
    raise InputError(f"the shard in {folder} {state}; evaluate it with {again}, then join.")


def join_shards(folders: Sequence[Path], target: Path, problems: int, n_draws: int) -> Path:
    """Write the draws of all shards, `n_draws` for each of so many problems, as ``target/draws.parquet``.

    They are in the order of an undivided run. A few problems at a time are in memory.
    """
    # Each shard's file in batches of one problem; to go round the shards gives the problems in the order of the run.
    shards = [pq.ParquetFile(folder / DRAWS).iter_batches(n_draws) for folder in folders]
    tables = (
        pa.Table.from_batches(
            [next(shards[number % len(shards)]) for number in range(problems)[start : start + parts.BLOCK]]
        )
        for start in range(0, problems, parts.BLOCK)
    )
    return parts.join_tables(tables, target)


def combined_records(records: Sequence[dict[str, Any]], like: dict[str, Any]) -> dict[str, Any]:
    """The run.json `like`, with machines, versions, times and probes of all `records`, which are of one run.

    Counts and seconds are summed, the largest difference is kept, and the run started when the first of them did.
    """
    probes = [record["determinism"] for record in records]
    counts = {name: sum(probe[name] for probe in probes) for name in ("problems", "draws", "flipped")}
    seconds = {
        name: round(sum(record["seconds"][name] for record in records), 2) for name in ("load", "check", "sample")
    }
    return like | {
        **noted(records, like),
        "determinism": counts | {"max_logit_difference": max(probe["max_logit_difference"] for probe in probes)},
        "started": min(record["started"] for record in records),
        "seconds": seconds,
    }


def noted(records: Sequence[Mapping[str, Any]], like: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says of where draws were made, if of all that is in `records`: each device, and each version.

    ``versions`` are those of `like`; ``other_versions`` holds those with which some of the draws were made before.
    """
    devices = [part for record in records for part in record["device"].split(" and ")]
    versions = [other for record in records for other in [*record.get("other_versions", []), record["versions"]]]
    others = [other for number, other in enumerate(versions) if other not in [like["versions"], *versions[:number]]]
    return {"device": " and ".join(dict.fromkeys(devices)), "other_versions": others}
