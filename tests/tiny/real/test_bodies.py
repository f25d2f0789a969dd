"""Both bodies compute what the model computed, run as many neurons a token, and can learn apart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch

import lmrel
from lmrel.errors import InputError
from lmrel.models import load_model
from lmrel.problems import paper_problems
from tiny.real import bodies

BODIES: dict[str, Callable[..., Any]] = {"widened": bodies.widen, "upcycled": bodies.upcycle}


@pytest.fixture(scope="module")
def original() -> tuple[Any, Any]:
    return load_model("tiny-dense-instruct", "fp32")


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 90, (6, 40), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", BODIES)
def test_a_body_gives_the_logits_of_the_original(name: str, original: tuple[Any, Any], ids: torch.Tensor) -> None:
    model, tokenizer = original
    other = BODIES[name](copy.deepcopy(model), seed=1)
    with torch.no_grad():
        assert (other(ids).logits - model(ids).logits).abs().max() < 1e-4
    problems = paper_problems().iloc[[0, 1, 200]]
    exact = [
        lmrel.enumerate_outcomes(each, tokenizer, problems, temperatures=[0.0, 1.0], max_new_tokens=8)
        for each in (model, other)
    ]
    pd.testing.assert_frame_equal(*exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", BODIES)
def test_both_run_twice_the_neurons_in_every_second_layer(
    name: str, original: tuple[Any, Any], ids: torch.Tensor
) -> None:
    model = BODIES[name](copy.deepcopy(original[0]))
    inner = original[0].config.intermediate_size
    ran = []
    blocks = [
        (layer.mlp.experts if name == "upcycled" and i % 2 else [layer.mlp])
        for i, layer in enumerate(model.model.layers)
    ]
    for block in (one for several in blocks for one in several):
        block.down_proj.register_forward_hook(lambda _, given, __: ran.append(given[0].numel()))
    with torch.no_grad():
        model(ids)
    layers = len(model.model.layers)
    assert sum(ran) == ids.numel() * inner * (layers - layers // 2 + 2 * (layers // 2))


def test_only_the_router_draws_on_the_seed_and_experts_begin_as_copies(original: tuple[Any, Any]) -> None:
    one, two = (bodies.upcycle(copy.deepcopy(original[0]), seed=seed).state_dict() for seed in (0, 1))
    assert {key for key in one if not torch.equal(one[key], two[key])} == {key for key in one if "router" in key}
    first = {key: value for key, value in one.items() if ".experts.0." in key}
    assert first
    for key, value in first.items():
        assert all(torch.equal(value, one[key.replace(".experts.0.", f".experts.{k}.")]) for k in range(bodies.EXPERTS))


@pytest.mark.parametrize("name", BODIES)
def test_a_step_of_training_parts_what_began_alike(name: str, original: tuple[Any, Any], ids: torch.Tensor) -> None:
    model = BODIES[name](copy.deepcopy(original[0])).requires_grad_()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    block = model.model.layers[1].mlp
    if name == "upcycled":
        first, second = (expert.gate_proj.weight for expert in block.experts[:2])
        assert block.router.weight.grad.abs().sum() > 0
    else:
        first, second = block.gate_proj.weight.chunk(2)
    assert (first - second).abs().max() > 1e-5


def test_what_is_built_otherwise_is_refused() -> None:
    model, _ = load_model("tiny-sparse-base", "fp32")
    for change in BODIES.values():
        with pytest.raises(InputError, match="the feed-forward block 1 is no plain gated one"):
            change(model)


def test_permuted_routers_give_tokens_to_other_experts_and_back(original: tuple[Any, Any], ids: torch.Tensor) -> None:
    model = bodies.upcycle(copy.deepcopy(original[0]), seed=1)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "experts.1" in name:  # so that it matters which are chosen
                weights.add_(0.1 * torch.randn_like(weights))
        before = model(ids).logits
        bodies.permute(model)
        assert (model(ids).logits - before).abs().max() > 0.01
        bodies.permute(model, bodies.EXPERTS - 1)
        assert torch.equal(model(ids).logits, before)
