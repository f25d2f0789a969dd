"""The Snakefile, dry: what would run again after a change, and what would not. Needs a finished `make book`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the built project, times kept, in which files may be changed."""
    others = shutil.ignore_patterns("__pycache__", "log", "locks", "single", ".probe.*")  # others may write these
    for name in (
        "book",
        "study",
        "tiny",
        "tools",
        "notebooks",
        "lmrel",
        "checkpoints",
        "results",
        ".snakemake",
        "_build",
    ):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=others)
    for name in ("Snakefile", "study.yaml", "index.md", "_config.yml", "_toc.yml"):
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def snakemake(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    binaries = Path(sys.executable).parent
    command = [str(binaries / "snakemake"), "--cores", "1", "--nolock", *arguments]
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def would_run(project: Path) -> dict[str, int]:
    """Rules and their number of jobs in a dry run."""
    done = snakemake(project, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.M) if rule != "total"}


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_nothing_runs_twice(project: Path) -> None:
    assert would_run(project) == {}


def test_a_changed_parameter_reruns_what_depends_on_it(project: Path) -> None:
    change(project / "study.yaml", "runs: 4", "runs: 5")
    assert would_run(project) == {"evaluate": 4, "compare": 1, "live": 1, "book": 1}


def test_another_model_runs_alone(project: Path) -> None:
    change(project / "study.yaml", "[tiny-dense-base,", "[tiny-dense-continued, tiny-dense-base,")
    assert would_run(project) == {"evaluate": 1, "compare": 1, "book": 1}


def test_a_run_depends_on_its_problems_and_on_its_template(project: Path) -> None:
    (project / "mine.csv").write_text("question,answer\n1 + 1,2\n")
    (project / "think.txt").write_text("Think. {question}")
    change(project / "study.yaml", "problems: paper", "problems: mine.csv\n  template: think.txt")
    done = snakemake(project, "--dry-run", "results/tiny-dense-base/.evaluated")
    assert re.search(r"input: .*, mine\.csv, think\.txt, ", done.stdout), done.stdout + done.stderr


def test_a_request_for_another_machine_reruns_nothing(project: Path) -> None:
    change(
        project / "study.yaml",
        "problems: paper",
        "problems: paper\nrequests: {tiny-dense-base: {mem_mb: 9000, runtime: 5}}",
    )
    assert would_run(project) == {}


def test_shards_are_jobs_and_the_plan_says_so(project: Path) -> None:
    change(project / "study.yaml", "problems: paper", "problems: paper\nrequests: {tiny-dense-base: {shards: 3}}")
    assert would_run(project) == {"evaluate_shard": 3, "evaluate": 1, "compare": 1, "live": 1, "book": 1}
    command = [sys.executable, "-m", "study.progress"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    said = subprocess.run(
        [*command, "--plan"], cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    assert "tiny-dense-base, shard 2 of 3: evaluate, about " in said.stdout
    assert "5 jobs; drawing takes about " in said.stdout
    said = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("6 jobs: 3 finished; 720 of 960 problems (75%)")


def test_a_changed_notebook_reruns_what_depends_on_it(project: Path) -> None:
    change(project / "notebooks" / "compare.ipynb", "# What happened", "# What came of it")
    assert would_run(project) == {"compare": 1, "book": 1}


def test_a_changed_page_rebuilds_the_book_only(project: Path) -> None:
    change(project / "book" / "question.md", "# The question", "# A question")
    assert would_run(project) == {"book": 1}


def test_changed_weights_rerun_their_model_and_the_pages_that_show_it_only(project: Path) -> None:
    weights = project / "checkpoints" / "tiny-dense-base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    pages = {"engine": 1, "audit": 1, "factorial": 1, "compare": 1, "live": 1, "book": 1}
    assert would_run(project) == {"evaluate": 1, **pages}


def test_a_removed_model_runs_no_other_again(project: Path) -> None:
    change(project / "study.yaml", ", tiny-sparse-instruct]", "]")
    assert would_run(project) == {"compare": 1, "book": 1}


def test_a_failed_run_keeps_the_last_good_results_and_is_tried_again(project: Path) -> None:
    good = (project / "results" / "tiny-dense-base" / "evaluate.ipynb").read_bytes()
    weights = project / "checkpoints" / "tiny-dense-base" / "model.safetensors"
    weights.write_bytes(b"no weights")  # which only a run refuses
    done = snakemake(project, "results/tiny-dense-base/.evaluated")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "InputError: model 'tiny-dense-base' could not be loaded" in said
    assert "The traceback is in results/tiny-dense-base/evaluate.failed.ipynb" in said
    failed = re.findall(r"^This job failed; its log is results/tiny-dense-base/evaluate.log$", said, re.M)
    assert len(failed) == 2  # it was tried again
    assert (project / "results" / "tiny-dense-base" / "evaluate.ipynb").read_bytes() == good
    assert (project / "results" / "tiny-dense-base" / "draws.parquet").exists()
    assert would_run(project)["evaluate"] == 1  # once more, as long as it fails
    shutil.copy2(ROOT / "checkpoints" / "tiny-dense-base" / weights.name, weights)
    assert would_run(project) == {}  # with the weights of the good results back nothing is due


def test_another_run_below_results_rebuilds_the_comparison_only(project: Path) -> None:
    shutil.copytree(project / "results" / "tiny-dense-base", project / "results" / "mine")
    assert would_run(project) == {"compare": 1, "book": 1}


def test_make_has_the_study_checked_before_snakemake_which_would_not_say_what_is_wrong() -> None:
    for target in ("book", "study"):
        said = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert re.search(r"python -m study\.cluster local && exec .*snakemake", said)
