from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lmrel import InputError, files, records
from lmrel.registry import CHECKPOINTS
from study import costs, parts, plan, progress
from study.jobs import Study
from study.plan import Outlook
from study.run import Run
from tests.conftest import ROOT
from tests.study.test_jobs import BASE, CONFIG, LARGE
from tests.study.test_progress import killed_after_a_part

SOURCE = Path("studies/small.yaml")
SMALL: dict[str, Any] = {"temperatures": [0.0, 1.0], "runs": 3, "limit": 2, "determinism": False}
DRAWS = 2 * 2 * (1 + 3)  # two problems of each task
MEASURED = costs.read_measured(ROOT / "book" / "data")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study_of(source: Path = SOURCE, **changes: Any) -> Study:
    """A study of one condition, with other parameters where they are given."""
    config = {name: changes.pop(name) for name in ("shards", "models") if name in changes}
    return Study.of({"models": [BASE], "parameters": SMALL | changes} | config, source)


def carry_out(study: Study, **changes: Any) -> None:
    for job in [*study.jobs(), *(each for condition in study.conditions.values() for each in condition.all_jobs()[:1])]:
        Run(**job.parameters | changes).carry_out(progress=False)


def look(study: Study) -> Outlook:
    [condition] = study.conditions.values()
    return plan.outlook(study, condition.all_jobs()[0])


def said(study: Study) -> str:
    """The one condition of which draws would be replaced."""
    [line] = plan.replacements(study).values()
    return line


# What is missing


def test_a_new_run_lacks_all_its_draws_and_a_finished_one_none() -> None:
    study = study_of()
    assert look(study) == Outlook(4, 4, 0, "")
    carry_out(study)
    assert look(study) == Outlook(0, 0, 0, "")
    assert plan.replacements(study) == {}


def test_an_extension_lacks_what_is_new_alone() -> None:
    carry_out(study_of())
    assert look(study_of(runs=5)) == Outlook(4, 2, 0, "")
    assert look(study_of(temperatures=[0.0, 0.5, 1.0])) == Outlook(4, 3, 0, "")
    assert look(study_of(temperatures=[0.0, 0.5, 1.0], runs=4)) == Outlook(4, 5, 0, "")


def test_a_killed_run_lacks_the_problems_that_have_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of()
    monkeypatch.setattr(parts, "BLOCK", 3)
    with killed_after_a_part(monkeypatch):
        carry_out(study)
    assert look(study) == Outlook(1, 4, 0, "")
    assert look(study_of(seed=1)) == Outlook(4, 4, 3 * 4, "seed 0 → 1")
    assert look(study_of(runs=4)) == Outlook(4, 5, 3 * 4, "runs 3 → 4")  # what is unfinished is not extended
    monkeypatch.setattr(parts, "code_hash", lambda *_: "0123456789")
    assert look(study).why.startswith("hashes.code '")


# What would be replaced


def test_fewer_runs_another_seed_or_prompt_replace_draws_and_are_named() -> None:
    carry_out(study_of())
    assert said(study_of(runs=1)) == f"{BASE}: replaces {DRAWS} draws: runs 3 → 1"
    assert said(study_of(seed=7, prompt_style="readme")) == (
        f"{BASE}: replaces {DRAWS} draws: prompt_style 'few_shot' → 'readme', seed 0 → 7"
    )
    assert said(study_of(temperatures=[1.0])).endswith("temperatures [0.0, 1.0] → [1.0]")
    assert look(study_of(runs=1)) == Outlook(4, 2, DRAWS, "runs 3 → 1")


@pytest.mark.parametrize("name", ["template", "problems"])
def test_a_changed_file_under_the_same_path_replaces_draws(name: str) -> None:
    texts = {"template": ["Think. {question}", "Answer. {question}"], "problems": ["1 + 1,2", "1 + 1,2\n2 + 2,4"]}
    path, before, now = Path(f"{name}.csv"), *texts[name]
    head = "question,answer\n" if name == "problems" else ""
    path.write_text(head + before)
    study = study_of(**{name: str(path)})
    carry_out(study)
    assert plan.replacements(study) == {}
    path.write_text(head + now)
    draws = 4 if name == "problems" else DRAWS
    now_due = study_of(**{name: str(path)})
    line, found = said(now_due), look(now_due)
    assert (found.problems, found.missing) == (now_due.jobs()[0].problems, 4)
    assert line.startswith(f"{BASE}: replaces {draws} draws: hashes.{name} '")


