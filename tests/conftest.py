"""Shared models: the shipped tiny suite, and random models small enough to enumerate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    GenerationConfig,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import lmrel
from lmrel.registry import TINY_SUITE

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent
UNIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes, and links only for some")
ARCHITECTURES = {
    "mistral": (MistralConfig, MistralForCausalLM, {}),
    "mixtral": (MixtralConfig, MixtralForCausalLM, {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmoe": (OlmoeConfig, OlmoeForCausalLM, {"num_experts": 4, "num_experts_per_tok": 2}),
    "olmo2": (Olmo2Config, Olmo2ForCausalLM, {}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
}


def random_model(architecture: str, vocabulary: int = 12, **changes: Any) -> Any:
    """A random model with logits spread enough that its distributions are far from uniform."""
    config_class, model_class, extra = ARCHITECTURES[architecture]
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "sliding_window": None,
        "attn_implementation": "sdpa",
    }
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = model_class(config_class(**(shape | extra | changes)))
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.data.normal_(std=0.3)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    return model.eval().requires_grad_(False)


def small_tokenizer(vocabulary: int = 12) -> PreTrainedTokenizerFast:
    """Three specials, then one character each: digits first, then letters."""
    characters = "0123456789abcdefghijklmnopqrstuvwxyz ="
    pieces = ["<unk>", "<s>", "</s>", *characters[: vocabulary - 3]]
    inner = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    inner.add_special_tokens(["<unk>", "<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@cache
def tiny(name: str) -> tuple[Any, Any]:
    """A shipped model, loaded once."""
    return lmrel.load_model(name)


@pytest.fixture(params=TINY_SUITE)
def tiny_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; a test that asks for it is skipped where there is none."""
    from tests.browser import MISSING, find  # the tests of the library do without playwright

    return find() or pytest.skip(MISSING)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    from tests.browser import QUIET

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield running
        running.close()
