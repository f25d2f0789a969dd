"""``python -m tests.torture [--kills 220] [--seed 0]``: faults of every kind, and whether anything was lost.

After each the same is started again, and must end in the bytes of an undisturbed run or in one clear sentence. Of the
kills most are of runs (whole, in shards, extended, replaced), the others of training, notebooks, the study and the
book. Needs a finished `make book`; a full or read-only disk needs root. Writes ``book/data/torture.json``; exits with 1
if anything was lost.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from lmrel import files
from tests.torture import disks, notebooks
from tests.torture.faults import RUNS, TRAINING, Job, Outcome, Starter, kills
from tests.torture.report import DATA, head

SHARES = {"training": 0.2, "notebooks": 0.04, "study": 0.02, "book": 0.02}  # of the kills; the others are of runs
AT_A_TIME = 4


def groups(number: int) -> dict[str, Callable[[random.Random, Path], Iterable[Outcome]]]:
    """Of all faults, `number` kills or a few more among them: those that are tried one after the other, by name."""
    counts = {name: max(1, round(share * number)) for name, share in SHARES.items()}
    each = -(-(number - sum(counts.values())) // len(RUNS))
    found: dict[str, Callable[[random.Random, Path], Iterable[Outcome]]] = {
        "notebooks": partial(notebooks.evaluations, counts["notebooks"]),
        "study": partial(notebooks.studies, counts["study"]),
        "book": partial(notebooks.books, counts["book"]),
        "machine": partial(_started, disks.of_runs),
        "machine-training": partial(_started, disks.of_training),
        "training": partial(_started, partial(_kills, TRAINING, counts["training"])),
    }
    return found | {f"run-{i}": partial(_started, partial(_kills, job, each)) for i, job in enumerate(RUNS)}


def _kills(job: Job, number: int, start: Starter, rng: random.Random, folder: Path) -> list[Outcome]:
    return kills(start, job, number, rng, folder)


def _started(work: Callable[..., Iterable[Outcome]], rng: random.Random, folder: Path) -> Iterator[Outcome]:
    start = Starter(folder)
    yield from work(start, rng, folder)
    start.close()


def faults(number: int, seed: int, folder: Path) -> list[Outcome]:
    """All of them, some groups at a time; of kills at least `number`."""

    def tried(name: str, work: Callable[[random.Random, Path], Iterable[Outcome]]) -> list[Outcome]:
        (folder / name).mkdir()
        outcomes = []
        for outcome in work(random.Random(f"{seed} {name}"), folder / name):
            outcomes.append(outcome)
            said = outcome.wrong or outcome.sentence or "the same bytes"
            print(f"{outcome.kind}, {outcome.what}: {said}".replace(str(folder), ""), flush=True)
        return outcomes

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        waiting = [pool.submit(tried, name, work) for name, work in groups(number).items()]
        return [outcome for each in waiting for outcome in each.result()]


def counted(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each kind of fault, and one for all."""
    kinds = list(dict.fromkeys(outcome.kind for outcome in outcomes))
    rows = []
    for kind in [*kinds, "all"]:
        some = [outcome for outcome in outcomes if outcome.tried and kind in (outcome.kind, "all")]
        counts = {"tried": len(some), "resumed": sum(o.resumed for o in some)}
        counts |= {"sentence": sum(bool(o.sentence) for o in some), "lost": sum(bool(o.wrong) for o in some)}
        rows.append({"fault": kind, **counts})
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=220)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DATA / "torture.json")
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = faults(arguments.kills, arguments.seed, Path(folder))
    rows = counted(outcomes)
    killed = sum(row["tried"] for row in rows if row["fault"].startswith("killed"))
    report = head() | {"seed": arguments.seed, "minutes": round((time.perf_counter() - began) / 60, 1), "kills": killed}
    report["not_tried"] = [outcome.kind for outcome in outcomes if not outcome.tried]
    report["sentences"] = examples(outcomes, folder)
    files.write_json(report | {"faults": rows}, arguments.out)
    print(f"{rows[-1]['tried']} faults, {killed} of them kills; {rows[-1]['lost']} lost; {arguments.out}")
    sys.exit(rows[-1]["lost"] > 0)


def examples(outcomes: Sequence[Outcome], folder: str) -> dict[str, str]:
    """For each kind of fault the first sentence that was said, without the places of this machine."""
    said = {outcome.kind: outcome.sentence for outcome in reversed(outcomes) if outcome.sentence}
    return {kind: said[kind].replace(folder, "") for kind in sorted(said)}


if __name__ == "__main__":
    main()
