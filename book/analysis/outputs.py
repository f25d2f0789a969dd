"""What published outputs of others show: losses of accuracy on CRUXEval, and nine models at eleven temperatures.

Draws are tables of `lmrel.read_outputs`. Accuracies, their changes and the margins are in points; intervals are over
problems, those of one function being one unit. What is asked, and with which margins, is on the book's page "The plan
for published outputs"; the module knows no chart.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from book.analysis.trends import holm, mean_test
from lmrel.stats.agreement import majority_at_k, same_at_k
from lmrel.stats.contrasts import clusters_of, equivalence
from lmrel.stats.inference import clustered_wilson, t_interval
from lmrel.stats.metrics import clusters

DATA = Path(__file__).resolve().parent.parent / "data" / "outputs"  # what is stored of all this, as tables
COOL, HOT = 0.2, 0.8  # the temperatures of CRUXEval
DRAWS = 10  # of a problem; a model that has fewer enters no comparison
MARGIN = 2.0  # within which losses count as equal
NO_CHANGE = 5.0  # within which accuracy at T = 0 and T = 1 counts as equal
MIXED = (0.2, 0.4, 0.6, 0.8, 1.0)
COT = "+cot"
# Who was tuned from whom, by the set's own names. Its WizardCoders were tuned from Code Llama's Python models.
TUNED = [(f"deepseek-base-{size}", f"deepseek-instruct-{size}") for size in ("1.3b", "6.7b", "33b")]
TUNED_OTHERWISE = [
    *((f"codellama-{size}", f"codellama-python-{size}") for size in ("7b", "13b", "34b")),
    ("codellama-34b", "codetulu-2-34b"),
    ("codellama-34b", "phind"),
    ("codellama-python-13b", "wizard-13b"),
    ("codellama-python-34b", "wizard-34b"),
    ("deepseek-base-6.7b", "magicoder-ds-7b"),
]
DENSE_AND_SPARSE = [("mistral-7b", "mixtral-8x7b")]
REASONED = [
    (name, name + COT)
    for name in ("codellama-7b", "codellama-13b", "codellama-34b", "gpt-3.5-turbo-0613", "gpt-4-0613")
]
PAIRS = {
    "instruction tuning": TUNED,
    "other tuning": TUNED_OTHERWISE,
    "sparsity": DENSE_AND_SPARSE,
    "chain of thought": REASONED,
}
PROBLEM = ["model", "task", "cluster", "problem_id"]


def by_problem(draws: pd.DataFrame) -> pd.DataFrame:
    """Each problem's accuracy at each temperature, in points: a column for each, and ``draws``, the fewest at any."""
    groups = draws.assign(cluster=clusters(draws)).groupby([*PROBLEM, "temperature"])["correct"]
    means = (100 * groups.mean()).unstack()
    return means.assign(draws=groups.size().unstack().min(axis=1))


def losses(problems: pd.DataFrame) -> pd.DataFrame:
    """What each model loses from `COOL` to `HOT`: a row per model and task, ``all`` included, from `by_problem`.

    Columns ``problems, units, draws``, the accuracies ``cool`` and ``hot``, ``loss`` with its 95 % interval ``low,
    high``, the share ``retained``, and ``spread``: the standard deviation of the problems' true losses, which is what
    theirs vary beyond their draws (0 if that is less than nothing, NaN for single draws).
    """
    several = pd.concat(
        [problems, problems.rename({task: "all" for task in problems.index.unique("task")}, level="task")]
    )
    rows = []
    for (model, task), some in several.dropna().groupby(["model", "task"]):
        loss, units = some[COOL] - some[HOT], some.index.get_level_values("cluster").to_series()
        noise = (some[[COOL, HOT]] * (100 - some[[COOL, HOT]])).sum(axis=1) / (some["draws"] - 1).replace(0, math.nan)
        mean, low, high = t_interval(loss.to_numpy(), clusters=units)
        rows.append(
            {
                "model": model,
                "task": task,
                "problems": len(some),
                "units": units.nunique(),
                "draws": int(some["draws"].min()),
                "cool": some[COOL].mean(),
                "hot": some[HOT].mean(),
                **{"loss": mean, "low": low, "high": high},
                "retained": some[HOT].mean() / some[COOL].mean(),
                "spread": math.sqrt(max(0.0, loss.var(ddof=1) - noise.mean())) if noise.notna().all() else math.nan,
            }
        )
    return pd.DataFrame(rows)


