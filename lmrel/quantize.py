"""NF4 that really is 4-bit: every linear layer inside the decoder blocks and every expert.

transformers 5 keeps a mixture's experts as fused 3-D parameters, which bitsandbytes' own loading leaves in 16 bit:
most of such a model stays wide, without a word. Here both kinds are quantized, with double quantization and bf16
compute as in the paper's code, and what came of it is measured. Router, norms, embeddings and head stay in bf16.

The weights are quantized after loading, so the 16-bit model must fit into main memory first.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from lmrel.errors import InputError

EXPERT_WEIGHTS = ("gate_up_proj", "down_proj")
BLOCK = 64  # weights that share a scale; bitsandbytes' CPU code is wrong for rows that are no multiple of it
MAX_WIDE_SHARE = 0.05


def quantize_nf4(model: PreTrainedModel) -> None:
    """Quantize a bf16 model in place. Raises `InputError` if a row is no multiple of 64 or too much stays wide."""
    import bitsandbytes as bnb
    from bitsandbytes.nn.parametrize import replace_parameter_4bit

    for name, module in list(model.named_modules()):
        if ".layers." not in name:
            continue
        if isinstance(module, nn.Linear):
            _check_rows(name, module.weight)
            narrow = bnb.nn.Linear4bit(
                module.in_features,
                module.out_features,
                bias=module.bias is not None,
                compute_dtype=torch.bfloat16,
                compress_statistics=True,
                quant_type="nf4",
                device="meta",
            )
            narrow.weight = bnb.nn.Params4bit(
                module.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True
            )
            narrow.bias = module.bias
            model.set_submodule(name, narrow.to(module.weight.device))
        for weight in EXPERT_WEIGHTS:
            if isinstance(tensor := getattr(module, weight, None), nn.Parameter) and tensor.ndim == 3:
                _check_rows(f"{name}.{weight}", tensor)
                replace_parameter_4bit(module, weight, compress_statistics=True, quant_type="nf4")
    if not is_nf4(model):
        raise InputError(f"precision is 'nf4', but {type(model).__name__} has no layers that this code can quantize.")
    narrow_bits, wide_share = bits_per_weight(model)
    if wide_share > MAX_WIDE_SHARE:
        raise InputError(f"precision is 'nf4', but {wide_share:.0%} of the block weights stayed in 16 bit.")
    if narrow_bits > 4.6:
        raise InputError(f"precision is 'nf4', but the quantized weights take {narrow_bits:.2f} bits each.")


def _check_rows(name: str, weight: torch.Tensor) -> None:
    if weight.shape[-1] % BLOCK:
        raise InputError(
            f"precision is 'nf4', but rows of {name} have {weight.shape[-1]} weights, no multiple of {BLOCK}."
        )


def is_nf4(model: PreTrainedModel) -> bool:
    """Whether any block weight is stored in 4 bit."""
    return any(parameter.dtype == torch.uint8 for parameter in model.parameters())


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
    return (8 * packed_bytes / narrow if narrow else width), wide / (narrow + wide)
