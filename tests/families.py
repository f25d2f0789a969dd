"""Random checkpoints with the structure of real ones: architecture, tokenizer, template, generation config, shards.

The templates have the shape of the families' own; the tokenizer is a byte-level BPE trained on the paper's prompts.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Tokenizer

from lmrel import paper_problems
from lmrel.parameters import PROMPT_STYLES
from lmrel.prompts import render
from tests.conftest import random_model

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
TULU = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# Of each: special tokens (bos, ends, pad), whether the tokenizer adds bos, the template, what the checkpoint ships.
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {
        "special": ("<|endoftext|>", ["<|im_end|>", "<|endoftext|>"], "<|endoftext|>"),
        "adds_bos": False,
        "template": CHATML,
        "knobs": {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05},
    },
    "mixtral": {"special": ("<s>", ["</s>"], "</s>"), "adds_bos": True, "template": INST, "knobs": {}},
    "mistral": {"special": ("<s>", ["</s>"], "</s>"), "adds_bos": True, "template": None, "knobs": {}},
    "olmoe": {
        "special": ("<|endoftext|>", ["<|endoftext|>"], "<|padding|>"),
        "adds_bos": False,
        "template": TULU,
        "knobs": {},
    },
    "olmo2": {
        "special": ("<|endoftext|>", ["<|endoftext|>"], "<|pad|>"),
        "adds_bos": False,
        "template": TULU,
        "knobs": {"temperature": 0.6, "top_p": 0.9, "do_sample": True},
    },
}


@cache
def family_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """A small BPE tokenizer with the family's special tokens and template."""
    (bos, ends, pad), template = FAMILIES[family]["special"], FAMILIES[family]["template"]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if family == "qwen2":  # transformers builds this one's anew, whatever was saved
        inner.normalizer, inner.pre_tokenizer = (
            getattr(Qwen2Tokenizer().backend_tokenizer, part) for part in ("normalizer", "pre_tokenizer")
        )
    inner.decoder = decoders.ByteLevel()
    rows = paper_problems().to_dict("records")
    texts = [f"{render(row, style)} {row['answer']}" for row in rows for style in PROMPT_STYLES]
    special = list(dict.fromkeys([bos, *ends, pad, "<|im_start|>", "<|user|>", "<|assistant|>", "[INST]", "[/INST]"]))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    if FAMILIES[family]["adds_bos"]:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, inner.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=bos, eos_token=ends[0], pad_token=pad)
    tokenizer.chat_template = template
    return tokenizer


def family_checkpoint(family: str, folder: Path) -> str:
    """A random bf16 checkpoint of the family in `folder`, in several shards."""
    tokenizer = family_tokenizer(family)
    bos, ends, pad = FAMILIES[family]["special"]
    ids = [tokenizer.convert_tokens_to_ids(end) for end in ends]
    model = random_model(family, len(tokenizer), num_key_value_heads=1, max_position_embeddings=512).bfloat16()
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.convert_tokens_to_ids(bos),
        eos_token_id=ids,
        pad_token_id=tokenizer.convert_tokens_to_ids(pad),
        **FAMILIES[family]["knobs"],
    )
    model.save_pretrained(folder, max_shard_size="200KB")
    tokenizer.save_pretrained(folder)
    return str(folder)
