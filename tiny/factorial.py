"""The first experiment: tiny models that differ in one factor at a time, and their exact response to temperature.

``python -m tiny.factorial`` trains the models of the design and measures them: exact outcomes for the paper's problems
over a grid of temperatures, in two precisions and three prompt styles, one Parquet file a model in
``book/data/factorial/``. What stands is not made again, and a killed training goes on. The plan is on the book's page;
what the measurements say is found in `book.analysis.effects`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lmrel import files, records
from lmrel.enumeration import enumerate_outcomes
from lmrel.errors import InputError, command, needs_columns
from lmrel.files import as_path
from lmrel.models import load_model
from lmrel.parameters import PROMPT_STYLES
from lmrel.problems import paper_problems
from tiny import train

DATA = Path(__file__).resolve().parent.parent / "book" / "data" / "factorial"
GRID = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
KEPT = ("correct", "strict")
PRECISIONS = ("fp32", "nf4")
TUNED = {  # stage of training: its format and its targets
    "continued": ("plain", "clean"),
    "continued-noisy": ("plain", "noisy"),
    "instruct": ("chat", "clean"),
    "instruct-noisy": ("chat", "noisy"),
}
CELLS = ("base", *TUNED)
DESIGN = {seed: [f"tiny-{kind}-{stage}" for kind in ("dense", "sparse") for stage in CELLS] for seed in (0, 1, 2)}
DESIGN[0] += [f"tiny-{kind}-{stage}" for kind in ("wide", "qwen2", "olmoe") for stage in CELLS]
DESIGN[0] += [f"tiny-dense-continued-{percent}" for percent in ("05", "15", "30")]
SETTING = ["seed", "architecture", "stage", "precision", "prompt_style"]


def measure_checkpoint(
    folder: Path,
    seed: int,
    temperatures: Sequence[float] = GRID,
    max_nodes: int = 1000,
    *,
    problems: pd.DataFrame | None = None,
    precisions: Sequence[str] = PRECISIONS,
    styles: Sequence[str] = PROMPT_STYLES,
) -> pd.DataFrame:
    """Exact outcomes of one checkpoint ``.../tiny-<architecture>-<stage>``, by default on the paper's problems.

    A row per problem, temperature, metric, precision and prompt style; columns `SETTING`, ``task, problem_id,
    temperature, metric, lower, upper``. The last two are bounds of a probability; `max_nodes` is the number of prefixes
    of a problem after which they are left as wide as they are.
    """
    _, architecture, stage = folder.name.split("-", 2)
    problems = paper_problems() if problems is None else problems
    tables = []
    for precision in precisions:
        model, tokenizer = load_model(str(folder), precision)
        for style in styles:
            found = enumerate_outcomes(
                model, tokenizer, problems, temperatures, prompt_style=style, max_nodes=max_nodes
            )
            found = found[found["metric"].isin(KEPT)].merge(problems[["problem_id", "task"]])
            tables.append(found.assign(precision=precision, prompt_style=style))
    table = pd.concat(tables, ignore_index=True).assign(seed=seed, architecture=architecture, stage=stage)
    bounds = {end: table[end].round(6).astype("float32") for end in ("lower", "upper")}
    return table.assign(**bounds)[[*SETTING, "task", "problem_id", "temperature", "metric", "lower", "upper"]]


def measured(data: Path = DATA) -> pd.DataFrame:
    """All measurements in the folder `data` as one table, see `measure_checkpoint`; `InputError` if there are none."""
    paths = sorted(as_path("data", data).glob("*.parquet"))
    if not paths:
        raise InputError(f"there is no measurement in {data}; `make factorial` makes them.")
    return pd.concat([records.read_part(path) for path in paths], ignore_index=True)


@needs_columns(*SETTING, "metric", "temperature", "lower", "upper")
def curves(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Means over problems: a row per `SETTING`, ``metric`` and ``temperature``, with ``lower, upper, middle``."""
    means = outcomes.groupby([*SETTING, "metric", "temperature"])[["lower", "upper"]].mean().reset_index()
    return means.assign(middle=(means["lower"] + means["upper"]) / 2)


@command()
def main() -> None:
    """Train and measure the models that the command line names, or the whole design, as far as they are missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", help="some of the design, bases first; all by default")
    parser.add_argument("--seed", type=int, choices=DESIGN, help="one seed; all by default")
    arguments = parser.parse_args()
    seeds = list(DESIGN) if arguments.seed is None else [arguments.seed]
    for name in arguments.models:
        if not any(name in DESIGN[seed] for seed in DESIGN):
            raise InputError(f"{name!r} is no model of the design; they are {', '.join(DESIGN[0])}.")
    for seed in seeds:
        for name in arguments.models or DESIGN[seed]:
            path = DATA / f"{seed}-{name}.parquet"
            if not path.exists():
                out, work = train.places(seed)
                trained = (out / name / train.LAST_WRITTEN).exists()
                folder = out / name if trained else train.train(name, None, out, work, seed)
                files.write_table(measure_checkpoint(folder, seed), path)
            print(path, flush=True)


if __name__ == "__main__":
    main()
