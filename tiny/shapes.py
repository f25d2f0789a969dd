"""The tiny models' architectures and tokenizer; a new architecture is one more entry here.

Outside the feed-forward blocks the dense and the sparse model share every weight name and shape. The sparse one routes
each token to 2 of 8 experts of half the dense width, so both compute with the same number of weights per token. `wide`
has as many weights in all as the sparse model; Qwen2 and OLMoE are another pair, whose attention differs too.
"""

from __future__ import annotations

import string
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models
from tokenizers.processors import TemplateProcessing
from transformers import (
    GenerationConfig,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
UNK, BOS, EOS = 0, 1, 2
CHARACTERS = [*string.digits, *string.ascii_letters, *string.punctuation, " ", "\n"]
WORDS = [" =", " + ", " - ", " * ", ", ", "Problem:", "Answer:", "Answer", "Solve", "Compute", "Find", "What"]
WORDS += ["Output", "Give", " the", " following", " problem", " expression", " only", " number", " value", " of"]
WORDS += [" is", " with", " final", " page", ". "]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
CONTEXT = 512
EXPERTS = {"num_experts_per_tok": 2, "intermediate_size": 128, "router_aux_loss_coef": 0.01}
ARCHITECTURES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "dense": (MistralConfig, MistralForCausalLM, {"intermediate_size": 256}),
    "sparse": (MixtralConfig, MixtralForCausalLM, {"num_local_experts": 8, **EXPERTS}),
    "wide": (MistralConfig, MistralForCausalLM, {"intermediate_size": 1024}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"intermediate_size": 256}),
    "olmoe": (OlmoeConfig, OlmoeForCausalLM, {"num_experts": 8, **EXPERTS}),
}


def build_tokenizer(chat: bool) -> PreTrainedTokenizerFast:
    """The suite's tokenizer: Unigram over 128 fixed pieces, every printable ASCII character and a few words.

    All pieces cost the same, so a text is cut into as few as possible; digits stand alone. With `chat` it has the chat
    template of the instruct models.
    """
    vocabulary = [(piece, 0.0 if piece in SPECIAL else -1.0) for piece in [*SPECIAL, *CHARACTERS, *WORDS]]
    inner = Tokenizer(models.Unigram(vocabulary, unk_id=UNK, byte_fallback=False))
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
        additional_special_tokens=["[INST]", "[/INST]"],
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_model(architecture: str) -> PreTrainedModel:
    """A freshly initialized model in float32, one of `ARCHITECTURES`; its weights come from torch's global seed."""
    config_class, model_class, feed_forward = ARCHITECTURES[architecture]
    shape = dict(
        vocab_size=len(SPECIAL) + len(CHARACTERS) + len(WORDS),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        sliding_window=None,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=UNK,
        attn_implementation="sdpa",
    )
    model: PreTrainedModel = model_class(config_class(**shape, **feed_forward))
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=UNK)
    return model


def sizes(model: PreTrainedModel) -> tuple[int, int]:
    """How many weights `model` has, and how many of them one token goes through."""
    counts = {key: tensor.numel() for key, tensor in model.named_parameters()}
    total = sum(counts.values())
    if not hasattr(model.config, "num_experts_per_tok"):
        return total, total
    experts = sum(count for key, count in counts.items() if ".experts." in key)
    return total, total - experts + experts * model.config.num_experts_per_tok // model.config.num_experts
