"""What a machine does to a run: a full or read-only disk, damaged files, a clock that jumps, another run at once."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.torture.faults import (
    RUN,
    SHARDS,
    TRAINING,
    WHOLE,
    Job,
    Outcome,
    Starter,
    judged,
    remove,
    sentence,
    state,
    torn,
)
from tests.torture.report import ROOT


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[bool]:
    """A file system in memory of that size in `folder`; whether that was allowed."""
    folder.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a mounted file system."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def size(folder: Path) -> int:
    """Bytes that the files below `folder` take on a file system in memory."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def calm(start: Starter, job: Job, folder: Path) -> dict[str, str]:
    """The undisturbed end of a job."""
    if not folder.exists():
        status, said, _, _ = start(folder, job.asked(folder))
        assert status == 0, said
    return state(folder)


def full_disk(start: Starter, job: Job, number: int, rng: random.Random, folder: Path) -> list[Outcome]:
    """The disk is full somewhere on the way; then there is room."""
    kind, expected, outcomes = f"full disk: {job.kind}", calm(start, job, folder / "calm"), []
    for i in range(number):
        room = rng.randint(1, max(1, int(1.5 * size(folder / "calm")) // 4096)) * 4096
        with mounted(folder / str(i), str(room)) as allowed:
            if not allowed:
                return [*outcomes, Outcome(kind, "mounting is not allowed", tried=False)]
            place = folder / str(i) / "run"
            first = start(place, job.asked(place))[:2]
            bad = torn(place)
            remount(folder / str(i), "size=500m")
            again = start(place, job.asked(place))[:2]
            outcomes.append(judged(kind, f"{room} bytes", first, again, state(place) == expected, bad))
    return outcomes


def read_only(start: Starter, job: Job, number: int, rng: random.Random, folder: Path) -> list[Outcome]:
    """The disk becomes read-only at some moment, the first a finished run's beginning; then it can be written again."""
    kind, expected, outcomes = f"read-only: {job.kind}", calm(start, job, folder / "calm"), []
    _, _, _, events = start(folder / "counted", job.asked(folder / "counted"))
    for i in range(number):
        with mounted(folder / str(i), "500m") as allowed:
            if not allowed:
                return [*outcomes, Outcome(kind, "mounting is not allowed", tried=False)]
            place, event = folder / str(i) / "run", rng.randint(1, events) if i else 1
            if not i:
                start(place, job.asked(place))
            first = start(place, job.asked(place), event=event, command=f"mount -o remount,ro {folder / str(i)}")[:2]
            bad = torn(place) if place.exists() else []
            remount(folder / str(i), "rw")
            again = start(place, job.asked(place))[:2]
            outcomes.append(judged(kind, f"event {event}", first, again, state(place) == expected, bad))
    return outcomes


def damage(path: Path, rng: random.Random) -> str:
    """Spoil a file in one of several ways; which."""
    content = bytearray(path.read_bytes())
    way = rng.choice(["truncated", "flipped", "zeroed", "empty", "longer"])
    place = rng.randrange(len(content))
    if way == "truncated":
        content = content[:place]
    elif way == "flipped":
        for offset in range(place, min(place + 64, len(content))):
            content[offset] ^= 0x5A
    elif way == "zeroed":
        content[place : place + 512] = bytes(len(content[place : place + 512]))
    elif way == "longer":
        content += b"more"
    path.write_bytes(b"" if way == "empty" else bytes(content))
    return way


def damaged(start: Starter, job: Job, number: int, rng: random.Random, folder: Path) -> list[Outcome]:
    """A file that a killed or finished job left is spoilt; then the job is started again."""
    kind, expected, outcomes = f"damaged file: {job.kind}", calm(start, job, folder / "calm"), []
    _, _, _, events = start(folder / "counted", job.asked(folder / "counted"))
    for i in range(number):
        place = folder / str(i)
        at = {"signal": 9, "event": int(events * rng.uniform(0.3, 1))} if i % 3 else {}
        start(place, job.asked(place), **at)
        files = [p for p in place.rglob("*") if p.is_file() and p.suffix in (".parquet", ".json", ".safetensors")]
        if job.kind == TRAINING.kind:
            files = [p for p in files if p.parent.name == "w"]  # a state; what was exported is written again
        if not files:
            continue
        path = rng.choice(sorted(files))
        what = f"{path.relative_to(place)} {damage(path, rng)}"
        first = start(place, job.asked(place, job.again))[:2]
        same = state(place) == expected
        outcomes.append(judged(kind, what, first, first, same, [] if sentence(*first) else torn(place)))
        remove(place)
    return outcomes


def damaged_checkpoints(start: Starter, number: int, rng: random.Random, folder: Path) -> list[Outcome]:
    """A checkpoint's file is cut short: the run must say so, and leave nothing that stops the next one."""
    outcomes = []
    for i in range(number):
        place, model = folder / str(i), folder / f"model-{i}"
        shutil.copytree(ROOT / "checkpoints" / RUN["model"], model)
        path = model / rng.choice(["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
        os.truncate(path, rng.randrange(path.stat().st_size))
        first = start(place, [RUN | {"model": str(model), "output_dir": str(place)}])[:2]
        shutil.copytree(ROOT / "checkpoints" / RUN["model"], model, dirs_exist_ok=True)
        again = start(place, [RUN | {"model": str(model), "output_dir": str(place)}])[:2]
        draws = state(place).get("draws.parquet")
        named = [RUN | {"model": str(model), "output_dir": str(folder / f"calm-{i}")}]
        same = start(folder / f"calm-{i}", named)[0] == 0 and state(folder / f"calm-{i}")["draws.parquet"] == draws
        wrong = "" if sentence(*first) else "a cut checkpoint was used"
        outcome = judged("damaged file: a checkpoint", path.name, first, again, same, [])
        outcomes.append(outcome if outcome.wrong else Outcome(outcome.kind, path.name, same, outcome.sentence, wrong))
    return outcomes


def jumps(start: Starter, job: Job, number: int, rng: random.Random, folder: Path) -> list[Outcome]:
    """The clock jumps while it runs, is killed, and its files are from another year when it goes on."""
    kind, expected, outcomes = f"clock jumps: {job.kind}", calm(start, job, folder / "calm"), []
    _, _, _, events = start(folder / "counted", job.asked(folder / "counted"))
    year = 365 * 86_400
    for i in range(number):
        place, clock = folder / str(i), rng.choice([-year, -3600, 3600, year])
        first = start(place, job.asked(place), clock=clock, signal=9, event=rng.randint(events // 2, events))[:2]
        for path in place.rglob("*"):
            moment = time.time() + rng.uniform(-year, year)
            os.utime(path, (moment, moment))
        bad, again = torn(place), start(place, job.asked(place), clock=-clock)[:2]
        outcomes.append(judged(kind, f"{clock:+} s", first, again, state(place) == expected, bad))
    return outcomes


def two_at_once(
    start: Starter, other: Starter, job: Job, number: int, rng: random.Random, folder: Path
) -> list[Outcome]:
    """Another process does the same in the same folder, a moment later."""
    kind, expected, outcomes = f"two at once: {job.kind}", calm(start, job, folder / "calm"), []
    _, _, seconds, _ = start(folder / "timed", job.asked(folder / "timed"))
    for i in range(number):
        place, moment = folder / str(i), rng.uniform(0, 0.4 * seconds)
        start.ask(place, job.asked(place))
        time.sleep(moment)
        second = other(place, job.asked(place))[:2]
        first = start.end()[:2]
        bad, again = torn(place), start(place, job.asked(place))[:2]
        met = first if first[0] else second  # of the two the one that was refused, if one was
        outcomes.append(judged(kind, f"{moment:.2f} s later", met, again, state(place) == expected, bad))
    return outcomes


def of_runs(start: Starter, rng: random.Random, folder: Path) -> Iterator[Outcome]:
    """Every fault of this module, to runs."""
    yield from full_disk(start, WHOLE, 10, rng, folder / "full")
    yield from read_only(start, WHOLE, 8, rng, folder / "read-only")
    yield from damaged(start, WHOLE, 20, rng, folder / "damaged")
    yield from damaged(start, SHARDS, 12, rng, folder / "damaged-shards")
    yield from damaged_checkpoints(start, 6, rng, folder / "checkpoints")
    yield from jumps(start, WHOLE, 6, rng, folder / "clock")
    other = Starter(folder)
    yield from two_at_once(start, other, WHOLE, 8, rng, folder / "two")
    other.close()


def of_training(start: Starter, rng: random.Random, folder: Path) -> Iterator[Outcome]:
    """And to training."""
    yield from full_disk(start, TRAINING, 8, rng, folder / "full")
    yield from read_only(start, TRAINING, 4, rng, folder / "read-only")
    yield from damaged(start, TRAINING, 12, rng, folder / "damaged")
    yield from jumps(start, TRAINING, 2, rng, folder / "clock")
    other = Starter(folder)
    yield from two_at_once(start, other, TRAINING, 4, rng, folder / "two")
    other.close()
