"""How a model is loaded: a name from the registry, a local folder, or a repo id becomes a model and its tokenizer.

Weights are read from safetensors only, code only from transformers itself; a checkpoint that would need anything
else is refused before transformers sees it. Whatever goes wrong ends in one sentence that says what to do.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors as hub
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from lmrel.checkpoint import ADAPTER, quantization_of, resolve, revision_of
from lmrel.engine.memory import free_memory
from lmrel.errors import InputError, check_choice
from lmrel.files import read_object
from lmrel.parameters import PRECISIONS
from lmrel.precision import check_narrow, precision_of
from lmrel.registry import NF4_METHOD, REGISTRY, ModelSpec, known

SMALL, THREADS = 20_000_000, torch.get_num_threads()
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "nf4": torch.bfloat16}
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")  # by another's service, of pickles


def resolve_precision(name: str, precision: str) -> str:
    """`precision`, with ``"auto"`` made explicit: the registry's, or bf16 on CUDA and fp32 on a CPU."""
    check_choice("precision", precision, PRECISIONS)
    quantized = _quantized_folder(name)
    if precision not in ("auto", "nf4") and quantized:
        raise InputError(f"precision is {precision!r}, but {name} was saved in nf4.")
    if precision != "auto":
        return precision
    if quantized:
        return "nf4"
    if spec := known(name):
        return spec.precision
    return "bf16" if torch.cuda.is_available() else "fp32"


def _quantized_folder(name: str) -> bool:
    config = Path(name) / "config.json"
    return name not in REGISTRY and os.path.isfile(config) and quantization_of(read_object(config)) == NF4_METHOD


