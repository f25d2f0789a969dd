"""The one exception for what a user can put right, and what raises it most.

Its message is a sentence, not a traceback.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

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


def check_count(name: str, value: Any, *, optional: bool = False) -> None:
    """Raise `InputError` unless `value` is an integer of at least 1, or None where that is allowed."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; it must be {'None or ' if optional else ''}an integer of at least 1.")


def is_text(value: Any) -> bool:
    """Whether `value` is a string that is not blank and can be written down: one of valid Unicode."""
    return isinstance(value, str) and bool(value.strip()) and not re.search("[\ud800-\udfff]", value)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system refuses while `path` is written into an `InputError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        raise InputError(f"{path} could not be written: {getattr(error, 'strerror', None) or error}.") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; `InputError` if it cannot be read or holds anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} cannot be read: it is no JSON object.")
    return found
