from __future__ import annotations

from typing import Any

import pytest
import torch

from lmrel import InputError
from lmrel.engine.probes import check_model, check_tree
from tests.conftest import ARCHITECTURES, random_model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_that_can_be_run_as_a_tree_pass(architecture: str) -> None:
    check_tree(random_model(architecture), [1, 5, 3, 9])
    check_tree(random_model(architecture).bfloat16(), [1, 5, 3, 9])


def test_models_that_cannot_be_run_as_a_tree_are_refused() -> None:
    from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"vocab_size": 12, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 3, "lru_width": 64}
        config = RecurrentGemmaConfig(**shape, num_attention_heads=2, attn_implementation="sdpa")
        model = RecurrentGemmaForCausalLM(config).eval()
    with pytest.raises(InputError, match="RecurrentGemmaForCausalLM cannot be run as a tree of prefixes"):
        check_tree(model, [1, 5, 3, 9])


def test_what_the_tree_cannot_run_on_is_refused() -> None:
    model = random_model("mistral", sliding_window=16)
    check_model(model, [[1] * 12, [5]], 4)
    with pytest.raises(InputError, match="attends to the last 16 only"):
        check_model(model, [[1] * 13], 4)
    with pytest.raises(InputError, match="need 129 positions; this model has 128"):
        check_model(random_model("olmo2"), [[1]], 128)


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(InputError, match="gives token 12; this model has 12 tokens"):
        check_model(random_model("mistral"), [[1, 12]], 4)


def test_the_tree_is_tried_once_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tried = random_model("mistral"), []
    real = type(model).forward

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        tried.append(self)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", counted)
    check_tree(model, [1, 5, 3, 9])
    first = len(tried)
    check_tree(model, [1, 5, 3, 9])
    assert len(tried) == first > 0
    check_tree(random_model("mistral"), [1, 5, 3, 9])
    assert len(tried) == 2 * first


def test_a_window_of_nothing_and_a_forward_that_fails_are_refused() -> None:
    model = random_model("mistral", sliding_window=0)
    with pytest.raises(InputError, match="attends to the last 0 only"):
        check_model(model, [[1, 5, 3, 9]], 4)
    with pytest.raises(InputError, match="MistralForCausalLM cannot be run as a tree of prefixes: The size of tensor"):
        check_tree(model, [1, 5, 3, 9])


def test_too_little_memory_says_nothing_of_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("mistral")

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(model), "forward", full)
    with pytest.raises(torch.OutOfMemoryError):
        check_tree(model, [1, 5, 3, 9])
