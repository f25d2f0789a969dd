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


def would_run(project: Path, *arguments: str) -> dict[str, int]:
    """Rules and their number of jobs in a dry run."""
    done = snakemake(project, "--dry-run", *arguments)
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
    assert would_run(project) == {"evaluate": 1, "book": 1}


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
    assert would_run(project) == {"evaluate": 1, "compare": 1, "live": 1, "book": 1}  # what is complete needs no shards
    change(project / "study.yaml", "runs: 4", "runs: 5")
    assert would_run(project) == {"evaluate_shard": 3, "evaluate": 4, "compare": 1, "live": 1, "book": 1}
    said = python(project, "study.start", "study", "--dry")
    assert "tiny-dense-base, shard 2 of 3: evaluate, 1,280 draws, about " in said
    assert "tiny-dense-instruct: evaluate, 720 draws, about " in said  # three more of each problem
    assert "7 jobs; drawing takes about " in said
    assert python(project, "study.progress").startswith("6 jobs: 0 finished; 0 of 960 problems (0%)")


def python(project: Path, *words: str) -> str:
    """What a module of the project says."""
    environment = os.environ | {"PYTHONPATH": str(project)}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_changed_notebook_reruns_what_depends_on_it(project: Path) -> None:
    change(project / "notebooks" / "compare.ipynb", "# What happened", "# What came of it")
    assert would_run(project) == {"compare": 1, "book": 1}


def test_a_changed_page_rebuilds_the_book_only(project: Path) -> None:
    change(project / "book" / "question.md", "# The question", "# A question")
    assert would_run(project) == {"book": 1}


def test_changed_weights_rerun_their_model_and_the_pages_that_show_it_only(project: Path) -> None:
    weights = project / "checkpoints" / "tiny-dense-base" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    pages = {"engine": 1, "audit_appendix": 1, "factorial_appendix": 1, "compare": 1, "live": 1, "lab": 1, "book": 1}
    assert would_run(project) == {"evaluate": 1, **pages}


def test_a_removed_model_runs_no_other_again(project: Path) -> None:
    change(project / "study.yaml", ", tiny-sparse-instruct]", "]")
    assert would_run(project) == {"book": 1}


def test_a_failed_run_keeps_the_last_good_results_and_is_tried_again(project: Path) -> None:
    good = (project / "results" / "tiny-dense-base" / "evaluate.ipynb").read_bytes()
    weights = project / "checkpoints" / "tiny-dense-base" / "model.safetensors"
    weights.write_bytes(b"no weights")  # which only a run refuses
    done = snakemake(project, "results/tiny-dense-base/.evaluated")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "InputError: model 'tiny-dense-base' could not be loaded" in said
    assert "The traceback is in results/tiny-dense-base/evaluate.failed.ipynb" in said
    assert re.search(r"^error: not tried again: model 'tiny-dense-base' could not be loaded", said, re.M)
    assert len(re.findall(r"^Its log is results/tiny-dense-base/evaluate.log$", said, re.M)) == 2
    reason = (project / "results" / "tiny-dense-base" / "evaluate.failed.txt").read_text()
    assert reason.startswith("InputError: model 'tiny-dense-base' could not be loaded")
    assert (project / "results" / "tiny-dense-base" / "evaluate.ipynb").read_bytes() == good
    assert (project / "results" / "tiny-dense-base" / "draws.parquet").exists()
    assert would_run(project)["evaluate"] == 1  # once more, as long as it fails
    shutil.copy2(ROOT / "checkpoints" / "tiny-dense-base" / weights.name, weights)
    assert would_run(project) == {}  # with the weights of the good results back nothing is due


def test_another_run_below_results_becomes_a_page_only(project: Path) -> None:
    shutil.copytree(project / "results" / "tiny-dense-base", project / "results" / "mine")
    assert would_run(project) == {"book": 1}


def test_a_checkpoint_that_is_cut_off_is_refused_before_any_job(project: Path) -> None:
    weights = project / "checkpoints" / "tiny-dense-base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    done = snakemake(project, "--dry-run")
    assert done.returncode != 0
    assert "has model.safetensors, which is cut off: it has " in done.stdout + done.stderr


SMALL = (
    "{models: [tiny-dense-base], grid: {prompt_style: [few_shot, readme]}, parameters: {limit: 1, temperatures: [0]}}"
)


def test_another_study_has_its_own_folder_and_its_finished_draws_go_only_if_asked(project: Path) -> None:
    (project / "studies").mkdir()
    (project / "studies" / "small.yaml").write_text(SMALL)
    asked = ("--config", "study=studies/small.yaml")
    assert would_run(project, "study", *asked) == {"evaluate": 2, "study": 1}
    assert would_run(project, "report", *asked) == {"report": 1}  # of what has finished by then
    assert would_run(project) == {}
    done = snakemake(project, "study", *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    run = project / "results" / "studies" / "small" / "tiny-dense-base-readme"
    before = (run / "run.json").read_bytes()
    replaced = 'replace=["tiny-dense-base-readme"]'
    assert would_run(project, "study", *asked) == would_run(project, "study", *asked, replaced) == {}
    assert would_run(project) == {"book": 1}  # whose pages they are
    change(project / "studies" / "small.yaml", "limit: 1", "limit: 1, seed: 5")
    done = snakemake(project, f"{run.relative_to(project)}/.evaluated", *asked)
    assert done.returncode != 0
    assert (
        "InputError: results/studies/small/tiny-dense-base-readme holds a run with seed=0" in done.stdout + done.stderr
    )
    assert (run / "run.json").read_bytes() == before
    done = snakemake(project, f"{run.relative_to(project)}/.evaluated", *asked, replaced)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (run / "run.json").read_bytes() != before
    assert not (run / "evaluate.failed.txt").exists()


def made(*words: str) -> str:
    """What make would run."""
    return subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_make_starts_a_study_by_the_module_that_looks_at_it_first() -> None:
    start = r"python -m study\.start --study 'study\.yaml' --profile 'local' +"
    for target in ("book", "study"):
        assert re.search(rf"{start}{target} ", made(target))
    assert re.search(rf"{start}study --dry$", made("study", "DRY=1"), re.M)
    said = made("study", "STUDY=studies/a.yaml", "PROFILE=slurm", "REPLACE=1")
    assert "study.start --study 'studies/a.yaml' --profile 'slurm' --replace study " in said
    assert "study.progress 'studies/a.yaml'" in made("progress", "STUDY=studies/a.yaml")
