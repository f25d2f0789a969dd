"""The controlled experiment: which models there are, their exact response to temperature, and what the design says.

``python -m lmrel.factorial FOLDER ...`` measures checkpoints: exact outcomes for the paper's problems over a grid of
temperatures, in two precisions and three prompt styles, one Parquet file a model in ``book/data/factorial/``. Each file
is written whole, and one that stands is not made again. The plan is on the book's page of that name.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.special import logit

from lmrel import records
from lmrel.contrasts import equivalence
from lmrel.enumeration import enumerate_outcomes
from lmrel.inference import t_interval
from lmrel.models import load_model
from lmrel.problems import paper_problems
from lmrel.prompts import PROMPT_STYLES

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
MARGIN = 0.05  # of the equivalence test
SETTING = ["seed", "architecture", "stage", "precision", "prompt_style"]


def measure(folder: Path, seed: int, temperatures: Sequence[float] = GRID, max_nodes: int = 1000) -> pd.DataFrame:
    """Exact outcomes of one checkpoint ``.../tiny-<architecture>-<stage>``, per problem.

    Columns `SETTING`, ``task, problem_id, temperature, metric, lower, upper``.
    """
    _, architecture, stage = folder.name.split("-", 2)
    problems = paper_problems()
    tables = []
    for precision in PRECISIONS:
        model, tokenizer = load_model(str(folder), precision)
        for style in PROMPT_STYLES:
            found = enumerate_outcomes(
                model, tokenizer, problems, temperatures, prompt_style=style, max_nodes=max_nodes
            )
            found = found[found["metric"].isin(KEPT)].merge(problems[["problem_id", "task"]])
            tables.append(found.assign(precision=precision, prompt_style=style))
    table = pd.concat(tables, ignore_index=True).assign(seed=seed, architecture=architecture, stage=stage)
    bounds = {end: table[end].round(6).astype("float32") for end in ("lower", "upper")}
    return table.assign(**bounds)[[*SETTING, "task", "problem_id", "temperature", "metric", "lower", "upper"]]


def measured(data: Path = DATA) -> pd.DataFrame:
    """All that was measured, in one table."""
    return pd.concat([pd.read_parquet(path) for path in sorted(data.glob("*.parquet"))], ignore_index=True)


def curves(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Mean over problems: a row per `SETTING`, ``metric`` and ``temperature``, with ``lower, upper`` and ``middle``."""
    means = outcomes.groupby([*SETTING, "metric", "temperature"])[["lower", "upper"]].mean().reset_index()
    return means.assign(middle=(means["lower"] + means["upper"]) / 2)


def robustness(outcomes: pd.DataFrame, hot: float = 1.0) -> pd.DataFrame:
    """What temperature `hot` takes from a model: a row per `SETTING` and ``metric``.

    ``greedy`` and ``hot`` are probabilities, ``drop`` their difference and ``retained`` their ratio; ``slope`` is the
    change of the log-odds per unit of temperature; ``width`` is by how much ``hot`` is uncertain.
    """
    table = curves(outcomes).set_index([*SETTING, "metric", "temperature"])
    middle, width = table["middle"].unstack(), (table["upper"] - table["lower"]).unstack()
    cold, warm = middle[0.0], middle[hot]
    found = {
        "greedy": cold,
        "hot": warm,
        "drop": cold - warm,
        "retained": warm / cold,
        "slope": (logit(warm) - logit(cold)) / hot,
        "width": width[hot],
    }
    return pd.DataFrame(found).reset_index()


def effects(models: pd.DataFrame, value: str = "drop") -> pd.DataFrame:
    """The planned comparisons of `value` between models, rows of `robustness` in one precision, style and metric.

    A mean over `units`, its 95 % t interval ``low, high``, its 90 % interval, and whether that is within `MARGIN`: two
    one-sided tests at 5 % (Schuirmann 1987), of use for ``drop`` only. For targets and format a unit is a base model,
    for sparsity and its interactions a seed. Bounds are NaN, and ``equivalent`` is None, for a single unit.
    """
    cells = models[models["stage"].isin(TUNED) & models["architecture"].isin(["dense", "sparse"])]
    wide = cells.pivot(index=["seed", "architecture"], columns="stage", values=value)[list(TUNED)].dropna()
    clean, noisy, chat_clean, chat_noisy = (wide[stage] for stage in TUNED)
    targets = ((noisy - clean) + (chat_noisy - chat_clean)) / 2
    style = ((chat_clean - clean) + (chat_noisy - noisy)) / 2
    both = (chat_noisy - chat_clean) - (noisy - clean)
    within = {"noisy minus clean targets": targets, "chat minus plain format": style, "targets by format": both}
    between = {"sparse minus dense": wide.mean(axis=1), "targets by sparsity": targets, "format by sparsity": style}
    rows = [_row(name, unit) for name, unit in within.items()]
    for name, unit in between.items():
        pairs = unit.unstack("architecture").dropna()
        rows.append(_row(name, pairs["sparse"] - pairs["dense"]))
    return pd.DataFrame(rows)


def _row(effect: str, units: pd.Series) -> dict[str, Any]:
    values = units.to_numpy()
    estimate, low, high = t_interval(values)
    row = {"effect": effect, "estimate": estimate, "low": low, "high": high, "units": len(values)}
    if len(values) < 2:
        return row | {"low_90": math.nan, "high_90": math.nan, "equivalent": None}
    found = equivalence(values, MARGIN)
    return row | {"low_90": found["low"], "high_90": found["high"], "equivalent": found["equivalent"]}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DATA)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for folder in arguments.folders:
        path = arguments.out / f"{arguments.seed}-{folder.name}.parquet"
        if not path.exists():
            records.write_table(measure(folder, arguments.seed), path)
        print(path)


if __name__ == "__main__":
    main()
