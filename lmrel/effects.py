"""What the factorial says: the loss to temperature of each model, and the planned comparisons between them.

Outcomes are rows of `factorial.measured`. A comparison is formed within each training seed and then averaged, so what a
seed's base model learned cancels where it can. Probabilities enter by the middle of `lower` and `upper`; ``width`` says
what that hides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from scipy.special import logit

from lmrel.contrasts import crossed, equivalence
from lmrel.errors import reads
from lmrel.factorial import CELLS, SETTING, TUNED
from lmrel.inference import t_interval
from lmrel.metrics import by_run, exact_curves
from lmrel.tables import plain

MARGIN = 0.05  # of the equivalence test, see the book's page "The plan of the factorial"
MAIN = ("noisy minus clean targets", "chat minus plain format", "sparse minus dense")
PLANNED = "metric == 'correct' and precision == 'fp32' and prompt_style == 'few_shot'"
NAMES = {  # of stages, as the page calls them
    "base": "pretrained only",
    "continued-noisy": "plain, noisy",
    "instruct-noisy": "chat, noisy",
    "continued": "plain, clean",
    "instruct": "chat, clean",
}


@reads(*SETTING, "metric", "task", "problem_id", "temperature", "lower", "upper")
def drops(outcomes: pd.DataFrame, hot: float = 1.0) -> pd.DataFrame:
    """P at temperature 0 minus P at `hot`: ``greedy, hot, drop, width`` per `SETTING`, ``metric`` and problem."""
    some = outcomes[outcomes["temperature"].isin([0.0, hot])]
    index = [*SETTING, "metric", "task", "problem_id"]
    middle = some.assign(middle=(some["lower"] + some["upper"]) / 2, width=some["upper"] - some["lower"])
    wide = middle.pivot(index=index, columns="temperature", values=["middle", "width"])
    cold, warm = wide["middle"][0.0], wide["middle"][hot]
    return pd.DataFrame({"greedy": cold, "hot": warm, "drop": cold - warm, "width": wide["width"][hot]}).reset_index()


@reads(*SETTING, "metric", "greedy", "hot", "drop", "width")
def robustness(dropped: pd.DataFrame, hot: float = 1.0) -> pd.DataFrame:
    """`drops` averaged over problems, a row per `SETTING` and ``metric``, with two other measures.

    ``retained`` is P at `hot` over P at 0; ``slope`` the change of the log-odds per unit of temperature.
    """
    columns = ["greedy", "hot", "drop", "width"]
    means = dropped.groupby([*SETTING, "metric"])[columns].mean().reset_index()
    slope = (logit(means["hot"]) - logit(means["greedy"])) / hot
    return means.assign(retained=means["hot"] / means["greedy"], slope=slope)


def _tuned(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the models that the planned comparisons are between."""
    return table[table["stage"].isin(TUNED) & table["architecture"].isin(["dense", "sparse"])]


def solved_by_all(dropped: pd.DataFrame) -> pd.DataFrame:
    """The rows of the problems that every tuned model of a seed solves greedily: all start from the same accuracy."""
    tuned = _tuned(dropped)
    worst = tuned.groupby(["seed", "metric", "precision", "prompt_style", "problem_id"])["greedy"].min()
    kept = worst[worst > 0.5].reset_index().drop(columns="greedy")
    return tuned.merge(kept)


@reads(*SETTING, "metric", "task", "problem_id", "drop")
def quantized(dropped: pd.DataFrame) -> pd.DataFrame:
    """``drop`` in NF4 minus that in 32 bit, for the rest as `drops`."""
    index = [name for name in [*SETTING, "metric", "task", "problem_id"] if name != "precision"]
    wide = dropped.pivot(index=index, columns="precision", values="drop")
    return (wide["nf4"] - wide["fp32"]).rename("drop").reset_index()