def test_a_small_checkpoint_that_was_trained_again_replaces_draws() -> None:
    shutil.copytree(CHECKPOINTS / BASE, "mine")
    study = study_of(models=["mine"])
    carry_out(study)
    shutil.copy2(CHECKPOINTS / "tiny-dense-continued" / "model.safetensors", "mine/model.safetensors")
    assert said(study).startswith(f"mine: replaces {DRAWS} draws: hashes.weights '")


def test_other_versions_replace_nothing_and_other_code_only_where_draws_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = study_of()
    carry_out(study)
    path = study.folder / BASE / records.RUN
    record = json.loads(path.read_text())
    versions = record["versions"] | {"pandas": "1.0", "numpy": "1.0", "torch": "1.0"}
    files.write_json(record | {"versions": versions}, path)
    for present in (study, study_of(runs=4)):
        assert plan.replacements(present) == {}
    assert look(study_of(runs=4)) == Outlook(4, 1, 0, "")
    monkeypatch.setattr(parts, "code_hash", lambda *_: "0123456789")
    assert look(study) == Outlook(0, 0, 0, "")
    assert said(study_of(runs=4)).startswith(f"{BASE}: replaces {DRAWS} draws: hashes.code '")


def test_of_the_books_own_study_only_what_its_file_says_can_be_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    template = Path("template.txt")
    template.write_text("Think. {question}")
    own = {"source": Path("study.yaml"), "template": str(template)}
    carry_out(study_of(**own))
    template.write_text("Answer. {question}")
    monkeypatch.setattr(parts, "code_hash", lambda *_: "0123456789")
    assert look(study_of(**own)) == Outlook(4, 4, 0, "")  # which are drawn anew
    assert said(study_of(**own, seed=1)) == f"{BASE}: replaces {DRAWS} draws: seed 0 → 1"


def test_the_draws_of_a_divided_condition_count_once() -> None:
    study = study_of(shards=2)
    for job in study.jobs():
        Run(**job.parameters).carry_out(progress=False)
    assert said(study_of(shards=2, seed=1)) == f"{BASE}: replaces {DRAWS} draws: seed 0 → 1"
    carry_out(study)
    assert said(study_of(shards=2, seed=1)) == f"{BASE}: replaces {DRAWS} draws: seed 0 → 1"
    assert plan.replacements(study) == {}


def test_draws_that_were_dealt_out_among_another_number_of_jobs_are_not_drawn_again_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = study_of()
    monkeypatch.setattr(parts, "BLOCK", 3)
    with killed_after_a_part(monkeypatch):
        carry_out(study)
    assert plan.replacements(study) == {}
    assert said(study_of(shards=2)) == f"{BASE}: replaces 12 draws: shards 1 → 2"  # the part of three problems
    carry_out(study)
    assert plan.replacements(study_of(shards=2)) == {}
    divided = study_of(source=Path("studies/other.yaml"), shards=2)
    Run(**divided.jobs()[0].parameters).carry_out(progress=False)
    assert said(study_of(source=Path("studies/other.yaml"))) == f"{BASE}: replaces 8 draws: shards 2 → 1"


def test_a_complete_run_is_joined_of_nothing_however_it_is_divided() -> None:
    carry_out(study_of())
    for runs, folders in ((3, 0), (4, 2)):
        study = study_of(shards=2, runs=runs)
        assert len(plan.to_join(study, study.conditions[BASE])) == folders
    assert plan.to_join(study_of(), study_of().conditions[BASE]) == []


def test_what_a_run_was_joined_of_stays_so_that_it_is_not_due_again() -> None:
    study = study_of(shards=2)
    before = plan.to_join(study, study.conditions[BASE])
    carry_out(study)
    assert plan.to_join(study, study.conditions[BASE]) == before != []


