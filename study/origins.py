"""Where a run's draws come from: a model that is loaded here, or one behind a server.

Both know what their draws depend on, get ready to draw, and then draw some problems at a time. What becomes of the
draws is `study.run`'s business.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Protocol

import pandas as pd
import torch
from tqdm import tqdm
from transformers import GenerationConfig

from lmrel import server
from lmrel.checkpoint import resolve
from lmrel.client import connect
from lmrel.decoding import Decoder, as_shipped, pure
from lmrel.engine.forest import shared_header
from lmrel.engine.memory import rows_that_fit
from lmrel.engine.probes import check_model, check_tree
from lmrel.models import load_model, resolve_precision
from lmrel.parameters import Parameters, Sampling, Serving, served
from lmrel.precision import bits_per_weight, precision_of
from lmrel.problems import Problem
from lmrel.prompts import rendered
from lmrel.registry import label
from lmrel.sampling import draw
from lmrel.tokens import AS_IS, Prepared, encode_problems, eos_ids
from study import parts
from study.code import ASKED_BY, DRAWN_BY
from study.determinism import NOT_TRIED, determinism

VERSIONED = ("lmrel", "torch", "transformers", "tokenizers", "accelerate", "bitsandbytes", "pandas", "numpy", "pyarrow")
SERVED_PART = 16  # problems in a part: what a kill loses was paid for

Draw = Callable[[slice, Sequence[Decoder], int, int], pd.DataFrame]


@dataclass(frozen=True)
class Ready:
    """All that is needed to draw.

    `environment` is what the draws depend on and `found` what else run.json should say; `prompts` are as the model is
    given them, `block` is how many problems are drawn at a time, `draw` makes the draws of a slice of the problems, of
    some decoders, from a run on, in chunks of so many problems. `seconds` were spent to ``load`` and to ``check``.
    """

    decoders: list[Decoder]
    environment: dict[str, Any]
    found: dict[str, Any]
    prompts: list[str]
    block: int
    draw: Draw
    seconds: dict[str, float]


class Origin(Protocol):
    """Where draws come from."""

    def check(self) -> None:
        """Raise `InputError` for what can be refused before a model is loaded or a server is asked."""

    def inputs(self) -> dict[str, Any]:
        """What the draws depend on besides the parameters, as far as that is known by then."""

    def ready(self, rows: Sequence[Problem], bar: tqdm[Any]) -> Ready:
        """Load or connect, and try out; `bar` shows what is being done."""


def origin_of(run: Parameters, kind: str) -> Origin:
    """Where the draws of a run come from; `kind` is what tables call its decoders."""
    return Served(run, kind) if served(run.model) else Local(run, kind)


@dataclass(frozen=True)
class Local:
    """A model that is loaded here."""

    run: Parameters
    kind: str

    def check(self) -> None:
        """See `Origin`."""
        resolve(self.run.model)
        resolve_precision(self.run.model, self.run.precision)

    def inputs(self) -> dict[str, Any]:
        """See `Origin`."""
        return {
            "precision": resolve_precision(self.run.model, self.run.precision),
            "versions": versions(*VERSIONED),
            "hashes": {"code": parts.code_hash(*DRAWN_BY), **parts.checkpoint_hashes(self.run.model)},
        }

    def ready(self, rows: Sequence[Problem], bar: tqdm[Any]) -> Ready:
        """See `Origin`."""
        run, began = self.run, time.perf_counter()
        model, tokenizer = load_model(run.model, run.precision)
        decoders = decoders_of(run, model.generation_config)
        if run.decoding == "as_shipped":
            bar.write(added_by_checkpoint(decoders))
        bar.set_description("checking")
        loaded = time.perf_counter()
        environment = {
            "precision": precision_of(model),
            "revision": getattr(model.config, "_commit_hash", None),
            "bits_per_weight": dict(zip(("blocks", "wide_share"), bits_per_weight(model), strict=True)),
            "chat_template": bool(tokenizer.chat_template),
            "device": torch.cuda.get_device_name() if model.device.type == "cuda" else f"cpu ({platform.machine()})",
            "threads": torch.get_num_threads(),
            "ends": eos_ids(model, tokenizer),
        }
        shape = (run.template, run.system, run.chat_template, run.chat_template_kwargs)
        prepared = Prepared(rows, encode_problems(rows, run.prompt_style, tokenizer, *shape))
        environment["prompts"] = hash_of(prepared.ids)
        prompts = [tokenizer.decode(ids, **AS_IS) for ids in prepared.ids]
        tqdm.write(f"the first prompt:\n{prompts[0]}", file=sys.stderr)
        check_model(model, prepared.ids, run.max_new_tokens)
        check_tree(model, prepared.ids, run.max_new_tokens)
        fits = rows_that_fit(model, max(map(len, prepared.ids)), shared_header(prepared.ids), decoders, run.runs)
        probe = determinism(model, tokenizer, prepared, decoders, run.runs, run.seed, 4 if run.determinism else 0)

        def drawn(some: slice, due: Sequence[Decoder], first: int, chunk: int) -> pd.DataFrame:
            names = (run.answer, label(run.model), self.kind)
            asked = Sampling(run.runs, first, run.seed, run.prompt_style, *shape, *names, chunk)
            return draw(model, tokenizer, prepared[some], due, asked)

        seconds = {"load": loaded - began, "check": time.perf_counter() - loaded}
        return Ready(decoders, environment, {"determinism": probe}, prompts, min(fits, parts.BLOCK), drawn, seconds)


@dataclass(frozen=True)
class Served:
    """A model behind a server, which is asked only when there is something to draw."""

    run: Parameters
    kind: str

    def check(self) -> None:
        """See `Origin`; the table of parameters has refused what means nothing to a server."""

    def inputs(self) -> dict[str, Any]:
        """See `Origin`: of what the server itself runs, nothing is known."""
        code = parts.code_hash(*ASKED_BY)
        return {
            "precision": "served",
            "versions": versions("lmrel"),
            "hashes": {"code": code, "weights": None, "config": None},
        }

    def ready(self, rows: Sequence[Problem], bar: tqdm[Any]) -> Ready:
        """See `Origin`."""
        run, began = self.run, time.perf_counter()
        bar.set_description("asking the server")
        decoders = decoders_of(run)
        texts = rendered(rows, run.prompt_style, run.template)
        found = connect(run.model, texts[0], decoders, run.system, run.chat_template, run.chat_template_kwargs)
        prompts = [found.shown(text) for text in texts]
        tqdm.write("\n".join([*found.remarks, f"the first prompt:\n{prompts[0]}"]), file=sys.stderr)
        environment = {
            "precision": "served",
            "revision": None,
            "chat_template": found.chat,
            "device": found.url,
            "server": found.record,
            "prompts": hash_of(prompts),
        }
        tried = {"unverified": list(found.unverified), "logprobs": found.logprobs, "openai": version("openai")}
        shape = (run.prompt_style, run.template, run.system, run.chat_template, run.chat_template_kwargs)

        def drawn(some: slice, due: Sequence[Decoder], first: int, chunk: int) -> pd.DataFrame:
            names = (run.answer, label(run.model), self.kind)
            asked = Serving(run.runs, first, run.seed, *shape, *names, run.requests_at_once)
            return server.draw(found, rows[some], texts[some], due, asked)

        return Ready(
            decoders,
            environment,
            {"determinism": NOT_TRIED, "tried": tried},
            prompts,
            SERVED_PART,
            drawn,
            {"load": 0.0, "check": time.perf_counter() - began},
        )


def hash_of(value: Any) -> str:
    """One hash over what JSON can hold."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@cache
def versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of the `packages`, on which results may depend."""
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def decoders_of(run: Parameters, shipped: GenerationConfig | None = None) -> list[Decoder]:
    """One decoder per temperature, every knob explicit; `shipped` is the checkpoint's own generation config."""
    knobs: dict[str, Any] = {"max_new_tokens": run.max_new_tokens, "stop": run.stop, **run.knobs}
    if run.decoding == "pure":
        return [pure(temperature, **knobs) for temperature in run.temperatures]
    return [as_shipped(temperature, shipped, **knobs) for temperature in run.temperatures]


def added_by_checkpoint(decoders: Sequence[Decoder]) -> str:
    """What was asked and what the checkpoint's generation config added to it, a line a decoder."""
    lines = []
    for decoder in decoders:
        asked = pure(decoder.temperature, max_new_tokens=decoder.max_new_tokens, stop=decoder.stop)
        before, now = asdict(asked), asdict(decoder)
        added = ", ".join(f"{knob}={value!r}" for knob, value in now.items() if value != before[knob])
        who = f"asked for temperature {decoder.temperature:g}; the checkpoint and generate()"
        lines.append(f"{who} added {added or 'nothing'}")
    return "\n".join(lines)
