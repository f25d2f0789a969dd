"""Kills of what the command lines do: a notebook that is executed, the study and the book that `make` builds."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.torture.disks import mounted, remount
from tests.torture.faults import RUN, SIGNALS, Outcome, judged, state, torn
from tests.torture.report import ROOT

SMALL = RUN | {"temperatures": [0.0, 1.0], "runs": 2, "limit": 2}
BUSY = "Another make is building in this folder; wait for it to end."
COPIED = ("book", "study", "tiny", "tools", "notebooks", "lmrel", "checkpoints", "results", ".snakemake", "_build")
FILES = ("Snakefile", "Makefile", "study.yaml", "index.md", "_config.yml", "_toc.yml", "pyproject.toml")
FILES += ("constraints.txt",)


def begun(command: list[str], place: Path) -> subprocess.Popen[str]:
    """A command in a session of its own, as in a terminal."""
    binaries = Path(sys.executable).parent
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{binaries}:{os.environ['PATH']}"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=place, env=environment, text=True, start_new_session=True, **pipes)


def ended(process: subprocess.Popen[str], patience: float = 900) -> tuple[int, str]:
    """Its exit status and what it said, once all that it started has ended too; what has not by then is killed."""
    try:
        said, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        left = _holding(process)
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        said, _ = process.communicate()
        return 2, f"{said}\nstill there after {patience:g} s: {[each.info['cmdline'] for each in left]}"
    return process.returncode, said


def _holding(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Who may still write to the pipe on which it speaks."""
    assert process.stdout is not None
    pipe, found = f"pipe:[{os.fstat(process.stdout.fileno()).st_ino}]", []
    for each in psutil.process_iter(["cmdline"]):
        with suppress(OSError):
            open_files = [os.readlink(path) for path in Path(f"/proc/{each.pid}/fd").iterdir()]
            found += [each] * (pipe in open_files and each.pid != os.getpid())
    return found


def killed(command: list[str], place: Path, moment: float, whom: str, sent: signal.Signals) -> tuple[int, str] | None:
    """Begin, and send a signal at a moment to the process, to all that it started, or to the kernel alone.

    How it ended, or nothing if it had ended before.
    """
    process = begun(command, place)
    with suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    if process.poll() is not None:
        ended(process)
        return None
    below = psutil.Process(process.pid).children(recursive=True)
    struck = {"one": [], "all": below, "kernel": [each for each in below if _is_kernel(each)]}[whom]
    for each in reversed(struck):
        with suppress(psutil.NoSuchProcess):
            each.send_signal(sent)
    if whom != "kernel":
        process.send_signal(sent)
    done = ended(process)
    if whom == "kernel":
        return done if struck and done[0] else None  # the last work of one that ends well is to end its kernel
    return -sent, done[1]  # what it says of a signal sent to it is no matter


def _is_kernel(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return any("ipykernel" in word for word in process.cmdline())
    return False


def gone_on(command: list[str], place: Path, wait: str) -> tuple[int, str]:
    """The same command, asked again for as long as what was killed lives on in parts and the command says so."""
    for _ in range(60):
        status, said = ended(begun(command, place))
        if status == 0 or wait not in said:
            break
        time.sleep(2)
    return status, said


def pages(folder: Path) -> dict[str, str]:
    """Draws and summaries by their bytes, notebooks by their cells and outputs but for the record, which has times."""
    found = {name: value for name, value in state(folder).items() if name.endswith((".parquet", "run.json"))}
    for path in folder.rglob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        shown = [[cell["source"], _outputs(cell)] for cell in cells if "hide-output" not in _tags(cell)]
        found[str(path.relative_to(folder))] = hashlib.sha256(json.dumps(shown).encode()).hexdigest()
    return found


def _outputs(cell: dict[str, Any]) -> list[Any]:
    """But for progress bars, which tell how fast it was."""
    return [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]


def _tags(cell: dict[str, Any]) -> list[str]:
    tags: list[str] = cell["metadata"].get("tags", [])
    return tags


def runner(place: Path) -> list[str]:
    """The command that evaluates a tiny model in `place`."""
    place.mkdir(parents=True, exist_ok=True)
    for name in ("notebooks", "lmrel", "study", "book", "tiny"):
        if not (place / name).exists():
            (place / name).symlink_to(ROOT / name)
    given = yaml.safe_dump(SMALL | {"output_dir": "results"}, default_flow_style=True, width=10**6).strip()
    command = ["-m", "study.runner", "notebooks/evaluate.ipynb", "results/evaluate.ipynb", "--title", "Tiny"]
    return [sys.executable, *command, "-y", given]


def evaluations(number: int, rng: random.Random, folder: Path) -> Iterator[Outcome]:
    """Kills of the runner, of all its processes, and of the kernel alone; and two disks that are full."""
    began = time.perf_counter()
    status, said = ended(begun(runner(folder / "calm"), folder / "calm"))
    assert status == 0, said
    seconds, expected = time.perf_counter() - began, pages(folder / "calm" / "results")
    for i in range(number):
        place, sent = folder / str(i), SIGNALS[i % 3]
        whom = ("one", "all", "kernel")[i // 3 % 3]
        sent = signal.SIGKILL if whom == "kernel" else sent
        moment = rng.uniform(0.5 if whom == "kernel" else 0.1, 0.95) * seconds
        command = runner(place)
        while (first := killed(command, place, moment, whom, sent)) is None:  # it was quicker this time
            moment *= 0.8
            shutil.rmtree(place / "results")
        bad, again = torn(place / "results"), gone_on(command, place, "another run is writing")
        same = pages(place / "results") == expected
        yield judged("killed: a notebook", f"{sent.name} to {whom} after {moment:.1f} s", first, again, same, bad)
    for i in range(2 if number > 1 else 0):
        with mounted(folder / f"full-{i}", str((24 + 60 * i) * 1024)) as allowed:
            if not allowed:
                yield Outcome("full disk: a notebook", "mounting is not allowed", tried=False)
                return
            place = folder / f"full-{i}" / "run"
            command = runner(place)
            first = ended(begun(command, place))
            bad = torn(place / "results")
            remount(folder / f"full-{i}", "size=100m")
            again = ended(begun(command, place))
            same = pages(place / "results") == expected
            yield judged("full disk: a notebook", f"{24 + 60 * i} KiB", first, again, same, bad)


def project(place: Path) -> Path:
    """A copy of the built project, times kept, whose study is one model and few problems."""
    for name in COPIED:
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "log", "locks"))
    for name in FILES:
        shutil.copy2(ROOT / name, place / name)
    (place / ".venv").mkdir()
    for path in (ROOT / ".venv").iterdir():
        if path.name != ".lock":
            (place / ".venv" / path.name).symlink_to(path)
    (place / ".venv" / ".set-up").unlink()
    (place / ".venv" / ".set-up").touch()
    return place


