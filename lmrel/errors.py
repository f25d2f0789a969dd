"""The one exception for what a user can put right, and what raises it most.

Its message is a sentence, not a traceback.
"""

from __future__ import annotations

import difflib
import functools
import itertools
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
MAX_RUNS = 10**9
UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # categories of Unicode


def visible(text: str) -> str:
    """`text` on which no character acts: what moves, hides or turns others round is spelled out; line ends stay."""
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


class _Brief(reprlib.Repr):
    """Writes as `repr`, but no more than `SHOWN` parts of a value: what follows them is not quoted."""

    def __init__(self) -> None:
        super().__init__()
        self.fillvalue, self.maxlevel, self.maxother = "\N{HORIZONTAL ELLIPSIS}", 30, sys.maxsize
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = SHOWN
        self.maxstring = self.maxlong = 4 * SHOWN  # it cuts out of the middle
        self.parts = 0

    def repr1(self, x: Any, level: int) -> str:
        self.parts += 1
        return super().repr1(x, level) if self.parts <= SHOWN else ""

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        items = itertools.islice(x.items() if level > 0 else (), SHOWN)  # reprlib's own would be sorted
        pairs = [f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}" for key, value in items]
        return "{" + ", ".join(pairs if level > 0 or not x else [self.fillvalue]) + "}"


def quoted(value: Any) -> str:
    """`value` as a sentence quotes it: on one line, and not all of it where it is long."""
    try:
        text = " ".join(_Brief().repr(value).split())
    except ValueError:  # Python writes no integer of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\N{HORIZONTAL ELLIPSIS}"


def guess(name: Any, known: Collection[str]) -> str:
    """The one of `known` that a mistyped `name` most likely means, as a sentence to add; nothing where none is near."""
    close = difflib.get_close_matches(name, known, n=1) if isinstance(name, str) else []
    return f" Did you mean {close[0]!r}?" if close else ""


def check_count(name: str, value: Any, *, optional: bool = False, most: int | None = None) -> None:
    """Raise `InputError` unless `value` is an integer from 1 to `most`, or None where that is allowed."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(
            f"{name} is {quoted(value)}; it must be {'None or ' if optional else ''}an integer of at least 1."
        )
    if most is not None and value > most:
        raise InputError(f"{name} is {quoted(value)}; it must be at most {most:,}.")


def counted(text: str) -> int:
    """An integer of at least 1 from a command line."""
    found = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if not found:
        raise InputError(f"{quoted(text)} is no integer of at least 1.")
    return found


def check_number(
    name: str, value: Any, low: float, high: float, *, whole: bool = False, open_below: bool = False
) -> None:
    """Raise `InputError` unless `value` is a number, or an integer, from `low` (or above it) to `high`."""
    kinds: Any = int if whole else (int, float)
    fits = isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high
    if not fits or (open_below and value == low):
        kind = "an integer" if whole else "a number"
        above = "above" if open_below else "from"
        raise InputError(f"{name} is {quoted(value)}; it must be {kind} {above} {low:g} to {high:g}.")


def check_choice(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise `InputError` unless `value` is one of the words `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        words = " or ".join(map(repr, allowed)) if len(allowed) == 2 else f"one of {', '.join(allowed)}"
        raise InputError(f"{name} is {quoted(value)}; it must be {words}.")


def needs_columns(*columns: str, empty: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Marks a function whose first argument is a table that needs `columns` and, unless `empty` is allowed, rows.

    Called with anything else, it raises an `InputError`. A column ``correct`` it is given as booleans: a table that was
    merged, or read from CSV, holds them as objects or as 0 and 1.
    """

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def checked(*arguments: P.args, **options: P.kwargs) -> R:
            table: Any = arguments[0] if arguments else None
            there: Any = getattr(table, "columns", None)
            if arguments and there is None:
                raise InputError(f"{function.__name__} was given {quoted(table)}; it needs a table.")
            missing = [column for column in columns if arguments and column not in there]
            if missing:
                raise InputError(f"{function.__name__} was given a table without the column {missing[0]!r}.")
            if arguments and len(set(there)) < len(there):
                raise InputError(f"{function.__name__} was given a table with two columns of one name.")
            if "correct" in columns and arguments and table["correct"].dtype != bool:
                if not table["correct"].isin([0, 1]).all():
                    raise InputError(f"{function.__name__} was given draws of which some are neither right nor wrong.")
                arguments = (table.assign(correct=table["correct"].astype(bool)), *arguments[1:])  # type: ignore[assignment]
            if arguments and not empty and not len(table):
                raise InputError(f"{function.__name__} was given a table without rows.")
            return function(*arguments, **options)

        return checked

    return mark


@contextmanager
def command() -> Iterator[None]:
    """How a command line ends: an `InputError` is printed as its sentence, and the exit status is 1."""
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")


def is_text(value: Any) -> bool:
    """Whether `value` is a string that is not blank and can be written down: one of valid Unicode."""
    return isinstance(value, str) and bool(value.strip()) and not re.search("[\ud800-\udfff]", value)
