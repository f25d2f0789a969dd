from __future__ import annotations

import pytest

from lmrel import InputError, paper_problems
from lmrel.parameters import PROMPT_STYLES
from lmrel.prompts import render
from lmrel.tokens import encode
from tests.conftest import small_tokenizer
from tiny.shapes import BOS, build_tokenizer

PROBLEMS = paper_problems().to_dict("records")


def test_few_shot_prompt_is_instruction_two_solved_lines_and_the_item() -> None:
    instruction, first, second, item = render(PROBLEMS[120], "few_shot").split("\n")
    assert "only the number" in instruction
    assert first.endswith("d = 5")
    assert second.endswith("= 42")
    assert item == "(70 - 1) * 9 + 1 ="


def test_custom_question_is_shown_in_every_style() -> None:
    for style in PROMPT_STYLES:
        assert "7 * {x}" in render({"task": "custom", "question": "7 * {x}"}, style)


def test_unknown_style_lists_the_known() -> None:
    with pytest.raises(InputError, match="'chatty'; it must be one of readme, few_shot, zero_shot"):
        render(PROBLEMS[0], "chatty")


@pytest.mark.parametrize("style", PROMPT_STYLES)
@pytest.mark.parametrize("chat", [False, True])
def test_prompts_have_one_bos_and_no_token_spans_prompt_and_answer(style: str, chat: bool) -> None:
    tokenizer = build_tokenizer(chat)
    for problem in PROBLEMS:
        text = render(problem, style)
        [ids] = encode([text], tokenizer)
        assert ids.count(BOS) == 1
        assert ids[0] == BOS
        whole = tokenizer.decode(ids) + f" {problem['answer']}\n"
        assert tokenizer.encode(whole, add_special_tokens=False)[: len(ids)] == ids
        assert text in tokenizer.decode(ids)


def test_bos_is_added_where_the_template_leaves_it_out_and_only_there() -> None:
    tokenizer = build_tokenizer(chat=True)
    tokenizer.chat_template = "[INST] {{ messages[0]['content'] }} [/INST]"
    assert encode(["1"], tokenizer)[0][:2] == [BOS, tokenizer.convert_tokens_to_ids("[INST]")]
    without = small_tokenizer()  # its tokenizer adds no BOS of its own
    without.chat_template = "{{ messages[0]['content'] }}"
    assert encode(["1"], without) == [without.encode("1", add_special_tokens=False)]


def test_a_template_that_fails_ends_in_a_sentence() -> None:
    tokenizer = build_tokenizer(chat=True)
    for template in ("{{ raise_exception('Roles must alternate') }}", "{% if %}"):
        tokenizer.chat_template = template
        with pytest.raises(InputError, match="the tokenizer's chat template fails: "):
            encode(["1"], tokenizer)
