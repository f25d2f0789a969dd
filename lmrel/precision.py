"""What a loaded model really has: its precision and bits per weight, measured; and how a 4-bit model is saved."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lmrel.errors import InputError
from lmrel.files import writing

MAX_WIDE_SHARE, MAX_BITS = 0.05, 4.6


def precision_of(model: PreTrainedModel) -> str:
    """The precision a loaded model has, by looking at it."""
    if any(parameter.dtype == torch.uint8 for parameter in model.parameters()):
        return "nf4"
    names = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
    return names.get(model.dtype, str(model.dtype))


def bits_per_weight(model: PreTrainedModel) -> tuple[float, float]:
    """Measured: bits a quantized weight takes, scales included, and the share of block weights left wide.

    Block weights are the matrices inside the decoder blocks. (16.0 or 32.0, 1.0) for a model that is not quantized.
    """
    narrow = wide = packed_bytes = 0
    width = 32.0
    for name, tensor in model.state_dict().items():
        if ".layers." not in name or tensor.ndim < 1:
            continue
        if tensor.dtype == torch.uint8 and tensor.ndim == 2:
            narrow += 2 * tensor.numel()
            packed_bytes += tensor.nbytes
        elif name.endswith("absmax"):
            packed_bytes += tensor.nbytes
        elif tensor.ndim >= 2:
            wide += tensor.numel()
            width = 8.0 * tensor.element_size()
    return (8 * packed_bytes / narrow if narrow else width), wide / (narrow + wide) if narrow + wide else 1.0


def check_narrow(model: PreTrainedModel) -> None:
    """Raise `InputError` if a model that was loaded in 4 bit is wider than that."""
    if precision_of(model) != "nf4":
        raise InputError(f"precision is 'nf4', but {type(model).__name__} has no layers that this code can quantize.")
    bits, wide_share = bits_per_weight(model)
    if wide_share > MAX_WIDE_SHARE:
        raise InputError(f"precision is 'nf4', but {wide_share:.0%} of the block weights stayed in 16 bit.")
    if bits > MAX_BITS:
        raise InputError(f"precision is 'nf4', but the quantized weights take {bits:.2f} bits each.")


def save_quantized(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> Path:
    """Write a model that was loaded in 4 bit to a new folder, which `load_model` reads; transformers alone does not.

    Raises `InputError` for a model that is not in 4 bit, and for a folder that exists.
    """
    check_narrow(model)
    target = Path(folder)
    if target.exists():
        raise InputError(f"{target} exists; a quantized model is saved to a new folder.")
    half = target.with_name(f".{target.name}")  # what it is, until it is whole
    with writing(target):
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        save_torch_state_dict(model.state_dict(), half, max_shard_size="5GB", safe_serialization=True)
        for path in half.glob("*.safetensors"):
            path.chmod(0o644)
        model.config.save_pretrained(half)
        if model.generation_config:
            model.generation_config.save_pretrained(half)
        tokenizer.save_pretrained(half)
        os.replace(half, target)
    return target
