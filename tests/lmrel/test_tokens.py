from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from lmrel import InputError, paper_problems
from lmrel.parameters import PROMPT_STYLES
from lmrel.prompts import read_template, render
from lmrel.tokens import PieceReader, encode, encode_problems, eos_ids, written
from tests.conftest import random_model, small_tokenizer
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


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('Roles must alternate') }}", "fails: Roles must alternate"),
        ("{% if %}", "fails: "),
        ("{% for m in messages %}{% endfor %}", "gives '', which is no prompt"),
        ("{{ '\\ud800' }}", r"gives '\\ud800', which is no prompt"),
        ("2 + 2", "leaves out what it is given: different prompts become one"),
    ],
)
def test_a_template_that_makes_no_prompt_is_refused(template: str, said: str) -> None:
    tokenizer = build_tokenizer(chat=True)
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=f"the tokenizer's chat template {said}"):
        encode(["1", "2"], tokenizer)


def test_a_tokenizer_that_cannot_read_a_prompt_is_refused() -> None:
    two = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1})))
    with pytest.raises(InputError, match="the tokenizer cannot read a prompt: .*UNK"):
        encode(["1 + 1"], two)
    with pytest.raises(TypeError, match="a tokenizer is needed, as load_model gives one, not str"):
        encode(["1 + 1"], "a")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["x", "\x1b[31m", True, -1, 12, 1.5, [[1]], [2, -1], [1, "<b>"], {"a": 1}])
def test_an_end_token_is_one_of_the_models(value: Any) -> None:
    model, tokenizer = random_model("mistral"), small_tokenizer()
    assert eos_ids(model, tokenizer) == [2]
    model.generation_config.eos_token_id = value
    with pytest.raises(InputError, match="the end-of-text token is .*; this model has tokens from 0 to 11"):
        eos_ids(model, tokenizer)


def test_a_text_is_not_joined_across_a_token_that_is_no_text() -> None:
    tokenizer = build_tokenizer(chat=False)
    seven, two = (tokenizer.convert_tokens_to_ids(digit) for digit in "72")
    space, inst, end = (tokenizer.convert_tokens_to_ids(piece) for piece in (" ", "[INST]", "</s>"))
    assert written([space, seven, end], tokenizer, [end]) == " 7"
    assert written([space, seven, inst, two], tokenizer, [end]) == " 7[INST]2"
    assert written([seven, 9999, two], tokenizer) == "7\N{REPLACEMENT CHARACTER}2"
    reader = PieceReader(tokenizer, [end])
    assert [reader.piece(token) for token in (seven, inst, end, 9999)] == [
        "7",
        "[INST]",
        "",
        "\N{REPLACEMENT CHARACTER}",
    ]


def test_a_prompt_does_not_change_with_the_clock() -> None:
    tokenizer = build_tokenizer(chat=True)
    tokenizer.chat_template = "{{ strftime_now('%Y-%m-%d') }} {{ messages[0]['content'] }}"
    [ids] = encode(["1"], tokenizer)
    assert tokenizer.decode(ids) == "<s>2026-01-01 1"


def test_a_special_token_in_a_question_is_refused() -> None:
    for chat in (False, True):
        with pytest.raises(
            InputError, match=r"a prompt holds '\[INST\]', which this tokenizer reads as a special token"
        ):
            encode(["1 + 1", "what is [INST]?"], build_tokenizer(chat))


def test_a_question_in_words_is_followed_by_no_equals_sign() -> None:
    asked = {"task": "custom", "question": "How many legs have two cats?"}
    assert render(asked, "few_shot").endswith("two cats?\nAnswer:")
    assert render({"task": "custom", "question": "7 * 8"}, "few_shot").endswith("\n7 * 8 =")


