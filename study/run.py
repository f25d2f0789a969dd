"""One run: one model, one prompt style, all temperatures; every parameter checked before a model is loaded.

Draws are kept part by part as they are made (see `study.parts`); summary and run.json are written at the end.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from lmrel import files, records
from lmrel.decoding import Decoder, decoders_id
from lmrel.engine.memory import check_size
from lmrel.errors import InputError
from lmrel.parameters import Parameters, table
from lmrel.problems import load_problems
from lmrel.prompts import read_template
from lmrel.sampling import check_decidable
from lmrel.sources import rows_of
from lmrel.stats.inference import summarize_with_intervals
from study import parts
from study.origins import Origin, hash_of, origin_of
from study.shards import combined_records, deal_problems, finished_shard, join_shards, noted, shard_folder

IPYTHON_NAMES = frozenset({"In", "Out", "get_ipython", "exit", "quit", "open"})
PLAIN = (str, int, float, list, tuple, dict, type(None), Path, np.generic)


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
        self.origin.check()
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
        """The parameters that make it this run and no other."""
        return parts.identifying(self)

    @property
    def record(self) -> dict[str, Any]:
        """The run.json of a finished run."""
        found: dict[str, Any] = json.loads((self.folder / records.RUN).read_text(encoding="utf-8"))
        return found

    @property
    def subtitle(self) -> str:
        """The line below the title of a finished run's figures: prompt style, decoding, and the temperatures."""
        prompt = self.prompt_style if self.template is None else Path(self.template).name
        return f"{prompt} · {self.kind} · T = {', '.join(f'{temperature:g}' for temperature in self.temperatures)}"

    @property
    def kind(self) -> str:
        """What tables call its decoders: as `decoding` says, or custom if it sets a knob itself."""
        return "custom" if self.knobs else self.decoding

    @property
    def origin(self) -> Origin:
        """Where its draws come from: a model that is loaded here, or a server."""
        return origin_of(self, self.kind)

    def inputs(self, problems: pd.DataFrame) -> dict[str, Any]:
        """What the draws depend on besides the parameters, as far as that is known without loading the model."""
        found = self.origin.inputs()
        hashes = {
            **found["hashes"],
            "problems": parts.problems_hash(problems),
            "template": files.sha256(Path(self.template)) if self.template else None,
        }
        return {**found, "hashes": hashes}

    def carry_out(self, progress: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Write draws.parquet, summary.parquet and, last, run.json. Returns draws and summary.

        A folder that holds this run, finished, keeps its draws, and with more runs or temperatures they are extended;
        only where draws are to be made a model is loaded. Finished draws that depend on something that is another now
        are replaced if `replace` says so; else an `InputError` names it. If that is nothing but the code, and no draw
        is missing, they are kept. With several shards and none named, the shards' draws are joined.
        """
        problems = self.open()
        inputs = self.inputs(problems)
        held = parts.held(self.folder, self.identifying(), inputs)
        if held.kept(self.identifying()) and not (held.differs and self.replace):
            if held.differs:
                tqdm.write(f"{self.folder} is kept: its draws were made by another version of the code.", sys.stderr)
            return self._finish(held.record)
        if held.differs and not self.replace:
            raise InputError(
                f"{self.folder} holds {held.record['draws']:,} finished draws that this run would replace: "
                f"{held.said()}. Choose another output_dir, or pass replace=True."
            )
        if self.shards > 1 and self.shard is None:
            return self._join(problems, inputs)
        return self._draw(problems, inputs, held.record if held.same else {}, progress)

    def _draw(
        self, problems: pd.DataFrame, inputs: dict[str, Any], kept: dict[str, Any], progress: bool
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """All draws but those that are `kept`, part by part."""
        began = datetime.now(UTC)
        bar = tqdm(total=len(problems), unit="problem", disable=not progress, desc="loading")
        ready = self.origin.ready(rows_of(problems), bar)
        environment = {
            **inputs,
            **ready.environment,
            "decoders": [decoder.describe() for decoder in ready.decoders],
        }
        bar.set_description("drawing")
        checked = time.perf_counter()
        name = decoders_id(ready.decoders)
        old = records.read_draws(self.folder) if kept else None
        if kept and old is not None:
            self._check_extension(kept, old, environment, ready.prompts)
        due = self._due(ready.decoders, kept)
        identity = {"parameters": self.identifying(), **environment}
        with parts.opened(self.folder, identity, ready.block, replace=self.replace) as (place, begun):
            block = begun["block"]

            def drawn(some: pd.DataFrame) -> pd.DataFrame:
                place = slice(int(some.index[0]), int(some.index[-1]) + 1)
                new = pd.concat([ready.draw(place, decoders, first, block) for first, decoders in due.items()])
                bar.update(len(some))
                made = new if old is None else pd.concat([old, new], ignore_index=True)
                return parts.in_order(made, some, self.temperatures)

            paths = parts.complete(place, name, problems, block, self.n_draws, drawn)
            bar.close()
            sampled = time.perf_counter() - checked
            parts.join_parts(paths, self.folder)
            record = {
                "parameters": asdict(self),
                "decoding_id": name,
                **environment,
                **ready.found,
                **noted(begun["begun"], environment),
                "started": began.isoformat(timespec="seconds"),
                "seconds": {what: round(took, 2) for what, took in [*ready.seconds.items(), ("sample", sampled)]},
            }
            return self._finish(combined_records([kept, record], record) if kept else record)

    def _due(self, decoders: Sequence[Decoder], kept: dict[str, Any]) -> dict[int, list[Decoder]]:
        """The decoders with draws to be made, by the first run that each lacks."""
        due: dict[int, list[Decoder]] = {}
        for decoder in decoders:
            there = kept and decoder.temperature in kept["parameters"]["temperatures"]
            first = kept["parameters"]["runs"] if there else 0
            if decoder.n_draws(self.runs) > first:
                due.setdefault(first, []).append(decoder)
        return due

    def _check_extension(
        self, kept: dict[str, Any], old: pd.DataFrame, environment: dict[str, Any], prompts: Sequence[str]
    ) -> None:
        """Raise `InputError` where what was found out by loading the model is not what the `kept` draws rest on."""
        known = {what: value for what, value in environment.items() if what not in ("decoders", "prompts")}
        held = parts.Held(kept, parts.differences(kept, self.identifying(), known))
        if held.differs:
            raise InputError(
                f"{self.folder} holds draws that cannot be extended: {held.said()}; give another output_dir."
            )
        if set(old["prompt"]) != set(prompts):
            raise InputError(f"{self.folder} holds draws from other prompts; give another output_dir.")

    def _join(self, problems: pd.DataFrame, inputs: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The draws of all shards, which are finished; no model is loaded."""
        folders, found = [], []
        for shard in range(self.shards):
            dealt = parts.problems_hash(deal_problems(problems, self.shards, shard))
            parameters = {**self.identifying(), "shards": self.shards, "shard": shard}
            expected = {**inputs, "hashes": {**inputs["hashes"], "problems": dealt}}
            folders.append(shard_folder(Path(self.output_dir), self.shards, shard))
            found.append(finished_shard(folders[-1], parameters, expected))
        record = combined_records(found, found[0]) | {"prompts": hash_of([each["prompts"] for each in found])}
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
