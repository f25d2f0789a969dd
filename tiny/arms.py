"""The experiment on training targets: its models (arms), their order, and what is measured of each.

``python -m tiny.arms`` trains and measures what is missing, one after the other, and leaves a file of exact outcomes
of each model in ``book/data/arms/``. What stands is not made again, a killed training goes on, ``--list`` says how far.
The plan is on the book's page "The plan of the second experiment".
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
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
from tiny import factorial, targets, train
from tiny.batches import STAGES

DATA = Path(__file__).resolve().parent.parent / "book" / "data" / "arms"
PLANNED: dict[str, Any] = {"precisions": ("fp32",), "styles": ("few_shot",)}
KINDS = ("dense", "sparse")
MAIN = ["base", "continued", "rule", "slips", "forms", "own", "soft", "few-right", "few-slips"]
MAIN += ["right-100", "slips-100", "right-400", "slips-400", "continued-noisy"]
PASSES = [  # seeds and stages, in the plan's order
    ((0, 1, 2), MAIN),
    ((0, 1, 2), ["base-right", "late-slips"]),
    ((0, 1, 2), ["right-6400", "slips-6400"]),
    ((3, 4, 5), ["base", "continued", "slips"]),
]
ORDER = [
    (seed, f"tiny-{kind}-{stage}") for seeds, stages in PASSES for seed in seeds for stage in stages for kind in KINDS
]
ROOT = Path(__file__).resolve().parent.parent
# The files that training depends on, by path: all of this room, and what of the library makes problems and prompts.
CODE = [*sorted(ROOT.glob("tiny/*.py")), *(ROOT / "lmrel" / f"{name}.py" for name in ("problems", "prompts", "tokens"))]
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
    """Exact outcomes of a checkpoint in the planned setting, as by `factorial.measure_checkpoint`.

    Of a stage that teaches wrong answers for certain there is another metric, ``taught``: how often an answer is the
    one that the stage teaches, right or wrong.
    """
    _, kind, stage = folder.name.split("-", 2)
    table = factorial.measure_checkpoint(folder, seed, **PLANNED)
    others = as_taught(paper_problems(), stage, folder.with_name(f"tiny-{kind}-base"))
    if not len(others):
        return table
    found = factorial.measure_checkpoint(folder, seed, problems=others, **PLANNED)
    same = table[~table["problem_id"].isin(others["problem_id"])]
    taught = pd.concat([same, found]).query("metric == 'correct'").assign(metric="taught")
    return pd.concat([table, taught], ignore_index=True)


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
        "code": {str(path.relative_to(ROOT)): files.sha256(path) for path in CODE},
        "versions": {name: version(name) for name in ("lmrel", *LIBRARIES)} | {"python": platform.python_version()},
        "machine": platform.machine(),
    }


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
        if arguments.list:
            print("measured" if path.exists() else "missing ", seed, name)
            continue
        if not path.exists():
            out, work = places(seed)
            shipped(name, seed, out)
            trained = (out / name / train.LAST_WRITTEN).exists()
            folder = out / name if trained else train.train(name, None, out, work, seed)
            DATA.mkdir(parents=True, exist_ok=True)
            write(measure(folder, seed), origin(folder, seed), path)
        print(path, flush=True)


if __name__ == "__main__":
    main()
