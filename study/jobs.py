"""The study in study.yaml: its models, the jobs that evaluate them, and what each job asks for.

The Snakefile runs these jobs, `study.progress` tells how far they are. No model is loaded, nor torch.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lmrel.errors import MAX_RUNS, InputError, check_choice, check_count, check_number, guess, quoted
from lmrel.files import LONGEST, as_path, read_object, read_text
from lmrel.problems import load_problems
from lmrel.prompts import PROMPT_STYLES
from lmrel.registry import PRECISIONS, REGISTRY
from study import costs
from study.shards import shard_folder

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "evaluate.ipynb"
RESULTS = Path("results")
LIVE = "live"  # the book's own folder there
ROW_MB = 0.002  # memory of a draw while a run is summarized: 720,240 of them took 1.45 GB
OWN = ("model", "output_dir", "replace", "shards", "shard")  # parameters that a study gives itself
CHOICES = {  # the last two as in `lmrel.decoding`, which needs torch
    "precision": PRECISIONS,
    "prompt_style": PROMPT_STYLES,
    "decoding": ("pure", "as_shipped"),
    "stop": ("eos", "decided"),
}
KEYS = ("models", "parameters", "shards", "gpu_gb", "requests")


def run_name(model: str) -> str:
    """The folder below results/ of a model's run: its own name or path, in what is neither a path nor code anywhere."""
    parts = [part for part in model.split("/") if part.strip(".")]
    name = re.sub(r"[^\w.-]", "_", "--".join(parts)).lstrip(".-")
    if name in ("", LIVE):
        lack = "the name of a folder that the book keeps" if name else "no name"
        raise InputError(f"models in study.yaml has {model!r}, which gives its run {lack}.")
    if len(name.encode()) > LONGEST:
        raise InputError(
            f"models in study.yaml has {quoted(model)}, which gives its run a name of over {LONGEST} bytes."
        )
    return name


