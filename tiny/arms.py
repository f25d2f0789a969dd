"""The experiment on training targets: its models (arms), their order, and what is measured of each.

``python -m tiny.arms`` trains and measures what is missing, one after the other, and leaves a file of exact outcomes
and entropies of each model in ``book/data/arms/``. What stands is not made again, a killed training goes on, a model of
which a measure is missing is measured again if its weights are there, and ``--list`` says how far.
The plan is on the book's page "The plan of the second experiment".
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmrel import files
from lmrel.decoding import Decoder
from lmrel.errors import InputError, command, needs_columns
from lmrel.models import load_model
from lmrel.problems import as_rows, paper_problems
from lmrel.registry import CHECKPOINTS
from lmrel.sampling import sample
from tiny import factorial, measures, targets, train
from tiny.batches import STAGES

DATA = Path(__file__).resolve().parent.parent / "book" / "data" / "arms"
PLANNED: dict[str, Any] = {"precisions": ("fp32",), "styles": ("few_shot",)}
KINDS = ("dense", "sparse")
PASSES = [  # seeds and stages, in the plan's order and as its end changes it
    ((0, 1, 2), ["base", "continued", "rule", "slips", "forms", "own", "soft"]),
    ((0, 1, 2), ["few-right", "few-slips", "right-100", "slips-100", "right-400", "slips-400", "continued-noisy"]),
    ((0, 1, 2), ["base-right", "late-slips"]),
    ((0, 1, 2), ["right-6400", "slips-6400"]),
    ((3, 4, 5), ["base", "continued", "slips"]),
]
ORDER = [
    (seed, f"tiny-{kind}-{stage}") for seeds, stages in PASSES for seed in seeds for stage in stages for kind in KINDS
]
ROOT = Path(__file__).resolve().parent.parent
# The files that training depends on: all of this room but what measures, and what makes problems and prompts.
MEASURES = [ROOT / "tiny" / f"{name}.py" for name in ("arms", "factorial", "measures")]
CODE = sorted({*ROOT.glob("tiny/*.py")} - {*MEASURES})
CODE += [ROOT / "lmrel" / f"{name}.py" for name in ("problems", "prompts", "tokens")]
MEASURED_BY = [*MEASURES, ROOT / "lmrel/enumeration.py", *sorted(ROOT.glob("lmrel/engine/*.py"))]
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


def places(seed: int) -> tuple[Path, Path]:
    """The folders for a seed's models, never where they ship, and for the states that killed trainings go on from."""
    folder = Path("training") / f"seed-{seed}"
    return folder, folder / "state"


def shipped(name: str, seed: int, out: Path) -> None:
    """Copy the base model that `name` starts from to `out`, if it is one that ships and is not there yet."""
    kind = name.split("-")[1]
    base = f"tiny-{kind}-base"
    if seed == 0 and not (out / base).exists():
        half = out / f".{base}"
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(CHECKPOINTS / base, half)
        half.rename(out / base)


@needs_columns("problem_id", "task", "answer")
def as_taught(problems: pd.DataFrame, stage: str, base: Path) -> pd.DataFrame:
    """Those of `problems` to which a stage teaches a wrong answer for certain, with that in column ``answer``.

    `base` is the folder of the base model, whose own answers the stage ``own`` teaches.
    """
    if stage == "rule":
        taught = pd.Series([targets.by_rule(row) for row in as_rows(problems)], index=problems.index, dtype="Int64")
    elif stage == "own":
        draws = sample(*load_model(str(base), "fp32"), problems, [Decoder(0.0, stop="decided")])
        taught = pd.Series(draws["extracted"].to_numpy(), index=problems.index, dtype="Int64")
    else:
        return problems.iloc[:0]
    return problems.assign(answer=taught)[(taught != problems["answer"]).fillna(False)]


def measure(folder: Path, seed: int) -> pd.DataFrame:
    """Exact outcomes of a checkpoint in the planned setting, as by `factorial.measure_checkpoint`, and more metrics.

    They are those of `measures.entropies`; of a stage that teaches wrong answers for certain ``taught``, how often an
    answer is the one that the stage teaches, right or wrong; and of forms ``form_entropy``, at temperature 1.
    """
    _, kind, stage = folder.name.split("-", 2)
    problems, loaded = paper_problems(), load_model(str(folder), "fp32")
    table = factorial.measure_checkpoint(folder, seed, **PLANNED)
    more = [measures.entropies(*loaded, problems, factorial.GRID)]
    if stage == "forms":
        bits = measures.form_entropy(*loaded, problems).to_numpy()
        rows = problems[["problem_id"]].assign(temperature=1.0, metric="form_entropy", lower=bits, upper=bits)
        more.append(rows)
    others = as_taught(problems, stage, folder.with_name(f"tiny-{kind}-base"))
    if len(others):
        found = factorial.measure_checkpoint(folder, seed, problems=others, **PLANNED)
        same = table[~table["problem_id"].isin(others["problem_id"])]
        more.append(pd.concat([same, found]).query("metric == 'correct'").assign(metric="taught"))
    every = pd.concat([table, *more], ignore_index=True)
    setting = {name: table[name].iloc[0] for name in factorial.SETTING}
    every = every.drop(columns="task").merge(problems[["problem_id", "task"]]).assign(**setting)
    return every.astype({"lower": "float32", "upper": "float32"})[table.columns]


