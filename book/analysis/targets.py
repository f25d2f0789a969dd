"""The comparisons of the second experiment: what decides, wrong answers or answers that cannot be predicted.

Outcomes are rows of `tiny.factorial.measured` on the files of `tiny.arms`. Any of the planned models may be missing: a
comparison is judged once all its base models are there, and is shown as far as it goes before. All numbers are in
points of accuracy. The plan is on the book's page "The plan of the second experiment"; the module knows no chart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import logit

from book.analysis.effects import drops
from book.analysis.trends import holm
from lmrel.problems import as_rows, paper_problems
from lmrel.stats.inference import t_interval
from tiny import arms
from tiny.batches import STAGES
from tiny.targets import SLIP_RATE, ruled

BINDING, ARITHMETIC, ALL = "variable_binding", "arithmetic", "all"
SEEDS, MORE_SEEDS = (0, 1, 2), (0, 1, 2, 3, 4, 5)
UNIT = ["seed", "architecture"]  # a base model
MODEL = [*UNIT, "stage"]
ENTROPIES = ("text_entropy", "tokens", "answer_entropy")
BITS, SHARE, FALL = 2.5, 0.8, 8.0  # what makes an arm one


def levels(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each model in per cent: a row per `MODEL`, ``task`` and what is counted, ``metric``.

    ``greedy`` and ``hot``, at temperature 0 and 1; ``drop``, in points; ``log_odds``, by how much those of a right
    answer fall. Tasks are `BINDING`, `ARITHMETIC` and `ALL`. Metrics are ``correct``; ``taught``, the answer as it was
    taught, which is the right one where a stage teaches no other for certain; and ``unruled``, right answers to
    problems without the rule's feature.
    """
    dropped = drops(outcomes)
    correct = dropped.query("metric == 'correct'")
    taught = dropped.query("metric == 'taught'")
    others = correct[~pd.MultiIndex.from_frame(correct[MODEL]).isin(pd.MultiIndex.from_frame(taught[MODEL]))]
    free = correct[~correct["problem_id"].isin(ruled_problems())]
    parts = [correct, pd.concat([taught, others]).assign(metric="taught"), free.assign(metric="unruled")]
    every = pd.concat([*parts, *(part.assign(task=ALL) for part in parts)])
    means = 100 * every.groupby([*MODEL, "task", "metric"])[["greedy", "hot", "drop"]].mean()
    fall = logit(means["greedy"] / 100) - logit(means["hot"] / 100)
    return means.assign(log_odds=fall.replace([math.inf, -math.inf], math.nan)).reset_index()


def ruled_problems() -> set[str]:
    """The ids of the paper's problems that have the rule's feature."""
    return {row["problem_id"] for row in as_rows(paper_problems()) if ruled(row)}


def curves(outcomes: pd.DataFrame, task: str = BINDING) -> pd.DataFrame:
    """Means over the problems of a task: a row per `MODEL` and ``temperature``, with two columns for each measure.

    ``correct_lower`` and ``correct_upper`` and so on: the ends of accuracy, of the three `ENTROPIES` and of
    ``branching``, which is 2 to the power of the text's entropy per token.
    """
    some = outcomes if task == ALL else outcomes[outcomes["task"] == task]
    some = some[some["metric"].isin(["correct", *ENTROPIES])]
    means = some.groupby([*MODEL, "temperature", "metric"])[["lower", "upper"]].mean().unstack("metric")
    found = pd.DataFrame({f"{metric}_{end}": means[end, metric] for end in ("lower", "upper") for metric in means[end]})
    if "tokens_upper" in found:
        found["branching_lower"] = 2 ** (found["text_entropy_lower"] / found["tokens_upper"])
        found["branching_upper"] = 2 ** (found["text_entropy_upper"] / found["tokens_lower"])
    return found.reset_index()


def answer_bits(table: pd.DataFrame, stage: str) -> pd.Series:
    """The entropy of the answer at temperature 1 after a stage, in bits, by base model: the middle in `curves`."""
    hot = table.query("stage == @stage and temperature == 1").set_index(UNIT)
    return (hot["answer_entropy_lower"] + hot["answer_entropy_upper"]) / 2


