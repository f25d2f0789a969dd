"""The exception for what a user can put right, how its sentences quote a value, and checks of single values.

The message of an `InputError` is a sentence, not a traceback. What a run's parameters may be stands in
`lmrel.parameters`.
"""

from __future__ import annotations

import difflib
import functools
import math
import numbers
import re
import reprlib
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
SHOWN = 200  # characters of a value that a sentence quotes
UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # categories of Unicode
BRIEF = reprlib.Repr()
BRIEF.fillvalue, BRIEF.maxlevel, BRIEF.maxother = "\N{HORIZONTAL ELLIPSIS}", 4, 10 * SHOWN
BRIEF.maxlist = BRIEF.maxtuple = BRIEF.maxdict = BRIEF.maxset = BRIEF.maxfrozenset = 12
BRIEF.maxstring = BRIEF.maxlong = 4 * SHOWN  # it cuts out of the middle, beyond what is shown


def visible(text: str) -> str:
    """`text` with every character that would move, hide or turn others spelled out; line ends stay."""
    if text.isprintable():
        return text
    unseen = {char for char in text if char != "\n" and unicodedata.category(char) in UNSEEN}
    return text.translate({ord(char): char.encode("unicode_escape").decode() for char in unseen})


class InputError(ValueError):
    """A parameter, file or checkpoint that cannot be used. The message names the value and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows, hence papermill and a notebook: the sentence alone."""
        return [f"InputError: {self}"]


def quoted(value: Any) -> str:
    """`value` as a sentence quotes it: on one line, and not all of it where it is long."""
    try:
        text = " ".join(BRIEF.repr(value).split())
    except ValueError:  # Python writes no integer of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\N{HORIZONTAL ELLIPSIS}"


def guess(name: Any, known: Collection[str]) -> str:
    """The one of `known` that a mistyped `name` most likely means, as a sentence to add; nothing where none is near."""
    close = difflib.get_close_matches(name, known, n=1) if isinstance(name, str) else []
    return f" Did you mean {close[0]!r}?" if close else ""


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, whole: bool = False, open_below: bool = False
) -> None:
    """Raise `InputError` unless `value` is a number, or an integer, from `low` (or above it) to `high`."""
    kind: Any = numbers.Integral if whole else numbers.Real
    fits = isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
    if not fits or (open_below and value == low):
        what, last = ("an integer" if whole else "a number"), ("" if high == math.inf else f" to {high:,.10g}")
        first = "above" if open_below else "from" if last else "of at least"
        raise InputError(f"{name} is {quoted(value)}; it must be {what} {first} {low:,.10g}{last}.")


def check_count(name: str, value: Any, *, most: float = math.inf) -> None:
    """Raise `InputError` unless `value` is an integer from 1 to `most`."""
    check_number(name, value, 1, most, whole=True)


def check_choice(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise `InputError` unless `value` is one of the words `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        words = " or ".join(map(repr, allowed)) if len(allowed) == 2 else f"one of {', '.join(allowed)}"
        raise InputError(f"{name} is {quoted(value)}; it must be {words}.{guess(value, allowed)}")


def is_text(value: Any) -> bool:
    """Whether `value` is a string that is not blank and can be written down: one of valid Unicode."""
    return isinstance(value, str) and bool(value.strip()) and not re.search("[\ud800-\udfff]", value)


def needs_columns(*columns: str, empty: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Marks a function whose first argument is a table that needs `columns` and, unless `empty` is allowed, rows.

    Called with anything else, it raises an `InputError`. A column ``correct`` reaches it as booleans: a table that was
    merged, or read from CSV, holds them as objects or as 0 and 1.
    """

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def checked(*arguments: P.args, **options: P.kwargs) -> R:
            if not arguments:
                return function(*arguments, **options)  # Python says which argument is missing
            table: Any = arguments[0]
            there = list(getattr(table, "columns", ()))
            missing = [column for column in columns if column not in there]
            if not hasattr(table, "columns"):
                lack = f"{quoted(table)}; it needs a table"
            elif missing:
                lack = f"a table without the column {missing[0]!r}"
            elif len(set(there)) < len(there):
                lack = "a table with two columns of one name"
            elif "correct" in columns and not table["correct"].isin([0, 1]).all():
                lack = "draws of which some are neither right nor wrong"
            elif not empty and not len(table):
                lack = "a table without rows"
            else:
                if "correct" in columns:
                    arguments = (table.assign(correct=table["correct"].astype(bool)), *arguments[1:])  # type: ignore[assignment]
                return function(*arguments, **options)
            raise InputError(f"{function.__name__} was given {lack}.")

        return checked

    return mark


@contextmanager
def command() -> Iterator[None]:
    """How a command line ends: an `InputError` is printed as its sentence, and the exit status is 1."""
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")
