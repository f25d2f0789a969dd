"""One run: one model, one prompt style, all temperatures; every parameter checked before a model is loaded.

Draws are kept part by part as they are made (see `study.parts`); summary and run.json are written at the end.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from lmrel import files, records
from lmrel.decoding import Decoder, as_shipped, decoders_id, pure
from lmrel.engine.memory import check_size, rows_that_fit
from lmrel.engine.probes import check_model, check_tree
from lmrel.errors import InputError
from lmrel.models import load_model, resolve, resolve_precision
from lmrel.parameters import Parameters, Sampling, table
from lmrel.precision import bits_per_weight, precision_of
from lmrel.problems import load_problems
from lmrel.prompts import read_template
from lmrel.registry import label
from lmrel.sampling import check_decidable, draw
from lmrel.sources import rows_of
from lmrel.stats.inference import summarize_with_intervals
from lmrel.tokens import AS_IS, Prepared, encode_problems, eos_ids
from study import parts
from study.determinism import determinism
from study.shards import combined_records, deal_problems, finished_shard, join_shards, shard_folder

IPYTHON_NAMES = frozenset({"In", "Out", "get_ipython", "exit", "quit", "open"})
PLAIN = (str, int, float, list, tuple, dict, type(None), Path, np.generic)
VERSIONED = ("lmrel", "torch", "transformers", "tokenizers", "accelerate", "bitsandbytes", "pandas", "numpy", "pyarrow")


@table
class Run(Parameters):
    """One run by its parameters. To construct it checks their values and touches no disk; see `open`."""

    @classmethod
    def from_namespace(cls, namespace: Mapping[str, Any]) -> Run:
        """The run that a notebook's globals describe; a plain value under a name that is no parameter is mistyped."""
        known = [field.name for field in fields(cls)]
        strange = [
            name
            for name, value in namespace.items()
            if not (name in known or name.startswith("_") or name in IPYTHON_NAMES) and isinstance(value, PLAIN)
        ]
        return cls(**{name: namespace[name] for name in [*known, *strange] if name in namespace})

    def open(self) -> pd.DataFrame:
        """The run's problems, once all is refused that can be before a model is loaded: its model's files, its
        problems, a folder that cannot be written or holds another run. Raises `InputError`.
        """
        resolve(self.model)
        resolve_precision(self.model, self.precision)
        if self.template is not None:
            read_template(self.template)
        problems = self.problem_table()
        if self.stop == "decided":
            check_decidable(rows_of(problems), self.answer)
        if self.shards > len(problems):
            raise InputError(f"shards is {self.shards}; there are only {len(problems)} problems to deal out.")
        if self.shard is not None:
            problems = deal_problems(problems, self.shards, self.shard)
        check_size(len(problems) * self.n_draws)
        parts.check_writable(self.folder)
        parts.tidy(self.folder)
        if not self.replace:
            parts.refuse_other(self.folder, self.identifying())
        return problems

    def problem_table(self) -> pd.DataFrame:
        """All its problems, those of other shards included."""
        return load_problems(self.problems, self.limit, self.columns)

    @property
    def folder(self) -> Path:
        """Where it writes: `output_dir`, or a shard's folder below."""
        folder = Path(self.output_dir)
        return folder if self.shard is None else shard_folder(folder, self.shards, self.shard)

    def identifying(self) -> dict[str, Any]:
        """The parameters that make it this run and no other; into how many shards it was divided does not."""
        other = {"output_dir", "replace", "determinism"} | ({"shards", "shard"} if self.shard is None else set())
        return {name: value for name, value in asdict(self).items() if name not in other}

    @property
    def record(self) -> dict[str, Any]:
        """The run.json of a finished run."""
        found: dict[str, Any] = json.loads((self.folder / records.RUN).read_text(encoding="utf-8"))
        return found

    @property
    def subtitle(self) -> str:
        """The line below the title of a finished run's figures: prompt style, decoding, and the id of its decoders."""
        prompt = self.prompt_style if self.template is None else Path(self.template).name
        return f"{prompt} · {self.kind} · decoders {self.record['decoding_id']}"

    @property
    def kind(self) -> str:
        """What tables call its decoders: as `decoding` says, or custom if it sets a knob itself."""
        return "custom" if self.knobs else self.decoding

    def decoders(self, model: PreTrainedModel) -> list[Decoder]:
        """One per temperature, every knob explicit."""
        knobs: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "stop": self.stop, **self.knobs}
        if self.decoding == "pure":
            return [pure(temperature, **knobs) for temperature in self.temperatures]
        return [as_shipped(temperature, model.generation_config, **knobs) for temperature in self.temperatures]

    def inputs(self, problems: pd.DataFrame) -> dict[str, Any]:
        """What the draws depend on besides the parameters, as far as that is known without loading the model."""
        local = Path(resolve(self.model))  # no folder for a repo id: there is a revision
        weights = [local] if local.is_file() else sorted(local.glob("*.safetensors"))
        config = sorted([*local.glob("*.json"), *local.glob("*.jinja")])  # of the model and the tokenizer
        return {
            "precision": resolve_precision(self.model, self.precision),
            "versions": versions(),
            "hashes": {
                "code": parts.code_hash(),
                "problems": parts.problems_hash(problems),
                "weights": files.sha256(*weights) if weights else None,
                "config": files.sha256(*config) if config else None,
                "template": files.sha256(Path(self.template)) if self.template else None,
            },
        }

    def carry_out(self, progress: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Write draws.parquet, summary.parquet and, last, run.json. Returns draws and summary.

        A folder that holds this run, finished, keeps its draws, and with more runs they are extended; only where draws
        are to be made a model is loaded. With several shards and none named, the shards' draws are joined.
        """
        problems = self.open()
        inputs = self.inputs(problems)
        kept = parts.finished(self.folder, self.identifying(), inputs)
        if kept and (kept["parameters"]["runs"] == self.runs or set(self.temperatures) == {0}):
            return self._finish(kept)
        if self.shards > 1 and self.shard is None:
            return self._join(problems, inputs)
        return self._draw(problems, inputs, kept, progress)

    def _draw(
        self, problems: pd.DataFrame, inputs: dict[str, Any], kept: dict[str, Any], progress: bool
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """All draws but those that are `kept`, part by part."""
        began, clock = datetime.now(UTC), time.perf_counter()
        bar = tqdm(total=len(problems), unit="problem", disable=not progress, desc="loading")
        model, tokenizer = load_model(self.model, self.precision)
        decoders = self.decoders(model)
        if self.decoding == "as_shipped":
            bar.write(added_by_checkpoint(decoders))
        bar.set_description("checking")
        loaded = time.perf_counter()
        environment = {
            **inputs,
            "precision": precision_of(model),
            "decoders": [decoder.describe() for decoder in decoders],
            "revision": getattr(model.config, "_commit_hash", None),
            "bits_per_weight": dict(zip(("blocks", "wide_share"), bits_per_weight(model), strict=True)),
            "chat_template": bool(tokenizer.chat_template),
            "device": torch.cuda.get_device_name() if model.device.type == "cuda" else f"cpu ({platform.machine()})",
            "threads": torch.get_num_threads(),
            "ends": eos_ids(model, tokenizer),
        }
        rows = rows_of(problems)
        shape = (self.template, self.system, self.chat_template)
        prepared = Prepared(rows, encode_problems(rows, self.prompt_style, tokenizer, *shape))
        tqdm.write(f"the first prompt:\n{tokenizer.decode(prepared.ids[0], **AS_IS)}", file=sys.stderr)
        environment["prompts"] = _hash(prepared.ids)
        check_model(model, prepared.ids, self.max_new_tokens)
        check_tree(model, prepared.ids, self.max_new_tokens)
        fits = rows_that_fit(model, max(map(len, prepared.ids)), decoders, self.runs)
        probed = 4 if self.determinism else 0
        probe = determinism(model, tokenizer, prepared, decoders, self.runs, self.seed, probed)
        bar.set_description("drawing")
        checked = time.perf_counter()
        name = decoders_id(decoders)
        first, old = (kept["parameters"]["runs"], records.read_draws(self.folder)) if kept else (0, None)
        due = [decoder for decoder in decoders if decoder.n_draws(self.runs) > first]
        if old is not None and set(old["prompt"]) != {tokenizer.decode(ids, **AS_IS) for ids in prepared.ids}:
            raise InputError(f"{self.folder} holds draws from other prompts; give another output_dir.")
        identity = {"parameters": self.identifying(), **environment}
        with parts.opened(self.folder, identity, min(fits, parts.BLOCK), replace=self.replace) as (place, block):
            asked = Sampling(
                self.runs, first, self.seed, self.prompt_style, *shape, self.answer, block, label(self.model), self.kind
            )

            def drawn(some: pd.DataFrame) -> pd.DataFrame:
                block_of = slice(int(some.index[0]), int(some.index[-1]) + 1)
                new = draw(model, tokenizer, prepared[block_of], due, asked)
                bar.update(len(some))
                return new if old is None else parts.merged(old, new, some, self.temperatures)

            paths = parts.complete(place, name, problems, block, self.n_draws, drawn)
            bar.close()
            sampled = time.perf_counter()
            parts.join_parts(paths, self.folder)
            record = {
                "parameters": asdict(self),
                "decoding_id": name,
                **environment,
                "determinism": probe,
                "started": began.isoformat(timespec="seconds"),
                "seconds": {
                    "load": round(loaded - clock, 2),
                    "check": round(checked - loaded, 2),
                    "sample": round(sampled - checked, 2),
                },
            }
            return self._finish(combined_records([kept, record], record) if kept else record)

    def _join(self, problems: pd.DataFrame, inputs: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The draws of all shards, which are finished; no model is loaded."""
        folders, found = [], []
        for shard in range(self.shards):
            dealt = parts.problems_hash(deal_problems(problems, self.shards, shard))
            parameters = {**self.identifying(), "shards": self.shards, "shard": shard}
            expected = {**inputs, "hashes": {**inputs["hashes"], "problems": dealt}}
            folders.append(shard_folder(Path(self.output_dir), self.shards, shard))
            found.append(finished_shard(folders[-1], parameters, expected))
        record = combined_records(found, found[0]) | {"prompts": _hash([each["prompts"] for each in found])}
        identity = {"parameters": self.identifying(), **inputs}
        with parts.opened(self.folder, identity, parts.BLOCK, replace=self.replace):
            join_shards(folders, self.folder, len(problems), self.n_draws)
            return self._finish({**record, "hashes": inputs["hashes"]})

    def _finish(self, record: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Summarize the draws that are there, and write the record last."""
        draws = records.read_draws(self.folder)
        summary = summarize_with_intervals(draws)
        hashes = {
            "draws": files.sha256(self.folder / records.DRAWS),
            "summary": files.sha256(files.write_table(summary, self.folder / records.SUMMARY)),
        }
        made = {"parameters": asdict(self), "draws": len(draws), "sha256": hashes}
        files.write_json({**record, **made}, self.folder / records.RUN)
        return draws, summary


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results may depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONED}}


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