def test_a_start_that_would_replace_draws_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of()
    plan.refuse(study)
    carry_out(study)
    plan.refuse(study)
    with pytest.raises(InputError) as found:
        plan.refuse(study_of(seed=1, models=[BASE]))
    assert str(found.value).splitlines() == [
        f"{BASE}: replaces {DRAWS} draws: seed 0 → 1",
        plan.LETS_GO,
    ]
    (study.folder / BASE / records.RUN).write_text("5")
    with pytest.raises(InputError, match="Remove it, and all is drawn again"):
        plan.refuse(study)


def test_results_that_may_not_be_read_end_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    study = study_of()
    monkeypatch.setattr(parts, "held", refuse)
    with pytest.raises(InputError, match=f"^results/studies/small/{BASE} cannot be read: Permission denied"):
        plan.refuse(study)


# The report

PRINTED = """
Building DAG of jobs...
rule evaluate_shard:
    input: notebooks/evaluate.ipynb
    output: results/a/shards/0-of-2/evaluate.ipynb
    jobid: 3
    reason: Missing output files
    wildcards: run=a, shard=0, of=2
    resources: tmpdir=<TBD>

rule study:
    input: results/a/.evaluated
    jobid: 0
"""


def test_due_jobs_are_read_from_what_snakemake_prints() -> None:
    assert plan.due(PRINTED) == [
        {"rule": "evaluate_shard", "run": "a", "shard": "0", "of": "2"},
        {"rule": "study"},
    ]


def test_a_report_names_each_job_and_sums_gpu_and_cpu_time_apart() -> None:
    server = "http://localhost:8000/v1#m"
    models, requests = [*LARGE, server], {"mixtral-8x7b-instruct": {"shards": 2, "gpu": 2}}
    study = Study.of(CONFIG | {"models": models, "requests": requests}, SOURCE)
    mixtral, base, served = "mixtral-8x7b-instruct", "tiny-dense-base", "http_--localhost_8000--v1_m"
    due = [
        {"rule": "evaluate_shard", "run": mixtral, "shard": "0", "of": "2"},
        {"rule": "evaluate", "run": mixtral},
        {"rule": "evaluate", "run": base},
        {"rule": "evaluate", "run": served},
        {"rule": "study"},
    ]
    lines = plan.report(study, due, MEASURED).splitlines()
    shard = costs.estimate(mixtral, "auto", 13, 120, MEASURED)
    assert lines[0].startswith(
        f"{mixtral}, shard 0 of 2: evaluate, 1,560 draws, about {progress.duration(shard.seconds)}, {shard.basis} (gpu"
    )
    assert lines[1] == f"{mixtral}: join 2 shards"
    assert lines[2].startswith(f"{base}: evaluate, 3,120 draws, about ")
    assert ", measured on a CPU (gpu 0, mem_mb " in lines[2]
    assert lines[3].startswith(f"{served}: evaluate, 3,120 draws, about 0 s, as fast as its server (gpu 0, ")
    assert lines[4].startswith(
        f"4 jobs; drawing takes about {progress.duration(2 * shard.seconds)} of GPU time ({shard.basis}) and "
    )
    assert "of CPU time (measured on a CPU, as fast as its server), to which loading adds" in lines[4]
    assert len(lines) == 5
    assert plan.report(study, [{"rule": "study"}], MEASURED) == "nothing would run: all is done"


def test_a_report_counts_what_is_missing_and_says_what_stays_and_what_would_go() -> None:
    carry_out(study_of())
    due = [{"rule": "evaluate", "run": BASE}]
    assert plan.report(study_of(), due, MEASURED).splitlines() == [f"{BASE}: its page; no draw is missing", "1 jobs"]
    assert f"{BASE}: evaluate, 8 draws, about " in plan.report(study_of(runs=5), due, MEASURED)
    lines = plan.report(study_of(seed=1), due, MEASURED).splitlines()
    assert lines[0].startswith(f"{BASE}: evaluate, {DRAWS} draws, about ")
    assert lines[-2:] == [f"{BASE}: replaces {DRAWS} draws: seed 0 → 1", "This is refused without REPLACE=1."]
    other = Study.of({"conditions": [{"model": BASE, "name": "new"}]}, SOURCE)
    assert plan.report(other, [], MEASURED).splitlines() == [
        "nothing would run: all is done",
        f"results/studies/small/{BASE}: no condition of this study any more; it stays as it is",
    ]