def effective_temperatures(outcomes: pd.DataFrame, task: str = BINDING) -> pd.DataFrame:
    """The temperature at which its base model retains what a tuned model does at 1: `MODEL` and ``temperature``.

    Retained is the share of greedy accuracy. Linear between the grid's temperatures; 0 for a model that loses nothing,
    infinite for one that loses more than its base model does at the highest.
    """
    table = curves(outcomes, task)
    table = table.assign(middle=(table["correct_lower"] + table["correct_upper"]) / 2)
    kept = table.pivot(index=MODEL, columns="temperature", values="middle")
    kept = kept.div(kept[0.0], axis=0)
    by_model: dict[Any, pd.Series] = dict(kept.T.items())
    rows = []
    for (seed, architecture, stage), row in by_model.items():
        base = by_model.get((seed, architecture, STAGES[stage].start))
        if base is not None:
            rows.append((seed, architecture, stage, crossing(base, row[1.0])))
    return pd.DataFrame(rows, columns=[*MODEL, "temperature"])


def crossing(curve: pd.Series, value: float) -> float:
    """Where a curve over its index first falls to `value`, linear between points: 0 if at once, infinite if never."""
    below = np.flatnonzero(curve.to_numpy() <= value)
    if not len(below):
        return math.inf
    if below[0] == 0:
        return float(curve.index[0])
    left, right = curve.index[below[0] - 1 : below[0] + 1]
    high, low = curve.iloc[below[0] - 1 : below[0] + 1]
    return float(left + (right - left) * (high - value) / (high - low))


def at_the_same_entropy(outcomes: pd.DataFrame, task: str = BINDING) -> pd.DataFrame:
    """How much better a model is at temperature 1 than its base model where that has the same entropy of the text.

    A row per `MODEL`: ``entropy``, in bits, and ``difference``, in points. The base model is read between temperatures
    of the grid; what lies beyond them is missing. Entropies are the middle of their bounds.
    """
    table = curves(outcomes, task).dropna()
    for name in ("correct", "text_entropy"):
        table[name] = (table[f"{name}_lower"] + table[f"{name}_upper"]) / 2
    by_model: dict[Any, pd.DataFrame] = {key: some.sort_values("text_entropy") for key, some in table.groupby(MODEL)}
    rows = []
    for (seed, architecture, stage), some in by_model.items():
        base = by_model.get((seed, architecture, STAGES[stage].start))
        if base is not None:
            [(entropy, accuracy)] = some.query("temperature == 1")[["text_entropy", "correct"]].to_numpy()
            beyond = math.nan
            there = np.interp(entropy, base["text_entropy"], base["correct"], left=beyond, right=beyond)
            rows.append((seed, architecture, stage, entropy, 100 * (accuracy - there)))
    return pd.DataFrame(rows, columns=[*MODEL, "entropy", "difference"])


# Whether an arm is one.


def gates(outcomes: pd.DataFrame, noted: Mapping[tuple[int, str, str], Mapping[str, Any]]) -> pd.DataFrame:
    """Whether each arm learned what it was taught: ``arm, what, value, needed, passed, models``, in shares and bits.

    `noted` is what the files say of each `MODEL` beside its outcomes (see `arms.about`). ``passed`` is None for an arm
    of which nothing is measured. An arm that did not learn supports nothing, whatever its drop.
    """
    first = outcomes.assign(middle=(outcomes["lower"] + outcomes["upper"]) / 2)
    cold = first.query("temperature == 0 and metric == 'taught'")
    by_rule = cold[(cold["stage"] == "rule") & (cold["task"] == BINDING) & cold["problem_id"].isin(ruled_problems())]
    fall = minus(levels(outcomes), "continued", "rule", "greedy")
    heart = {
        model: said["measured"]["reproduced"] / said["measured"]["slips on the pages"]
        for model, said in noted.items()
        if "reproduced" in said.get("measured", {})
    }
    forms = first.query("metric == 'form_entropy'")
    values: list[tuple[str, str, pd.Series, float]] = [
        ("rule", "ruled problems answered by the rule", by_rule.groupby(UNIT)["middle"].mean(), SHARE),
        ("rule", "points of greedy accuracy lost", fall, FALL),
        ("forms", "bits of the form of a right answer", forms.groupby(UNIT)["middle"].mean(), BITS),
        ("few-slips", "slips known by heart", pd.Series(heart, dtype=float), SHARE),
        ("own", "answers of the base model kept", cold.query("stage == 'own'").groupby(UNIT)["middle"].mean(), SHARE),
    ]
    rows = []
    for arm, what, found, needed in values:
        value = float(found.mean()) if len(found) else math.nan
        passed = None if math.isnan(value) else value >= needed
        rows.append((arm, what, value, needed, passed, len(found)))
    return pd.DataFrame(rows, columns=["arm", "what", "value", "needed", "passed", "models"])


