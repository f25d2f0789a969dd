"""A study: the conditions that its file describes, each a run with a name and a folder, and the jobs that draw them.

The Snakefile runs these jobs, `study.progress` tells how far they are. No model is loaded, nor torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import yaml

from lmrel.checkpoint import resolve
from lmrel.errors import InputError, check_count, quoted, visible
from lmrel.files import read_text
from lmrel.parameters import LONGEST_NAME, Allowed, Parameters, is_path, real, served, table, whole
from lmrel.problems import load_problems
from lmrel.prompts import read_template
from lmrel.records import RUN
from study import costs
from study.shards import shard_folder

RESULTS = Path("results")
BOOK = Path("study.yaml")  # the book's own study, whose runs lie in `RESULTS` itself
STUDIES = "studies"  # the folder there of all other studies
RESERVED = ("live", STUDIES, "study.ipynb", "study.log")  # what else lies beside the folders of runs
NAME = r"\w[\w.-]*"  # what is neither a path nor code anywhere
ROW_MB = 0.002  # memory of a draw while a run is summarized: 720,240 of them took 1.45 GB
OWN = ("output_dir", "replace", "shards", "shard")  # parameters that a study gives itself
MODELS = Allowed(
    "a list of names, folders or repo ids",
    lambda found: isinstance(found, list) and len(found) > 0 and all(map(is_path, found)),
)
NAMED = Allowed("names and values", lambda found: isinstance(found, dict), lambda found: {} if found is None else found)
CONDITIONS = Allowed(
    "a list, each entry with a model and any other parameters",
    lambda found: isinstance(found, list) and len(found) > 0 and all(isinstance(each, dict) for each in found),
)
AXIS = "a list of values of one parameter, or names, each with parameters of its own"


@table
class StudyFile:
    """What the file of a study may hold: `models`, or `conditions`, or both."""

    models: Annotated[list[str] | None, MODELS] = None
    parameters: Annotated[dict[str, Any] | None, NAMED] = None
    grid: Annotated[dict[str, Any] | None, NAMED] = None
    conditions: Annotated[list[dict[str, Any]] | None, CONDITIONS] = None
    shards: Annotated[int, whole(1, 10**6)] = 1
    gpu_gb: Annotated[float, real(0.0, 1e6, above=True)] = 40
    requests: Annotated[dict[str, Any] | None, NAMED] = None


@dataclass(frozen=True)
class Job:
    """One condition, or one shard of one; its folder, and the parameters of evaluate.ipynb."""

    run: str
    shard: int | None
    shards: int
    folder: Path
    parameters: dict[str, Any]
    problems: int  # those that it draws

    @property
    def name(self) -> str:
        """How a report names the job: by its condition and, where that is divided, its shard."""
        return self.run if self.shard is None else f"{self.run}, shard {self.shard} of {self.shards}"

    @property
    def log(self) -> Path:
        """What it says while it runs."""
        return self.folder / "evaluate.log"

    @property
    def failed(self) -> Path:
        """The file that `study.runner` leaves if the last try failed."""
        return self.folder / "evaluate.failed.txt"

    @property
    def why(self) -> str:
        """Why the last try failed, in a line; a line for no known reason too."""
        with suppress(OSError, ValueError, IndexError):
            return visible(self.failed.read_text(encoding="utf-8").splitlines()[0].removeprefix("InputError: "))
        return "no reason is known"


@dataclass(frozen=True)
class Condition:
    """One condition of a study, ready to be planned.

    `given` holds the parameters of its run that the file gives, the model among them, and `parameters` all of them. It
    has so many `problems`; its jobs are as many as `shards`, each asks for what is in `asked`, and one that only joins
    shards for what is in `joining`.
    """

    name: str
    given: dict[str, Any]
    parameters: Parameters
    folder: Path
    problems: int
    shards: int
    asked: dict[str, int]
    joining: dict[str, int]

    def evaluation(self, shard: int | None = None) -> dict[str, Any]:
        """The parameters of evaluate.ipynb: for one shard, to join all of them, or for a run that is not divided."""
        given = self.given | {"output_dir": str(self.folder)}
        given |= {"shards": self.shards} if self.shards > 1 else {}
        return given if shard is None else given | {"shard": shard}

    def shard_folders(self) -> list[Path]:
        """The folders of the shards; none where it is not divided."""
        return [shard_folder(self.folder, self.shards, shard) for shard in range(self.shards if self.shards > 1 else 0)]

    def all_jobs(self) -> list[Job]:
        """The job that draws all of it or, where it is divided, joins what its shards drew; and those of its shards."""
        n = self.shards
        whole = Job(self.name, None, n, self.folder, self.evaluation(), self.problems)
        shards = [
            Job(self.name, shard, n, folder, self.evaluation(shard), len(range(shard, self.problems, n)))
            for shard, folder in enumerate(self.shard_folders())
        ]
        return [whole, *shards]

    def jobs(self) -> list[Job]:
        """The jobs that draw; one that only joins shards is not among them."""
        whole, *shards = self.all_jobs()
        return shards or [whole]


class _Loader(yaml.SafeLoader):
    """YAML in which no name stands twice: of two values the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; a ``yaml.YAMLError`` for a name that it has already."""
        names = [self.construct_object(name, deep=True) for name, _ in node.value]
        for number, (name, (place, _)) in enumerate(zip(names, node.value, strict=True)):
            if name in names[:number]:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} stands there twice", place.start_mark)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Study:
    """A study, ready to be planned: its conditions by name, each with a folder of its own below `folder`."""

    name: str
    folder: Path
    conditions: dict[str, Condition]

    @classmethod
    def of(cls, config: Any, source: Path = BOOK) -> Study:
        """The study that the file `source` describes by `config`, what YAML makes of it.

        Raises `InputError` for what a run would refuse, for unknown names, for a model that a job could not resolve and
        for one that its GPUs cannot hold.
        """
        if not isinstance(config, Mapping):
            raise InputError(f"{source} holds {quoted(config)}; it must have models or conditions.")
        if source != BOOK and not re.fullmatch(NAME, source.stem):
            raise InputError(f"{source} would give its study the name {quoted(source.stem)}; rename the file.")
        folder = RESULTS if source == BOOK else RESULTS / STUDIES / source.stem
        try:
            asked_for = StudyFile(**{str(name): value for name, value in config.items()})
            requests = _requests(asked_for, given := named(asked_for))
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
        conditions = {}
        for name, each in given.items():
            try:
                conditions[name] = _condition(name, each, folder / name, asked_for, requests.get(name, {}))
            except InputError as error:
                which = f" (condition {name})" if len(given) > 1 else ""
                raise InputError(f"{source}: {error}{which}") from error
        return cls(source.stem, folder, conditions)

    @classmethod
    def read(cls, path: Path = BOOK) -> Study:
        """The study that the file at `path` describes."""
        try:
            config = yaml.load(read_text(path), Loader=_Loader)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
        return cls.of(config, BOOK if path.resolve() == BOOK.resolve() else path)

    @property
    def own(self) -> bool:
        """Whether it is the book's own study."""
        return self.folder == RESULTS

    @property
    def temperatures(self) -> list[float]:
        """The lowest and the highest temperature of those that all conditions have, at which they are compared.

        Where all share fewer than two, of those that any has; one where there is no more.
        """
        each = [set(condition.parameters.temperatures) for condition in self.conditions.values()]
        shared, any_of = set.intersection(*each), set.union(*each)
        found = sorted(shared if len(shared) > 1 else any_of)
        return list(dict.fromkeys([found[0], found[-1]]))

    def jobs(self) -> list[Job]:
        """All jobs that draw, condition by condition."""
        return [job for condition in self.conditions.values() for job in condition.jobs()]

    def left(self) -> list[Path]:
        """The folders of runs, finished or not, that are no condition any more; none for the book's own study."""
        begun = [] if self.own else [*self.folder.glob(f"*/**/{RUN}")]
        names = sorted({path.relative_to(self.folder).parts[0] for path in begun} - set(self.conditions))
        return [self.folder / name for name in names]


