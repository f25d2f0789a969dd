"""One run: one model, one prompt style, all temperatures; every parameter checked before a model is loaded.

Draws are kept part by part as they are made (see `lmrel.parts`); summary and run.json are written at the end.
"""

from __future__ import annotations

import difflib
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from lmrel import parts, records
from lmrel.decoding import DECODINGS, Decoder, as_shipped, decoders_id, pure
from lmrel.errors import InputError, check_count
from lmrel.inference import summarize_with_intervals
from lmrel.models import bits_per_weight, load_model, precision_of, resolve, resolve_precision
from lmrel.probes import determinism
from lmrel.problems import load_problems
from lmrel.prompts import PROMPT_STYLES
from lmrel.sampling import check_seed, rows_that_fit, sample

IPYTHON_NAMES = frozenset({"In", "Out", "get_ipython", "exit", "quit", "open"})
PLAIN = (str, int, float, list, tuple, dict, type(None))
VERSIONED = ("lmrel", "torch", "transformers", "tokenizers", "accelerate", "bitsandbytes", "pandas", "numpy", "pyarrow")


@dataclass(frozen=True)
class Run:
    """The parameters of ``notebooks/evaluate.ipynb``, checked as far as that goes without loading the model."""

    model: str
    precision: str
    prompt_style: str
    decoding: str
    temperatures: tuple[float, ...]
    runs: int
    seed: int
    max_new_tokens: int
    stop: str
    problems: str
    limit: int | None
    output_dir: str
    replace: bool = False

    @classmethod
    def from_namespace(cls, namespace: Mapping[str, Any]) -> Run:
        """From a notebook's globals; a plain value under a name that is no parameter is a mistyped one."""
        given: dict[str, Any] = {
            name: value
            for name, value in namespace.items()
            if not name.startswith("_") and name not in IPYTHON_NAMES and isinstance(value, PLAIN)
        }
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise InputError(f"{name!r} is no parameter.{hint} The parameters are {', '.join(known)}.")
        return cls(**given)

    def __post_init__(self) -> None:
        temperatures = _list(self.temperatures)
        if not isinstance(temperatures, (list, tuple)) or not temperatures:
            raise InputError(f"temperatures is {self.temperatures!r}; it must be a list such as [0.0, 0.7].")
        object.__setattr__(self, "temperatures", tuple(temperatures))
        for temperature in self.temperatures:
            pure(temperature, max_new_tokens=self.max_new_tokens, stop=self.stop)
        if len(set(self.temperatures)) < len(self.temperatures):
            raise InputError(f"temperatures is {list(self.temperatures)!r}; each may occur once.")
        for name, allowed in (("prompt_style", PROMPT_STYLES), ("decoding", DECODINGS)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}.")
        check_count("runs", self.runs)
        check_seed(self.seed)
        for name in ("problems", "output_dir"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or "\0" in value:
                raise InputError(f"{name} is {value!r}; it must be a path.")
        resolve(self.model)
        resolve_precision(self.model, self.precision)
        load_problems(self.problems, self.limit)
        records.check_writable(Path(self.output_dir))
        if not isinstance(self.replace, bool):
            raise InputError(f"replace is {self.replace!r}; it must be True or False.")
        if not self.replace:
            parts.refuse_other(Path(self.output_dir), self.identifying())

    def identifying(self) -> dict[str, Any]:
        """The parameters that make it this run and no other."""
        return {name: value for name, value in asdict(self).items() if name not in ("output_dir", "replace")}

    @property
    def record(self) -> dict[str, Any]:
        """The run.json of a finished run."""
        found: dict[str, Any] = json.loads((Path(self.output_dir) / records.RUN).read_text(encoding="utf-8"))
        return found

    @property
    def subtitle(self) -> str:
        """For the figures of a finished run: prompt style, decoding, and the id of its decoders."""
        return f"{self.prompt_style} · {self.decoding} · decoders {self.record['decoding_id']}"

    def decoders(self, model: PreTrainedModel) -> list[Decoder]:
        """One per temperature, every knob explicit."""
        knobs: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "stop": self.stop}
        if self.decoding == "pure":
            return [pure(temperature, **knobs) for temperature in self.temperatures]
        return [as_shipped(temperature, model.generation_config, **knobs) for temperature in self.temperatures]

    def carry_out(self, progress: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Load, sample, and write draws.parquet, summary.parquet and, last, run.json. Returns draws and summary."""
        began, clock = datetime.now(UTC), time.perf_counter()
        problems = load_problems(self.problems, self.limit)
        model, tokenizer = load_model(self.model, self.precision)
        decoders = self.decoders(model)
        if self.decoding == "as_shipped":
            print(added_by_checkpoint(decoders))
        loaded = time.perf_counter()
        folder = Path(self.output_dir)
        local = Path(resolve(self.model))  # no folder for a repo id: there is a revision
        weights = sorted(local.glob("*.safetensors"))
        config = sorted([*local.glob("*.json"), *local.glob("*.jinja")])  # of the model and the tokenizer
        environment = {
            "precision": precision_of(model),
            "decoders": [decoder.describe() for decoder in decoders],
            "revision": getattr(model.config, "_commit_hash", None),
            "bits_per_weight": dict(zip(("blocks", "wide_share"), bits_per_weight(model), strict=True)),
            "chat_template": bool(tokenizer.chat_template),
            "device": torch.cuda.get_device_name() if model.device.type == "cuda" else f"cpu ({platform.machine()})",
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONED}},
            "hashes": {
                "code": parts.code_hash(),
                "problems": parts.problems_hash(problems),
                "weights": records.sha256(*weights) if weights else None,
                "config": records.sha256(*config) if config else None,
            },
        }
        settings: dict[str, Any] = {"runs": self.runs, "seed": self.seed, "prompt_style": self.prompt_style}
        probe = determinism(model, tokenizer, problems, decoders, **settings)
        bar = tqdm(total=len(problems), unit="problem", disable=not progress)
        fits = rows_that_fit(model, tokenizer, problems, decoders, self.runs, self.prompt_style)
        identity = {"parameters": self.identifying(), **environment}
        per_problem, name = sum(decoder.draws(self.runs) for decoder in decoders), decoders_id(decoders)
        labels: dict[str, Any] = {"model_name": Path(self.model).name, "decoding": self.decoding}
        with parts.opened(folder, identity, min(fits, parts.BLOCK), replace=self.replace) as (place, block):

            def draw(some: pd.DataFrame) -> pd.DataFrame:
                drawn = sample(model, tokenizer, some, decoders, chunk=block, **labels, **settings)
                bar.update(len(some))
                return drawn

            paths = parts.complete(place, name, problems, block, per_problem, draw)
            bar.close()
            sampled = time.perf_counter()
            hashes = {"draws": records.sha256(records.join_parts(paths, folder))}
            draws = records.read_draws(folder)
            summary = summarize_with_intervals(draws)
            hashes["summary"] = records.sha256(records.write_table(summary, folder / records.SUMMARY))
            record = {
                "parameters": asdict(self),
                "decoding_id": name,
                **environment,
                "determinism": probe,
                "started": began.isoformat(timespec="seconds"),
                "seconds": {"load": round(loaded - clock, 2), "sample": round(sampled - loaded, 2)},
                "draws": len(draws),
                "sha256": hashes,
            }
            records.write_json(record, folder / records.RUN)
        return draws, summary


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


def _list(value: Any) -> Any:
    """A list that came as text: papermill's ``-p`` parses numbers, but not lists."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value
