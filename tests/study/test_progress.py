from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmrel import records
from lmrel.registry import CHECKPOINTS
from study import origins, parts, progress, runner
from study.jobs import Job, Study
from study.progress import State
from study.run import Run
from tests.study.test_jobs import CONFIG

HOUR = 3600.0


@contextmanager
def killed_after_a_part(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let what is carried out within draw one part, and be killed at the second."""
    real, drawn = origins.draw, []

    def failing(*given: Any) -> Any:
        if drawn:
            raise KeyboardInterrupt
        drawn.append(1)
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(origins, "draw", failing)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The second of two shards of a small run, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    given = CONFIG["parameters"] | {"limit": 4, "temperatures": [0.0, 0.5], "determinism": False}
    return Study.of(CONFIG | {"models": ["tiny-dense-base"], "shards": 2, "parameters": given}).jobs()[1]


def test_a_job_is_waiting_then_stopped_then_finished(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress.state_of_job(job) == State(job, 0, 4, (), "waiting")
    monkeypatch.setattr(parts, "BLOCK", 3)
    with killed_after_a_part(monkeypatch):
        Run(**job.parameters).carry_out(progress=False)
    stopped = progress.state_of_job(job)
    assert (stopped.done, stopped.what, [count for _, count in stopped.events]) == (3, "stopped", [3])
    (job.folder / "evaluate.failed.ipynb").touch()  # of a try that was cut off, as what runs is called so
    assert progress.state_of_job(job).what == "stopped"
    job.failed.write_text("InputError: the power went out.\nThe traceback is elsewhere.\n")
    failed = progress.state_of_job(job)
    assert failed.what == "failed"
    assert progress.report([failed], 0.0).splitlines()[1:] == [
        "tiny-dense-base, shard 1 of 2: failed, 3 of 4 problems",
        "  the power went out.",
        "  Its log is results/tiny-dense-base/shards/1-of-2/evaluate.log",
    ]
    with runner.only_one(job.folder / "evaluate.ipynb"):
        assert progress.state_of_job(job).what == "running"
    Run(**job.parameters).carry_out(progress=False)
    finished = progress.state_of_job(job)
    moment = os.stat(job.folder / records.DRAWS).st_mtime
    assert finished == State(job, 4, 4, ((moment, 4),), "finished")
    other = replace(job, parameters=job.parameters | {"runs": 9})
    assert progress.state_of_job(other).what == "failed"  # finished are fewer runs than these


@pytest.mark.parametrize(
    "edited",
    [
        {"parameters": [1]},
        {"parameters": "x"},
        {"parameters": None},
        *({"block": b} for b in (-3, "x", None, 1e400, [1])),
    ],
    ids=str,
)
def test_a_record_that_was_edited_is_named_and_keeps_no_other_job_from_being_told(
    job: Job, edited: dict[str, Any]
) -> None:
    place = job.folder / parts.PARTS
    place.mkdir(parents=True)
    (place / records.RUN).write_text(json.dumps({"parameters": job.parameters, "block": 3, "begun": []} | edited))
    (place / "part-0000.parquet").touch()
    found = progress.state_of_job(job)
    assert (found.done, found.what) == (0, "failed")
    assert f"run.json is no record of a run: its {next(iter(edited))} is " in progress.report([found], 0.0)


def test_more_parts_than_there_are_problems_count_once_and_a_lock_may_be_anything(job: Job) -> None:
    place = job.folder / parts.PARTS
    place.mkdir(parents=True)
    identity = parts.identifying(Run(**job.parameters))
    (place / records.RUN).write_text(json.dumps({"parameters": identity, "block": 3, "begun": []}))
    (job.folder / ".evaluate.lock").mkdir()
    for number in range(5):
        (place / f"part-{number:04d}.parquet").touch()
    found = progress.state_of_job(job)
    assert (found.done, found.what, [count for _, count in found.events]) == (4, "stopped", [3, 1])


def test_results_that_may_not_be_read_end_in_a_sentence(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    found = progress.state_of_job(job)
    assert (found.what, found.done) == ("failed", 0)
    assert found.why == "results/tiny-dense-base/shards/1-of-2 cannot be read: Permission denied."


def test_what_a_file_leaves_out_and_the_order_of_temperatures_count(job: Job) -> None:
    Run(**job.parameters).carry_out(progress=False)
    turned = replace(job, parameters=job.parameters | {"temperatures": [0.5, 0.0]})
    assert progress.state_of_job(turned).what == "finished"
    more = replace(job, parameters={name: value for name, value in job.parameters.items() if name != "limit"})
    assert progress.state_of_job(more).what == "waiting"  # it is of more problems than those


def test_the_time_left_is_at_the_rate_since_the_first_of_the_last_hour(job: Job) -> None:
    now = 10 * HOUR
    old = State(job, 50, 50, ((now - 2 * HOUR, 50),), "finished")
    one = State(job, 20, 50, ((now - 600, 10), (now - 300, 10)), "running")
    two = State(job, 10, 40, ((now - 120, 10),), "running")
    assert progress.seconds_left([old, one, two], now) == pytest.approx((30 + 30) / ((10 + 10) / 600))
    assert progress.seconds_left([old, two], now) is None
    assert progress.seconds_left([old], now) == 0.0
    assert progress.report([old, one, two], now) == (
        "3 jobs: 1 finished, 2 running; 80 of 140 problems (57%), 30 min left at the rate of the last hour\n"
        "tiny-dense-base, shard 1 of 2: running, 20 of 50 problems\n"
        "tiny-dense-base, shard 1 of 2: running, 10 of 40 problems"
    )


def test_runs_that_are_no_condition_any_more_are_named_last(job: Job) -> None:
    state = State(job, 4, 4, (), "finished")
    assert progress.report([state], 0.0, [Path("results/studies/small/old")]).splitlines() == [
        "1 jobs: 1 finished; 4 of 4 problems (100%)",
        "results/studies/small/old: no condition of this study any more; it stays as it is",
    ]


def test_a_finished_run_is_known_however_its_parameters_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(CHECKPOINTS / "tiny-dense-base", tmp_path / "mine")
    given = {"temperatures": "[0, 1]", "limit": 2, "determinism": False}
    [job] = Study.of({"models": ["~/mine"], "parameters": given}).jobs()
    Run(**job.parameters).carry_out(progress=False)
    assert progress.state_of_job(job).what == "finished"


def test_the_study_may_be_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    Path("studies/small.yaml").write_text("{models: [tiny-dense-base], grid: {seed: [1, 2]}, parameters: {limit: 3}}")
    left = Path("results/studies/small/old")
    left.mkdir(parents=True)
    (left / records.RUN).touch()
    monkeypatch.setattr(sys, "argv", ["progress", "studies/small.yaml"])
    progress.main()
    assert capsys.readouterr().out.splitlines() == [
        "2 jobs: 0 finished; 0 of 12 problems (0%)",
        f"{left}: no condition of this study any more; it stays as it is",
    ]


def test_durations_are_short() -> None:
    assert [progress.duration(s) for s in (0.4, 99, 101, 5999, 6001, 4e7)] == [
        "0 s",
        "99 s",
        "2 min",
        "100 min",
        "1.7 h",
        "11,111.1 h",
    ]
