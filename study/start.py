"""Starts a study: looks at all of it first, has Snakemake run it, and says what failed and why.

``python -m study.start book|study [--study FILE] [--profile NAME] [--replace] [--dry]``, from the project's folder, as
`make` does. Snakemake's own words go to a log; they are shown where no job explains a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lmrel.errors import InputError, command
from lmrel.files import writing
from study import costs, devices, parts, plan
from study.cluster import PROFILES, check_profile, read_profile
from study.jobs import BOOK, RESULTS, Study

BIN = Path(sys.executable).parent
SNAKEMAKE, PATH = str(BIN / "snakemake"), f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"  # its jobs call python
LOG = RESULTS / "snakemake.log"
QUIET = ["--quiet", "host", "progress", "reason"]  # "rules" would silence failures, too
LAST = 12  # lines of the log that are shown


def start(target: str, source: Path, profile: str, *, replace: bool) -> None:
    """Carry out the study in the file `source` and, if `target` is book, build the book; `InputError` says what failed.

    Of a study that is not the book's own, what has finished is compared and shown even if some of it failed.
    """
    study = Study.read(source)
    check_profile(profile, study)
    replaced: dict[Path, list[str]] = {}  # by study, the conditions whose draws go: those that must, and no others
    for path in dict.fromkeys([source, BOOK] if target == "book" else [source]):
        each = study if path == source else Study.read(path)
        if not replace:
            plan.refuse(each)
        replaced[path] = list(plan.replacements(each, weights=True)) if replace else []
    parts.check_writable(study.folder)
    jobs = [job for condition in study.conditions.values() for job in condition.all_jobs()]
    earlier = {job.failed: job.failed.stat().st_mtime_ns for job in jobs if job.failed.exists()}
    if study.own:
        steps = [(source, ["book"] if target == "book" else ["study", "compare"])]
    else:
        steps = [(source, ["study"]), (source, ["report"])] + [(BOOK, ["book"])] * (target == "book")
    with writing(LOG):
        LOG.parent.mkdir(exist_ok=True)
        LOG.write_bytes(b"")
    ended = [snakemake(targets, path, profile, replaced[path]) for path, targets in steps]
    if any(ended):
        failed = [job for job in jobs if job.failed.exists()]
        failed = [job for job in failed if job.failed.stat().st_mtime_ns != earlier.get(job.failed)]
        lines = [f"{job.name} failed: {job.why}\n  Its log is {job.log}" for job in failed]
        if not lines or any(ended[1:]):  # a page's job leaves no reason
            lines += last_words()
        raise InputError("\n".join(lines))
    if not study.own:
        print(f"The study: {study.folder / 'study.ipynb'}; `make book` makes pages of it and of its conditions")


def last_words() -> list[str]:
    """The end of Snakemake's log, introduced, and where all of it is."""
    last = LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST:]
    return ["the study did not end well. Snakemake's last words:", *(f"  {line}" for line in last), f"All are in {LOG}"]


def snakemake(targets: Sequence[str], source: Path, profile: str, replaced: Sequence[str]) -> int:
    """The exit status of Snakemake, which may replace the draws of conditions that are named as `replaced`.

    Its own words are added to the log; on a cluster they are shown, too.
    """
    words = [SNAKEMAKE, *targets, "--profile", str(PROFILES / profile), "--config", _given(source)]
    words += [f"replace={json.dumps(replaced)}"] if replaced else []
    local = read_profile(profile).get("executor") is None
    if local:
        words += ["--resources", f"gpu={max(1, len(devices.gpus()))}", *QUIET]
    with (
        LOG.open("ab") as log,
        subprocess.Popen(words, stderr=subprocess.PIPE, env=os.environ | {"PATH": PATH}) as running,
    ):
        assert running.stderr is not None
        for line in running.stderr:
            log.write(line)
            log.flush()
            if not local:
                sys.stderr.buffer.write(line)
                sys.stderr.flush()
    return running.returncode


def _given(source: Path) -> str:
    """How Snakemake is told of the study: it reads values as YAML, where a path may mean something else."""
    return f"study={json.dumps(str(source))}"


def dry_run(source: Path) -> str:
    """What a start would do, in words."""
    study = Study.read(source)
    words = [SNAKEMAKE, "study", "--dry-run", "--cores", "1", "--nolock", "--rerun-incomplete"]
    done = subprocess.run([*words, "--config", _given(source)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"Snakemake could not plan the study: {(done.stdout + done.stderr).strip()}")
    return plan.report(study, plan.due(done.stdout), costs.read_measured(plan.DATA))


@command()
def main() -> None:
    """Start what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", choices=["book", "study"])
    parser.add_argument("--study", type=Path, default=BOOK, help="its file")
    parser.add_argument("--profile", default="local", help="a folder of study/profiles/")
    parser.add_argument("--replace", action="store_true", help="finished draws that a change undoes may go")
    parser.add_argument("--dry", action="store_true", help="say what would run, and run nothing")
    given = parser.parse_args()
    if given.dry:
        print(dry_run(given.study))
        return
    start(given.target, given.study, given.profile, replace=given.replace)


if __name__ == "__main__":
    main()
