"""Which models there are and how one is loaded: a name from the registry, a local folder, or a repo id.

Weights are read from safetensors only, code only from transformers itself; a checkpoint that would need anything
else is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lmrel.errors import InputError
from lmrel.quantize import is_nf4, quantize_nf4

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
SMALL, THREADS = 20_000_000, torch.get_num_threads()
PRECISIONS = ("auto", "fp32", "bf16", "nf4")


@dataclass(frozen=True)
class ModelSpec:
    """What is known of a model before it is loaded. Parameters are counts; `active` are those one token uses."""

    name: str
    repo: str
    family: str
    sparse: bool
    instruct: bool
    total: float
    active: float
    precision: str
    licence: str = "apache-2.0"
    gated: bool = False

    @property
    def tiny(self) -> bool:
        """Whether its weights ship with this repository."""
        return self.name.startswith("tiny-")

    @property
    def source(self) -> str:
        """What transformers loads: a folder of this repository, or a repo id."""
        return str(CHECKPOINTS / self.name) if self.tiny else self.repo


def _tiny(kind: str, *, sparse: bool, instruct: bool) -> ModelSpec:
    total, active, family = (1_807_488, 627_840, "Mixtral") if sparse else (623_744, 623_744, "Mistral")
    return ModelSpec(f"tiny-{kind}", f"checkpoints/tiny-{kind}", family, sparse, instruct, total, active, "fp32", "mit")


# The tiny suite; then the paper's three, each followed by the partner its design lacked; then a dense pair.
REGISTRY: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        _tiny("dense-base", sparse=False, instruct=False),
        _tiny("dense-instruct", sparse=False, instruct=True),
        _tiny("sparse-base", sparse=True, instruct=False),
        _tiny("sparse-instruct", sparse=True, instruct=True),
        ModelSpec(
            "qwen2.5-3b-instruct",
            "Qwen/Qwen2.5-3B-Instruct",
            "Qwen2.5",
            False,
            True,
            3.09e9,
            3.09e9,
            "bf16",
            "qwen-research",
        ),
        ModelSpec("qwen2.5-3b", "Qwen/Qwen2.5-3B", "Qwen2.5", False, False, 3.09e9, 3.09e9, "bf16", "qwen-research"),
        ModelSpec(
            "mixtral-8x7b-instruct",
            "mistralai/Mixtral-8x7B-Instruct-v0.1",
            "Mixtral",
            True,
            True,
            46.7e9,
            12.9e9,
            "nf4",
        ),
        ModelSpec("mixtral-8x7b", "mistralai/Mixtral-8x7B-v0.1", "Mixtral", True, False, 46.7e9, 12.9e9, "nf4"),
        ModelSpec("olmoe-1b-7b", "allenai/OLMoE-1B-7B-0924", "OLMoE", True, False, 6.92e9, 1.28e9, "nf4"),
        ModelSpec(
            "olmoe-1b-7b-instruct", "allenai/OLMoE-1B-7B-0924-Instruct", "OLMoE", True, True, 6.92e9, 1.28e9, "nf4"
        ),
        ModelSpec("mistral-7b", "mistralai/Mistral-7B-v0.1", "Mistral", False, False, 7.24e9, 7.24e9, "bf16"),
        ModelSpec(
            "mistral-7b-instruct", "mistralai/Mistral-7B-Instruct-v0.1", "Mistral", False, True, 7.24e9, 7.24e9, "bf16"
        ),
    )
}
TINY_SUITE = tuple(spec.name for spec in REGISTRY.values() if spec.tiny)


def resolve(name: str) -> str:
    """The folder or repo id that `name` stands for. Raises `InputError` if it stands for none."""
    if not isinstance(name, str) or not name:
        raise InputError(f"model is {name!r}; it must be a name, a folder or a repo id.")
    if name in REGISTRY:
        source = REGISTRY[name].source
        return _checked_folder(Path(source)) if REGISTRY[name].tiny else source
    if Path(name).is_dir():
        return _checked_folder(Path(name))
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) and Path(name).suffix != ".safetensors":
        return name
    raise InputError(
        f"model is {name!r}, which is no known name, no folder and no repo id. Known: {', '.join(REGISTRY)}."
    )


def _checked_folder(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no checkpoint: it has no config.json.")
    if not list(folder.glob("*.safetensors")):
        other = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)]
        found = f" It has {other[0]}, but pickled weights can run code and are not loaded." if other else ""
        raise InputError(f"{folder} has no weights: no *.safetensors file.{found}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{folder / 'config.json'} cannot be read: it is no JSON object.")
    if "auto_map" in config:
        raise InputError(f"{folder} brings its own code (auto_map in config.json), which is not run.")
    return str(folder)


def resolve_precision(name: str, precision: str) -> str:
    """`precision`, with ``"auto"`` made explicit: the registry's, or bf16 on CUDA and fp32 on a CPU."""
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}.")
    if precision != "auto":
        return precision
    if name in REGISTRY:
        return REGISTRY[name].precision
    return "bf16" if torch.cuda.is_available() else "fp32"


def load_model(name: str, precision: str = "auto") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in eval mode and its tokenizer.

    `precision` is ``"fp32"``, ``"bf16"``, ``"nf4"`` (4-bit weights, bf16 compute) or ``"auto"``. The model goes to
    the GPU where there is one; on a CPU, torch is set to one thread for a small model. Raises `InputError`, before any
    weight is read, for a name or precision that cannot be used, and when transformers cannot load the checkpoint.
    """
    source, precision = resolve(name), resolve_precision(name, precision)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    safe = {"trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **safe)
        model, loading = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, output_loading_info=True, **safe
        )
    except Exception as error:  # whatever transformers, its hub client or a damaged file comes up with
        reason = " ".join(str(error).split())
        raise InputError(f"model {name!r} could not be loaded from {source}: {reason[:500]}") from error
    if missing := sorted(loading["missing_keys"]):
        raise InputError(f"{source} lacks {len(missing)} of the model's weights, {missing[0]} among them.")
    if name in REGISTRY and not REGISTRY[name].instruct:
        tokenizer.chat_template = None  # some base models ship one; they were not trained on it
    model.eval().requires_grad_(False)
    if precision == "nf4":
        quantize_nf4(model)
    if torch.cuda.is_available():
        return model.to("cuda"), tokenizer
    # A model this small loses more by handing work from thread to thread than it gains.
    torch.set_num_threads(1 if model.num_parameters() < SMALL else THREADS)
    return model, tokenizer


def precision_of(model: PreTrainedModel) -> str:
    """The precision a loaded model has, by looking at it."""
    names = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
    return "nf4" if is_nf4(model) else names.get(model.dtype, str(model.dtype))
