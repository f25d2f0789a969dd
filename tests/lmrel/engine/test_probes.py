from __future__ import annotations

from typing import Any

import pytest
import torch

from lmrel import InputError
from lmrel.engine.probes import check_model, check_tree
from tests.conftest import ARCHITECTURES, random_model
from tools.architectures import small_model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_that_can_be_run_as_a_tree_pass(architecture: str) -> None:
    check_tree(random_model(architecture), [[1, 5, 3, 9]], 4)
    check_tree(random_model(architecture).bfloat16(), [[1, 5, 3, 9]], 4)


def test_models_that_cannot_be_run_as_a_tree_are_refused() -> None:
    from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"vocab_size": 12, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 3, "lru_width": 64}
        config = RecurrentGemmaConfig(**shape, num_attention_heads=2, attn_implementation="sdpa")
        model = RecurrentGemmaForCausalLM(config).eval()
    with pytest.raises(InputError, match="RecurrentGemmaForCausalLM cannot be run as a tree of prefixes"):
        check_tree(model, [[1, 5, 3, 9]], 4)


def test_what_does_not_fit_into_the_context_is_refused() -> None:
    with pytest.raises(InputError, match="need 129 positions; this model has 128"):
        check_model(random_model("olmo2"), [[1]], 128)


def test_a_model_that_is_no_tree_only_later_is_refused() -> None:
    model = small_model("llama4_text", attention_chunk_size=16)
    check_tree(model, [[5, 9, 3, 7]], 12)  # within the first chunk, which ends with 16 tokens
    for prompts, new_tokens in (([[5, 9, 3, 7]], 14), ([[5, 9, 3, 7], [5, 9, 3, 7] * 10], 4)):
        with pytest.raises(InputError, match="cannot be run as a tree of prefixes: its logits are off by"):
            check_tree(model, prompts, new_tokens)
    check_tree(model, [[5, 9, 3, 7]], 12)


def test_a_short_prompt_is_tried_beside_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("mistral")
    real = type(model).forward

    def by_the_longest(self: Any, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        if position_ids is not None and position_ids.max() > 10:
            position_ids = position_ids * 2
        return real(self, *args, position_ids=position_ids, **kwargs)

    monkeypatch.setattr(type(model), "forward", by_the_longest)
    check_tree(model, [[1, 5, 3, 9]], 4)
    with pytest.raises(InputError, match="its logits are off by"):
        check_tree(model, [[1, 5, 3, 9], [1, 5, 3, 9] * 4], 4)


def test_a_forward_that_gives_other_logits_than_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("mistral")
    real = type(model).forward

    def last_only(self: Any, *args: Any, logits_to_keep: Any = 0, **kwargs: Any) -> Any:
        return real(self, *args, logits_to_keep=1, **kwargs)

    monkeypatch.setattr(type(model), "forward", last_only)
    with pytest.raises(InputError, match="it gives 1 logits where 2 were asked for"):
        check_tree(model, [[1, 5, 3, 9], [1, 5]], 4)


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(InputError, match="gives token 12; this model has 12 tokens"):
        check_model(random_model("mistral"), [[1, 12]], 4)


def test_the_tree_is_tried_once_a_model_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tried = random_model("mistral"), []
    real = type(model).forward

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        tried.append(self)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", counted)
    check_tree(model, [[1, 5, 3, 9]], 4)
    first = len(tried)
    check_tree(model, [[1, 5, 3, 9]], 4)
    assert len(tried) == first > 0
    check_tree(model, [[1, 5, 3]], 4)
    assert len(tried) == first
    check_tree(model, [[1, 5, 3, 9]], 5)
    assert len(tried) == 2 * first
    check_tree(random_model("mistral"), [[1, 5, 3, 9]], 4)
    assert len(tried) == 3 * first


def test_a_forward_that_fails_is_refused() -> None:
    model = random_model("mistral")
    model.lm_head = torch.nn.Linear(32, 12)  # after attention
    with pytest.raises(
        InputError, match="MistralForCausalLM cannot be run as a tree of prefixes, as its own code fails"
    ):
        check_tree(model, [[1, 5, 3, 9]], 4)


@pytest.mark.parametrize(("prompt", "new_tokens"), [([1], 1), ([1, 5], 1), ([1] * 127, 1)])
def test_the_shortest_texts_can_be_tried(prompt: list[int], new_tokens: int) -> None:
    check_model(random_model("mistral"), [prompt], new_tokens)
    check_tree(random_model("mistral"), [prompt], new_tokens)


def test_too_little_memory_says_nothing_of_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("mistral")

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(model), "forward", full)
    with pytest.raises(torch.OutOfMemoryError):
        check_tree(model, [[1, 5, 3, 9]], 4)