def defaults() -> dict[str, Any]:
    """The parameters of evaluate.ipynb and their values there."""
    cells = read_object(NOTEBOOK, "cells")["cells"]
    source = next("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    lines = [line for line in ast.parse(source).body if isinstance(line, ast.Assign)]
    return {ast.unparse(line.targets[0]): ast.literal_eval(line.value) for line in lines}


def _completed(parameters: Any) -> dict[str, Any]:
    """`parameters` of a study, with the defaults for the others. `InputError` for what evaluate.ipynb would refuse."""
    if not isinstance(parameters, dict):
        raise InputError(f"parameters in study.yaml is {quoted(parameters)}; it must hold those of evaluate.ipynb.")
    known = defaults()
    for name in OWN:
        known.pop(name)
        if name in parameters:
            raise InputError(f"parameters in study.yaml has {name!r}, which the study gives to each job itself.")
    for name in parameters:
        if name not in known:
            raise InputError(
                f"parameters in study.yaml has {quoted(name)}.{guess(name, known)} It may have {', '.join(known)}."
            )
    given = known | parameters
    temperatures = given["temperatures"]
    if not isinstance(temperatures, list) or not temperatures:
        raise InputError(f"temperatures in study.yaml is {quoted(temperatures)}; it must be a list such as [0.0, 0.7].")
    for temperature in temperatures:
        check_number("temperature in study.yaml", temperature, 0.0, 10.0)
    if len(set(temperatures)) < len(temperatures):
        raise InputError(f"temperatures in study.yaml is {quoted(temperatures)}; each may occur once.")
    check_count("runs in study.yaml", given["runs"], most=MAX_RUNS)
    check_count("max_new_tokens in study.yaml", given["max_new_tokens"], most=32_768)
    check_number("seed in study.yaml", given["seed"], -1e300, 1e300, whole=True)
    for name, allowed in CHOICES.items():
        check_choice(f"{name} in study.yaml", given[name], allowed)
    return given


@dataclass(frozen=True)
class Job:
    """One model, or one shard of one; its folder, and the parameters of evaluate.ipynb."""

    run: str
    shard: int | None
    shards: int
    folder: Path
    parameters: dict[str, Any]

    @property
    def name(self) -> str:
        """For people."""
        return self.run if self.shard is None else f"{self.run}, shard {self.shard} of {self.shards}"


@dataclass(frozen=True)
class Study:
    """`runs` are folders below results/ and the model of each; `asked` is what a job of each run asks for.

    `joining` is what a job asks for that only joins shards. A problem has `draws`.
    """

    runs: dict[str, str]
    parameters: dict[str, Any]
    shards: dict[str, int]
    asked: dict[str, dict[str, int]]
    joining: dict[str, int]
    draws: int
    problems: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Study:
        """From what study.yaml holds. `InputError` for what it may not hold, or a model that its GPUs cannot."""
        if not isinstance(config, Mapping):
            raise InputError(f"study.yaml holds {quoted(config)}; it must have {', '.join(KEYS[:2])}.")
        for name in config:
            if name not in KEYS:
                raise InputError(f"study.yaml has {quoted(name)}; it may have {', '.join(KEYS)}.")
        models = config.get("models")
        if not isinstance(models, list) or not models or not all(isinstance(m, str) and m for m in models):
            raise InputError(
                f"models in study.yaml is {quoted(models)}; it must be a list of names, folders or repo ids."
            )
        for model in models:
            as_path("a model in study.yaml", model)
        runs = {run_name(model): model for model in models}
        if len(runs) < len(models):
            raise InputError(f"models in study.yaml is {quoted(models)}; each may occur once.")
        for model in models:  # a repo id has a slash
            if model not in REGISTRY and "/" not in model and not Path(model).is_dir():
                hint = guess(model, REGISTRY) or f" Known: {', '.join(REGISTRY)}."
                raise InputError(
                    f"models in study.yaml has {quoted(model)}, which is no known name, no folder and no repo id.{hint}"
                )
        given = _completed(config.get("parameters"))
        requests, shards, gpu_gb = config.get("requests") or {}, config.get("shards", 1), config.get("gpu_gb", 40)
        check_count("shards in study.yaml", shards)
        if not isinstance(requests, dict):
            raise InputError(
                f"requests in study.yaml is {quoted(requests)}; it must hold models and what they ask for."
            )
        for model, own in requests.items():
            if model not in models or not isinstance(own, dict):
                known = f"the models are {', '.join(models)}"
                raise InputError(
                    f"requests in study.yaml has {quoted(model)}: {quoted(own)}; {known}, and each may have numbers."
                )
        draws = sum(1 if temperature == 0 else given["runs"] for temperature in given["temperatures"])
        problems, precision = len(load_problems(given["problems"], given["limit"])), given["precision"]
        divided, asked = {}, {}
        for run, model in runs.items():
            own = dict(requests.get(model, {}))
            divided[run] = own.pop("shards", shards)
            check_count(f"shards, requested for {model},", divided[run], most=problems)
            costs.check_request(model, precision, gpu_gb, own)
            usual = costs.request(model, precision, gpu_gb)
            usual["mem_mb"] += math.ceil(ROW_MB * draws * problems / divided[run])
            asked[run] = usual | own
        joining = {"gpu": 0, "mem_mb": 4000 + math.ceil(ROW_MB * draws * problems), "runtime": 60}
        return cls(runs, dict(config["parameters"]), divided, asked, joining, draws, problems)

    @classmethod
    def read(cls, path: Path = Path("study.yaml")) -> Study:
        """From a file."""
        try:
            config = yaml.safe_load(read_text(path))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}.") from error
        if not isinstance(config, dict):
            raise InputError(f"{path} holds no study: it must have {', '.join(KEYS[:2])}.")
        return cls.of(config)

    def evaluation(self, run: str, shard: int | None = None) -> dict[str, Any]:
        """The parameters of evaluate.ipynb: for one shard, to join all of them, or for a run that is not divided."""
        given = self.parameters | {"model": self.runs[run], "output_dir": str(RESULTS / run), "replace": True}
        if self.shards[run] > 1:
            given["shards"] = self.shards[run]
        return given if shard is None else given | {"shard": shard}

    def folders(self, run: str) -> list[Path]:
        """Of its shards; none where it is not divided."""
        count = self.shards[run]
        return [shard_folder(RESULTS / run, count, shard) for shard in range(count)] if count > 1 else []

    def jobs(self) -> list[Job]:
        """All that draw, model by model."""
        jobs = []
        for run, count in self.shards.items():
            folders = self.folders(run)
            for shard, place in enumerate(folders or [RESULTS / run]):
                one = shard if folders else None
                jobs.append(Job(run, one, count, place, self.evaluation(run, one)))
        return jobs
