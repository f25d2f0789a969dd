"""One run and many, here or on a cluster: what they draw, where it is kept, and how it goes on after a kill."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from study.run import Run as Run

__all__ = ["Run"]


def __getattr__(name: str) -> object:
    # Imported when first asked for: whoever plans a study needs no torch.
    if name != "Run":
        raise AttributeError(f"module 'study' has no attribute {name!r}")
    return import_module("study.run").Run
