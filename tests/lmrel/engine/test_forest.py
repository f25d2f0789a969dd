from __future__ import annotations

import pytest
import torch

from lmrel import InputError
from lmrel.engine.forest import Forest
from lmrel.engine.memory import bytes_per_token
from tests.conftest import random_model
from tools.architectures import difference, small_model

TEXT = torch.tensor([[5, 9, 23, 40, 7, 11, 3, 31]])


def changes_the_logits(kind: str, **other: object) -> bool:
    """Whether other settings change a plain forward, so that a test of them says something."""
    one, another = (small_model(kind, **more)(TEXT).logits for more in ({}, other))
    return bool((one - another).abs().max() > 1e-2)


@pytest.mark.parametrize("kind", ["gemma2", "vaultgemma"])
def test_scores_are_capped_as_in_a_plain_forward(kind: str) -> None:
    assert changes_the_logits(kind, attn_logit_softcapping=0.5)
    model = small_model(kind, attn_logit_softcapping=0.5)
    assert difference(model) < 1e-3
    assert difference(model.bfloat16()) < 0.1


@pytest.mark.parametrize("kind", ["gpt_oss", "mimo_v2_flash"])
def test_sinks_take_their_weight(kind: str) -> None:
    model = small_model(kind)
    plain = model(TEXT).logits
    assert difference(model) < 1e-3
    for name, parameter in model.named_parameters():
        if "sink" in name:
            parameter.data -= 100  # none
    assert (model(TEXT).logits - plain).abs().max() > 1e-2
    assert difference(model) < 1e-3


@pytest.mark.parametrize("window", [1, 2, 16, 45, 200])
def test_windows_are_those_of_a_plain_forward(window: int) -> None:
    assert difference(small_model("mistral", sliding_window=window)) < 1e-3
    assert difference(small_model("gemma3_text", sliding_window=window)) < 1e-3


@pytest.mark.parametrize(
    "kind",
    [
        "stablelm",  # hands no keyword on to its attention
        "whisper",  # gives the logits of all tokens, whatever it is asked for
        "hrm_text",  # goes through a layer several times
        "longcat_flash",  # attends twice in a layer
        "gemma4_text",  # layers differ in the size of their heads
        "gemma3n_text",  # and in their width; some use the keys of others
        "deepseek_v3",  # keys are larger than values
    ],
)
def test_models_of_unusual_build_run(kind: str) -> None:
    assert difference(small_model(kind)) < 1e-3


@pytest.mark.parametrize("kind", ["falcon", "gptj", "bloom", "mpt", "gpt_neo", "mamba", "rwkv", "xlnet", "jamba"])
def test_attention_that_cannot_be_replaced_is_refused_in_our_own_words(kind: str) -> None:
    model = small_model(kind)
    before = model.config._attn_implementation
    with pytest.raises(
        InputError, match=r"cannot be run as a tree of prefixes: its attention, if it has any, does more"
    ):
        difference(model)
    assert model.config._attn_implementation == before


def test_lack_of_memory_says_nothing_of_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("mistral")

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(type(model), "forward", full)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        Forest(model, [[1, 5]])


def test_keys_are_counted_layer_by_layer() -> None:
    assert bytes_per_token(random_model("mistral")) == 2 * 2 * 64 * 4
    # Two layers with heads of 16, two of 32; two key heads each.
    assert bytes_per_token(small_model("gemma4_text")) == 2 * 2 * (16 + 32) * 2 * 4


def test_what_all_prompts_begin_with_is_kept_once() -> None:
    header = [5, 9, 23, 40, 7, 11]
    forest = Forest(small_model("mistral"), [[*header, token, 8] for token in range(20, 30)])
    for layer, (keys, values) in forest.prompts.items():
        assert [kept.shape[1] for kept in forest.header[layer]] == [len(header)] * 2
        assert (len(keys), keys.shape[2], values.shape[2]) == (10, 2, 2)
