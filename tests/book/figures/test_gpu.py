from __future__ import annotations

import re

import pytest

from book.figures import gpu
from lmrel.registry import REGISTRY
from study.costs import memory_needed


@pytest.mark.parametrize(
    ("name", "precision", "device"),
    [
        ("mixtral-8x7b-instruct", "nf4", "A100, 40 GB"),
        ("mixtral-8x7b-instruct", "bf16", "H200, 141 GB"),
        ("mixtral-8x7b-instruct", "fp32", "several GPUs"),
        ("qwen2.5-3b-instruct", "bf16", "T4, 16 GB"),
        ("tiny-sparse-base", "fp32", "laptop GPU, 8 GB"),
    ],
)
def test_a_model_fits_on_the_smallest_device_that_has_the_memory(name: str, precision: str, device: str) -> None:
    assert gpu.fits_on(memory_needed(REGISTRY[name].weights(precision))) == device


def test_the_page_shows_every_large_model() -> None:
    large = [spec for spec in REGISTRY.values() if not spec.tiny]
    assert gpu.known_models()["model"].tolist() == [spec.name for spec in large]
    assert gpu.memory_by_precision()["model"].tolist() == list(dict.fromkeys(spec.shape for spec in large))


def test_the_commands_run_every_large_model_alike() -> None:
    commands = gpu.commands([name for name, spec in REGISTRY.items() if not spec.tiny])
    assert len(commands) == 10
    assert {re.sub(r"\S*(olmo|mist|mixt|qwen)\S*", "", command) for command in commands} == {
        re.sub(r"\S*(olmo|mist|mixt|qwen)\S*", "", commands[0])
    }
    assert all("-p precision nf4" in command for command in commands)


def test_commands_quote_what_a_shell_would_act_on() -> None:
    assert "-p model 'x; rm -rf ~'" in gpu.commands(["x; rm -rf ~"])[0]
