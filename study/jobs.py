"""The study in study.yaml: its models, and the jobs that evaluate them.

The Snakefile runs these jobs, `study.progress` tells how far they are. No model is loaded, nor torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml

from lmrel.errors import InputError, check_count, guess, quoted
from lmrel.files import read_text
from lmrel.parameters import LONGEST_NAME, Allowed, Parameters, is_path, real, table, whole
from lmrel.problems import load_problems
from lmrel.prompts import read_template
from lmrel.registry import REGISTRY, known
from study import costs
from study.shards import shard_folder

RESULTS = Path("results")
LIVE = "live"  # the book's own folder there
ROW_MB = 0.002  # memory of a draw while a run is summarized: 720,240 of them took 1.45 GB
OWN = ("model", "output_dir", "replace", "shards", "shard")  # parameters that a study gives itself
MODELS = Allowed(
    "a list of names, folders or repo ids",
    lambda found: isinstance(found, list) and len(found) > 0 and all(map(is_path, found)),
)
NAMED = Allowed("names and values", lambda found: isinstance(found, dict), lambda found: {} if found is None else found)


@table
class StudyFile:
    """What a study.yaml may hold."""

    models: Annotated[list[str], MODELS]
    parameters: Annotated[dict[str, Any], NAMED]
    shards: Annotated[int, whole(1, 10**6)] = 1
    gpu_gb: Annotated[float, real(0.0, 1e6, above=True)] = 40
    requests: Annotated[dict[str, Any] | None, NAMED] = None


def run_name(model: str) -> str:
    """The folder below results/ of a model's run: its own name or path, in what is neither a path nor code anywhere."""
    parts = [part for part in model.split("/") if part.strip(".")]
    name = re.sub(r"[^\w.-]", "_", "--".join(parts)).lstrip(".-")
    if name in ("", LIVE):
        lack = "the name of a folder that the book keeps" if name else "no name"
        raise InputError(f"models has {quoted(model)}, which gives its run {lack}.")
    if len(name.encode()) > LONGEST_NAME:
        raise InputError(f"models has {quoted(model)}, which gives its run a name of over {LONGEST_NAME} bytes.")
    return name


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
        """How a report names the job: by its run and, where that is divided, its shard."""
        return self.run if self.shard is None else f"{self.run}, shard {self.shard} of {self.shards}"


@dataclass(frozen=True)
class Study:
    """A study, ready to be planned.

    `folders` holds the folder below results/ of each run and its model; `asked` what a job of each run asks for, and
    `joining` what a job asks for that only joins shards. There are `problems`, and each gets `n_draws` from a run.
    """

    folders: dict[str, str]
    parameters: dict[str, Any]
    shards: dict[str, int]
    asked: dict[str, dict[str, int]]
    joining: dict[str, int]
    n_draws: int
    problems: int

    @classmethod
    def of(cls, config: Any, source: str = "study.yaml") -> Study:
        """The study that `source` describes by `config`, what YAML makes of it.

        Raises `InputError` for what a run would refuse, for unknown names, and for a model that its GPUs cannot hold.
        """
        if not isinstance(config, Mapping):
            raise InputError(f"{source} holds {quoted(config)}; it must have models and parameters.")
        try:
            return cls._of(StudyFile(**{str(name): value for name, value in config.items()}))
        except InputError as error:
            raise InputError(f"{source}: {error}") from error

    @classmethod
    def _of(cls, asked_for: StudyFile) -> Study:
        models, parameters, requests = asked_for.models, asked_for.parameters, asked_for.requests or {}
        if own := [name for name in OWN if name in parameters]:
            raise InputError(f"parameters has {own[0]!r}, which the study gives to each job itself.")
        given, *_ = [Parameters(model, **{str(name): value for name, value in parameters.items()}) for model in models]
        folders = {run_name(model): model for model in models}
        if len(folders) < len(models):
            raise InputError(f"models is {quoted(models)}; each may occur once.")
        for model in models:  # a repo id has a slash
            if known(model.partition("@")[0]) is None and "/" not in model and not Path(model).is_dir():
                hint = guess(model, REGISTRY) or f" Known: {', '.join(REGISTRY)}."
                raise InputError(f"models has {quoted(model)}, which is no known name, no folder and no repo id.{hint}")
        for model, own_request in requests.items():
            if model not in models or not isinstance(own_request, dict):
                listed = f"the models are {', '.join(models)}"
                raise InputError(
                    f"requests has {quoted(model)}: {quoted(own_request)}; {listed}, and each may have numbers."
                )
        if given.template is not None:
            read_template(given.template)
        problems, table_mb = len(load_problems(given.problems, given.limit, given.columns)), ROW_MB * given.n_draws
        shards, asked = {}, {}
        for run, model in folders.items():
            own_request = dict(requests.get(model, {}))
            shards[run] = own_request.pop("shards", asked_for.shards)
            check_count(f"shards, requested for {model},", shards[run], most=problems)
            costs.check_request(model, given.precision, asked_for.gpu_gb, own_request)
            usual = costs.request(model, given.precision, asked_for.gpu_gb)
            usual["mem_mb"] += math.ceil(table_mb * problems / shards[run])
            asked[run] = usual | own_request
        joining = {"gpu": 0, "mem_mb": 4000 + math.ceil(table_mb * problems), "runtime": 60}
        return cls(folders, dict(parameters), shards, asked, joining, given.n_draws, problems)

    @classmethod
    def read(cls, path: Path = Path("study.yaml")) -> Study:
        """The study that the file at `path` describes."""
        try:
            config = yaml.safe_load(read_text(path))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}.") from error
        return cls.of(config, path.name)

    def evaluation(self, run: str, shard: int | None = None) -> dict[str, Any]:
        """The parameters of evaluate.ipynb: for one shard, to join all of them, or for a run that is not divided."""
        given = self.parameters | {"model": self.folders[run], "output_dir": str(RESULTS / run), "replace": True}
        if self.shards[run] > 1:
            given["shards"] = self.shards[run]
        return given if shard is None else given | {"shard": shard}

    def shard_folders(self, run: str) -> list[Path]:
        """The folders of a run's shards; none where it is not divided."""
        count = self.shards[run]
        return [shard_folder(RESULTS / run, count, shard) for shard in range(count)] if count > 1 else []

    def jobs(self) -> list[Job]:
        """All jobs that draw, model by model; those that only join shards are not among them."""
        jobs = []
        for run, count in self.shards.items():
            folders = self.shard_folders(run)
            for shard, place in enumerate(folders or [RESULTS / run]):
                one = shard if folders else None
                jobs.append(Job(run, one, count, place, self.evaluation(run, one)))
        return jobs