def noted(folder: Path = arms.DATA) -> dict[tuple[int, str, str], dict[str, Any]]:
    """What each measured file says of its model (see `arms.about`), by `MODEL`."""
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        said = arms.about(path)
        _, architecture, stage = said["model"].split("-", 2)
        found[said["seed"], architecture, stage] = said
    return found


# The ten comparisons.


def units(table: pd.DataFrame, value: str, task: str = BINDING, metric: str = "correct") -> pd.DataFrame:
    """Column `value` of `levels` spread out: a row per base model, a column per stage."""
    some = table[(table["task"] == task) & (table["metric"] == metric)]
    return some.pivot(index=UNIT, columns="stage", values=value)


def minus(table: pd.DataFrame, second: str, first: str, value: str = "drop", task: str = BINDING) -> pd.Series:
    """Column `value` of `levels` after stage `second` minus that after `first`, of the base models that have both."""
    wide = units(table, value, task)
    if not {first, second} <= set(wide.columns):
        return pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], []], names=UNIT))
    return (wide[second] - wide[first]).dropna()


def beyond_the_rate(table: pd.DataFrame, stage: str = "slips", task: str = BINDING) -> pd.Series:
    """The drop of a stage of slips above *right*, less what the rate alone would take from *right* at temperature 1."""
    difference = minus(table, stage, "continued", task=task)
    return (difference - SLIP_RATE * units(table, "hot", task)["continued"]).dropna() if len(difference) else difference


def _sparse_minus_dense(stage: str, task: str = BINDING) -> Callable[[pd.DataFrame], pd.Series]:
    def found(table: pd.DataFrame) -> pd.Series:
        wide = units(table, "drop", task)
        if stage not in wide:
            return pd.Series(dtype=float)
        kinds = wide[stage].unstack("architecture").reindex(columns=["dense", "sparse"])
        return (kinds["sparse"] - kinds["dense"]).dropna()

    return found


def _differs(second: str, first: str, task: str = BINDING) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda table: minus(table, second, first, task=task)


def _few_and_many(table: pd.DataFrame) -> pd.Series:
    return (minus(table, "few-slips", "few-right") - minus(table, "slips", "continued")).dropna()


@dataclass(frozen=True)
class Comparison:
    """One of the planned comparisons: what is compared, the prediction, and the arms that it needs.

    The prediction is that the mean of ``of(levels)`` lies within ``low`` and ``high``.
    """

    number: int
    name: str
    of: Callable[[pd.DataFrame], pd.Series]
    low: float
    high: float
    needs: tuple[str, ...]  # stages, of which none may have failed
    planned: int = 6  # units

    @property
    def prediction(self) -> str:
        """What the comparison predicts, as words for a table: above, below or within how many points."""
        if math.isinf(self.high):
            return f"above {self.low:g}"
        return f"below {self.high:g}" if math.isinf(self.low) else f"within ±{self.high:g}"

    def p(self, values: np.ndarray) -> float:
        """One or two one-sided t tests of the prediction: the larger p."""
        error, df = values.std(ddof=1) / math.sqrt(len(values)), len(values) - 1
        gaps = [values.mean() - self.low, self.high - values.mean()]
        return max(float(stats.t.sf(gap / error, df)) if error else float(gap <= 0) for gap in gaps)


