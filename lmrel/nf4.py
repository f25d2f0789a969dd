"""NF4 that really is 4-bit: every matrix inside the decoder blocks, quantized while it is loaded.

transformers 5 keeps a mixture's experts as fused 3-D parameters and its router as a bare matrix, which bitsandbytes'
own loading leaves in 16 bit: most of such a model stays wide, without a word. Here all of them are quantized, with
double quantization and bf16 compute, as the paper's configuration did when experts and routers were linear layers.
Norms, embeddings and head stay in bf16.

`Nf4Quantizer` plugs into transformers' loading: one parameter is read, quantized and let go before the next, so no wide
copy of the model is ever held. What came of it is measured, by `lmrel.precision`.
"""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes import functional
from bitsandbytes.nn import Linear4bit, Params4bit
from bitsandbytes.nn.parametrize import replace_parameter_4bit_prequantized
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps, WeightConverter
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from lmrel.errors import InputError
from lmrel.registry import NF4_BITS, NF4_METHOD

KIND: dict[str, Any] = {"quant_type": "nf4", "compress_statistics": True}
BLOCK = 64  # weights that share a scale; bitsandbytes' CPU code is wrong for rows that are no multiple of it
STATES = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", "quant_state.bitsandbytes__nf4")


@register_quantization_config(NF4_METHOD)
class Nf4Config(QuantizationConfigMixin):  # type: ignore[misc]
    """The configuration that ``from_pretrained`` is given, and that a checkpoint saved in 4 bit names."""

    def __init__(self, **_: Any) -> None:
        self.quant_method = NF4_METHOD


@register_quantizer(NF4_METHOD)
class Nf4Quantizer(HfQuantizer):  # type: ignore[misc]
    """Quantizes while loading, and reads what was saved quantized. Its methods are those that transformers asks for."""

    quantized_element_size = NF4_BITS / 8

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        narrow_linears(model)

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **_: Any) -> bool:
        """Whether a parameter is quantized while it is loaded."""
        return is_block_matrix(param_name, model.get_parameter_or_buffer(param_name))

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        widen_on_use(model)

    def get_quantize_ops(self) -> ConversionOps:
        """The operation by which such a parameter is quantized."""
        return _Quantize()

    def get_weight_conversions(self) -> list[WeightConverter]:
        """How the tensors of a saved 4-bit checkpoint, packed weights and their scales, become parameters."""
        if not self.pre_quantized:
            return []
        weights = ("weight", "experts.gate_up_proj", "experts.down_proj")  # shared experts are linear layers
        return [WeightConverter([*(f"{w}.{s}" for s in STATES), w], w, [_Restore(self)]) for w in weights]

    def is_serializable(self) -> bool:
        """Whether a quantized model can be saved: yes, by `lmrel.precision.save_quantized`."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether a quantized model can be trained: no, it is for inference."""
        return False


class _Quantize(ConversionOps):  # type: ignore[misc]
    def convert(self, input_dict: dict[str, Any], *_: Any, model: Any = None, **__: Any) -> dict[str, Tensor]:
        values = _tensors(input_dict)
        return {name: quantized(model.get_submodule(name.rpartition(".")[0]), value) for name, value in values.items()}


class _Restore(ConversionOps):  # type: ignore[misc]
    def __init__(self, hf_quantizer: HfQuantizer) -> None:
        self.hf_quantizer = hf_quantizer

    def convert(
        self, input_dict: dict[str, Any], *_: Any, model: Any = None, full_layer_name: str = "", **__: Any
    ) -> dict[str, Any]:
        if len(input_dict) == 1:  # a tensor that was saved as it is
            return input_dict
        stored = _tensors(input_dict)
        weight = min(stored, key=len)  # the others' names are the weight's, and more
        packed = stored.pop(weight)
        module = model.get_submodule(full_layer_name.rpartition(".")[0])
        return {weight: _narrow(module, packed, functional.QuantState.from_dict(stored, packed.device))}


def _tensors(input_dict: dict[str, Any]) -> dict[str, Any]:
    """The tensors that a conversion is given by name, each alone or in a list of one."""
    return {name: value[0] if isinstance(value, list) else value for name, value in input_dict.items()}


def narrow_linears(model: PreTrainedModel) -> None:
    """Put 4-bit linear layers, still empty, in the place of those in the decoder blocks.

    Raises `InputError` if the rows of a matrix in them are no multiple of 64.
    """
    for name, tensor in model.named_parameters():
        if is_block_matrix(name, tensor) and tensor.shape[-1] % BLOCK:
            rows = f"rows of {name} have {tensor.shape[-1]} weights, no multiple of {BLOCK}"
            raise InputError(f"precision is 'nf4', but {rows}.")
    for name, module in list(model.named_modules()):
        if ".layers." in name and type(module) is nn.Linear:  # a router may be a kind of it with a forward of its own
            shape, bias = (module.in_features, module.out_features), module.bias is not None
            narrow = Linear4bit(*shape, bias=bias, compute_dtype=torch.bfloat16, device="meta", **KIND)
            narrow.bias = module.bias
            # On some CPUs bitsandbytes would repack weights in place at the first forward, with loss.
            narrow.support_avx512bf16_for_cpu = False
            model.set_submodule(name, narrow.requires_grad_(False))


def is_block_matrix(name: str, tensor: Tensor) -> bool:
    """Whether a parameter is to be quantized: it is a matrix, or a stack of them, inside a decoder block.

    Not so a bias of several experts, or a norm of several heads.
    """
    return ".layers." in name and tensor.ndim >= 2 and "norm" not in name and "bias" not in name.rpartition(".")[2]


def quantized(module: nn.Module, value: Tensor) -> nn.Parameter:
    """`value`, a wide matrix or stack of matrices, as a 4-bit parameter for `module`.

    A stack is quantized one matrix after the other, which takes less memory, then its scales together: the result is
    that of `bitsandbytes.functional.quantize_4bit` on the whole.
    """
    matrices = value.unbind() if value.ndim > 2 else [value]
    parts = [functional.quantize_4bit(matrix.contiguous(), quant_type="nf4") for matrix in matrices]
    packed, scales = torch.cat([part for part, _ in parts]), torch.cat([state.absmax for _, state in parts])
    state = parts[0][1]
    state.shape, state.offset, state.nested = value.shape, scales.mean(), True
    state.absmax, state.state2 = functional.quantize_blockwise(scales - state.offset, blocksize=256)
    return _narrow(module, packed, state)


def _narrow(module: nn.Module, packed: Tensor, state: functional.QuantState) -> nn.Parameter:
    if isinstance(module, Linear4bit):
        return Params4bit(packed, False, state, module=module, bnb_quantized=True, **KIND)
    parameter = nn.Parameter(packed, requires_grad=False)
    parameter.quant_state = state  # type: ignore[attr-defined]
    return parameter


def widen_on_use(model: nn.Module) -> None:
    """Let quantized parameters outside linear layers, of experts and routers, be read as if they were wide."""
    for module in list(model.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not isinstance(module, Linear4bit) and hasattr(parameter, "quant_state"):
                state = parameter.quant_state.as_dict(packed=True)
                replace_parameter_4bit_prequantized(module, name, state, parameter.device)