def compare(problems: pd.DataFrame) -> pd.DataFrame:
    """The planned comparisons, the first model's loss minus the second's on the same problems: a row for each pair.

    Columns ``kind, first, second, problems``, the two losses, ``difference`` with its 95 % and 90 % intervals, the
    two-sided ``p``, ``holm`` over all rows, ``p_equal`` of two one-sided tests against `MARGIN`, and ``verdict``:
    "loses more" or "loses less" of the first, "equal within the margin", both, or "not settled". Equality is tested
    pair by pair; ``holm_equal`` is corrected over all rows. ``input`` and ``output`` are the difference by task.
    """
    enough = problems[problems["draws"] >= DRAWS].dropna()
    loss = enough[COOL] - enough[HOT]
    rows = []
    for kind, first, second in ((kind, *pair) for kind, pairs in PAIRS.items() for pair in pairs):
        if not {first, second} <= set(loss.index.unique("model")):
            continue
        found = pd.DataFrame({"a": loss.loc[first], "b": loss.loc[second]}).dropna()
        difference = found["a"] - found["b"]
        equal = equivalence(difference, MARGIN)
        mean, low, high = t_interval(difference.to_numpy(), clusters=clusters_of(difference))
        losses = {"first_loss": found["a"].mean(), "second_loss": found["b"].mean()}
        ends = {"low": low, "high": high, "low_90": equal["low"], "high_90": equal["high"]}
        tests = {"p": mean_test(difference), "p_equal": equal["p"]}
        named = {"kind": kind, "first": first, "second": second, "problems": len(found)}
        of_task = difference.groupby("task").mean().to_dict()
        rows.append(named | losses | {"difference": mean} | ends | tests | of_task)
    table = pd.DataFrame(rows)
    for name, p in {"holm": "p", "holm_equal": "p_equal"}.items():
        table[name] = list(holm({str(row): value for row, value in table[p].items()}).values())
    return table.assign(verdict=[_verdict(row) for _, row in table.iterrows()])


def _verdict(row: pd.Series) -> str:
    words = [f"loses {'more' if row['difference'] > 0 else 'less'}"] if row["holm"] < 0.05 else []
    words += ["equal within the margin"] if row["p_equal"] < 0.05 else []
    return ", ".join(words) or "not settled"


def changes(draws: pd.DataFrame, without: Sequence[str] = (), cool: float = 0.0, hot: float = 1.0) -> pd.DataFrame:
    """How each model's accuracy changes from `cool` to `hot`, and over all temperatures between: a row per model.

    Columns ``problems, cool, hot``; ``change`` with ``low, high``, its ``p`` and ``holm`` over the models that are not
    `without` independent draws (NaN for these); ``slope`` per unit of temperature, the mean of the problems' least
    squares lines, with its interval; ``low_90, high_90`` and ``p_equal`` of equivalence within `NO_CHANGE`, and
    ``margin``, the smallest that these data would show. Beside them what ignores that the problems are the same:
    ``apart_low, apart_high``, Welch's interval of the change, and ``apart_p``, Kruskal and Wallis' test of all
    temperatures as groups.
    """
    rows = []
    for model, some in by_problem(draws).groupby("model"):
        within = some.drop(columns="draws").loc[:, cool:hot]
        change = (some[hot] - some[cool]).dropna()
        mean, low, high = t_interval(change.to_numpy())
        centred = within.columns.to_numpy(float) - within.columns.to_numpy(float).mean()
        slope = t_interval((within.to_numpy() @ centred) / (centred**2).sum())
        equal = equivalence(change, NO_CHANGE)
        apart = stats.ttest_ind(some[hot], some[cool], equal_var=False).confidence_interval()
        rows.append(
            {
                "model": model,
                "problems": len(change),
                "cool": some[cool].mean(),
                "hot": some[hot].mean(),
                **{"change": mean, "low": low, "high": high, "p": mean_test(change)},
                **dict(zip(("slope", "slope_low", "slope_high"), slope, strict=True)),
                **{"low_90": equal["low"], "high_90": equal["high"], "p_equal": equal["p"]},
                "margin": max(abs(equal["low"]), abs(equal["high"])),
                **{"apart_low": apart.low, "apart_high": apart.high},
                "apart_p": float(stats.kruskal(*within.to_numpy().T).pvalue),
            }
        )
    table = pd.DataFrame(rows)
    tested = ~table["model"].isin(without)
    adjusted = holm({str(name): float(p) for name, p in table[tested].set_index("model")["p"].items()})
    return table.assign(holm=table["model"].map(adjusted))


def dependent(checked: pd.DataFrame) -> list[str]:
    """The models whose repeats are found not to be independent: rows of `lmrel.stats.independence.checks`."""
    found = checked[checked["flagged"] & checked["check"].isin(["copies", "same runs", "in order", "pair"])]
    return sorted(found["model"].unique())


