"""How far the study is, and what would run: ``python -m study.progress`` and, for a dry run, ``--plan``.

The first only reads results/, so it can be asked from anywhere that sees them; it knows nothing of Snakemake or Slurm.
The second asks Snakemake which jobs are due and estimates their hours; see `study.costs` for what that rests on.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from lmrel import records
from lmrel.errors import InputError, command
from lmrel.files import read_object
from study import costs, parts
from study.jobs import Job, Study

DATA = Path(__file__).resolve().parent.parent / "book" / "data"
WINDOW = 3600.0  # seconds that the rate is taken over


@dataclass(frozen=True)
class State:
    """How far one job is: problems done and in all, when each lot of them was done, and what is going on."""

    job: Job
    done: int
    problems: int
    events: tuple[tuple[float, int], ...]  # when a lot was done, in seconds since 1970, and how many problems it had
    what: str  # "finished", "running", "failed", "stopped" or "waiting"


def state_of_job(job: Job, problems: int) -> State:
    """How far a job of so many problems is, from what its folder holds; `InputError` if that may not be read."""
    try:
        return _state_in(job, problems)
    except OSError as error:
        raise InputError(f"{job.folder} cannot be read: {error.strerror}.") from error


def _state_in(job: Job, problems: int) -> State:
    record, draws = job.folder / records.RUN, job.folder / records.DRAWS
    if record.exists() and _is_of(record, job.parameters) and draws.exists():
        return State(job, problems, problems, ((draws.stat().st_mtime, problems),), "finished")
    begun, events = job.folder / parts.PARTS / records.RUN, []
    if begun.exists() and _is_of(begun, job.parameters):
        block = read_object(begun).get("block")
        if type(block) is int and block > 0:  # the file may have been edited
            times = sorted(path.stat().st_mtime for path in begun.parent.glob("*-*.parquet"))
            counts = [min(block, problems - start) for start in range(0, problems, block)]
            events = list(zip(times, counts, strict=False))
    running = _is_locked(job.folder / ".evaluate.lock")
    failed = (job.folder / "evaluate.failed.ipynb").exists()
    what = "running" if running else "failed" if failed else "stopped" if events else "waiting"
    return State(job, sum(count for _, count in events), problems, tuple(events), what)


def _is_of(record: Path, parameters: Mapping[str, Any]) -> bool:
    """Whether the run.json at `record` is of a run with these parameters, wherever that wrote."""
    found = read_object(record).get("parameters")
    return isinstance(found, dict) and all(
        found.get(name) == value for name, value in parameters.items() if name not in ("output_dir", "replace")
    )


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock file at `path`, as `study.runner` does while it executes a notebook."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:  # most often there is none
        return False
    try:
        return not lock_descriptor(handle, blocking=False)
    except OSError:  # some network file systems know no locks
        return False
    finally:
        os.close(handle)


def seconds_left(states: Sequence[State], now: float) -> float | None:
    """The seconds until all problems are done at the rate of the last hour; None while too little was done to tell.

    `now` is in seconds since 1970, as in `State`.
    """
    events = sorted(event for each in states for event in each.events if event[0] > now - WINDOW)
    todo = sum(each.problems - each.done for each in states)
    if len(events) < 2 or events[-1][0] == events[0][0]:
        return 0.0 if not todo else None
    # Since the first lot was done. When that was begun is not known, so it does not count itself.
    rate = sum(count for _, count in events[1:]) / (now - events[0][0])
    return todo / rate


def report(states: Sequence[State], now: float) -> str:
    """What `make progress` prints: a line about all jobs, then one for each that is running, failed or stopped."""
    counts = {what: [each.what for each in states].count(what) for what in ("finished", "running", "failed", "stopped")}
    some = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "finished")
    done, problems = sum(each.done for each in states), sum(each.problems for each in states)
    left = seconds_left(states, now)
    time_left = "" if not left else f", {duration(left)} left at the rate of the last hour"
    lines = [f"{len(states)} jobs: {some}; {done:,} of {problems:,} problems ({done / problems:.0%}){time_left}"]
    for each in states:
        if each.what in ("running", "failed", "stopped"):
            log = f"; its log is {each.job.folder / 'evaluate.log'}" if each.what == "failed" else ""
            lines.append(f"{each.job.name}: {each.what}, {each.done} of {each.problems} problems{log}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """`seconds` in words, as in ``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def due(output: str) -> list[dict[str, str]]:
    """The jobs in what ``snakemake --dry-run`` prints: of each its wildcards and, under ``rule``, its rule."""
    jobs = []
    for block in re.split(r"^(?=rule \w+:$)", output, flags=re.M)[1:]:
        wildcards = re.search(r"^    wildcards: (.*)$", block, re.M)
        pairs = [pair.split("=", 1) for pair in wildcards.group(1).split(", ")] if wildcards else []
        jobs.append({"rule": block.split()[1].rstrip(":")} | {name: value for name, value in pairs})
    return jobs


def plan_report(study: Study, jobs: Sequence[Mapping[str, str]], measured: costs.Measured) -> str:
    """What ``make study DRY=1`` prints: a line for each job that would run, and about how long all of them draw.

    `jobs` are as from `due`.
    """
    precision, stop = study.parameters.get("precision", "auto"), study.parameters.get("stop", "eos")
    names = {(job.run, job.shard): job.name for job in study.jobs()}
    lines: list[str] = []
    spent: dict[str, list[costs.Estimate]] = {"GPU": [], "CPU": []}
    for job in jobs:
        run, rule = job.get("run", ""), job["rule"]
        if rule == "evaluate" and study.shards[run] > 1:
            lines.append(f"{run}: join {study.shards[run]} shards")
        elif rule in ("evaluate", "evaluate_shard"):
            share = -(-study.problems // study.shards[run])
            found = costs.estimate(study.folders[run], precision, study.n_draws, share, measured, stop=stop)
            gpus = study.asked[run]["gpu"]
            spent["GPU" if gpus else "CPU"].append(costs.Estimate(found.seconds * max(gpus, 1), found.basis))
            name = names[run, int(job["shard"]) if "shard" in job else None]
            asked = ", ".join(f"{what} {value}" for what, value in study.asked[run].items())
            lines.append(f"{name}: evaluate, about {duration(found.seconds)} ({asked})")
        elif rule != "study":
            lines.append(rule)
    if not lines:
        return "nothing would run: all is done"
    totals = []
    for kind, some in spent.items():
        if some:
            rests = ", ".join(dict.fromkeys(each.basis for each in some))
            totals.append(f"{duration(sum(each.seconds for each in some))} of {kind} time ({rests})")
    said = f"; drawing takes about {' and '.join(totals)}, to which loading adds" if totals else ""
    return "\n".join([*lines, f"{len(lines)} jobs{said}"])


@command()
def main() -> None:
    """Say how far the study in the working directory's study.yaml is or, with ``--plan``, what would run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plan", action="store_true", help="say what would run, and run nothing")
    arguments = parser.parse_args()
    study = Study.read()
    if not arguments.plan:
        jobs = study.jobs()
        counts = [len(range(job.shard or 0, study.problems, job.shards)) for job in jobs]
        now = time.time()
        print(report([state_of_job(job, count) for job, count in zip(jobs, counts, strict=True)], now))
        return
    asked = ["snakemake", "study", "--dry-run", "--cores", "1", "--nolock", "--rerun-incomplete"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"snakemake could not plan the study: {(done.stderr.strip() or 'no reason given')}")
    print(plan_report(study, due(done.stdout), costs.read_measured(DATA)))


if __name__ == "__main__":
    main()
