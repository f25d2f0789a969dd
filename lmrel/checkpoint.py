"""What the folder of a checkpoint may hold: weights as safetensors, sizes that a model can have, and no code.

All is read before transformers sees any of it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lmrel.errors import InputError, read_object, shown, visible
from lmrel.registry import NF4_METHOD

# What takes minutes or all memory to build, long before weights are missed for it.
LARGEST = {"num_hidden_layers": 1000, "num_experts": 10_000, "num_local_experts": 10_000, "num_labels": 10_000}
FLOATS = ("F16", "BF16", "F32", "F64")


def checked_folder(folder: Path) -> str:
    """`folder` as text; `InputError` if what is in it cannot be used."""
    if not os.path.isfile(folder / "config.json"):
        raise InputError(f"{folder} is no checkpoint: it has no config.json.")
    if not list(folder.glob("*.safetensors")):
        other = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)]
        found = f" It has {other[0]}, but pickled weights can run code and are not loaded." if other else ""
        raise InputError(f"{folder} has no weights: no *.safetensors file.{found}")
    config = read_object(folder / "config.json")
    if (folder / "generation_config.json").exists():
        read_object(folder / "generation_config.json")  # transformers would pass over a damaged one
    for name, most in LARGEST.items():
        if isinstance(size := config.get(name), int) and size > most:
            raise InputError(f"{folder} has {name}={shown(size)} in config.json; models of up to {most:,} are loaded.")
    for path in filter(Path.exists, (folder / "config.json", folder / "tokenizer_config.json")):
        own = read_object(path)
        kernel = "/" in str(own.get("_attn_implementation"))  # a repo id, whose code transformers would fetch and run
        if "auto_map" in own or kernel:
            code = "_attn_implementation" if kernel else "auto_map"
            raise InputError(f"{folder} brings its own code ({code} in {path.name}), which is not run.")
    for name in _named_weights(folder, config):
        if not re.fullmatch(r"[^/\\]+\.safetensors(\.index\.json)?", name):
            raise InputError(
                f"{folder} names {name!r} as weights; only *.safetensors in the folder itself are loaded, "
                "as pickled ones can run code."
            )
    method = quantization_of(config)
    if method not in (None, NF4_METHOD):
        raise InputError(
            f"{folder} was quantized by {method!r}, which is not supported; give the checkpoint it came from."
        )
    if method is None:
        _check_tensors(folder)
    return str(folder)


def _check_tensors(folder: Path) -> None:
    """Raise `InputError` for weights that are no floating-point numbers, and for names that act on a terminal."""
    for path in folder.glob("*.safetensors"):
        if not path.is_file():
            raise InputError(f"{path} is no file that can be read.")
        with suppress(SafetensorError, OSError), safe_open(path, "pt") as file:  # loading says what is wrong with it
            for name in file.keys():  # noqa: SIM118
                kind = file.get_slice(name).get_dtype()
                if visible(name) != name:
                    raise InputError(f"{path} has weights named {name!r}; names are in printable characters.")
                if name.endswith("weight") and kind not in FLOATS:
                    raise InputError(f"{path} has {name} in {kind}; weights are in {', '.join(FLOATS)}.")


def _named_weights(folder: Path, config: dict[str, Any]) -> set[str]:
    """The files that config.json and the indices of a checkpoint in several files name as its weights."""
    maps = [read_object(path).get("weight_map") for path in folder.glob("*.safetensors.index.json")]
    named = [name for one in maps if isinstance(one, dict) for name in one.values()]
    return {str(name) for name in [*named, config.get("transformers_weights")] if name is not None}


def quantization_of(config: dict[str, Any]) -> Any:
    """The method that quantized the weights, as config.json names it; None if they are as they were trained."""
    found = config.get("quantization_config")
    return found.get("quant_method", "an unknown method") if isinstance(found, dict) else found
