"""A few faults of `make torture`, and what its two reports say of numbers that are known."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.torture import disks, notebooks
from tests.torture.__main__ import counted
from tests.torture.faults import WHOLE, Outcome, Starter, judged, kills, sentence
from tests.torture.soak import change, verdict


def test_a_few_faults_lose_nothing(tmp_path: Path) -> None:
    start, rng = Starter(tmp_path), random.Random(3)
    outcomes = [*kills(start, WHOLE, 2, rng, tmp_path / "kills"), *disks.damaged(start, WHOLE, 2, rng, tmp_path / "d")]
    start.close()
    assert len(outcomes) == 4
    assert not [outcome.wrong for outcome in outcomes if outcome.wrong]


def test_what_hangs_is_named_and_ended(tmp_path: Path) -> None:
    process = notebooks.begun(["sh", "-c", "echo begun; setsid sleep 987 & exit 0"], tmp_path)
    status, said = notebooks.ended(process, patience=0.5)
    assert status == 2
    assert said.startswith("begun\n\nstill there after 0.5 s: [['sleep', '987']]")
    assert notebooks.ended(notebooks.begun(["sh", "-c", "echo done"], tmp_path)) == (0, "done\n")


def test_what_is_lost_is_counted() -> None:
    assert sentence(1, "Loading\nerror: the disk is full.\n") == "error: the disk is full."
    assert sentence(1, "error: a.ipynb: InputError: x.\nThe traceback is in b.\n") == "error: a.ipynb: InputError: x."
    assert not sentence(1, "Traceback (most recent call last)\nerror: x")
    assert not sentence(0, "error: x")
    fine, bad = (0, ""), (2, "Traceback")
    survived = judged("k", "", (-9, ""), fine, True, [])
    assert survived.resumed
    lost = [judged("k", "", (-9, ""), fine, False, []), judged("k", "", bad, fine, True, [])]
    lost += [judged("k", "", fine, fine, True, ["a"]), judged("k", "", fine, bad, False, [])]
    assert all(outcome.wrong for outcome in lost)
    refused = judged("k", "", (-9, ""), (1, "error: x"), False, [])
    assert (refused.resumed, refused.sentence, refused.wrong) == (False, "error: x", "")
    untried = Outcome("m", "", tried=False)
    assert counted([survived, *lost, refused, untried])[-1] == {
        "fault": "all",
        "tried": 6,
        "resumed": 1,
        "sentence": 1,
        "lost": 4,
    }


def test_a_leak_is_seen_and_noise_is_not() -> None:
    rng, minutes = np.random.default_rng(0), np.arange(100.0)
    flat = pd.DataFrame({"minute": minutes, "memory_mb": 500 + rng.normal(0, 2, 100), "files": 6})
    flat["per_second"] = flat["per_cpu_second"] = flat["per_yardstick"] = 300 + rng.normal(0, 20, 100)
    found = change(flat["minute"], flat["memory_mb"] + minutes)
    assert found["change"] == pytest.approx(99 / 500, abs=0.01)
    assert found["low"] < found["change"] < found["high"]
    assert all(verdict(flat)["flat"].values())
    leaking = flat.assign(memory_mb=flat["memory_mb"] + minutes, files=6 + minutes.astype(int))
    leaking["per_yardstick"] -= minutes
    assert not any(verdict(leaking)["flat"].values())
