from __future__ import annotations

import json
from collections import Counter

import pandas as pd
import pytest
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KINDS

from book.figures import engine
from tools.architectures import ERROR, OUTPUT, difference, small_model, tried

FOUND = json.loads(OUTPUT.read_text(encoding="utf-8"))
STATE = {row["architecture"]: row["state"] for row in FOUND["rows"]}


def test_the_table_is_of_the_installed_transformers_and_says_nothing_wrong() -> None:
    assert FOUND["transformers"] == transformers.__version__, "run `python -m tools.architectures` again"
    assert list(STATE) == list(KINDS)
    assert Counter(STATE.values()) == {"runs": 110, "refused": 77, "not built": 2}
    assert all(row["why"] for row in FOUND["rows"] if row["state"] != "runs")
    internal = ("attend()", "NoneType", "positional argument", "keyword", "min() arg")
    assert not [row for row in FOUND["rows"] if any(word in row["why"] for word in internal)]


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt_oss", "phi3", "falcon", "qwen3_next", "gemma4_assistant"])
def test_the_table_says_what_is_found_today(kind: str) -> None:
    assert tried(kind)["state"] == STATE[kind]


def test_a_model_in_the_table_differs_from_its_plain_forward_by_rounding_only() -> None:
    assert difference(small_model("llama"), (5, 30)) < ERROR / 10


def test_the_page_counts_every_architecture_once() -> None:
    table, names = engine.architectures(pd.DataFrame(FOUND["rows"]))
    listed = {outcome: kinds.split(", ") for outcome, kinds in (line.rsplit(": ", 1) for line in names)}
    assert sorted(kind for kinds in listed.values() for kind in kinds) == sorted(KINDS)
    assert list(listed) == list(table["outcome"])
    assert list(table["how many"].astype(int)) == [len(kinds) for kinds in listed.values()]
    assert table["outcome"].iloc[0] == "runs"