@reads("seed", "architecture", "stage")
def effects(table: pd.DataFrame, value: str = "drop") -> pd.DataFrame:
    """The planned comparisons of `value`, which stands in rows of one precision, prompt style and metric.

    Rows are models, or models and problems. For each effect the mean over `units` with its 95 % t interval ``low,
    high``, the 90 % interval ``low_90, high_90`` and whether that lies within `MARGIN`: two one-sided tests at 5 %
    (Schuirmann 1987), of use for drops only. For targets and format a unit is a base model, for sparsity and what it
    interacts with a seed. With problems, ``crossed_low`` and ``crossed_high`` take these as drawn too, and are never
    narrower for it. For a single unit these two are of the problems alone, other bounds NaN, ``equivalent`` None.
    """
    crossing = "problem_id" in table
    cells = _tuned(table)
    index = ["seed", "architecture", *(["problem_id"] if crossing else [])]
    wide = cells.pivot(index=index, columns="stage", values=value)[list(TUNED)].dropna()
    clean, noisy, chat_clean, chat_noisy = (wide[stage] for stage in TUNED)
    targets = ((noisy - clean) + (chat_noisy - chat_clean)) / 2
    style = ((chat_clean - clean) + (chat_noisy - noisy)) / 2
    both = (chat_noisy - chat_clean) - (noisy - clean)
    found = {"mean of the cells": wide.mean(axis=1), MAIN[0]: targets, MAIN[1]: style, "targets by format": both}
    between = {MAIN[2]: wide.mean(axis=1), "targets by sparsity": targets, "format by sparsity": style}
    for name, units in between.items():
        pairs = units.unstack("architecture").dropna()
        found[name] = pairs["sparse"] - pairs["dense"]
    return pd.DataFrame([_row(name, units, crossing) for name, units in found.items()])


def _row(effect: str, units: pd.Series, crossing: bool) -> dict[str, Any]:
    if not crossing:
        low, high = math.nan, math.nan
    else:
        by_problem = units.unstack("problem_id").dropna(axis=1)
        _, low, high = crossed(by_problem.to_numpy())
        units = by_problem.mean(axis=1)
    values = units.to_numpy()
    row: dict[str, Any] = {"effect": effect, "crossed_low": low, "crossed_high": high, "units": len(values)}
    row["estimate"], row["low"], row["high"] = t_interval(values)
    row |= {"low_90": math.nan, "high_90": math.nan, "equivalent": None}
    if len(values) > 1:
        tested = equivalence(values, MARGIN)
        row |= {"low_90": tested["low"], "high_90": tested["high"], "equivalent": tested["equivalent"]}
        # With more degrees of freedom the crossed one may be narrower; what more is drawn adds no certainty.
        row |= {"crossed_low": min(low, row["low"]), "crossed_high": max(high, row["high"])}
    return row


@reads(*SETTING, "metric", "task", "problem_id", "temperature", "lower", "upper")
def sensitivity(outcomes: pd.DataFrame) -> pd.DataFrame:
    """The three main effects on the drop, analysed otherwise than planned: rows of `effects` with ``analysis``."""
    every = drops(outcomes)
    planned = every.query(PLANNED)
    style = "metric == 'correct' and precision == 'fp32' and prompt_style == "
    analyses = {
        "as planned": planned,
        "prompt readme": every.query(f"{style} 'readme'"),
        "prompt zero_shot": every.query(f"{style} 'zero_shot'"),
        "variable binding": planned.query("task == 'variable_binding'"),
        "arithmetic": planned.query("task == 'arithmetic'"),
        "in NF4": every.query(PLANNED.replace("fp32", "nf4")),
        "strict accuracy": every.query(PLANNED.replace("correct", "strict")),
        "to T = 0.5": drops(outcomes, 0.5).query(PLANNED),
        "to T = 2": drops(outcomes, 2.0).query(PLANNED),
        "solved by all": robustness(solved_by_all(planned)),
    }
    parts = [effects(table).assign(analysis=name) for name, table in analyses.items()]
    found = pd.concat(parts, ignore_index=True)
    return found[found["effect"].isin(MAIN)]