def one_model(place: Path) -> None:
    """Make the study one model and few problems, and forget what it left."""
    study = yaml.safe_load((ROOT / "study.yaml").read_text())
    study |= {"models": [SMALL["model"]], "parameters": study["parameters"] | {"limit": 2, "runs": 2}}
    (place / "study.yaml").write_text(yaml.safe_dump(study))
    shutil.rmtree(place / "results")


def studies(number: int, rng: random.Random, folder: Path) -> Iterator[Outcome]:
    """Kills of `make study`: all its processes, or make alone, whose jobs go on for a while; a second one at once."""
    calm, command = project(folder / "calm"), ["make", "study"]
    one_model(calm)
    began = time.perf_counter()
    process = begun(command, calm)
    time.sleep(5)
    second = ended(begun(command, calm))
    status, said = ended(process)
    assert status == 0, said
    seconds, expected = time.perf_counter() - began, pages(calm / "results")
    wrong = "" if second[0] != 0 and BUSY in second[1] and "Traceback" not in second[1] else second[1][-600:]
    yield Outcome("two at once: make", "5 s later", not wrong, BUSY, wrong)
    place = project(folder / "killed")
    for i in range(number):
        one_model(place)
        sent, whom = SIGNALS[i % 3], ("all", "one")[i % 2]
        moment = rng.uniform(0.1, 0.9) * seconds
        while (first := killed(command, place, moment, whom, sent)) is None:
            moment *= 0.8
            one_model(place)
        bad, again = torn(place / "results"), gone_on(command, place, BUSY)
        same = pages(place / "results") == expected
        what = f"{sent.name} to {whom} after {moment:.1f} s"
        yield judged("killed: make study", what, first, again, same, bad)
    future = time.time() + 86_400
    os.utime(place / "notebooks" / "evaluate.ipynb", (future, future))
    again = ended(begun(command, place))
    same = pages(place / "results") == expected
    yield judged("clock jumps: make study", "a source from tomorrow", again, again, same, torn(place / "results"))


def site(place: Path) -> dict[str, str]:
    """Every file of the site, by its bytes; of the date of a build and of caches nothing."""
    found = {}
    for path in sorted((place / "_build" / "html").rglob("*")):
        if path.is_file() and path.suffix not in (".pickle", ".inv") and path.name != ".buildinfo":
            found[str(path.relative_to(place))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def books(number: int, rng: random.Random, folder: Path) -> Iterator[Outcome]:
    """Kills of `make book` in which a page has changed: the pages are built, no model is run."""
    command, place = ["make", "book"], project(folder / "book")
    text, changes = (ROOT / "book" / "question.md").read_text(), itertools.count(1)

    def change(words: str) -> None:
        (place / "book" / "question.md").write_text(f"{text}\n{words}\n")

    def built() -> float:
        began = time.perf_counter()
        status, said = ended(begun(command, place))
        assert status == 0, said
        return time.perf_counter() - began

    touch = ["snakemake", "--touch", "--cores", "1", "--nolock", "--quiet", "all"]  # results are as new as the code
    assert ended(begun(touch, place))[0] == 0
    built()
    change("The last words.")
    seconds, expected = built(), site(place)
    for i in range(number):
        sent, whom, moment = SIGNALS[i % 3], ("one", "all")[i % 2], rng.uniform(0.3, 0.95) * seconds
        change(f"Other words, {next(changes)}.")
        while (first := killed(command, place, moment, whom, sent)) is None:
            moment *= 0.8
            change(f"Other words, {next(changes)}.")
        change("The last words.")
        again, now = gone_on(command, place, BUSY), site(place)
        differs = sorted(name for name in now.keys() | expected.keys() if now.get(name) != expected.get(name))
        what = f"{sent.name} to {whom} after {moment:.1f} s"
        outcome = judged("killed: make book", what, first, again, not differs, [])
        yield replace(outcome, wrong=f"{outcome.wrong} {differs[:5]}" if outcome.wrong else "")
