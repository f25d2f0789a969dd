from __future__ import annotations

import copy

import bitsandbytes.functional as bnb
import pytest
import torch

from lmrel import InputError
from lmrel.models import precision_of
from lmrel.quantize import bits_per_weight, quantize_nf4
from tests.conftest import ARCHITECTURES, random_model


def there_and_back(weight: torch.Tensor) -> torch.Tensor:
    """What bitsandbytes' own functions make of a weight."""
    packed, state = bnb.quantize_4bit(weight.detach(), quant_type="nf4", compress_statistics=True)
    return bnb.dequantize_4bit(packed, state)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_block_weight_ends_in_four_bit_experts_included(architecture: str) -> None:
    model = random_model(architecture).bfloat16()
    ids = torch.randint(3, 12, (2, 10), generator=torch.Generator().manual_seed(0))
    reference = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in reference.named_parameters():
            if ".layers." in name and weight.ndim >= 2 and "gate.weight" not in name:
                weight.copy_(there_and_back(weight))
    assert bits_per_weight(model) == (16.0, 1.0)
    quantize_nf4(model)
    bits, wide = bits_per_weight(model)
    assert 4.1 <= bits <= 4.6
    assert wide <= 0.05
    assert precision_of(model) == "nf4"
    expected = reference(ids).logits.float()
    assert (model(ids).logits.float() - expected).norm() / expected.norm() < 0.01
    kept = {name for name, p in model.named_parameters() if p.dtype == torch.bfloat16 and p.ndim >= 2}
    assert kept <= {"model.embed_tokens.weight", "lm_head.weight"} | {
        f"model.layers.{i}.mlp.gate.weight" for i in (0, 1)
    }


def test_a_weight_equals_bitsandbytes_own_quantization_of_it() -> None:
    model = random_model("mixtral").bfloat16()
    experts = model.model.layers[0].mlp.experts
    original = experts.gate_up_proj.detach().clone()
    quantize_nf4(model)
    assert torch.equal(experts.gate_up_proj, there_and_back(original))


def test_rows_that_are_no_multiple_of_64_are_refused() -> None:
    with pytest.raises(InputError, match=r"rows of .* have 96 weights, no multiple of 64"):
        quantize_nf4(random_model("mistral", intermediate_size=96).bfloat16())
