"""How far a study is: ``python -m study.progress``.

It only reads results/, so it can be asked from anywhere that sees them; it knows nothing of Snakemake or Slurm.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import lock_descriptor

from lmrel import records
from lmrel.errors import InputError, command
from lmrel.parameters import Parameters
from study import parts
from study.jobs import BOOK, Job, Study

WINDOW = 3600.0  # seconds that the rate is taken over


@dataclass(frozen=True)
class State:
    """How far one job is: problems done and in all, when each lot of them was done, and what is going on."""

    job: Job
    done: int
    problems: int
    events: tuple[tuple[float, int], ...]  # when a lot was done, in seconds since 1970, and how many problems it had
    what: str  # "finished", "running", "failed", "stopped" or "waiting"
    why: str = ""  # it failed


def state_of_job(job: Job) -> State:
    """How far a job is, from what its folder holds; a file there that is no record of a run is named as `why`."""
    try:
        return _state_in(job)
    except OSError as error:
        return State(job, 0, job.problems, (), "failed", f"{job.folder} cannot be read: {error.strerror}.")
    except InputError as error:
        return State(job, 0, job.problems, (), "failed", str(error))


def _state_in(job: Job) -> State:
    problems, draws = job.problems, job.folder / records.DRAWS
    identity = parts.identifying(Parameters(**job.parameters))
    found = parts.recorded(job.folder, identity)
    if found.same and found.complete(identity) and draws.exists():
        return State(job, problems, problems, ((draws.stat().st_mtime, problems),), "finished")
    begun, events = parts.begun(job.folder, identity, {}), []
    if begun.same:
        block = begun.record["block"]
        times = sorted(path.stat().st_mtime for path in (job.folder / parts.PARTS).glob("*-*.parquet"))
        counts = [min(block, problems - start) for start in range(0, problems, block)]
        events = list(zip(times, counts, strict=False))
    running = _is_locked(job.folder / ".evaluate.lock")
    failed = job.failed.exists()
    what = "running" if running else "failed" if failed else "stopped" if events else "waiting"
    return State(job, sum(count for _, count in events), problems, tuple(events), what, job.why if failed else "")


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


def report(states: Sequence[State], now: float, left: Sequence[Path] = ()) -> str:
    """What `make progress` prints: a line about all jobs, one for each that is running, failed or stopped, and `left`.

    Those are the folders of runs that are no condition of the study any more.
    """
    counts = {what: [each.what for each in states].count(what) for what in ("finished", "running", "failed", "stopped")}
    some = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "finished")
    done, problems = sum(each.done for each in states), sum(each.problems for each in states)
    seconds = seconds_left(states, now)
    time_left = "" if not seconds else f", {duration(seconds)} left at the rate of the last hour"
    lines = [f"{len(states)} jobs: {some}; {done:,} of {problems:,} problems ({done / problems:.0%}){time_left}"]
    for each in states:
        if each.what in ("running", "failed", "stopped"):
            lines.append(f"{each.job.name}: {each.what}, {each.done} of {each.problems} problems")
        if each.what == "failed":
            lines += [f"  {each.why}", f"  Its log is {each.job.log}"]
    return "\n".join(
        [*lines, *(f"{folder}: no condition of this study any more; it stays as it is" for folder in left)]
    )


def duration(seconds: float) -> str:
    """`seconds` in words, as in ``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


@command()
def main() -> None:
    """Say how far the study is that a file describes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "study", nargs="?", type=Path, default=BOOK, help="its file; the book's own where there is none"
    )
    study = Study.read(parser.parse_args().study)
    print(report([state_of_job(job) for job in study.jobs()], time.time(), study.left()))


if __name__ == "__main__":
    main()