def against(dropped: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """``drop`` of architecture `second` minus `first` at each stage, in seeds with both: ``difference, low, high``.

    With a single seed the 95 % interval is over problems and says nothing of other training runs.
    """
    pair = dropped[dropped["architecture"].isin([first, second])]
    wide = pair.pivot(index=["stage", "seed", "problem_id"], columns="architecture", values="drop").dropna()
    rows = []
    for stage in CELLS:
        if stage in wide.index:
            units = (wide[second] - wide[first]).loc[stage].unstack("problem_id")
            difference, low, high = crossed(units.to_numpy())
            rows.append({"stage": stage, "difference": difference, "low": low, "high": high, "seeds": len(units)})
    return pd.DataFrame(rows)


@reads("architecture", "stage", "drop")
def doses(dropped: pd.DataFrame) -> pd.DataFrame:
    """The dense model in plain format by its share of wrong targets: ``noise, drop, low, high, alone``.

    The 95 % interval is over problems. ``alone`` is the drop of the clean model, plus what wrong targets take from one
    that reproduces them at temperature 1 and ignores them when greedy: their share of the clean model's accuracy.
    """
    dense = dropped.query("architecture == 'dense' and seed == 0")
    clean = dense[dense["stage"] == "continued"]
    rows = []
    for stage, noise in {"continued": 0.0, **{f"continued-{p:02}": p / 100 for p in (5, 15, 30)}}.items():
        values = dense.loc[dense["stage"] == stage, "drop"].to_numpy()
        if len(values):
            drop, low, high = t_interval(values)
            alone = float(clean["drop"].mean() + noise * clean["greedy"].mean())
            rows.append({"noise": noise, "drop": drop, "low": low, "high": high, "alone": alone})
    return pd.DataFrame(rows)


def points(estimate: float, low: float, high: float) -> str:
    """Like ``+14.6 [+11.2, +18.0]``, in percentage points; without the interval where there is none."""
    ends = "" if math.isnan(low) else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{100 * estimate:+.1f}{ends}".replace("-", "\N{MINUS SIGN}")


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
        row |= {"retained": f"{some['retained'].mean():.0%}", "log-odds per unit of T": f"{some['slope'].mean():.2f}"}
        rows.append(row)
    return plain(pd.DataFrame(rows))


def shown_effects(table: pd.DataFrame) -> pd.DataFrame:
    """`effects` of a drop, in points."""
    columns = {
        "effect": table["effect"],
        "points": [points(*row) for row in table[["estimate", "low", "high"]].to_numpy()],
        "problems drawn too, or alone": [
            points(*row) for row in table[["estimate", "crossed_low", "crossed_high"]].to_numpy()
        ],
        "90 % interval": [points(*row) for row in table[["estimate", "low_90", "high_90"]].to_numpy()],
        f"within {100 * MARGIN:g} points": table["equivalent"]
        .map({True: "yes", False: "not shown"})
        .fillna("one unit"),
        "units": table["units"],
    }
    return plain(pd.DataFrame(columns))


def shown_measures(models: pd.DataFrame) -> pd.DataFrame:
    """The main effects on the drop, on the share retained, and on the slope of the log-odds, with 95 % intervals."""
    columns: dict[str, list[str]] = {"effect": list(MAIN)}
    for name, value in {
        "drop, points": "drop",
        "retained, points": "retained",
        "log-odds per unit of T": "slope",
    }.items():
        found = effects(models, value).set_index("effect").loc[list(MAIN), ["estimate", "low", "high"]]
        scale = 0.01 if value == "slope" else 1.0
        columns[name] = [points(*(scale * row)) for row in found.to_numpy()]
    return plain(pd.DataFrame(columns))


def shown_against(dropped: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """`against` of several pairs of architectures, in points."""
    columns = {}
    for first, second in pairs:
        found = against(dropped, first, second)
        cells = [points(*row) for row in found[["difference", "low", "high"]].to_numpy()]
        columns[f"{second} minus {first}"] = dict(zip(found["stage"].map(NAMES), cells, strict=True))
    return plain(pd.DataFrame(columns).fillna("").rename_axis("last stage").reset_index())


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


def numbers(models: pd.DataFrame, table: pd.DataFrame) -> dict[str, str]:
    """What the book's prose quotes of the factorial, by key; `table` holds the `effects` of the drops of `models`."""
    by_effect = {row["effect"]: row for row in table.to_dict("records")}
    seeds = models.groupby("architecture")["seed"].nunique()
    counted = [f"{count} {kind}" for kind, count in seeds.items()] if seeds.nunique() > 1 else [str(seeds.iloc[0])]
    found = {"factorial models": str(len(models)), "factorial seeds": " and ".join(counted) + " training seeds"}
    for name, effect in zip(("targets", "format", "sparsity"), MAIN, strict=True):
        row = by_effect[effect]
        lone = row["units"] == 1
        ends = (math.nan, math.nan) if lone else (row["crossed_low"], row["crossed_high"])
        found[f"factorial {name}"] = points(row["estimate"], *ends) + " (one seed, so undecided)" * lone
    for targets in ("noisy", "clean"):
        stages = [stage for stage, kind in TUNED.items() if kind[1] == targets]
        found[f"factorial {targets}"] = f"{100 * models.loc[models['stage'].isin(stages), 'drop'].mean():.1f}"
    verdicts = {True: "is excluded", False: "is undecided"}
    found["factorial verdict"] = verdicts.get(by_effect[MAIN[2]]["equivalent"], "is undecided, with one sparse seed")
    return found