def measured_by(folder: Path, seed: int) -> dict[str, Any]:
    """What a model in `folder` was measured by, and of few slips how many of those on its pages it has by heart."""
    _, _, stage = folder.name.split("-", 2)
    found: dict[str, Any] = {"code": hashes(MEASURED_BY), "versions": versions()}
    if stage == "few-slips":
        right, slips = measures.reproduced(*load_model(str(folder), "fp32"), STAGES[stage], seed)
        found |= {"slips on the pages": slips, "reproduced": right}
    return found


def origin(folder: Path, seed: int) -> dict[str, Any]:
    """What the model in `folder` was made by: its stage, hashes of weights and code, versions."""
    _, kind, stage = folder.name.split("-", 2)
    weights, start = "model.safetensors", STAGES[stage].start
    source = folder.with_name(f"tiny-{kind}-{start}") / weights
    return {
        "model": folder.name,
        "seed": seed,
        "stage": asdict(STAGES[stage]),
        "weights": files.sha256(folder / weights),
        "started from": files.sha256(source) if start else None,
        "code": hashes(CODE),
        "versions": versions(),
        "machine": platform.machine(),
    }


def hashes(paths: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of files of the project, by their paths in it."""
    return {str(path.relative_to(ROOT)): files.sha256(path) for path in paths}


def versions() -> dict[str, str]:
    """The versions of what a training's numbers depend on."""
    return {name: version(name) for name in ("lmrel", *LIBRARIES)} | {"python": platform.python_version()}


def made_by(folder: Path, seed: int, path: Path) -> dict[str, Any]:
    """What `origin` says, or said when the file at `path` was first written; `InputError` for other weights."""
    if not path.exists():
        return origin(folder, seed)
    first = about(path)
    if first["weights"] != files.sha256(folder / "model.safetensors"):
        raise InputError(f"{folder} holds other weights than {path} was measured of; move one of them away.")
    return first


def write(table: pd.DataFrame, about: dict[str, Any], path: Path) -> Path:
    """Write `table` as Parquet, with `about` as JSON under ``lmrel`` in its metadata."""
    content = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata({"lmrel": json.dumps(about)})
    return files.atomically(path, lambda temporary: pq.write_table(content, temporary))


def about(path: Path) -> dict[str, Any]:
    """What `write` noted in the file at `path` beside its table."""
    found: dict[str, Any] = json.loads(pq.read_schema(path).metadata[b"lmrel"])
    return found


@command()
def main() -> None:
    """Train and measure the models that the command line names, or all, as far as they are missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", help="some of them, bases first; all by default")
    parser.add_argument("--seed", type=int, choices=range(6), help="one seed; all by default")
    parser.add_argument("--list", action="store_true", help="only say which there are, and which are measured")
    arguments = parser.parse_args()
    for name in arguments.models:
        if name not in {known for _, known in ORDER}:
            raise InputError(f"{name!r} is no model of this experiment; --list says which are.")
    for seed, name in ORDER:
        if (arguments.models and name not in arguments.models) or arguments.seed not in (None, seed):
            continue
        path = DATA / f"{seed}-{name}.parquet"
        whole = path.exists() and "measured" in about(path)
        if arguments.list:
            print("measured" if whole else "in part " if path.exists() else "missing ", seed, name)
            continue
        if not whole:
            out, work = places(seed)
            shipped(name, seed, out)
            trained = (out / name / train.LAST_WRITTEN).exists()
            if path.exists() and not trained:
                print(f"{path} lacks measures, and the weights are not in {out / name}", flush=True)
                continue
            folder = out / name if trained else train.train(name, None, out, work, seed)
            said = made_by(folder, seed, path) | {"measured": measured_by(folder, seed)}
            DATA.mkdir(parents=True, exist_ok=True)
            write(measure(folder, seed), said, path)
        print(path, flush=True)


if __name__ == "__main__":
    main()