def run_name(model: str) -> str:
    """The name of a condition that has only a model: its own name or path, in what is neither a path nor code."""
    parts = [part for part in model.split("/") if part.strip(".~")]
    return re.sub(r"[^\w.-]", "_", "--".join(parts)).lstrip(".-")


def named(asked_for: StudyFile) -> dict[str, dict[str, Any]]:
    """The conditions of a study's file in their order, by name: of each, the parameters that differ from the defaults.

    The grid is the product of the models and of its axes; a condition of it is named after its model and its place on
    each axis, one of the list as it says or like those. `InputError` for a name that two would have, or that is none.
    """
    shared, found = asked_for.parameters or {}, dict[str, dict[str, Any]]()
    for model in [*(asked_for.models or []), *(each.get("model") for each in asked_for.conditions or [])]:
        if isinstance(model, str):
            Parameters(model)  # an address that may hold a password is refused before it names anything
    listed = [*_grid(asked_for), *_listed(asked_for)]
    if own := [name for name in (*OWN, "model") if name in shared]:
        raise InputError(f"parameters has {own[0]!r}, which the study gives to each job itself.")
    if not listed:
        raise InputError("it has neither models nor conditions.")
    for name, given in listed:
        if own := [each for each in OWN if each in given]:
            raise InputError(f"condition {quoted(name)} has {own[0]!r}, which the study gives to each job itself.")
        if not isinstance(name, str) or not re.fullmatch(NAME, name) or len(name.encode()) > LONGEST_NAME:
            allowed = (
                f"letters, digits, '_', '-' and '.', in quotes if it is a number or such, at most {LONGEST_NAME} bytes"
            )
            raise InputError(
                f"the condition of {quoted(given['model'])} has the name {quoted(name)}; it may have {allowed}."
            )
        if name in RESERVED:
            raise InputError(f"a condition has the name {name!r}, which is that of a folder that the book keeps.")
        if twin := [other for other in found if other.casefold() == name.casefold()]:  # one folder, on some systems
            both = f"the name {name!r}" if name in twin else f"the names {twin[0]!r} and {name!r}"
            raise InputError(f"two conditions have {both}; give each a name of its own, or leave one out.")
        found[name] = {str(key): value for key, value in {**shared, **given}.items()}
    return found


