"""A study through a real Slurm of two virtual nodes (see slurm.sh), in which things go wrong.

Its results are those of the same study, undivided, on this machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml

from tests.conftest import ROOT

MODELS = ["tiny-dense-base", "tiny-dense-instruct", "tiny-sparse-base", "tiny-sparse-instruct"]
PARAMETERS = {"temperatures": [0.0, 1.0], "runs": 3, "limit": 10}
STUDY = "studies/small.yaml"
RESULTS = Path("results/studies/small")  # below a project's folder
SCRIPT = ROOT / "tests" / "cluster" / "slurm.sh"
PATIENCE = 1200  # seconds for anything to come to pass; a machine may be busy


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.script("start")
        yield cluster
    finally:
        cluster.script("stop")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the study on this machine, each condition in one piece."""
    project = copy(tmp_path_factory.mktemp("local"), MODELS, shards=1)
    command = ["make", "study", f"STUDY={STUDY}"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return project / RESULTS


class Slurm:
    """The cluster, and what its commands say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        }

    def script(self, command: str, *arguments: str) -> None:
        subprocess.run([SCRIPT, command, self.folder, *arguments], check=True)

    def ask(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def jobs(self, project: Path) -> dict[str, tuple[str, str, str]]:
        """State, node and comment of all jobs that a project's Snakemake has submitted."""
        lines = self.ask("squeue", "--states=all", "--noheader", "--format", "%Z|%i|%T|%N|%k").splitlines()
        rows = [line.split("|") for line in lines]
        ours = [row[1:] for row in rows if Path(row[0]) == project and row[4].startswith("rule_")]
        return {job: (state, node, comment) for job, state, node, comment in ours}

    def study(self, project: Path) -> subprocess.Popen[str]:
        """The command that a user gives."""
        command = ["make", "study", "PROFILE=slurm", f"STUDY={STUDY}"]
        with (project / "said").open("a") as out:
            return subprocess.Popen(command, cwd=project, env=self.environment, stdout=out, stderr=out, text=True)


def copy(folder: Path, models: list[str], shards: int, **more: Any) -> Path:
    """The project, with a small study beside the book's and the cluster's partition in its profile."""
    project = folder / "project"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.strip("\0").split("\0"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, project / name)
    (project / ".venv").symlink_to(ROOT / ".venv")
    study = {"models": models, "shards": shards, "requests": {models[-1]: {"gpu": 1}}, "parameters": PARAMETERS}
    (project / STUDY).parent.mkdir(exist_ok=True)
    (project / STUDY).write_text(yaml.safe_dump(study | more))
    change(project / "study" / "profiles" / "slurm" / "config.yaml", "# slurm_partition: gpu", "slurm_partition: main")
    change(project / "study" / "profiles" / "slurm" / "config.yaml", "status-checks: 10", "status-checks: 2")
    return project


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def until(study: subprocess.Popen[str], come: Callable[[], Any]) -> Any:
    """What `come` returns, once that is true; the study has to be running still."""
    deadline = time.monotonic() + PATIENCE
    while not (found := come()):
        assert study.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def drawing(slurm: Slurm, project: Path, but: tuple[str, ...] = ()) -> tuple[str, str] | None:
    """A running job whose notebook is being executed, none of those in `but`, and its node."""
    for job, (state, node, comment) in slurm.jobs(project).items():
        if state == "RUNNING" and job not in but and comment.startswith("rule_evaluate_shard_"):
            run, shard, of = comment.removeprefix("rule_evaluate_shard_wildcards_").rsplit("_", 2)
            if (project / RESULTS / run / "shards" / f"{shard}-of-{of}" / "evaluate.failed.ipynb").exists():
                return job, node
    return None


def assert_same(results: Path, local: Path, conditions: Mapping[str, str]) -> None:
    """Assert that each condition here has the draws of that one there."""
    for name, other in conditions.items():
        ours, theirs = (pd.read_parquet(path / "draws.parquet") for path in (results / name, local / other))
        assert len(ours) == 2 * PARAMETERS["limit"] * (1 + PARAMETERS["runs"])
        pd.testing.assert_frame_equal(ours, theirs, rtol=0, atol=1e-5)


def test_a_study_ends_by_itself_although_a_job_is_cancelled_and_a_node_dies(
    slurm: Slurm, local: Path, tmp_path: Path
) -> None:
    project = copy(tmp_path, MODELS, shards=2)
    study = slurm.study(project)
    cancelled, _ = until(study, lambda: drawing(slurm, project))
    slurm.ask("scancel", cancelled)
    lost, node = until(study, lambda: drawing(slurm, project, but=(cancelled,)))
    slurm.script("kill", node)
    until(study, lambda: "Restarts=1" in slurm.ask("scontrol", "show", "job", lost).split())
    slurm.script("revive", node)
    assert study.wait(PATIENCE) == 0, (project / "said").read_text()
    asked = {job for job, (*_, comment) in slurm.jobs(project).items() if f"shard_wildcards_{MODELS[-1]}" in comment}
    assert all("TresPerJob=gres:gpu:1" in slurm.ask("scontrol", "show", "job", job).split() for job in asked)
    states = {job: state for job, (state, _, _) in slurm.jobs(project).items()}
    assert states.pop(cancelled) == "CANCELLED"
    assert set(states.values()) == {"COMPLETED"}
    assert len(states) == 4 * 3 + 1
    assert (project / RESULTS / "study.ipynb").exists()
    assert_same(project / RESULTS, local, dict(zip(MODELS, MODELS, strict=True)))


def test_a_study_whose_coordinator_is_killed_goes_on_where_it_was(slurm: Slurm, local: Path, tmp_path: Path) -> None:
    model, styles, shards = MODELS[0], ["few_shot", "readme"], 2
    project = copy(tmp_path, [model], shards, grid={"prompt_style": styles})
    study = slurm.study(project)

    def finished() -> dict[Path, tuple[int, str]]:
        """Of each finished shard, what would change if it were drawn again: its file, and when that was begun."""
        folders = [mark.parent for mark in sorted((project / RESULTS).glob("*/shards/*/.evaluated"))]
        begun = {folder: json.loads((folder / "run.json").read_text())["started"] for folder in folders}
        return {folder: ((folder / "draws.parquet").stat().st_ino, begun[folder]) for folder in folders}

    until(study, lambda: finished() and drawing(slurm, project))
    below = psutil.Process(study.pid).children(recursive=True)
    coordinators = [each for each in below if "study.start" in each.cmdline() or "snakemake" in each.name()]
    assert len(coordinators) > 1
    for each in coordinators:  # who began one before it, so that nobody sees it end
        each.kill()
    assert study.wait() != 0
    subprocess.run(["flock", project / ".venv" / ".lock", "true"], check=True)  # the killed hold it till they are gone
    before = finished()
    assert 0 < len(before) < len(styles) * shards
    assert slurm.study(project).wait(PATIENCE) == 0, (project / "said").read_text()
    after = finished()
    assert len(after) == len(styles) * shards
    assert {folder: after[folder] for folder in before} == before
    comments = [comment for state, _, comment in slurm.jobs(project).values() if state == "COMPLETED"]
    assert len(comments) == len(set(comments))  # no job ran to its end twice
    assert_same(project / RESULTS, local, {f"{model}-few_shot": model})  # which is the default
    assert (project / RESULTS / "study.ipynb").exists()


def test_a_job_that_no_attempt_can_help_is_named_while_the_rest_goes_on(slurm: Slurm, tmp_path: Path) -> None:
    broken, good = "checkpoints/broken", MODELS[0]
    project = copy(tmp_path, [broken, good], shards=1)
    shutil.copytree(project / "checkpoints" / good, project / broken)
    change(project / broken / "config.json", '"vocab_size": 128', '"vocab_size": 64')  # which only a job refuses
    assert slurm.study(project).wait(PATIENCE) != 0
    name, log = "checkpoints--broken", str(RESULTS / "checkpoints--broken" / "evaluate.log")
    states = [state for state, _, comment in slurm.jobs(project).values() if comment.endswith(name)]
    assert states == ["FAILED", "FAILED"]
    said = (project / "said").read_text()
    assert re.search(rf"^(error: )?{name} failed: .*has lm_head\.weight of shape \(128, 128\)", said, re.M)
    assert f"Its log is {log}" in said
    assert "error: not tried again: " in (project / log).read_text()  # by the second attempt
    assert (project / RESULTS / good / ".evaluated").exists()
    assert (project / RESULTS / "study.ipynb").exists()  # of what has finished
