"""Which models are known: the tiny suite, the paper's three, and the partners that its design lacked.

Revisions are commits of the repositories' main branches, as others have recorded them; shapes are those of the
published config.json. Nothing here was downloaded; that the counts follow from the shapes is tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "nf4")
NF4_METHOD = "lmrel_nf4"  # what the config.json of a checkpoint that we quantized calls it
NF4_BITS = 4.127  # a weight in NF4, its share of the doubly quantized scales included
ROOM = 1.15, 1.5e9  # beside the weights: a share of them, and bytes, for keys, values, logits and the runtime
DEVICES = {  # bytes that programs can use
    "laptop GPU, 8 GB": 7.5e9,
    "T4, 16 GB": 15.5e9,
    "RTX 4090, 24 GB": 24.5e9,
    "A100, 40 GB": 42e9,
    "A100 or H100, 80 GB": 84e9,
    "H200, 141 GB": 148e9,
}


@dataclass(frozen=True)
class ModelSpec:
    """What is known of a model before it is loaded. Parameters are counts; `active` are those one token uses.

    `wide` are those that stay in 16 bit under NF4: embeddings, head and norms. `gated`: its page asks for an agreement.
    """

    name: str
    repo: str  # empty for the tiny suite
    revision: str
    shape: str  # of `SHAPES`; for the tiny suite, the architecture
    instruct: bool
    sparse: bool
    total: int
    active: int
    wide: int
    precision: str
    licence: str
    gated: bool

    @property
    def tiny(self) -> bool:
        """Whether its weights ship with this repository."""
        return self.name.startswith("tiny-")

    @property
    def source(self) -> str:
        """What transformers loads: a folder of this repository, or a repo id."""
        return str(CHECKPOINTS / self.name) if self.tiny else self.repo

    def weights(self, precision: str) -> float:
        """Bytes that the weights take."""
        if precision == "nf4":
            return (self.total - self.wide) * NF4_BITS / 8 + 2 * self.wide
        return self.total * (4 if precision == "fp32" else 2)

    def memory(self, precision: str) -> float:
        """Bytes that a run is expected to need, for chunks of a few problems."""
        return self.weights(precision) * ROOM[0] + ROOM[1]

    def fits_on(self, precision: str) -> str:
        """The smallest of `DEVICES` that has as much."""
        needed = self.memory(precision)
        return next((name for name, size in DEVICES.items() if size >= needed), "several GPUs")


ROPE = {"rope_type": "default"}
SHAPES: dict[str, dict[str, Any]] = {
    "Qwen2.5-3B": {
        "model_type": "qwen2",
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6,
        "rope_parameters": ROPE | {"rope_theta": 1e6},
        "tie_word_embeddings": True,
    },
    "Mixtral-8x7B": {
        "model_type": "mixtral",
        "vocab_size": 32_000,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-5,
        "rope_parameters": ROPE | {"rope_theta": 1e6},
        "tie_word_embeddings": False,
    },
    "OLMoE-1B-7B": {
        "model_type": "olmoe",
        "vocab_size": 50_304,
        "hidden_size": 2048,
        "intermediate_size": 1024,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "num_experts": 64,
        "num_experts_per_tok": 8,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_parameters": ROPE | {"rope_theta": 1e4},
        "tie_word_embeddings": False,
    },
    "Mistral-7B": {
        "model_type": "mistral",
        "vocab_size": 32_000,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32_768,
        "sliding_window": 4096,
        "rms_norm_eps": 1e-5,
        "rope_parameters": ROPE | {"rope_theta": 1e4},
        "tie_word_embeddings": False,
    },
    "OLMo-2-1B": {
        "model_type": "olmo2",
        "vocab_size": 100_352,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_parameters": ROPE | {"rope_theta": 5e5},
        "tie_word_embeddings": False,
    },
}
# Of a shape: whether it is sparse; parameters in all, for one token, and wide; the paper's precision, or bf16; licence.
COUNTS: dict[str, tuple[bool, int, int, int, str, str]] = {
    "Qwen2.5-3B": (False, 3_085_938_688, 3_085_938_688, 311_406_592, "bf16", "qwen-research"),
    "Mixtral-8x7B": (True, 46_702_792_704, 12_879_925_248, 262_410_240, "nf4", "apache-2.0"),
    "OLMoE-1B-7B": (True, 6_919_161_856, 1_282_017_280, 206_178_304, "nf4", "apache-2.0"),
    "Mistral-7B": (False, 7_241_732_096, 7_241_732_096, 262_410_240, "bf16", "apache-2.0"),
    "OLMo-2-1B": (False, 1_484_916_736, 1_484_916_736, 411_174_912, "bf16", "apache-2.0"),
    "Mistral": (False, 623_744, 623_744, 33_920, "fp32", "mit"),
    "Mixtral": (True, 1_807_488, 627_840, 33_920, "fp32", "mit"),
}


def _spec(name: str, repo: str, revision: str, shape: str, *, gated: bool = False) -> ModelSpec:
    return ModelSpec(name, repo, revision, shape, "instruct" in name, *COUNTS[shape], gated)


TINY_STAGES = ("base", "instruct", "instruct-noisy", "continued", "continued-noisy")
# The tiny models; then the paper's three, each followed by the partner its design lacked; then two dense pairs.
REGISTRY: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        *(_spec(f"tiny-dense-{stage}", "", "", "Mistral") for stage in TINY_STAGES),
        *(_spec(f"tiny-sparse-{stage}", "", "", "Mixtral") for stage in TINY_STAGES),
        _spec(
            "qwen2.5-3b-instruct",
            "Qwen/Qwen2.5-3B-Instruct",
            "aa8e72537993ba99e69dfaafa59ed015b17504d1",
            "Qwen2.5-3B",
        ),
        _spec("qwen2.5-3b", "Qwen/Qwen2.5-3B", "3aab1f1954e9cc14eb9509a215f9e5ca08227a9b", "Qwen2.5-3B"),
        _spec(
            "mixtral-8x7b-instruct",
            "mistralai/Mixtral-8x7B-Instruct-v0.1",
            "41bd4c9e7e4fb318ca40e721131d4933966c2cc1",
            "Mixtral-8x7B",
            gated=True,
        ),
        _spec(
            "mixtral-8x7b",
            "mistralai/Mixtral-8x7B-v0.1",
            "fc7ac94680e38d7348cfa806e51218e6273104b0",
            "Mixtral-8x7B",
            gated=True,
        ),
        _spec("olmoe-1b-7b", "allenai/OLMoE-1B-7B-0924", "6d84c48581ece794365f2b8e9cfb043c68ade9c5", "OLMoE-1B-7B"),
        _spec(
            "olmoe-1b-7b-instruct",
            "allenai/OLMoE-1B-7B-0924-Instruct",
            "7f1c97f440f06ce36705e4f2b843edb5925f4498",
            "OLMoE-1B-7B",
        ),
        _spec(
            "mistral-7b",
            "mistralai/Mistral-7B-v0.1",
            "27d67f1b5f57dc0953326b2601d68371d40ea8da",
            "Mistral-7B",
            gated=True,
        ),
        _spec(
            "mistral-7b-instruct",
            "mistralai/Mistral-7B-Instruct-v0.1",
            "ec5deb64f2c6e6fa90c1abf74a91d5c93a9669ca",
            "Mistral-7B",
            gated=True,
        ),
        _spec("olmo-2-1b", "allenai/OLMo-2-0425-1B", "a1847dff35000b4271fa70afc5db10fd29fedbdf", "OLMo-2-1B"),
        _spec(
            "olmo-2-1b-instruct",
            "allenai/OLMo-2-0425-1B-Instruct",
            "48d788eca847d4d7548f375ad03d3c9312f6139e",
            "OLMo-2-1B",
        ),
    )
}
TINY = tuple(name for name, spec in REGISTRY.items() if spec.tiny)
TINY_SUITE = tuple(name for name in TINY if name.endswith(("base", "instruct")))  # what the study runs by default


def known(name: str) -> ModelSpec | None:
    """What the registry says of a model, by its name there or its repo id."""
    return REGISTRY.get(name) or next((spec for spec in REGISTRY.values() if spec.repo and spec.repo == name), None)
