"""Which models are known by name, and what is known of each before it is loaded: what ``registry.toml`` says.

The module reads no weights and knows no library for models.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
NF4_METHOD = "lmrel_nf4"  # what the config.json of a checkpoint that we quantized calls it
NF4_BITS = 4.127  # a weight in NF4, its share of the doubly quantized scales included


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What is known of a model before it is loaded. `total`, `active` and `wide` are numbers of parameters."""

    name: str
    repo: str = ""  # none for the tiny suite
    revision: str = ""
    shape: str  # of `SHAPES`; for the tiny suite, the architecture
    instruct: bool
    sparse: bool
    total: int
    active: int  # those that one token uses
    wide: int  # those that stay in 16 bit under NF4: embeddings, head and norms
    precision: str  # what "auto" means
    licence: str
    gated: bool = False  # whether its page asks for an agreement

    @property
    def tiny(self) -> bool:
        """Whether its weights ship with this repository."""
        return self.name.startswith("tiny-")

    @property
    def source(self) -> str:
        """What transformers loads: a folder of this repository, or a repo id."""
        return str(CHECKPOINTS / self.name) if self.tiny else self.repo

    def weights(self, precision: str) -> float:
        """Bytes that the weights take."""
        if precision == "nf4":
            return (self.total - self.wide) * NF4_BITS / 8 + 2 * self.wide
        return self.total * (4 if precision == "fp32" else 2)


_KNOWN: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
SHAPES: dict[str, dict[str, Any]] = _KNOWN["shapes"]  # what `transformers.AutoConfig.for_model` makes a config from
REGISTRY = {
    name: ModelSpec(name=name, instruct="instruct" in name, **given, **_KNOWN["counts"][given["shape"]])
    for name, given in _KNOWN["models"].items()
}
SHORT: dict[str, str] = _KNOWN["short"]  # names by which the paper's code calls its models
TINY = tuple(name for name, spec in REGISTRY.items() if spec.tiny)
TINY_SUITE = tuple(name for name in TINY if name.endswith(("base", "instruct")))  # what the study runs by default


def known(name: str) -> ModelSpec | None:
    """What the registry says of a model, by its short or whole name or its repo id; None if it does not know it."""
    by_repo = {spec.repo: spec for spec in REGISTRY.values() if spec.repo}
    return REGISTRY.get(SHORT.get(name, name)) or by_repo.get(name)


def label(source: str) -> str:
    """What a table calls the model in `source`, a name, folder or repo id: that, and the tiny suite by its names.

    The last part alone would be the same for ``a/final`` and ``b/final``.
    """
    path = Path(source)
    if path.name in ("", "..") and path != path.resolve():
        return label(str(path.resolve()))
    return path.name if path.parent == CHECKPOINTS else source.rstrip("/") or source
