from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lmrel import InputError, records
from study import costs, origins, parts, progress, runner
from study.jobs import Job, Study
from study.progress import State
from study.run import Run
from tests.conftest import ROOT
from tests.study.test_jobs import CONFIG, LARGE

HOUR = 3600.0


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The second of two shards of a small run, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    given = CONFIG["parameters"] | {"limit": 4, "temperatures": [0.0, 0.5]}
    return Study.of(CONFIG | {"models": ["tiny-dense-base"], "shards": 2, "parameters": given}).jobs()[1]


def test_a_job_is_waiting_then_stopped_then_finished(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress.state_of_job(job, 4) == State(job, 0, 4, (), "waiting")
    monkeypatch.setattr(parts, "BLOCK", 3)
    real, drawn = origins.draw, []

    def failing(*given: Any) -> Any:
        if drawn:
            raise KeyboardInterrupt
        drawn.append(1)
        return real(*given)

    monkeypatch.setattr(origins, "draw", failing)
    with pytest.raises(KeyboardInterrupt):
        Run(**job.parameters).carry_out(progress=False)
    stopped = progress.state_of_job(job, 4)
    assert (stopped.done, stopped.what, [count for _, count in stopped.events]) == (3, "stopped", [3])
    (job.folder / "evaluate.failed.ipynb").touch()
    failed = progress.state_of_job(job, 4)
    assert failed.what == "failed"
    assert "failed, 3 of 4 problems; its log is results/tiny-dense-base/shards/1-of-2/evaluate.log" in progress.report(
        [failed], 0.0
    )
    with runner.only_one(job.folder / "evaluate.ipynb"):
        assert progress.state_of_job(job, 4).what == "running"
    monkeypatch.setattr(origins, "draw", real)
    Run(**job.parameters).carry_out(progress=False)
    finished = progress.state_of_job(job, 4)
    moment = os.stat(job.folder / records.DRAWS).st_mtime
    assert finished == State(job, 4, 4, ((moment, 4),), "finished")
    other = Job(job.run, job.shard, job.shards, job.folder, job.parameters | {"runs": 9})
    assert progress.state_of_job(other, 4).what == "failed"  # finished are fewer runs than these


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
def test_a_record_that_was_edited_is_of_no_run(job: Job, edited: dict[str, Any]) -> None:
    for place in (job.folder, job.folder / parts.PARTS):
        place.mkdir(parents=True)
        (place / records.RUN).write_text(json.dumps({"parameters": job.parameters, "block": 3} | edited))
        (place / "part-0000.parquet").touch()
    assert progress.state_of_job(job, 4) == State(job, 0, 4, (), "waiting")


def test_more_parts_than_there_are_problems_count_once_and_a_lock_may_be_anything(job: Job) -> None:
    place = job.folder / parts.PARTS
    place.mkdir(parents=True)
    (place / records.RUN).write_text(json.dumps({"parameters": job.parameters, "block": 3}))
    (job.folder / ".evaluate.lock").mkdir()
    for number in range(5):
        (place / f"part-{number:04d}.parquet").touch()
    found = progress.state_of_job(job, 4)
    assert (found.done, found.what, [count for _, count in found.events]) == (4, "stopped", [3, 1])


def test_results_that_may_not_be_read_end_in_a_sentence(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(InputError, match="results/tiny-dense-base/shards/1-of-2 cannot be read: Permission denied"):
        progress.state_of_job(job, 4)


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


def test_a_plan_names_each_job_and_sums_gpu_and_cpu_time_apart() -> None:
    study = Study.of(CONFIG | {"models": LARGE, "requests": {"mixtral-8x7b-instruct": {"shards": 2, "gpu": 2}}})
    due = [
        {"rule": "evaluate_shard", "run": "mixtral-8x7b-instruct", "shard": "0", "of": "2"},
        {"rule": "evaluate", "run": "mixtral-8x7b-instruct"},
        {"rule": "evaluate", "run": "tiny-dense-base"},
        {"rule": "compare"},
        {"rule": "study"},
    ]
    measured = costs.read_measured(ROOT / "book" / "data")
    lines = progress.plan_report(study, due, measured).splitlines()
    shard = costs.estimate("mixtral-8x7b-instruct", "auto", 13, 120, measured)
    assert lines[0].startswith(
        f"mixtral-8x7b-instruct, shard 0 of 2: evaluate, about {progress.duration(shard.seconds)} (gpu 2, mem_mb "
    )
    assert lines[1] == "mixtral-8x7b-instruct: join 2 shards"
    assert lines[2].startswith("tiny-dense-base: evaluate, about ")
    assert lines[3:-1] == ["compare"]
    assert lines[-1].startswith(
        f"4 jobs; drawing takes about {progress.duration(2 * shard.seconds)} of GPU time ({shard.basis}) and "
    )
    assert "of CPU time (measured on a CPU)" in lines[-1]
    assert progress.plan_report(study, [{"rule": "study"}], measured) == "nothing would run: all is done"


def test_durations_are_short() -> None:
    assert [progress.duration(s) for s in (0.4, 99, 101, 5999, 6001, 4e7)] == [
        "0 s",
        "99 s",
        "2 min",
        "100 min",
        "1.7 h",
        "11,111.1 h",
    ]
