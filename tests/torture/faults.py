"""What all kinds of faults share: who works and is killed, what must come of it, and how it is told."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrel import InputError, files, records
from tests.torture.report import ROOT

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
OTHER_EACH_TIME = ("started", "seconds", "determinism")  # in run.json
RUN: dict[str, Any] = {
    "model": "tiny-dense-instruct",
    "precision": "auto",
    "prompt_style": "few_shot",
    "decoding": "pure",
    "temperatures": [0.0, 0.7, 1.0],
    "runs": 3,
    "seed": 0,
    "max_new_tokens": 16,
    "stop": "eos",
    "problems": "paper",
    "limit": 3,
}


@dataclass(frozen=True)
class Outcome:
    """Of one fault: what it was, whether the end was the undisturbed one, which sentence was said, what went wrong."""

    kind: str
    what: str
    resumed: bool = False
    sentence: str = ""
    wrong: str = ""
    tried: bool = True


@dataclass(frozen=True)
class Job:
    """What is done in a folder, one step after the other, and what is done to go on after a fault."""

    kind: str
    steps: tuple[dict[str, Any], ...]
    again: int = 0  # the step from which on it goes on

    def asked(self, folder: Path, first: int = 0) -> list[dict[str, Any]]:
        """The steps from `first` on, in that folder."""
        places = {"output_dir": folder} if "model" in self.steps[0] else {"out": folder / "out", "work": folder / "w"}
        return [step | {name: str(path) for name, path in places.items()} for step in self.steps[first:]]


WHOLE = Job("a run", (RUN,))
SHARDS = Job("shards and their join", tuple(RUN | {"shards": 2, "shard": shard} for shard in (0, 1, None)))
EXTENDED = Job("more runs of a finished run", (RUN | {"runs": 1}, RUN), again=1)
REPLACED = Job("a run in place of another", (RUN | {"seed": 1}, RUN | {"replace": True}), again=1)
TRAINING = Job("training", ({"name": "tiny-dense-base", "steps": 6, "save_every": 2},))
RUNS = (WHOLE, SHARDS, EXTENDED, REPLACED)


class Starter:
    """Starts jobs one at a time, each in a process of its own (see `child`)."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", "-m", "tests.torture.child"]
        self.said = folder / f"said-{id(self)}"
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, folder: Path, steps: Sequence[dict[str, Any]], **fault: Any) -> None:
        """Begin."""
        asked = {"steps": list(steps), "folder": str(folder), "said": str(self.said), **fault}
        print(json.dumps(asked), file=self.process.stdin, flush=True)

    def end(self) -> tuple[int, str, float, int]:
        """Exit status, what was said, seconds, events."""
        assert self.process.stdout is not None
        status, seconds, events = json.loads(self.process.stdout.readline())
        return status, self.said.read_text(errors="replace"), seconds, events

    def __call__(self, folder: Path, steps: Sequence[dict[str, Any]], **fault: Any) -> tuple[int, str, float, int]:
        """Begin, and wait for the end."""
        self.ask(folder, steps, **fault)
        return self.end()

    def close(self) -> None:
        """No more."""
        self.process.communicate()


def state(folder: Path) -> dict[str, str]:
    """Every file below `folder` and a hash of its bytes; of a run.json without times, and of nothing that is a lock."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"):
        content = path.read_bytes()
        if path.name == records.RUN:
            with suppress(ValueError, KeyError):
                content = _timeless(content)
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def _timeless(content: bytes) -> bytes:
    record = {name: value for name, value in json.loads(content).items() if name not in OTHER_EACH_TIME}
    record["parameters"] = {n: v for n, v in record["parameters"].items() if n not in ("output_dir", "shards")}
    return json.dumps(record).encode()


def torn(folder: Path) -> list[str]:
    """The files below `folder` that are there under their own names, but half written."""
    found = []
    for path in (path for path in folder.rglob("*") if not path.name.startswith(".") and path.suffix != ".tmp"):
        try:
            if path.suffix == ".parquet":
                files.read_table(path)
            elif path.suffix in (".json", ".ipynb") and ".failed" not in path.name:
                json.loads(path.read_text(encoding="utf-8"))
        except (InputError, ValueError):
            found.append(str(path.relative_to(folder)))
    return found


def sentence(status: int, said: str) -> str:
    """The sentence in which a process ended, or nothing. A notebook's is followed by where its traceback is."""
    last = [line for line in said.strip().splitlines()[-2:] if line.startswith("error: ")]
    return last[-1] if last and status == 1 and "Traceback (most recent call last)" not in said else ""


def judged(
    kind: str, what: str, first: tuple[int, str], again: tuple[int, str], same: bool, torn_: list[str]
) -> Outcome:
    """What came of a fault: `first`, the process that met it, may have been killed or have said why it could not go on;
    then, the cause gone, the one that went on must end as the undisturbed one did, or say why not.
    """
    stopped, refused = sentence(*first), sentence(*again)
    wrong = ""
    if first[0] == 2 or (first[0] == 1 and not stopped):
        wrong = f"no sentence: {first[1][-600:]}"
    elif torn_:
        wrong = f"half written: {torn_}"
    elif not same and not refused:
        wrong = f"other bytes, or status {again[0]}: {again[1][-600:]}"
    return Outcome(kind, what, same and not wrong, stopped or refused, wrong)


def kills(start: Starter, job: Job, number: int, rng: random.Random, folder: Path) -> list[Outcome]:
    """`number` kills of a job, each in a folder of its own, at moments of the undisturbed one or of its writes."""
    status, said, seconds, events = start(folder / "calm", job.asked(folder / "calm"))
    assert status == 0, said
    _, _, seconds, _ = start(folder / "timed", job.asked(folder / "timed"))  # the first pays for what forks share
    expected, outcomes = state(folder / "calm"), []
    while len(outcomes) < number:
        place, sent = folder / "killed", rng.choice(SIGNALS)
        fault: dict[str, Any] = rng.choices(
            [{"after": rng.uniform(0, seconds)}, {"event": rng.randint(1, events)}, {"half": rng.randint(1, 3)}],
            [5, 4, 1],
        )[0]
        first = start(place, job.asked(place), signal=sent, **fault)[:2]
        if first[0] == 0:  # it was quicker this time
            remove(place)
            continue
        bad = torn(place)
        begun = job.again if _has_begun(job, place) else 0
        again = start(place, job.asked(place, begun))[:2]
        [(name, value)] = fault.items()
        what = f"{sent.name} {name} {value:.3g}"
        outcomes.append(judged(f"killed: {job.kind}", what, first, again, state(place) == expected, bad))
        remove(place)
    return outcomes


def _has_begun(job: Job, place: Path) -> bool:
    """Whether the last step of a job has begun, which its first ones would not be let into the folder of."""
    found = [path for path in (place / records.RUN, place / ".parts" / records.RUN) if path.exists()]
    differs = [name for name in ("runs", "seed") if job.steps[0].get(name) != job.steps[-1].get(name)]
    last = [json.loads(path.read_text())["parameters"] for path in found]
    return bool(differs) and any(all(p[name] == job.steps[-1][name] for name in differs) for p in last)


def remove(folder: Path) -> None:
    """A folder that is no longer needed."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)