def _grid(asked_for: StudyFile) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Name and parameters of each condition of the grid."""
    if asked_for.models is None and asked_for.grid:
        raise InputError("it has a grid and no models.")
    axes = [_axis(name, values) for name, values in (asked_for.grid or {}).items()]
    models = [(run_name(model), {"model": model}) for model in asked_for.models or []]
    for levels in product(models, *axes):
        given: dict[str, Any] = {}
        for _, parameters in levels:
            if twice := [name for name in parameters if name in given]:
                raise InputError(f"two axes of the grid give {twice[0]!r}.")
            given |= parameters
        yield "-".join(name for name, _ in levels), given


def _axis(name: str, values: Any) -> list[tuple[str, dict[str, Any]]]:
    """Name and parameters of each level of an axis."""
    if isinstance(values, list) and values:
        return [(_word(name, value, number), {name: value}) for number, value in enumerate(values, start=1)]
    if isinstance(values, dict) and values and all(isinstance(level, dict | None) for level in values.values()):
        if odd := [level for level in values if not isinstance(level, str)]:
            raise InputError(f"grid has {quoted(name)} with a level named {quoted(odd[0])}; put it in quotes.")
        return [(level, parameters or {}) for level, parameters in values.items()]
    raise InputError(f"grid has {quoted(name)}: {quoted(values)}; it must be {AXIS}.")


def _word(name: str, value: Any, number: int) -> str:
    """How a condition's name says that a parameter has a value, the `number`-th of its axis."""
    if value is None:
        return f"no-{name}"
    if isinstance(value, str) and re.fullmatch(NAME, word := Path(value).stem or "-"):
        return word
    return f"{name}-{value}" if isinstance(value, (int, float)) else f"{name}-{number}"


def _listed(asked_for: StudyFile) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Name and parameters of each condition that is listed."""
    for number, each in enumerate(asked_for.conditions or [], start=1):
        if not is_path(each.get("model")):
            raise InputError(f"conditions has {quoted(each)}; each must have a model.")
        given = {name: value for name, value in each.items() if name != "name"}
        words = [_word(str(name), value, number) for name, value in given.items() if name != "model"]
        yield each.get("name", "-".join([run_name(each["model"]), *words])), given


def _requests(asked_for: StudyFile, given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the jobs of each condition ask for instead: what is said of its model, then what is said of itself."""
    requests = asked_for.requests or {}
    models = [each["model"] for each in given.values()]
    for name, own_request in requests.items():
        if name not in [*given, *models] or not isinstance(own_request, dict):
            listed = f"the conditions are {', '.join(given)}"
            raise InputError(
                f"requests has {quoted(name)}: {quoted(own_request)}; {listed}, and each may have numbers."
            )
    return {name: {**requests.get(each["model"], {}), **requests.get(name, {})} for name, each in given.items()}


def _condition(
    name: str, given: dict[str, Any], folder: Path, asked_for: StudyFile, requested: dict[str, Any]
) -> Condition:
    """A condition whose parameters, model, template and problems were all looked at, as its jobs will."""
    parameters = Parameters(**given)
    model, gpu_gb = parameters.model, asked_for.gpu_gb
    if not served(model):
        resolve(model)
    if parameters.template is not None:
        read_template(parameters.template)
    problems = len(load_problems(parameters.problems, parameters.limit, parameters.columns))
    shards = requested.pop("shards", asked_for.shards)
    check_count(f"shards, requested for {name},", shards, most=problems)
    costs.check_request(model, parameters.precision, gpu_gb, requested)
    usual, table_mb = costs.request(model, parameters.precision, gpu_gb), ROW_MB * parameters.n_draws * problems
    usual["mem_mb"] += math.ceil(table_mb / shards)
    joining = {"gpu": 0, "mem_mb": 4000 + math.ceil(table_mb), "runtime": 60}
    return Condition(name, given, parameters, folder, problems, shards, usual | requested, joining)
