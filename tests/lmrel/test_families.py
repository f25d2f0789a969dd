"""What a real checkpoint brings, on random ones of each family: template, tokenizer, knobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from lmrel import paper_problems
from lmrel.decoding import as_shipped
from lmrel.models import load_model
from lmrel.parameters import PROMPT_STYLES
from lmrel.tokens import encode, encode_problems
from tests.families import FAMILIES, family_checkpoint

PROBLEMS = paper_problems().iloc[::40].to_dict("records")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_each_template_gives_exactly_one_bos_and_none_where_the_family_has_none(family: str, tmp_path: Path) -> None:
    _, tokenizer = load_model(family_checkpoint(family, tmp_path), "bf16")
    bos, text = tokenizer.bos_token_id, "Compute 1 + 1."
    [ids] = encode([text], tokenizer)
    expected = 0 if family == "qwen2" else 1
    assert ids.count(bos) == expected
    assert ids[:1] == [bos] or expected == 0
    whole = tokenizer.decode(ids)
    marks = {"qwen2": "<|im_start|>user\n", "mixtral": "[INST] ", "mistral": "<s>"}.get(family, "<|user|>\n")
    assert marks + text in whole
    for style in PROMPT_STYLES:
        assert all(ids.count(bos) == expected for ids in encode_problems(PROBLEMS, style, tokenizer))


def test_auto_tokenizer_gives_the_ids_that_were_saved(family: str, tmp_path: Path) -> None:
    from tests.families import family_tokenizer

    loaded = AutoTokenizer.from_pretrained(family_checkpoint(family, tmp_path))
    for style in PROMPT_STYLES:
        assert encode_problems(PROBLEMS, style, loaded) == encode_problems(PROBLEMS, style, family_tokenizer(family))


def test_as_shipped_takes_up_every_knob_of_the_checkpoint(family: str, tmp_path: Path) -> None:
    model, _ = load_model(family_checkpoint(family, tmp_path), "bf16")
    decoder = as_shipped(0.5, model.generation_config)
    assert decoder.temperature == 0.5
    assert decoder.repetition_penalty == FAMILIES[family]["knobs"].get("repetition_penalty", 1.0)