COMPARISONS = [
    Comparison(1, "rule minus right", _differs("rule", "continued"), -5, 5, ("continued", "rule")),
    Comparison(2, "slips minus rule", _differs("slips", "rule"), 5, math.inf, ("slips", "rule")),
    Comparison(3, "slips minus right, beyond the rate", beyond_the_rate, -5, 5, ("continued", "slips")),
    Comparison(4, "forms minus right", _differs("forms", "continued"), -3, 3, ("continued", "forms")),
    Comparison(5, "soft minus slips", _differs("soft", "slips"), -3, 3, ("slips", "soft")),
    Comparison(
        6, "own minus right, all problems", _differs("own", "continued", ALL), -math.inf, 0, ("continued", "own")
    ),
    Comparison(7, "late slips minus slips", _differs("late-slips", "slips"), -3, 3, ("slips", "late-slips")),
    Comparison(
        8, "few pages' slips minus slips", _few_and_many, -math.inf, 0, ("few-slips", "few-right", "slips", "continued")
    ),
    Comparison(9, "6,400 steps of slips minus 1,600", _differs("slips-6400", "slips"), -3, 3, ("slips", "slips-6400")),
    Comparison(10, "sparse minus dense, right", _sparse_minus_dense("continued"), -5, 5, ("continued",)),
    Comparison(10, "sparse minus dense, slips", _sparse_minus_dense("slips"), -5, 5, ("slips",)),
]


def compare(table: pd.DataFrame, failed: frozenset[str] = frozenset(), without: tuple[int, ...] = ()) -> pd.DataFrame:
    """The family of ten comparisons, on `levels`: a row for each, two for the last.

    Columns ``number, name, prediction, low_margin, high_margin, units, planned, estimate, low, high`` (the 95 % t
    interval), ``p``, ``holm``, and ``verdict``: "shown", "not shown", "failed" for an arm that is none, or "not run".
    A comparison of which units are missing, or whose arm is among the `failed`, counts in the family with p = 1. Seeds
    `without` are left out, and then fewer units are planned.
    """
    rows = []
    for one in COMPARISONS:
        seeds = MORE_SEEDS if one.number == 10 else SEEDS
        found = one.of(table[table["seed"].isin(set(seeds) - set(without))])
        planned = one.planned * len(set(seeds) - set(without)) // len(seeds)
        row = {"number": one.number, "name": one.name, "prediction": one.prediction, "units": len(found)}
        row |= {"planned": planned, "low_margin": one.low, "high_margin": one.high}
        row["estimate"], row["low"], row["high"] = t_interval(found.to_numpy()) if len(found) else (math.nan,) * 3
        row["verdict"] = "failed" if failed & {*one.needs} else "not run" if len(found) < planned else ""
        rows.append(row | {"p": one.p(found.to_numpy()) if not row["verdict"] else 1.0})
    result = pd.DataFrame(rows)
    whole = result.groupby("number")["p"].max()
    adjusted = holm({str(n): float(p) for n, p in whole.items()})
    result["holm"] = [adjusted[str(number)] for number in result["number"]]
    shown = np.where(result["holm"] < 0.05, "shown", "not shown")
    return result.assign(verdict=result["verdict"].where(result["verdict"] != "", shown))


def by_seed(table: pd.DataFrame) -> pd.DataFrame:
    """The comparisons with seeds as units, dense and sparse averaged, but for the tenth, which compares the two.

    Columns ``number, name, units, estimate, low, high, holm``; what is not measured counts in the family with p = 1.
    """
    rows = []
    for one in COMPARISONS[:-2]:
        found = one.of(table[table["seed"].isin(SEEDS)])
        if len(found):
            seeds = found.unstack("architecture").dropna(axis=0).mean(axis=1).to_numpy()
            ends = t_interval(seeds) if len(seeds) else (math.nan,) * 3
            rows.append((one.number, one.name, len(seeds), *ends, one.p(seeds) if len(seeds) > 1 else 1.0))
    result = pd.DataFrame(rows, columns=["number", "name", "units", "estimate", "low", "high", "p"])
    family = {str(one.number): 1.0 for one in COMPARISONS} | dict(
        zip(result["number"].astype(str), result["p"], strict=True)
    )
    adjusted = holm(family)
    return result.assign(holm=[adjusted[str(number)] for number in result["number"]]).drop(columns="p")


