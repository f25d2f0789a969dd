from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lmrel import InputError
from lmrel.errors import SHOWN, quoted
from lmrel.files import read_object


@pytest.mark.parametrize(
    "value",
    [
        {"b": [1, 2.5, None], "a": ("x",), "c": {}},
        ["a'b", b"c", 10**250, Decimal("1e20000000")],
        list(range(1000)),
        "x" * 1000,
        {f"name {i}": i for i in range(1000)},
    ],
    ids=["short", "kinds", "long", "text", "names"],
)
def test_a_value_is_quoted_as_python_writes_it_as_far_as_it_goes(value: Any) -> None:
    text = repr(value)
    assert quoted(value) == (text if len(text) <= SHOWN else text[:SHOWN] + "…")


def test_a_value_that_python_would_write_for_ever_is_quoted_at_once() -> None:
    wide: list[Any] = ["l"] * 9
    deep: list[Any] = []
    for _ in range(20):
        wide = [wide] * 9
    for _ in range(10**5):
        deep = [deep]
    assert quoted(wide).startswith("[" * 21 + "'l', 'l'")
    assert quoted(deep) == "[" * 30 + "[…]" + "]" * 30


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("pipe", "it is no file"), ("", "it is no file"), ("none", "No such file")):
        with pytest.raises(InputError, match=f"cannot be read: .*{said}"):
            read_object(tmp_path / name)
