"""Checks before a study starts on a cluster, and all that is known of Slurm; another scheduler is a profile and checks.

Where a profile asks for no cluster, its name is all that is checked. Jobs are submitted by Snakemake, not from here.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lmrel.errors import InputError
from study.jobs import Study

PROFILES = Path("study/profiles")  # below the working directory, the project's folder
ANSWER = 30  # seconds that Slurm's controller has to answer
FREE = 10  # seconds that a node has to become free for a look at the folder
PAUSE = 5  # seconds between two looks at the queue
# What a compute node is to do: say whether it sees the file $0 and, if not, which node it is.
LOOK = 'test -e "$0" && echo seen || echo "unseen from $(hostname)"'


def check_profile(profile: str, study: Study) -> None:
    """Raise `InputError` for what keeps the profile's jobs from running; wait for those that an earlier start left."""
    settings = read_profile(profile)
    if settings.get("executor") != "slurm":
        return
    resources: Mapping[str, Any] = settings.get("default-resources") or {}
    check_scheduler()
    check_partition(resources.get("slurm_partition"), PROFILES / profile / "config.yaml", study)
    wait_for_leftovers()
    check_folder(resources)


def read_profile(name: str) -> dict[str, Any]:
    """What ``NAME/config.yaml`` in `PROFILES` says; `InputError` if there is none or it cannot be read."""
    known = sorted(path.parent.name for path in PROFILES.glob("*/config.yaml"))
    if name not in known:
        raise InputError(f"PROFILE is {name!r}; {PROFILES} has {', '.join(known)}.")
    path = PROFILES / name / "config.yaml"
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error


def check_scheduler() -> None:
    """Raise `InputError` unless there is a Slurm on this machine."""
    if shutil.which("sbatch") is None:
        raise InputError(
            "sbatch is not on the PATH, so there is no Slurm to submit to; "
            "start on a login node of the cluster, or with PROFILE=local."
        )


def check_partition(wanted: object, path: Path, study: Study) -> None:
    """Raise `InputError` unless Slurm answers and would ever start the study's jobs in the partitions `wanted`.

    They are named, with commas between, in the profile at `path`; without any, the cluster's default is meant.
    """
    lines = [line.split() for line in _ask("sinfo", "-ho", "%P %l").splitlines()]
    limits = {name.rstrip("*"): minutes(limit) for name, limit in lines}
    chosen = str(wanted).split(",") if wanted else [name.rstrip("*") for name, _ in lines if name.endswith("*")]
    for name in chosen:
        if name not in limits:
            raise InputError(f"slurm_partition is {name!r} in {path}; the cluster has {', '.join(sorted(limits))}.")
    longest = max((limits[name] for name in chosen), default=math.inf)
    for name, condition in study.conditions.items():
        if (asked := condition.asked["runtime"]) > longest:
            raise InputError(
                f"{name} asks for {asked} minutes, but a job in partition {','.join(chosen)} may take {longest:g}; "
                f"lower its runtime under requests in the study's file or change the partition in {path}."
            )


def minutes(limit: str) -> float:
    """The minutes of a time limit as sinfo writes it: ``1-00:00:00``, ``30:00``, ``infinite``."""
    if not (found := re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)):
        return math.inf
    days, hours, rest, seconds = (int(part or 0) for part in found.groups())
    return (days * 24 + hours) * 60 + rest + seconds / 60


def check_folder(resources: Mapping[str, Any]) -> None:
    """Raise `InputError` unless a compute node sees a file written here.

    With no node free for a look, print that it was not checked. `resources` are those of the profile.
    """
    here = Path.cwd() / "results"
    here.mkdir(exist_ok=True)
    flags = {"slurm_partition": "--partition", "slurm_account": "--account", "constraint": "--constraint"}
    look = ["srun", "--quiet", "--ntasks=1", "--time=1", f"--immediate={FREE}"]
    look += [f"{flag}={resources[name]}" for name, flag in flags.items() if resources.get(name)]
    with tempfile.NamedTemporaryFile(dir=here, prefix=".look-") as marker:
        said, why = _run([*look, "sh", "-c", LOOK, marker.name], FREE + ANSWER)
    if said.startswith("unseen"):
        raise InputError(
            f"{Path.cwd()} is {said}; the project must lie on a file system that the login and compute nodes share."
        )
    if said != "seen":
        print(f"Not checked: whether the compute nodes see {Path.cwd()} ({why}).")


def wait_for_leftovers() -> None:
    """Wait for the jobs that a start in this folder left when it was killed: a second of each would collide with it."""
    if found := leftovers():
        print(f"An earlier start left jobs in the queue; waiting for them. To end them: scancel {' '.join(found)}")
    while found:
        time.sleep(PAUSE)
        found = leftovers()


def leftovers() -> list[str]:
    """The ids of our jobs in the queue that Snakemake submitted from this folder."""
    lines = _ask("squeue", "--me", "--noheader", "--format", "%i|%k|%Z").splitlines()  # id, comment, folder
    jobs = [line.split("|", 2) for line in lines]
    here = Path.cwd().resolve()
    return [job for job, comment, folder in jobs if comment.startswith("rule_") and Path(folder).resolve() == here]


def _ask(*words: str) -> str:
    """What a Slurm command prints; `InputError` if it fails."""
    said, why = _run(words, ANSWER)
    if why:
        raise InputError(f"Slurm does not answer ({why}); try again when {words[0]} works.")
    return said


def _run(words: Sequence[str], seconds: float) -> tuple[str, str]:
    """What a command prints and, if it failed, why: the last thing that it complained of."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return "", f"{words[0]} said nothing for {seconds:g} seconds"
    except OSError as error:
        return "", f"{words[0]}: {error.strerror}"
    failure = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"{words[0]} failed"])[-1]
    return done.stdout.strip(), failure