def load_model(name: str, precision: str = "auto") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in eval mode and its tokenizer.

    `precision` is ``"fp32"``, ``"bf16"``, ``"fp16"``, ``"nf4"`` (4-bit weights, bf16 compute) or ``"auto"``. The model
    goes to the GPU where there is one, or spreads over several; on a CPU, torch is set to one thread for a small model.
    Raises `InputError`, before any weight is read, for a name or precision that cannot be used or memory that does not
    suffice, and when the checkpoint cannot be downloaded or loaded.
    """
    source, precision = resolve(name), resolve_precision(name, precision)
    spec, cuda, folder = known(name.partition("@")[0]), torch.cuda.is_available(), source
    settings: dict[str, Any] = {"revision": revision_of(name), "trust_remote_code": False}
    several = torch.cuda.device_count() > 1
    devices: dict[str, Any] = {"device_map": "auto" if several else {"": "cuda" if cuda else "cpu"}}
    if spec:
        _check_memory(spec, precision)
    try:
        if precision == "nf4":
            from lmrel.nf4 import Nf4Config

            if not _quantized_folder(name):
                devices["quantization_config"] = Nf4Config()
        if source.endswith(".gguf"):
            folder, settings["gguf_file"] = os.path.split(source)
            devices["quantization_config"] = GgufConfig(dequantize=True)
        elif find_adapter_config_file(source, revision=settings["revision"]):
            raise InputError(f"{source} {ADAPTER}")
        tokenizer = _tokenizer(folder or ".", **settings)
        model, loading = _model(folder or ".", dtype=DTYPES[precision], **settings, **devices)
    except InputError:
        raise
    except Exception as error:  # whatever transformers, its hub client or a damaged file comes up with
        raise InputError(explained(error, name, source, precision)) from error
    offloaded = {"cpu", "disk"} & set(map(str, getattr(model, "hf_device_map", {}).values()))
    missing, unknown = sorted(loading["missing_keys"]), sorted(loading["unexpected_keys"])
    for key, found, wanted in sorted(loading["mismatched_keys"]):
        raise InputError(f"{source} has {key} of shape {tuple(found)}, and its config.json asks for {tuple(wanted)}.")
    if missing:
        raise InputError(f"{source} lacks {len(missing)} of the model's weights, {missing[0]} among them.")
    if unknown:
        left = "weights that its config.json leaves no room for, such as"
        raise InputError(f"{source} has {len(unknown)} {left} {unknown[0]}.")
    if (found := precision_of(model)) != precision:
        raise InputError(f"{name} was asked for in {precision} and came in {found}, which is not supported.")
    if cuda and offloaded:
        raise InputError(f"{name} in {precision} does not fit on the GPUs of this machine.{_way_out(spec, precision)}")
    if precision == "nf4":
        check_narrow(model)
    backend = getattr(tokenizer, "backend_tokenizer", None)  # of a tokenizer in Python: none
    if backend and getattr(backend.model, "dropout", None):
        backend.model.dropout = None  # left over from its training: the same text would be other tokens each time
    if spec and not spec.instruct:
        tokenizer.chat_template = None  # some base models ship one; they were not trained on it
    # Of a .gguf file transformers notes its folder alone, and of a repo no revision.
    model.config.name_or_path = source if source == name else source + "".join(name.partition("@")[1:])
    # On a CPU a model this small loses more by handing work from thread to thread than it gains.
    torch.set_num_threads(1 if not cuda and model.num_parameters() < SMALL else THREADS)
    return model.eval().requires_grad_(False), tokenizer


def _model(source: str, **settings: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model and what loading it met: with `sdpa` attention, or `eager` where transformers has no other for it.

    Trees bring their own; only the plain forwards beside them use it.
    """
    for attention in ("sdpa", "eager"):
        try:
            found: tuple[PreTrainedModel, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(
                source,
                attn_implementation=attention,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused by `load_model`, in words
                **settings,
            )
            break
        except ValueError as error:  # before any weight is read
            if attention == "eager" or "scaled_dot_product_attention" not in str(error):
                raise
    return found


def _tokenizer(source: str, **settings: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint: as its tokenizer.json says, where it has one.

    From a class that its configuration names transformers may build another one, with other ids for the same text.
    """
    if "gguf_file" in settings or not cached_file(
        source, "tokenizer.json", revision=settings["revision"], _raise_exceptions_for_missing_entries=False
    ):
        return AutoTokenizer.from_pretrained(source, **settings)
    return PreTrainedTokenizerFast.from_pretrained(source, **settings)


def _check_memory(spec: ModelSpec, precision: str) -> None:
    devices = [torch.device("cuda", i) for i in range(torch.cuda.device_count())] or [torch.device("cpu")]
    free, needed = sum(map(free_memory, devices)), spec.weights(precision)
    if needed > free:
        what = f"the weights of {spec.name} in {precision} alone take {needed / 1e9:.0f} GB"
        raise InputError(f"{what}, and {free / 1e9:.0f} GB are free.{_way_out(spec, precision, free)}")


def _way_out(spec: ModelSpec | None, precision: str, free: float = math.inf) -> str:
    if precision == "nf4" or (spec and spec.weights("nf4") > free):
        return " Use a larger machine."
    return f" With precision 'nf4' it takes {spec.weights('nf4') / 1e9:.0f} GB." if spec else " Use precision 'nf4'."


def explained(error: Exception, name: str, source: str, precision: str) -> str:
    """Why a checkpoint could not be loaded and what to do, in one sentence or two."""
    causes = list(_causes(error))
    text = "; ".join(dict.fromkeys(" ".join(str(cause).split()) for cause in causes))

    def any_of(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if any_of(hub.GatedRepoError) or "gated repo" in text:
        return f"{source} is gated: accept its terms on its page, then set HF_TOKEN to a token of your account."
    if any_of(hub.RevisionNotFoundError):
        return f"{source} no longer has the revision that the registry names; download it and give its folder."
    if any_of(hub.RepositoryNotFoundError):
        return (
            f"there is no repo {source}, or it is private: check the name, or set HF_TOKEN to a token that may read it"
        )
    if any_of(hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, ConnectionError) or "couldn't connect" in text:
        why = "could not be downloaded, as there is no connection to its hub, and it is not in the local cache"
        return f"{source} {why}; connect, or give a folder that holds it."
    if any_of(torch.OutOfMemoryError, MemoryError) or "out of memory" in text.lower():
        return f"out of memory while loading {name} in {precision}.{_way_out(known(name), precision)}"
    if any(isinstance(cause, OSError) and cause.errno == errno.ENOSPC for cause in causes):
        return f"the disk is full: {source} could not be stored; free some space or set HF_HOME to another disk."
    if precision == "nf4" and ("bitsandbytes" in text.lower() or any_of(ImportError)):
        return f"precision is 'nf4', but bitsandbytes cannot be used here ({text[:200]}); use 'bf16' or 'fp32'."
    if "tiktoken" in text:  # what transformers tries last, and asks for, where sentencepiece is missing
        return f"{source} has no tokenizer.json; if it has a tokenizer.model, install sentencepiece, which reads it."
    if "Unrecognized configuration class" in text or "not supported for" in text:
        return f"{source} is no causal language model that transformers knows."
    if "safetensors" in text and ("does not appear to have" in text or "no file named" in text):
        return f"{source} has no weights as safetensors; pickled weights can run code and are not loaded."
    return f"model {name!r} could not be loaded from {source}: {text[:500]}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