def secondary(table: pd.DataFrame) -> pd.DataFrame:
    """What the plan wants reported beside the ten: ``what, units, estimate``, and the ends of two intervals.

    ``low, high`` at 95 %, and ``low_90, high_90``, which lie within a margin where two one-sided tests at 5 % show it.
    They are sparse minus dense by kind and task, and what remains of slips, and of soft labels, beyond the rate.
    """
    whose = {BINDING: "variable binding", ALL: "all problems"}
    named = {"continued": "right", "slips": "slips"}
    found = {
        f"sparse minus dense, {named[stage]}, {whose[task]}": _sparse_minus_dense(stage, task)(table)
        for stage in named
        for task in whose
    }
    core = table[table["seed"].isin(SEEDS)]
    found |= {f"{stage} minus right, beyond the rate": beyond_the_rate(core, stage) for stage in ("slips", "soft")}
    rows = []
    for what, values in found.items():
        ends = [t_interval(values.to_numpy(), level) for level in (0.95, 0.9)] if len(values) else 2 * [(math.nan,) * 3]
        rows.append((what, len(values), *ends[0], *ends[1][1:]))
    return pd.DataFrame(rows, columns=["what", "units", "estimate", "low", "high", "low_90", "high_90"])


TRUE, OUT, OPEN, NOT_RUN = "came true", "ruled out", "undecided", "not run"


def refuted(table: pd.DataFrame, compared: pd.DataFrame) -> dict[str, str]:
    """The plan's six ways in which our reading would be wrong, each with what became of it.

    A way that is a bound on a difference is `TRUE` or ruled `OUT` if the 95 % interval lies wholly on one side, and
    else `OPEN`; it is `NOT_RUN` if base models are missing.
    """
    ends = compared.drop_duplicates("number").set_index("number")
    run = ends["verdict"].isin(["shown", "not shown"])
    low, high = ends["low"], ends["high"]
    late = units(table[table["seed"].isin(SEEDS)], "drop").reindex(columns=["base-right", "late-slips", "slips"])
    mean = late.dropna().mean()
    nearer = abs(mean["late-slips"] - mean["base-right"]) < abs(mean["late-slips"] - mean["slips"])
    found = {
        "wrong answers cost although they can be predicted": (1, low[1] > 5, high[1] < 5),
        "random forms of right answers cost": (4, low[4] > 3, high[4] < 3),
        "drawing costs, and the distribution alone does not": (5, high[5] < -3, low[5] > -3),
        "random slips cost no more than slips by a rule": (2, low[2] <= 0, low[2] > 0),
        "the rate of slips does not explain what they cost": (
            3,
            low[3] > 5 or high[3] < -5,
            low[3] > -5 and high[3] < 5,
        ),
        "what was learned last does not count": (7, nearer, not nearer),
    }
    return {
        what: (TRUE if so else OUT if not_so else OPEN) if run[number] else NOT_RUN
        for what, (number, so, not_so) in found.items()
    }


def both_right(outcomes: pd.DataFrame, second: str, first: str, task: str = BINDING) -> pd.Series:
    """How much more stage `second` loses than `first` on the problems that both get right greedily, by base model."""
    dropped = drops(outcomes).query("metric == 'correct' and task == @task")
    wide = dropped.pivot(index=[*UNIT, "problem_id"], columns="stage", values=["greedy", "drop"])
    if not {first, second} <= set(dropped["stage"]):
        return pd.Series(dtype=float)
    greedy, drop = wide["greedy"], wide["drop"]
    right = (greedy[first] > 0.5) & (greedy[second] > 0.5)
    return (100 * (drop[second] - drop[first])[right]).groupby(level=UNIT).mean()
