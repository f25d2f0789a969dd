"""The factorial in tables and in the numbers that the book's prose quotes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pandas as pd

from lmrel.effects import (
    MAIN,
    MARGIN,
    NAMES,
    PLANNED,
    TUNED_MEAN,
    against,
    alone,
    effects,
    planned_cells,
    robustness,
    solved_by_all,
    sparsity,
)
from lmrel.factorial import DESIGN, TUNED
from lmrel.metrics import by_run, exact_curves
from lmrel.tables import plain
from lmrel.tiny import ARCHITECTURES


def _signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def points(estimate: float, low: float = math.nan, high: float = math.nan) -> str:
    """Like ``+14.6 [+11.2, +18.0]``, in percentage points; without the interval where there is none."""
    ends = "" if math.isnan(low) else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return _signed(f"{100 * estimate:+.1f}{ends}")


def shown_cells(models: pd.DataFrame) -> pd.DataFrame:
    """Each cell, mean over seeds: accuracies, the drop with its range over seeds, and the two other measures."""
    rows = []
    for kind, stage in itertools.product(models["architecture"].unique(), NAMES):
        some = models[(models["architecture"] == kind) & (models["stage"] == stage)]
        if some.empty:
            continue
        drop = 100 * some["drop"]
        row = {"architecture": kind, "last stage": NAMES[stage], "seeds": len(some)}
        greedy = 100 * some["greedy"]
        row |= {
            "greedy, %": f"{greedy.mean():.1f} ({greedy.min():.1f} to {greedy.max():.1f})",
            "T = 1": f"{some['hot'].mean():.1%}",
        }
        row |= {"drop, points": f"{drop.mean():.1f} ({drop.min():.1f} to {drop.max():.1f})"}
        row |= {
            "retained": f"{some['retained'].mean():.0%}",
            "log-odds per unit of T": _signed(f"{some['slope'].mean():.2f}"),
        }
        rows.append(row)
    return plain(pd.DataFrame(rows))


def shown_effects(table: pd.DataFrame) -> pd.DataFrame:
    """`effects` of a drop, in points, with 95 % intervals over units, and over problems as well."""
    columns = {
        "effect": table["effect"],
        "points": [points(*row) for row in table[["estimate", "low", "high"]].to_numpy()],
        "over problems too": [points(*row) for row in table[["estimate", "crossed_low", "crossed_high"]].to_numpy()],
        "units": table["units"],
    }
    return plain(pd.DataFrame(columns))


def shown_sparsity(table: pd.DataFrame) -> pd.DataFrame:
    """`sparsity` in points: each seed, the mean with its 90 % interval, and whether that lies within the margin."""
    seeds = [name for name in table if isinstance(name, int)]
    columns = {"stages": table["stages"]} | {f"seed {seed}": [points(value) for value in table[seed]] for seed in seeds}
    columns["mean, 90 % interval"] = [points(*row) for row in table[["estimate", "low_90", "high_90"]].to_numpy()]
    columns[f"within {100 * MARGIN:g} points"] = table["equivalent"].map({True: "yes", False: "not shown"})
    return plain(pd.DataFrame(columns))


def shown_measures(models: pd.DataFrame) -> pd.DataFrame:
    """The effects on the drop, on the share retained, and on the slope of the log-odds, with 95 % intervals."""
    columns = {}
    for name, value in {"drop": "drop", "retained": "retained", "log-odds per unit of T": "slope"}.items():
        found = effects(models, value).set_index("effect")[["estimate", "low", "high"]]
        if value == "slope":
            columns[name] = found.apply(lambda row: _signed("{:+.2f} [{:+.2f}, {:+.2f}]".format(*row)), axis=1)
        else:
            columns[f"{name}, points"] = found.apply(lambda row: points(*row), axis=1)
    return plain(pd.DataFrame(columns).drop("mean of the cells").reset_index())


def shown_precisions(dropped: pd.DataFrame) -> pd.DataFrame:
    """Greedy accuracy in per cent and drop in points, in both precisions: means over dense and sparse and all seeds."""
    means = 100 * planned_cells(dropped).groupby(["stage", "precision"])[["greedy", "drop"]].mean().unstack("precision")
    columns = {"last stage": pd.Series(NAMES)}
    for value, precision in itertools.product(("greedy", "drop"), ("fp32", "nf4")):
        columns[f"{value}, {precision}"] = means[value][precision].map("{:.1f}".format)
    return plain(pd.DataFrame(columns).loc[list(NAMES)])


def shown_alone(dropped: pd.DataFrame) -> pd.DataFrame:
    """`alone`, in points: a row an architecture, a column an effect."""
    found = alone(dropped)
    cells = [points(*row) for row in found[["estimate", "low", "high"]].to_numpy()]
    wide = found.assign(points=cells).pivot(index="architecture", columns="effect", values="points")
    kinds = [kind for kind in ARCHITECTURES if kind in wide.index]
    return plain(wide.loc[kinds, list(MAIN[:2])].rename_axis(columns=None).reset_index())


def shown_against(dropped: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """`against` of several pairs of architectures, in points."""
    columns = {}
    for first, second in pairs:
        found = against(dropped, first, second).set_index("stage").rename(index=NAMES)
        columns[f"{second} minus {first}"] = found.apply(lambda row: points(*row), axis=1)
    return plain(pd.DataFrame(columns).rename_axis("last stage").reset_index())


def shown_runs(outcomes: pd.DataFrame, draws: pd.DataFrame, temperature: float = 1.0) -> pd.DataFrame:
    """Of each model drawn at `temperature`, the exact accuracy beside its sampled runs, and both deviations of runs."""
    planned = outcomes.query(f"{PLANNED} and seed == 0 and temperature == {temperature}")
    of_runs = by_run(draws).query(f"task == 'all' and temperature == {temperature}")
    rows = []
    for model in of_runs["model"].unique():
        _, kind, stage = model.split("-", 2)
        runs = 100 * of_runs.loc[of_runs["model"] == model, "accuracy"].to_numpy()
        own = planned[(planned["architecture"] == kind) & (planned["stage"] == stage)]
        exact = 100 * exact_curves(own, runs=len(runs)).set_index("quantity")["lower"]
        row = {"model": model, "exact": f"{exact['mean']:.1f}", "runs": " ".join(map("{:.1f}".format, runs))}
        rows.append(row | {"their deviation": f"{runs.std():.1f}", "expected": f"{exact['run_std']:.1f}"})
    return plain(pd.DataFrame(rows))


def numbers(dropped: pd.DataFrame) -> dict[str, str]:
    """What the book's prose quotes of the factorial, by key; `dropped` holds the drops as planned."""
    cells = planned_cells(dropped)
    by_effect = {row["effect"]: row for row in effects(dropped).to_dict("records")}
    found = {"factorial models": str(cells.groupby(["seed", "architecture", "stage"]).ngroups)}
    found["factorial seeds"] = f"{cells['seed'].nunique()} training seeds"
    for name, effect in zip(("targets", "format", "sparsity"), MAIN, strict=True):
        row = by_effect[effect]
        found[f"factorial {name}"] = points(row["estimate"], row["crossed_low"], row["crossed_high"])
    for targets in ("noisy", "clean"):
        stages = [stage for stage, kind in TUNED.items() if kind[1] == targets]
        found[f"factorial {targets}"] = f"{100 * cells.loc[cells['stage'].isin(stages), 'drop'].mean():.1f}"
    within = sparsity(robustness(dropped)).set_index("stages")["equivalent"]
    overall, each = within[TUNED_MEAN], within[["clean targets", "noisy targets"]].all()
    words = {True: "excluded", False: "undecided"}
    found["factorial verdict"] = (
        f"is {words[bool(overall)]} on average over models trained last on clean or on noisy answers, "
        f"and {words[bool(each)]} within either kind"
    )
    first = dropped[dropped["seed"] == 0]
    for name, pair in {"wide": ("wide", "sparse"), "family": ("qwen2", "olmoe")}.items():
        mean = against(first, *pair).set_index("stage").loc[TUNED_MEAN]
        found[f"factorial {name}"] = points(*mean)
    kept = solved_by_all(dropped).groupby("seed")["problem_id"].nunique()
    found["factorial solved"] = " to ".join(map(str, sorted({kept.min(), kept.max()})))
    return found


def shown_training(costs: pd.DataFrame) -> pd.DataFrame:
    """What the design takes to train by the costs of its models, rows of `train.cost`: by architecture, and in all."""
    names = [name for design in DESIGN.values() for name in design]
    every = costs.set_index("model").loc[names].reset_index()
    every[["architecture", "stage"]] = every["model"].str.split("-", n=2, expand=True)[[1, 2]]
    rows = []
    for kind, some in every.groupby("architecture", sort=False):
        base = some["stage"] == "base"
        row = {
            "architecture": kind,
            "weights": f"{some['weights'].iloc[0]:,}",
            "at work": f"{some['at work'].iloc[0]:,}",
        }
        row["pretraining, min"] = f"{some.loc[base, 'minutes'].mean():.0f}"
        row["last stage, min"] = f"{some.loc[~base, 'minutes'].mean():.1f}"
        rows.append(row | {"models": len(some), "all, h": f"{some['minutes'].sum() / 60:.1f}"})
    rows.append({"architecture": "all", "models": len(every), "all, h": f"{every['minutes'].sum() / 60:.1f}"})
    return plain(pd.DataFrame(rows).fillna(""))
