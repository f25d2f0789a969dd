from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import pytest

from lmrel import bench, paper_problems


def test_ratios_are_medians_of_paired_times() -> None:
    times = {"one prompt at a time": [80.0, 90.0, 100.0], "batched generate": [16.0, 16.0, 16.0]}
    times |= {"eos, 4 runs": [1.0, 1.0, 2.0], "eos, 1000 runs": [4.0, 6.0, 8.0], "floor": [1.0, 0.5, 1.0]}
    found = {row["ratio"]: row for row in bench.ratios("tiny-dense-instruct", times)}
    assert found["one prompt at a time / eos, 4 runs"]["value"] == statistics.median([80, 90, 50])
    assert found["one prompt at a time / eos, 4 runs"]["reached"]
    assert found["batched generate / eos, 4 runs"]["reached"]
    assert found["1,000 runs / 4 runs, eos"]["value"] == 4
    assert not found["engine / floor"]["reached"]


def test_the_script_times_every_contestant_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "SAMPLED", {"one prompt at a time": 3})
    monkeypatch.setattr(bench.Bench, "continuous", lambda self: 1 / 0)  # its threads take their time
    arguments = ["--models", "tiny-dense-instruct", "--repeats", "1", "--problems", "6", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    bench.main()
    record = json.loads((tmp_path / "cpu.json").read_text())
    rows = {row["contestant"]: row for row in record["rows"]}
    assert rows["continuous batching"]["note"] == "ZeroDivisionError: division by zero"
    assert rows["eos, 4 runs"]["draws"] == 6 * 13 == rows["one prompt at a time"]["draws"]
    assert rows["eos, 1000 runs"]["draws"] == 6 * 3001
    assert 6 <= rows["decided, 4 runs"]["nodes"] <= rows["eos, 4 runs"]["nodes"] < rows["eos, 1000 runs"]["nodes"]
    assert all(row["seconds"] > 0 for row in rows.values() if "seconds" in row)
    assert record["problems"] == len(paper_problems().iloc[::40])
    assert "engine / floor" in capsys.readouterr().out
