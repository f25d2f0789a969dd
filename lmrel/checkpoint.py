"""A checkpoint before it is loaded: what a model's name stands for, and what keeps its files from being used.

Nothing here needs torch, so that a study can look at all its models before it starts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lmrel.errors import InputError, guess, is_text, quoted, visible
from lmrel.files import read_object
from lmrel.registry import NF4_METHOD, REGISTRY, SHORT, known

# What takes minutes or all memory to build, long before weights are missed for it.
LARGEST = {"num_hidden_layers": 1000, "num_experts": 10_000, "num_local_experts": 10_000, "num_labels": 10_000}
FLOATS = ("F16", "BF16", "F32", "F64")
META, MOST = "__metadata__", 100_000_000  # in the header of a safetensors file beside the tensors; its most bytes
REPO = r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}"
# With peft installed, transformers would add it to the base model, and without, it would not.
ADAPTER = "holds an adapter, such as LoRA's; merge it into its base model first and give the folder of the result."


def resolve(name: str) -> str:
    """The folder, file or repo id that `name` stands for, without its revision. `InputError` if it stands for none."""
    if not is_text(name):
        raise InputError(f"model is {quoted(name)}; it must be a name, a folder or a repo id.")
    base, _, revision = name.partition("@")
    if (spec := REGISTRY.get(SHORT.get(base, base))) and not spec.tiny:
        return spec.repo
    folder = REGISTRY[name].source if name in REGISTRY else name
    if os.path.isdir(folder):
        for said in _refusals(Path(folder)):
            raise InputError(f"{folder} {said}")
        return folder
    if os.path.isfile(name) and name.endswith(".gguf"):
        with open(name, "rb") as file:
            if file.read(4) != b"GGUF":
                raise InputError(f"{name} is no GGUF file: it does not begin as one.")
        return name
    if re.fullmatch(REPO, base) and Path(base).suffix not in (".safetensors", ".gguf") and (revision or base == name):
        return base
    hint = guess(name, [*REGISTRY, *SHORT]) or f" Known: {', '.join(REGISTRY)}."
    raise InputError(f"model is {quoted(name)}, which is no known name, no folder and no repo id.{hint}")


def revision_of(name: str) -> str | None:
    """The revision to load: the one in ``repo@revision``, else the registry's; None if there is neither."""
    base, _, revision = name.partition("@")
    spec = known(base)
    return (None if os.path.isdir(name) else revision) or (spec.revision if spec else "") or None


def _refusals(folder: Path) -> Iterator[str]:
    """What keeps a checkpoint in `folder` from being used, each as the rest of a sentence about it."""
    if list(folder.glob("adapter_*")):
        yield ADAPTER
    if not os.path.isfile(folder / "config.json"):
        yield "is no checkpoint: it has no config.json."
    if not list(folder.glob("*.safetensors")):
        other = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)]
        found = f" It has {other[0]}, but pickled weights can run code and are not loaded." if other else ""
        yield f"has no weights: no *.safetensors file.{found}"
    config = read_object(folder / "config.json")
    if (folder / "generation_config.json").exists():
        read_object(folder / "generation_config.json")  # transformers would pass over a damaged one
    for name, most in LARGEST.items():
        if isinstance(size := config.get(name), int) and size > most:
            yield f"has {name}={quoted(size)} in config.json; models of up to {most:,} are loaded."
    for path in filter(Path.exists, (folder / "config.json", folder / "tokenizer_config.json")):
        own = read_object(path)
        kernel = "/" in str(own.get("_attn_implementation"))  # a repo id, whose code transformers would fetch and run
        if "auto_map" in own or kernel:
            code = "_attn_implementation" if kernel else "auto_map"
            yield f"brings its own code ({code} in {path.name}), which is not run."
    # The files that config.json and the indices of a checkpoint in several files name as its weights.
    maps = [read_object(path).get("weight_map") for path in folder.glob("*.safetensors.index.json")]
    named = {name for one in maps if isinstance(one, dict) for name in one.values()}
    for name in map(str, named | ({config["transformers_weights"]} if config.get("transformers_weights") else set())):
        if not re.fullmatch(r"[^/\\]+\.safetensors(\.index\.json)?", name):
            yield f"names {name!r} as weights; only *.safetensors in it are loaded, as pickled ones can run code."
    if (method := quantization_of(config)) not in (None, NF4_METHOD):
        yield f"was quantized by {method!r}, which is not supported; give the checkpoint it came from."
    for path in folder.glob("*.safetensors") if method is None else ():
        if not path.is_file():
            yield f"has {path.name}, which is no file that can be read."
        elif said := _cut_off(path):
            yield said
        with suppress(SafetensorError, OSError), safe_open(path, "np") as file:  # loading says what is wrong with it
            for name in file.keys():  # noqa: SIM118
                kind = file.get_slice(name).get_dtype()
                if visible(name) != name:  # it would act on a terminal
                    yield f"has weights named {name!r}; names are in printable characters."
                if name.endswith("weight") and kind not in FLOATS:
                    yield f"has {name} in {kind}; weights are in {', '.join(FLOATS)}."


def _cut_off(path: Path) -> str:
    """What a safetensors file lacks that is shorter than its header says; nothing for any other file.

    The header, a length in 8 bytes and so much JSON, says where the bytes of each tensor begin and end after it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length < min(size, MOST) else b"{}"
    try:
        ends = {name: 8 + length + each["data_offsets"][1] for name, each in json.loads(header).items() if name != META}
        first = min((end, name) for name, end in ends.items() if end > size)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):  # loading says what it is
        return ""
    tensor = f"its tensor {visible(first[1])} ends at {first[0]:,}, the last one at {max(ends.values()):,}"
    return f"has {path.name}, which is cut off: it has {size:,} bytes, and {tensor}."


def quantization_of(config: dict[str, Any]) -> Any:
    """The method that quantized the weights, as config.json names it; None if they are as they were trained."""
    found = config.get("quantization_config")
    return found.get("quant_method", "an unknown method") if isinstance(found, dict) else found
