"""The checks before a study goes to a cluster, against scripts that stand in for Slurm's commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lmrel.errors import InputError
from study import cluster
from study.jobs import Study

WORKS = {
    "sbatch": "exit 1  # nothing is submitted here",
    "sinfo": "echo 'cpu* 30:00'; echo 'gpu 1-00:00:00'",
    "srun": 'while [ "$1" != sh ]; do echo "$1" >>asked; shift; done; exec "$@"',
    "squeue": "true",
}
TOOLS = ("sh", "hostname", "cat", "grep", "mv", "sleep")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder as the present one, with a profile and a Slurm in which all is well."""
    for name, text in WORKS.items():
        command(tmp_path, name, text)
    for name in TOOLS:
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    for name, text in (
        ("slurm", "executor: slurm\ndefault-resources: {slurm_partition: gpu}"),
        ("local", "cores: all"),
    ):
        (tmp_path / cluster.PROFILES / name).mkdir(parents=True)
        (tmp_path / cluster.PROFILES / name / "config.yaml").write_text(text)
    study(tmp_path, 120)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(cluster, "PAUSE", 0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(project: Path, runtime: int) -> None:
    """Write a study of one job, which asks for so many minutes."""
    request = f"requests: {{tiny-dense-base: {{runtime: {runtime}}}}}"
    (project / "study.yaml").write_text(f"models: [tiny-dense-base]\nparameters: {{temperatures: [0.0]}}\n{request}\n")


def check(profile: str) -> None:
    cluster.check_profile(profile, Study.read())


def command(project: Path, name: str, text: str) -> None:
    (project / "bin").mkdir(exist_ok=True)
    path = project / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_where_all_is_well_nothing_is_said_and_nothing_left(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check("slurm")
    assert capsys.readouterr().out == ""
    assert list((project / "results").iterdir()) == []
    assert "--partition=gpu" in (project / "asked").read_text().split()


def test_a_local_profile_needs_no_slurm(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    check("local")


def test_an_unknown_profile_is_told_the_known_ones(project: Path) -> None:
    with pytest.raises(InputError, match="PROFILE is 'slrum'; study/profiles has local, slurm."):
        check("slrum")


@pytest.mark.parametrize("text", ["- no mapping", "a: [", ""])
def test_a_profile_that_is_no_mapping_is_named(project: Path, text: str) -> None:
    (project / cluster.PROFILES / "slurm" / "config.yaml").write_text(text)
    with pytest.raises(InputError, match="profiles/slurm/config.yaml cannot be read"):
        check("slurm")


def test_no_scheduler(project: Path) -> None:
    (project / "bin" / "sbatch").unlink()
    with pytest.raises(InputError, match="sbatch is not on the PATH.* PROFILE=local"):
        check("slurm")


def test_a_scheduler_that_complains(project: Path) -> None:
    command(project, "sinfo", "echo first >&2; echo 'slurm_load_partitions: Unable to contact' >&2; exit 1")
    with pytest.raises(InputError, match=r"^Slurm does not answer \(slurm_load_partitions: Unable to contact\)"):
        check("slurm")


def test_a_scheduler_that_says_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ANSWER", 0.1)
    command(project, "sinfo", "exec sleep 60")
    with pytest.raises(InputError, match=r"^Slurm does not answer \(sinfo said nothing for 0.1 seconds\)"):
        check("slurm")


@pytest.mark.parametrize("asked", ["gpus", "gpu,gpus"])
def test_an_unknown_partition_is_told_the_known_ones(project: Path, asked: str) -> None:
    profile = project / cluster.PROFILES / "slurm" / "config.yaml"
    profile.write_text(f"executor: slurm\ndefault-resources: {{slurm_partition: '{asked}'}}")
    with pytest.raises(InputError, match=r"^slurm_partition is 'gpus' in .*config.yaml; the cluster has cpu, gpu\.$"):
        check("slurm")


def test_without_a_partition_or_resources_the_default_is_used(project: Path) -> None:
    (project / cluster.PROFILES / "slurm" / "config.yaml").write_text("executor: slurm")
    study(project, 30)
    check("slurm")
    assert "--partition" not in (project / "asked").read_text()


def test_a_job_that_slurm_would_never_start(project: Path) -> None:
    study(project, 1441)
    with pytest.raises(
        InputError,
        match="^tiny-dense-base asks for 1441 minutes, but a job in partition gpu may take 1440;",
    ):
        check("slurm")
    (project / cluster.PROFILES / "slurm" / "config.yaml").write_text("executor: slurm")
    study(project, 31)
    with pytest.raises(InputError, match="asks for 31 minutes, but a job in partition cpu may take 30;"):
        check("slurm")


@pytest.mark.parametrize(
    ("limit", "expected"), [("2-03:04:30", 3064.5), ("1:00:00", 60), ("30:00", 30), ("infinite", float("inf"))]
)
def test_time_limits_are_read(limit: str, expected: float) -> None:
    assert cluster.minutes(limit) == expected


def test_a_folder_that_the_nodes_do_not_see(project: Path) -> None:
    command(project, "srun", 'while [ "$1" != sh ]; do shift; done; exec "$1" "$2" "$3" /elsewhere')
    with pytest.raises(InputError, match=f"^{project} is unseen from .*; the project must lie on a file system"):
        check("slurm")


def test_with_no_node_free_the_folder_is_not_checked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(project, "srun", "echo 'srun: error: Unable to allocate resources' >&2; exit 1")
    check("slurm")
    said = capsys.readouterr().out
    assert said.startswith(f"Not checked: whether the compute nodes see {project} (srun: error: Unable")


def test_what_an_earlier_start_left_is_waited_for(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue = [f"7|rule_evaluate_wildcards_a|{project}", f"8|mine|{project}", "9|rule_evaluate_wildcards_a|/other"]
    (project / "queue").write_text("\n".join(queue))
    # The first look sees all jobs, the second those without the one waited for.
    command(project, "squeue", "cat queue; echo look >>looks; grep -v ^7 queue >rest; mv rest queue")
    check("slurm")
    assert capsys.readouterr().out.strip().endswith("scancel 7")
    assert (project / "looks").read_text().split() == ["look"] * 2
