from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from lmrel import paper_problems
from lmrel.precision import bits_per_weight, precision_of
from lmrel.registry import SHAPES
from tools import bench_gpu

SMALL = {"vocab_size": 128, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 2, "num_key_value_heads": 1}


@pytest.mark.parametrize(
    ("shape", "precision"), [("Qwen2.5-3B", "bf16"), ("OLMoE-1B-7B", "nf4"), ("Mixtral-8x7B", "nf4")]
)
def test_a_model_of_a_shape_is_made_without_a_checkpoint_and_measured(
    shape: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHAPES, shape, SHAPES[shape] | SMALL)
    rows = bench_gpu.measure_arm(shape, precision, paper_problems().iloc[[0, 130]], [3], device="cpu")
    assert [row["logits"] for row in rows] == ["uniform", "sure"]
    for row in rows:
        assert row["draws"] == 2 * 13
        assert row["one prompt at a time, ratio"] == pytest.approx(
            row["one prompt at a time, seconds"] / row["seconds"]
        )
        assert row["floor, share"] == pytest.approx(row["floor, seconds"] / row["seconds"])
    uniform, sure = rows
    assert uniform["mean_logprob"] < -3
    assert sure["mean_logprob"] > -1
    assert sure["nodes"] < uniform["nodes"]
    assert (4.1 < uniform["bits_per_weight"] < 4.3) == (precision == "nf4")


def test_random_weights_are_tied_as_the_shape_says_and_have_no_tensor_left_empty() -> None:
    shape: dict[str, Any] = SHAPES["Qwen2.5-3B"] | SMALL
    model = bench_gpu.random_weights(shape, "nf4", "cpu")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert all(tensor.device.type == "cpu" for tensor in [*model.parameters(), *model.buffers()])
    assert precision_of(model) == "nf4"
    assert bits_per_weight(model)[1] == 0
    again = bench_gpu.random_weights(shape, "nf4", "cpu")
    ids = torch.tensor([[1, 5, 9]])
    assert torch.equal(model(ids).logits, again(ids).logits)


def test_logits_are_scaled_to_the_entropy_that_was_asked_for() -> None:
    model = bench_gpu.random_weights(SHAPES["OLMoE-1B-7B"] | SMALL, "bf16", "cpu")
    prompts = [[1, 5, 9], [1, 7]]
    factor = bench_gpu.sharpness(model, prompts)
    with torch.inference_mode():
        logits = torch.stack([model(torch.tensor([p])).logits[0, -1].float() for p in prompts])
    entropy = torch.distributions.Categorical(logits=logits * factor).entropy().mean()
    assert float(entropy) == pytest.approx(bench_gpu.SURE, abs=1e-3)


def test_a_machine_without_a_gpu_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_gpu"])
    with pytest.raises(SystemExit, match="needs a CUDA GPU, which this machine has not"):
        bench_gpu.main()
