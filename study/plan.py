"""What a start of a study would do: what is missing, about how long that takes, and which draws would be replaced.

It reads results/ and the study's files, and is told which jobs Snakemake takes to be due; what hours rest on is said in
`study.costs`. No model is loaded, nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrel import files
from lmrel.errors import InputError
from lmrel.parameters import Parameters, served
from lmrel.problems import load_problems
from lmrel.records import RUN
from study import costs, parts
from study.code import ASKED_BY, DRAWN_BY
from study.jobs import Condition, Job, Study
from study.progress import duration
from study.shards import deal_problems

LETS_GO = (
    "Nothing was started. REPLACE=1 lets them go; a condition of another name keeps them; what is unfinished may be "
    "finished first, as it was begun, and then extended."
)
DATA = Path(__file__).resolve().parent.parent / "book" / "data"


@dataclass(frozen=True)
class Outlook:
    """What a start would do with a run, or a shard of one.

    Each of `problems` would get `missing` draws; `replaced` draws that are there would go, as `why` says.
    """

    problems: int
    missing: int
    replaced: int
    why: str


def outlook(study: Study, job: Job, *, weights: bool = False) -> Outlook:
    """What a start would do with a job of `study`; large `weights`, which take long, are read only if asked for.

    The book's own runs follow its code and its checkpoints, so that only what its study.yaml says can be undone.
    """
    parameters = Parameters(**job.parameters)
    identity, inputs = parts.identifying(parameters), _inputs(parameters, weights)
    try:
        done, begun = (look(job.folder, identity, inputs) for look in (parts.held, parts.begun))
    except OSError as error:
        raise InputError(f"{job.folder} cannot be read: {error.strerror}.") from error
    if study.own:
        undone = [parts.Held(each.record, _of_the_file(each.differs)) for each in (done, begun)]
    else:
        done = parts.Held(done.record, {}) if done.kept(identity) else done
        undone = [done, begun]
    goes = [each for each in undone if each.differs]
    kept = done.record["draws"] // job.problems if done.same else 0
    missing = parameters.n_draws - kept
    complete = begun.record["draws"] // parameters.n_draws if begun.same else 0  # problems of which there is a part
    return Outlook(
        job.problems - complete if missing else 0,
        missing,
        sum(each.record["draws"] for each in goes),
        "; ".join(dict.fromkeys(each.said() for each in goes)),
    )


def _of_the_file(differs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: pair for name, pair in differs.items() if not name.startswith("hashes.")}


def _inputs(parameters: Parameters, weights: bool) -> dict[str, Any]:
    """What draws depend on beside the parameters; the `weights` of a large model only if they are asked for."""
    problems = load_problems(parameters.problems, parameters.limit, parameters.columns)
    if parameters.shard is not None:
        problems = deal_problems(problems, parameters.shards, parameters.shard)
    away, size = served(parameters.model), costs.size(parameters.model, parameters.precision)
    read = not away and (weights or (size is not None and size.small))
    return {
        "hashes": {
            "code": parts.code_hash(*(ASKED_BY if away else DRAWN_BY)),
            "problems": parts.problems_hash(problems),
            "template": files.sha256(Path(parameters.template)) if parameters.template else None,
            **(parts.checkpoint_hashes(parameters.model) if read else {}),
        }
    }


def to_join(study: Study, condition: Condition) -> list[Path]:
    """The folders of the shards that a run is joined of; none where it is not divided.

    A complete run needs no shards that are not there; those that are stay, as other inputs would make it due again.
    """
    folders = condition.shard_folders()
    if not folders or all((folder / RUN).exists() for folder in folders):
        return folders
    whole, *_ = condition.all_jobs()
    found = outlook(study, whole)
    return folders if found.missing or found.replaced else []


def _stranded(condition: Condition) -> tuple[int, str]:
    """Draws that were made among another number of jobs, and would be made again; and what is to be said of them.

    Where the run was joined they are in it, and are none of these.
    """
    if (condition.folder / RUN).exists():
        return 0, ""
    known = {job.folder for job in condition.jobs()}
    found: dict[int, int] = {}
    for path in [condition.folder, *condition.folder.glob("shards/*-of-*")]:
        if path not in known and (count := parts.count_draws(path)):
            shards = 1 if path == condition.folder else int(path.name.rpartition("-")[2])
            found[shards] = found.get(shards, 0) + count
    return sum(found.values()), ", ".join(f"shards {before} → {condition.shards}" for before in found)


def replacements(study: Study, *, weights: bool = False) -> dict[str, str]:
    """A line for each condition of which a start would replace draws, saying how many and why; see `outlook`."""
    lines = {}
    for condition in study.conditions.values():
        whole, *shards = (outlook(study, job, weights=weights) for job in condition.all_jobs())
        left, why = _stranded(condition)
        found = [each.why for each in (whole, *shards) if each.replaced] + [why] * bool(left)
        if found:
            count = max(whole.replaced, sum(each.replaced for each in shards)) + left  # what shards drew was joined
            lines[condition.name] = f"{condition.name}: replaces {count:,} draws: {found[0]}"
    return lines


def refuse(study: Study) -> None:
    """Raise `InputError` if a start would replace draws that are there."""
    if lines := replacements(study):
        raise InputError("\n".join([*lines.values(), LETS_GO]))


def due(output: str) -> list[dict[str, str]]:
    """The jobs in what ``snakemake --dry-run`` prints: of each its wildcards and, under ``rule``, its rule."""
    jobs = []
    for block in re.split(r"^(?=rule \w+:$)", output, flags=re.M)[1:]:
        wildcards = re.search(r"^    wildcards: (.*)$", block, re.M)
        pairs = [pair.split("=", 1) for pair in wildcards.group(1).split(", ")] if wildcards else []
        jobs.append({"rule": block.split()[1].rstrip(":")} | {name: value for name, value in pairs})
    return jobs


def report(study: Study, jobs: Sequence[Mapping[str, str]], measured: costs.Measured) -> str:
    """What ``make study DRY=1`` prints: a line for each job that would run, about how long all of them draw, what goes.

    `jobs` are as from `due`. Hours are of the draws that are missing.
    """
    known = {(job.run, job.shard): job for job in study.jobs()}
    lines: list[str] = []
    spent: dict[str, list[costs.Estimate]] = {"GPU": [], "CPU": []}
    for each in jobs:
        run, rule = each.get("run", ""), each["rule"]
        if rule not in ("evaluate", "evaluate_shard"):
            continue
        condition = study.conditions[run]
        if rule == "evaluate" and condition.shards > 1:
            lines.append(f"{run}: join {condition.shards} shards")
            continue
        job = known[run, int(each["shard"]) if "shard" in each else None]
        found = outlook(study, job)
        if not found.problems:
            lines.append(f"{job.name}: its page; no draw is missing")
            continue
        taken = _estimate(condition, found, measured)
        gpus = condition.asked["gpu"]
        spent["GPU" if gpus else "CPU"].append(costs.Estimate(taken.seconds * max(gpus, 1), taken.basis))
        asked = ", ".join(f"{what} {value}" for what, value in condition.asked.items())
        draws = f"{found.problems * found.missing:,} draws"
        lines.append(f"{job.name}: evaluate, {draws}, about {duration(taken.seconds)}, {taken.basis} ({asked})")
    count = len(lines)
    totals = [
        f"{duration(sum(each.seconds for each in some))} of {kind} time ({', '.join({each.basis: 0 for each in some})})"
        for kind, some in spent.items()
        if some
    ]
    said = f"; drawing takes about {' and '.join(totals)}, to which loading adds" if totals else ""
    lines.append(f"{count} jobs{said}" if count else "nothing would run: all is done")
    lines += [f"{folder}: no condition of this study any more; it stays as it is" for folder in study.left()]
    if gone := replacements(study):
        lines += [*gone.values(), "This is refused without REPLACE=1."]
    return "\n".join(lines)


def _estimate(condition: Condition, found: Outlook, measured: costs.Measured) -> costs.Estimate:
    given = condition.parameters
    if served(given.model):
        return costs.Estimate(0.0, "as fast as its server")
    return costs.estimate(given.model, given.precision, found.missing, found.problems, measured, stop=given.stop)
