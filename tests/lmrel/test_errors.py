from __future__ import annotations

import math
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrel import InputError
from lmrel.errors import SHOWN, check_choice, check_count, check_number, command, needs_columns, quoted
from lmrel.files import read_object
from tests.conftest import UNIX

HUGE = 10**5000  # Python itself refuses to write it
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"b": [1, 2.5, None], "a": ("x",), "c": {}}, "{'a': ('x',), 'b': [1, 2.5, None], 'c': {}}"),
        (["a'b\n", b"c", Decimal("1e20000000")], """["a'b\\n", b'c', Decimal('1E+20000000')]"""),
        (10**250, "1" + "0" * 199 + "…"),
        ("x" * 1000, "'" + "x" * 199 + "…"),
        (list(range(1000)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …]"),
        ([[[[[[["deep"]]]]]]], "[[[[[…]]]]]"),
    ],
    ids=["short", "kinds", "digits", "text", "long", "deep"],
)
def test_a_value_is_quoted_as_python_writes_it_as_far_as_it_goes(value: Any, said: str) -> None:
    assert quoted(value) == said


def test_a_value_that_python_would_write_for_ever_is_quoted_at_once() -> None:
    wide: list[Any] = ["l"] * 9
    for _ in range(20):
        wide = [wide] * 9
    assert quoted(wide).startswith("[[[[[…], […], ")


@UNIX
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("pipe", "it is no file"), ("", "it is no file"), ("none", "No such file")):
        with pytest.raises(InputError, match=f"cannot be read: .*{said}"):
            read_object(tmp_path / name)


@settings(deadline=None, derandomize=True)
@given(JSON, st.integers(0, 99))
def test_any_value_is_quoted_on_one_short_line(value: Any, times: int) -> None:
    for one in (value, [value] * times, HUGE):
        assert len(quoted(one).splitlines()) <= 1
        assert len(quoted(one)) <= SHOWN + 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: check_number("x", 0, 0, open_below=True), "x is 0; it must be a number above 0."),
        (lambda: check_number("x", 0, 0, 1, open_below=True), "x is 0; it must be a number above 0 to 1."),
        (lambda: check_number("x", math.nan, 0), "x is nan; it must be a number of at least 0."),
        (lambda: check_number("x", True, 0, 9), "x is True; it must be a number from 0 to 9."),
        (lambda: check_number("x", "3", -1, 10**6), "x is '3'; it must be a number from -1 to 1,000,000."),
        (lambda: check_count("n", 0), "n is 0; it must be an integer of at least 1."),
        (lambda: check_count("n", 2.0), "n is 2.0; it must be an integer of at least 1."),
        (lambda: check_count("n", HUGE, most=9), "n is a number of thousands of digits; it must be an integer from 1"),
        (
            lambda: check_choice("c", "puer", ["pure", "b"]),
            "c is 'puer'; it must be 'pure' or 'b'. Did you mean 'pure'?",
        ),
        (lambda: check_choice("c", ["a"], ["a", "b", "c"]), "c is ['a']; it must be one of a, b, c."),
    ],
)
def test_a_value_that_does_not_fit_ends_in_a_sentence(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError) as found:
        call()
    assert said in str(found.value)
    check_number("x", np.float32(0.5), 0, 1)
    check_count("n", np.int64(3), most=3)


def test_a_function_of_a_table_names_what_the_table_lacks() -> None:
    @needs_columns("a", "correct")
    def total(table: pd.DataFrame) -> int:
        return int(table.loc[table["correct"], "a"].sum())

    good = pd.DataFrame({"a": [1, 2], "correct": [True, False]})
    twice = pd.concat([good, good[["a"]]], axis=1)
    for table, lack in [
        (None, "None; it needs a table"),
        ([1], "[1]; it needs a table"),
        (good[["a"]], "a table without the column 'correct'"),
        (good.head(0), "a table without rows"),
        (good.assign(correct=[1, math.nan]), "draws of which some are neither right nor wrong"),
        (twice, "a table with two columns of one name"),
    ]:
        with pytest.raises(InputError) as found:
            total(table)
        assert str(found.value) == f"total was given {lack}."
    assert total(good) == total(good.astype({"correct": object})) == 1
    assert needs_columns("a", empty=True)(len)(good.head(0)) == 0


def test_a_command_ends_in_its_sentence() -> None:
    with pytest.raises(SystemExit, match="^error: no such thing$"), command():
        raise InputError("no such thing")
    assert InputError("no such thing")._render_traceback_() == ["InputError: no such thing"]