def consistency(draws: pd.DataFrame) -> pd.DataFrame:
    """How far a problem's answers agree, by model and temperature: a row for each.

    ``accuracy``; ``agree``, the chance in per cent that two draws of a problem give one answer, with ``low, high``;
    ``always``, the share of problems whose draws all do; ``unanswered``, the share of draws without an answer, and
    ``failed``, that of draws of a problem for which an error was noted. No answer is an answer here.
    """
    rows = []
    for (model, temperature), some in draws.groupby(["model", "temperature"]):
        answers = some.groupby("problem_id")["extracted"].agg(_answers)
        mean, low, high = clustered_wilson(answers.map(lambda found: same_at_k(found, 2)).to_numpy(float))
        rows.append(
            {
                "model": model,
                "temperature": temperature,
                "accuracy": 100 * some.groupby("problem_id")["correct"].mean().mean(),
                **{"agree": 100 * mean, "low": 100 * low, "high": 100 * high},
                "always": 100 * float(np.mean(answers.map(lambda found: len(set(found)) == 1))),
                "unanswered": 100 * some["extracted"].isna().mean(),
                "failed": 100 * some["failed"].mean(),
            }
        )
    return pd.DataFrame(rows)


def agreement_lost(draws: pd.DataFrame, cool: float = 0.1, hot: float = 1.0) -> pd.DataFrame:
    """The change from `cool` to `hot` of the chance that two draws of a problem agree, in points: a row per model.

    Columns ``model, change, low, high``, the interval being over problems, and ``answered``, the change if draws
    without an answer agree with none instead of with each other, with ``answered_low, answered_high``.
    """
    some = draws[draws["temperature"].isin([cool, hot])]
    own = "no answer " + pd.Series(range(len(some)), some.index).astype(str)
    found: dict[Any, dict[str, float]] = {}
    asked = {("change", "low", "high"): some["extracted"]}
    asked |= {("answered", "answered_low", "answered_high"): some["extracted"].fillna(own)}
    for names, answers in asked.items():
        cells = some.assign(said=answers).groupby(["model", "temperature", "problem_id"])["said"]
        wide = cells.agg(lambda said: 100 * same_at_k(_answers(said), 2)).astype(float).unstack("temperature")
        for model, values in (wide[hot] - wide[cool]).groupby("model"):
            found.setdefault(model, {}).update(zip(names, t_interval(values.to_numpy()), strict=True))
    return pd.DataFrame(found).T.rename_axis("model").reset_index()


def _answers(extracted: pd.Series) -> list[Any]:
    return [None if pd.isna(answer) else answer for answer in extracted]


def mixing(draws: pd.DataFrame) -> pd.DataFrame:
    """Five draws at five temperatures against five at one, by the chance that the most frequent answer is right.

    A row per model: ``mixed``, with one draw at each of `MIXED`; ``single``, with five at the temperature up to 1 that
    was best for the other half of the problems, named in ``chosen``; ``difference``, mixed minus single, with its 95 %
    interval over problems.
    """
    rows = []
    for model, some in draws[draws["temperature"] <= 1].groupby("model"):
        found = some.groupby(["problem_id", "temperature"])["extracted"].agg(_answers).unstack("temperature")
        temperatures = found.columns.to_numpy(float)
        right = some.groupby("problem_id")["expected"].first().to_numpy()
        answers = found.to_numpy()
        five = np.array(
            [[majority_at_k(cell, is_right, 5) for cell in row] for row, is_right in zip(answers, right, strict=True)]
        )
        several = answers[:, np.isin(temperatures, MIXED)]
        mixed = np.array([majority_of(row, is_right) for row, is_right in zip(several, right, strict=True)])
        half = np.arange(len(right)) % 2  # every second problem: they come in groups
        best = np.array([five[half != side].mean(axis=0).argmax() for side in (0, 1)])
        single = five[np.arange(len(right)), best[half]]
        chosen = ", ".join(f"{t:g}" for t in np.unique(temperatures[best]))
        rows.append((model, 100 * mixed.mean(), 100 * single.mean(), chosen, *t_interval(100 * (mixed - single))))
    return pd.DataFrame(rows, columns=["model", "mixed", "single", "chosen", "difference", "low", "high"])


def majority_of(groups: Sequence[Sequence[Any]], right: Any) -> float:
    """The chance that the most frequent answer is `right`, of one drawn from each of the `groups` at random.

    Ties are decided by a fair draw, and no answer (None) is never right: `lmrel.stats.agreement.majority_at_k`, but for
    draws that are not alike.
    """
    names = list(dict.fromkeys(itertools.chain(*groups)))
    ways: dict[tuple[int, ...], float] = {(0,) * len(names): 1.0}  # how often each was drawn, and the chance of it
    for group in groups:
        wider: dict[tuple[int, ...], float] = defaultdict(float)
        for drawn, chance in ways.items():
            for name, count in Counter(group).items():
                at = names.index(name)
                wider[(*drawn[:at], drawn[at] + 1, *drawn[at + 1 :])] += chance * count / len(group)
        ways = wider
    if right is None or right not in names:
        return 0.0
    at = names.index(right)
    return sum(chance / drawn.count(max(drawn)) for drawn, chance in ways.items() if drawn[at] == max(drawn))