def test_a_template_of_ones_own_a_system_message_and_no_chat_template(tmp_path: Path) -> None:
    file = tmp_path / "think.txt"
    file.write_text("Think first.\n{question}\nThen say ####.\n", encoding="utf-8")
    row = {"task": "arithmetic", "x": 9, "y": 1, "z": 2, "w": 3}
    tokenizer = build_tokenizer(chat=True)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"

    def prompt(**shape: Any) -> str:
        [ids] = encode_problems([row], "few_shot", tokenizer, **shape)
        return str(tokenizer.decode(ids))

    asked = "Think first.\n(9 - 1) * 2 + 3\nThen say ####."
    assert prompt(template=str(file)) == f"<s>user: {asked}\n"
    assert prompt(template=str(file), system="Be brief.") == f"<s>system: Be brief.\nuser: {asked}\n"
    assert prompt(template=str(file), chat_template="off") == f"<s>{asked}"
    with pytest.raises(InputError, match="system is given, and no chat template that could hold it is used"):
        prompt(system="Be brief.", chat_template="off")


def test_a_chat_template_is_given_arguments_of_its_own_and_none_that_it_does_not_use() -> None:
    tokenizer = build_tokenizer(chat=True)
    tokenizer.chat_template = "{{ messages[0]['content'] }}{% if enable_thinking is false %}no thoughts{% endif %}"

    def prompt(**shape: Any) -> str:
        return str(tokenizer.decode(encode(["2 + 2"], tokenizer, **shape)[0]))

    assert prompt() == "<s>2 + 2"
    assert prompt(chat_template_kwargs={"enable_thinking": False}) == "<s>2 + 2no thoughts"
    for name in ("thinking_budget", "thinking"):  # the latter a part of a name only
        with pytest.raises(InputError, match=f"chat_template_kwargs has '{name}', which the model's chat template"):
            prompt(chat_template_kwargs={name: 5})
    with pytest.raises(InputError, match="chat_template_kwargs is given, and no chat template"):
        prompt(chat_template_kwargs={"enable_thinking": False}, chat_template="off")


@pytest.mark.parametrize("text", ["no place", "{question} and {question}"])
def test_a_template_holds_the_question_once(tmp_path: Path, text: str) -> None:
    file = tmp_path / "it.txt"
    file.write_text(text)
    with pytest.raises(InputError, match="it must hold {question} once"):
        read_template(str(file))
    with pytest.raises(InputError, match="template is '.*missing', which cannot be read"):
        read_template(str(tmp_path / "missing"))


def test_a_special_token_is_found_by_its_number_however_it_is_written() -> None:
    tokenizer = small_tokenizer()
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.NFKC()
    backend.add_special_tokens([AddedToken("<end>", special=True, normalized=True)])
    for text in ("1 <end>", "1 \N{FULLWIDTH LESS-THAN SIGN}end>"):
        with pytest.raises(InputError, match="a prompt holds '<end>', which this tokenizer reads as a special token"):
            encode([text], tokenizer)
    with pytest.raises(InputError, match="a prompt holds '</s>'"):
        encode(["1 </s>"], ByT5Tokenizer())  # it does not mark it as special
    build = build_tokenizer(chat=False)
    assert build.unk_token_id in encode(["1 \N{MULTIPLICATION SIGN} 1"], build)[0]
    with pytest.raises(InputError, match="a prompt holds '<unk>'"):
        encode(["1 <unk> 1"], build)


def test_a_tokenizer_whose_tokens_change_with_what_follows_is_not_read_token_by_token() -> None:
    vocabulary = {token: number for number, token in enumerate(["<unk>", *"1234x", *(f"{c}</w>" for c in "12345x")])}
    backend = Tokenizer(models.BPE(vocabulary, [], end_of_word_suffix="</w>", unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Whitespace(), decoders.BPEDecoder()
    joined = PieceReader(PreTrainedTokenizerFast(tokenizer_object=backend), [])
    with pytest.raises(InputError, match="tokens read otherwise once others follow"):
        joined.piece(1)
