"""What temperature takes from each model of the factorial, and the planned comparisons between the models.

Outcomes are rows of `tiny.factorial.measured`. A comparison is made within each training seed and then averaged, so
that what the seed's base model happened to learn cancels where it can. A probability known to lie from ``lower`` to
``upper`` is taken as their middle; ``width`` says how far apart they are. The module knows no page and no chart.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import logit

from book.analysis.trends import holm
from lmrel.stats.contrasts import equivalence
from lmrel.stats.inference import t_interval
from lmrel.stats.metrics import with_all
from tiny.factorial import CELLS, SETTING, TUNED

MARGIN = 0.05  # of the equivalence test, see the book's page "The plan of the factorial"
MAIN = ("noisy minus clean targets", "chat minus plain format", "sparse minus dense")
PLANNED = "metric == 'correct' and precision == 'fp32' and prompt_style == 'few_shot'"
TUNED_MEAN = "mean of the tuned"
RATE = 0.15  # of wrong answers where targets are noisy, on average over pages
BINDING = "task == 'variable_binding'"
STAGE_NAMES = {  # as the page calls them
    "base": "pretrained only",
    "continued-noisy": "plain, noisy",
    "instruct-noisy": "chat, noisy",
    "continued": "plain, clean",
    "instruct": "chat, clean",
}


def drops(outcomes: pd.DataFrame, hot: float = 1.0) -> pd.DataFrame:
    """What is lost from temperature 0 to `hot`: a row per `SETTING`, ``metric`` and problem.

    ``greedy`` and ``hot`` are the probabilities at both temperatures, ``drop`` the first minus the second, ``width``
    the uncertainty of ``hot``.
    """
    some = outcomes[outcomes["temperature"].isin([0.0, hot])]
    index = [*SETTING, "metric", "task", "problem_id"]
    middle = some.assign(middle=(some["lower"] + some["upper"]) / 2, width=some["upper"] - some["lower"])
    wide = middle.pivot(index=index, columns="temperature", values=["middle", "width"])
    cold, warm = wide["middle"][0.0], wide["middle"][hot]
    return pd.DataFrame({"greedy": cold, "hot": warm, "drop": cold - warm, "width": wide["width"][hot]}).reset_index()


def robustness(dropped: pd.DataFrame, hot: float = 1.0) -> pd.DataFrame:
    """The rows of `drops` averaged over problems, a row per `SETTING` and ``metric``, with two other measures.

    ``retained`` is the share of the greedy accuracy that is left at `hot`; ``slope`` the change of the log-odds per
    unit of temperature.
    """
    columns = ["greedy", "hot", "drop", "width"]
    means = dropped.groupby([*SETTING, "metric"])[columns].mean().reset_index()
    slope = (logit(means["hot"]) - logit(means["greedy"])) / hot
    return means.assign(retained=means["hot"] / means["greedy"], slope=slope)


def planned_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the models that were trained with every seed: dense and sparse, pretrained only and tuned."""
    return table[table["architecture"].isin(["dense", "sparse"]) & table["stage"].isin(CELLS)]


