from __future__ import annotations

import re

from book.figures import gpu
from lmrel.registry import REGISTRY


def test_the_commands_run_every_large_model_alike() -> None:
    commands = gpu.commands([name for name, spec in REGISTRY.items() if not spec.tiny])
    assert len(commands) == 10
    assert {re.sub(r"\S*(olmo|mist|mixt|qwen)\S*", "", command) for command in commands} == {
        re.sub(r"\S*(olmo|mist|mixt|qwen)\S*", "", commands[0])
    }
    assert all("-p precision nf4" in command for command in commands)


def test_commands_quote_what_a_shell_would_act_on() -> None:
    assert "-p model 'x; rm -rf ~'" in gpu.commands(["x; rm -rf ~"])[0]
