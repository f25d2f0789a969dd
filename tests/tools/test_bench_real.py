"""The benchmark on a real model, with a tiny one in its place and a peer that only plays one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lmrel import load_model, paper_problems
from lmrel.errors import InputError
from tools import bench_real
from tools.bench_real import FLOOR, OURS, SINGLY, VLLM, Size, contestant

SIZE = Size(4, 2, 2)
PLAYED = """
import json, sys
print("noise")
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    drawn = len(asked["prompts"]) * sum(asked["size"][1] if t else 1 for t in asked["temperatures"])
    print(json.dumps({"seconds": 2.0, "peak_mb": 7, "tokens": drawn * asked["size"][0]}), flush=True)
"""


def test_contestants_draw_what_is_asked() -> None:
    model, tokenizer = load_model("tiny-dense-base")
    draws = SIZE.problems * (1 + 3 * SIZE.runs)
    for kind in (OURS, SINGLY, bench_real.BATCHED):
        assert draws <= contestant(kind, model, tokenizer)(SIZE) <= draws * SIZE.new_tokens
    floor = contestant(FLOOR, model, tokenizer)
    assert floor(SIZE) == floor(SIZE) <= draws * SIZE.new_tokens


def test_problems_are_the_papers_and_spread_over_both_tasks() -> None:
    problems, prompts = bench_real.prompts(Size(4, 2, 4), load_model("tiny-dense-base")[1])
    assert set(problems["problem_id"]) <= set(paper_problems()["problem_id"])
    assert problems["task"].nunique() == 2
    assert len(prompts) == 4


def test_one_prompt_at_a_time_takes_part_where_little_is_drawn() -> None:
    assert [bench_real.takes_part(SINGLY, size) for size in bench_real.SIZES] == [True, False, False, False, False]
    assert all(bench_real.takes_part(OURS, size) for size in bench_real.SIZES)


def test_every_contestant_is_timed_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worker_vllm.py").write_text(PLAYED)
    monkeypatch.setattr(bench_real, "HERE", tmp_path)
    monkeypatch.setattr(bench_real, "SIZES", (SIZE,))
    out = tmp_path / "found" / "real.json"
    argv = ["bench_real", "tiny-dense-instruct", "--vllm", sys.executable, "--repeats", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", argv)
    bench_real.main()
    found = json.loads(out.read_text())
    assert {"date", "threads", "dtype", "gflops", "repeats", "versions", "rows", "parameters", "head"} <= set(found)
    rows: dict[str, dict[str, Any]] = {row["contestant"]: row for row in found["rows"]}
    assert list(rows) == [OURS, SINGLY, bench_real.BATCHED, FLOOR, VLLM]
    assert all(len(row["times"]) == 2 and row["seconds"] > 0 and row["tokens"] for row in rows.values())
    played = {"contestant": VLLM, "times": [2.0, 2.0], "seconds": 2.0, "peak_mb": 7, "tokens": 56}
    assert rows[VLLM] == SIZE._asdict() | played | {"prompt_tokens": rows[OURS]["prompt_tokens"]}


def test_a_peer_that_ends_is_named_with_where_its_words_are(tmp_path: Path) -> None:
    argv = {VLLM: [sys.executable, "-c", "import sys; sys.exit('no such module')"]}
    with (
        pytest.raises(InputError, match=r"ended; what it said stands in .*vLLM\.log"),
        bench_real.peers(argv, tmp_path, 1),
    ):
        pass
    assert "no such module" in (tmp_path / "vLLM.log").read_text()