def _tuned(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the models that are compared as planned: those of `planned_cells` that were tuned."""
    return planned_cells(table).query("stage != 'base'")


def solved_by_all(dropped: pd.DataFrame) -> pd.DataFrame:
    """The rows of the problems that every tuned model of a seed solves at temperature 0, so that all start alike."""
    tuned = _tuned(dropped)
    worst = tuned.groupby(["seed", "metric", "precision", "prompt_style", "problem_id"])["greedy"].min()
    kept = worst[worst > 0.5].reset_index().drop(columns="greedy")
    return tuned.merge(kept)


def quantized(dropped: pd.DataFrame) -> pd.DataFrame:
    """How much larger each ``drop`` is in NF4 than in 32 bit: rows of `drops` without ``precision``."""
    index = [name for name in [*SETTING, "metric", "task", "problem_id"] if name != "precision"]
    wide = dropped.pivot(index=index, columns="precision", values="drop")
    return (wide["nf4"] - wide["fp32"]).rename("drop").reset_index()


def _by_stage(table: pd.DataFrame, value: str, index: list[str]) -> pd.DataFrame:
    """Column `value` spread out: a column for each tuned stage, a row per `index` that has all four stages."""
    return table.pivot(index=index, columns="stage", values=value)[list(TUNED)].dropna()


def _contrasts(wide: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Three contrasts of each row of `_by_stage`: of the targets, of the format, and how the two interact.

    They are noisy minus clean, chat minus plain, and how much larger the first is in chat than in plain.
    """
    clean, noisy, chat_clean, chat_noisy = (wide[stage] for stage in TUNED)
    targets = ((noisy - clean) + (chat_noisy - chat_clean)) / 2
    style = ((chat_clean - clean) + (chat_noisy - noisy)) / 2
    return targets, style, (chat_noisy - chat_clean) - (noisy - clean)


def effects(table: pd.DataFrame, value: str = "drop", unit: str = "base model") -> pd.DataFrame:
    """The planned comparisons of column `value` between the tuned models: a row for each effect.

    `table` has a row per model, or per model and problem, all of one precision, prompt style and metric. An effect is
    the mean over ``units``: training seeds. For the effects of targets and format they are base models (a seed and an
    architecture), as planned, unless `unit` is "seed".

    Columns ``effect, estimate, units``; ``low, high``, the 95 % t interval, and ``p`` of no effect; ``low_90,
    high_90``, the 90 % interval, and ``equivalent``, whether it lies within `MARGIN`: two one-sided tests at 5 %
    (Schuirmann 1987), meant for drops, with ``p_equivalent``.
    Where `table` has problems, ``crossed_low, crossed_high`` is the 95 % interval that takes problems as drawn too, and
    is never narrower. For a single unit this one is over problems alone, other bounds are NaN and ``equivalent`` None.
    """
    crossing = "problem_id" in table
    wide = _by_stage(_tuned(table), value, ["seed", "architecture", *(["problem_id"] if crossing else [])])
    level = wide.mean(axis=1)
    targets, style, both = _contrasts(wide)
    main = [units if unit == "base model" else _of_seeds(units) for units in (targets, style)]
    found = {"mean of the cells": _of_seeds(level)} | dict(zip(MAIN, main, strict=False))
    found["targets by format"] = _of_seeds(both)
    for name, units in {MAIN[2]: level, "targets by sparsity": targets, "format by sparsity": style}.items():
        found[name] = _sparse_minus_dense(units)
    return pd.DataFrame([_effect_row(name, units, crossing) for name, units in found.items()])


def _of_seeds(units: pd.Series) -> pd.Series:
    """The mean of dense and sparse in each seed that has both."""
    return units.unstack("architecture").dropna().mean(axis=1)


def _sparse_minus_dense(units: pd.Series) -> pd.Series:
    """The difference in each seed that has both."""
    pairs = units.unstack("architecture").dropna()
    return pairs["sparse"] - pairs["dense"]


def sparsity(models: pd.DataFrame) -> pd.DataFrame:
    """The ``drop`` of sparse minus dense models for some ``stages`` taken together: columns as of `effects`.

    The rows are for pretrained models only, for those tuned last on clean or on noisy targets, and for all tuned ones.
    `models` has a row per model. For each seed there is a column with its number, which holds that seed's difference.
    """
    wide = planned_cells(models).pivot(index=["seed", "architecture"], columns="stage", values="drop")
    some = {STAGE_NAMES["base"]: ["base"]}
    some |= {f"{kind} targets": [stage for stage in TUNED if TUNED[stage][1] == kind] for kind in ("clean", "noisy")}
    rows = []
    for name, stages in (some | {TUNED_MEAN: list(TUNED)}).items():
        units = _sparse_minus_dense(wide[stages].mean(axis=1))
        of_seeds: dict[Any, Any] = units.to_dict()
        rows.append({"stages": name} | of_seeds | _effect_row(MAIN[2], units, crossing=False))
    return pd.DataFrame(rows)


def crossed(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """The mean of `values`, (units, problems), with its interval if both were drawn at random and fully crossed.

    The variance of the mean comes from the mean squares of a two-way table, its degrees of freedom from Satterthwaite
    (1946); it is never less than with either kind alone. A single unit gives the t interval over problems.
    """
    units, problems = values.shape
    if units == 1:
        return t_interval(values[0], level)
    mean = float(values.mean())
    by_unit, by_problem = values.mean(axis=1) - mean, values.mean(axis=0) - mean
    rest = values - mean - by_unit[:, None] - by_problem
    squares = problems * (by_unit**2).sum(), units * (by_problem**2).sum(), (rest**2).sum()
    freedom = units - 1, problems - 1, (units - 1) * (problems - 1)
    of_unit, of_problem, of_rest = (total / df for total, df in zip(squares, freedom, strict=True))
    # The variance of the rest is in both of the others and counts once. If by chance it outweighs one of them, the
    # difference falls below the other; but drawing both kinds cannot make the mean more certain than drawing one.
    error = max(of_unit + of_problem - of_rest, of_unit, of_problem)
    if error == 0:
        return mean, mean, mean
    df = error**2 / sum(part**2 / n for part, n in zip((of_unit, of_problem, of_rest), freedom, strict=True))
    half = float(stats.t.ppf(0.5 + level / 2, df) * math.sqrt(error / values.size))
    return mean, mean - half, mean + half


def _effect_row(effect: str, units: pd.Series, crossing: bool) -> dict[str, Any]:
    """A row of `effects`: the mean of `units` and its intervals. With `crossing`, units have a value per problem."""
    low = high = math.nan
    if crossing:
        by_problem = units.unstack("problem_id").dropna(axis=1)
        _, low, high = crossed(by_problem.to_numpy())
        units = by_problem.mean(axis=1)
    values = units.to_numpy()
    row: dict[str, Any] = {"effect": effect, "crossed_low": low, "crossed_high": high, "units": len(values)}
    row["estimate"], row["low"], row["high"] = t_interval(values)
    row |= dict.fromkeys(("low_90", "high_90", "p", "p_equivalent"), math.nan) | {"equivalent": None}
    if len(values) > 1:
        tested = equivalence(values, MARGIN)
        row |= {"low_90": tested["low"], "high_90": tested["high"], "equivalent": tested["equivalent"]}
        row |= {"p": _p_of_zero(values), "p_equivalent": tested["p"]}
        # The crossed interval has more degrees of freedom, so it can come out narrower than the one over units alone.
        # That problems are drawn as well cannot make the mean more certain: the wider bound counts.
        row |= {"crossed_low": min(low, row["low"]), "crossed_high": max(high, row["high"])}
    return row


def _p_of_zero(values: np.ndarray) -> float:
    """The p-value of a t test against a mean of 0; NaN where nothing varies."""
    spread = float(np.ptp(values))
    return float(stats.ttest_1samp(values, 0).pvalue) if spread > 1e-12 else math.nan


def planned_tests(table: pd.DataFrame) -> dict[str, float]:
    """The p-values of the three planned tests, adjusted by Holm's method: a family.

    Targets and format are tested against no effect, sparsity for lying within `MARGIN`. `table` is as of `effects`.
    """
    found = effects(table).set_index("effect")
    tests = dict.fromkeys(MAIN[:2], "p") | {MAIN[2]: "p_equivalent"}
    return holm({effect: float(found[column][effect]) for effect, column in tests.items()})


def levels(dropped: pd.DataFrame) -> pd.DataFrame:
    """Accuracies and drop by task and by what was learned last: a row for each.

    Columns ``task`` (``all``, too), ``targets`` (``noisy``, ``clean``, or ``none`` for models pretrained only),
    ``greedy``, ``hot``, and ``drop`` with ``low, high``: its 95 % interval over base models and problems.
    """
    table = with_all(planned_cells(dropped))
    table["targets"] = table["stage"].map(lambda stage: TUNED.get(stage, ("", "none"))[1])
    rows = []
    for (task, targets), some in table.groupby(["task", "targets"]):
        units = some.groupby(["seed", "architecture", "problem_id"])["drop"].mean()
        row = _effect_row("drop", units, crossing=True)
        means = {name: some[name].mean() for name in ("greedy", "hot", "drop")}
        ends = {"low": row["crossed_low"], "high": row["crossed_high"]}
        rows.append({"task": task, "targets": targets} | means | ends)
    return pd.DataFrame(rows)


def beyond_rate(dropped: pd.DataFrame) -> dict[str, Any]:
    """What noisy targets cost beyond `RATE` of what the clean model has at temperature 1: a row as of `effects`.

    A model that reproduces its noise and has nothing else to lose shows 0. ``alone`` is that share itself.
    """
    index = ["seed", "architecture", "problem_id"]
    table = planned_cells(dropped)
    targets = _contrasts(_by_stage(table, "drop", index))[0]
    alone = RATE * table[table["stage"].isin(["continued", "instruct"])].groupby(index)["hot"].mean()
    row = _effect_row("noisy minus clean, beyond its rate", (targets - alone).dropna(), crossing=True)
    return row | {"alone": float(alone.mean())}


def sensitivity(outcomes: pd.DataFrame) -> pd.DataFrame:
    """The three main effects on the drop, as planned and by ten other analyses: rows of `effects` with ``analysis``."""
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
    parts.insert(1, effects(planned, unit="seed").assign(analysis="seeds as units"))
    found = pd.concat(parts, ignore_index=True)
    return found[found["effect"].isin(MAIN)]


def within_architecture(dropped: pd.DataFrame) -> pd.DataFrame:
    """The effects of targets and format within each architecture, for models of one training seed.

    Columns ``architecture, effect, estimate, low, high``. The 95 % interval is over problems and says nothing of other
    training runs.
    """
    rows = []
    for kind, some in dropped.query("stage in @TUNED").groupby("architecture", sort=False):
        for name, values in zip(MAIN[:2], _contrasts(_by_stage(some, "drop", ["problem_id"])), strict=False):
            estimate, low, high = t_interval(values.to_numpy())
            rows.append({"architecture": kind, "effect": name, "estimate": estimate, "low": low, "high": high})
    return pd.DataFrame(rows)


def between_architectures(dropped: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """The ``drop`` of architecture `second` minus that of `first`, for models of one training seed.

    Columns ``stage, difference, low, high``; the last row is the mean over the tuned stages. The 95 % interval is over
    problems and says nothing of other training runs.
    """
    pair = dropped[dropped["architecture"].isin([first, second]) & dropped["stage"].isin(CELLS)]
    wide = pair.pivot(index=["problem_id", "stage"], columns="architecture", values="drop")
    units = (wide[second] - wide[first]).unstack("stage")[list(CELLS)]
    units[TUNED_MEAN] = units[list(TUNED)].mean(axis=1)
    rows = [(stage, *t_interval(units[stage].to_numpy())) for stage in units]
    return pd.DataFrame(rows, columns=["stage", "difference", "low", "high"])


def doses(dropped: pd.DataFrame) -> pd.DataFrame:
    """What the dense model in plain format loses, by its share of wrong targets: ``noise, drop, low, high, alone``.

    The 95 % intervals are over problems. ``alone`` is what a model would lose that reproduces wrong targets at
    temperature 1 and ignores them at 0: the drop of the clean model, plus their share of its accuracy at temperature 1.
    ``rest`` is the drop less this, problem by problem, with ``rest_low, rest_high``.
    """
    dense = dropped.query("architecture == 'dense' and seed == 0").set_index("problem_id")
    clean = dense[dense["stage"] == "continued"]
    rows = []
    for stage, noise in {"continued": 0.0, **{f"continued-{p:02}": p / 100 for p in (5, 15, 30)}}.items():
        values = dense.loc[dense["stage"] == stage, "drop"]
        if len(values):
            alone = clean["drop"] + noise * clean["hot"]
            drop, rest = t_interval(values.to_numpy()), t_interval((values - alone).to_numpy())
            row = {"noise": noise, "alone": float(alone.mean())}
            row |= dict(zip(("drop", "low", "high"), drop, strict=True))
            rows.append(row | dict(zip(("rest", "rest_low", "rest_high"), rest, strict=True)))
    return pd.DataFrame(rows)
