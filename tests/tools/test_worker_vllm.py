"""vLLM's worker, with a module that only plays vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tools import worker_vllm

PLAYED = """
import os
from types import SimpleNamespace as Some

class SamplingParams(Some):
    pass

class LLM:
    def __init__(self, folder, **given):
        assert (folder, given["dtype"], given["enable_prefix_caching"]) == ("a-model", "float32", True)
        assert os.environ["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
        self.kept = True

    def reset_prefix_cache(self):
        self.kept = False

    def generate(self, prompts, rules, use_tqdm):
        assert not self.kept and prompts[0] == {"prompt_token_ids": [1, 2]}
        assert all(rule.top_k == 0 and rule.top_p == 1 for rule in rules)
        return [Some(outputs=[Some(token_ids=[7] * rule.max_tokens)] * rule.n) for rule in rules]
"""


def test_it_answers_a_question_a_line(tmp_path: Path) -> None:
    (tmp_path / "vllm.py").write_text(PLAYED)
    asked = {"size": [5, 3, 2], "prompts": [[1, 2], [3]], "temperatures": [0, 0.5]}
    answered = subprocess.run(
        [sys.executable, worker_vllm.__file__, "a-model", "fp32"],
        input=json.dumps(asked) + "\n",
        env=os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "2"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ready, said = answered.stdout.splitlines()
    assert ready == "ready"
    found = json.loads(said)
    assert found["tokens"] == 2 * 5 * (1 + 3)
    assert found["seconds"] >= 0 < found["peak_mb"]
