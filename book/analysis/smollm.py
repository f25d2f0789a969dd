"""What one real model's stored draws say: the numbers of the page on SmolLM2-135M-Instruct.

Texts are stored, so every answer rule is applied here. Accuracies and what is lost of them are in points; intervals are
95 %, with the problem as the unit.
"""

from __future__ import annotations

import json
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmrel.parameters import RULES
from lmrel.problems import paper_problems
from lmrel.prompts import worksheet_item
from lmrel.rescoring import rescore
from lmrel.sources import rows_of
from lmrel.stats.contrasts import clusters_of, paired
from lmrel.stats.inference import bounded_interval, clustered_wilson

DATA = Path(__file__).resolve().parent.parent / "data" / "real" / "r0"
STORED, EXACT, PROBLEMS = DATA / "draws.parquet", DATA / "exact.parquet", DATA / "problems.csv"
ABOUT = DATA / "conditions.json"
PILOT = DATA.parent / "pilot-300.parquet"  # of the plan to train this model further
TEMPERATURES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of exact outcomes; at higher ones their bounds say little
# The families of one step: their sign, the lowest and the highest number in them, and how they are worked out.
FAMILIES: dict[str, tuple[str, int, int, Callable[[int, int], int]]] = {
    "sum": ("+", 1, 9, operator.add),
    "difference": ("-", 1, 9, operator.sub),
    "product": ("*", 1, 9, operator.mul),
    "long sum": ("+", 10, 49, operator.add),
}
PLAIN = "steps-plain"  # the condition that is measured exactly, too
ALL = "all"
HALF = 0.5


def conditions() -> dict[str, Any]:
    """What was asked under each condition, and with what it was drawn, by its name."""
    found: dict[str, Any] = json.loads(ABOUT.read_text(encoding="utf-8"))
    return found


def drawn() -> pd.DataFrame:
    """Every stored draw with its problem's ``task``, ``cluster`` and right answer, ``expected``."""
    paper = paper_problems()[["problem_id", "task", "answer"]]
    paper["cluster"] = [worksheet_item(row) for row in rows_of(paper_problems())]
    asked = pd.concat([paper, one_step().assign(cluster=lambda table: table["problem_id"])])
    asked = asked.rename(columns={"answer": "expected"}).astype({"expected": "int64"})
    return pd.read_parquet(STORED).merge(asked[["problem_id", "task", "cluster", "expected"]], validate="many_to_one")


def one_step() -> pd.DataFrame:
    """The problems of one step: columns ``problem_id, task, question, answer``."""
    return pd.read_csv(PROBLEMS)


def on_paper(condition: str) -> bool:
    """Whether a condition asks the paper's problems, and not those of one step."""
    return not condition.startswith("steps-")


def read_by_rules(draws: pd.DataFrame, rules: Sequence[str] = RULES) -> pd.DataFrame:
    """The draws once for each rule, read by it: see `lmrel.rescore`; the rule is in ``answer``."""
    return pd.concat([rescore(draws, rule) for rule in rules], ignore_index=True)


def accuracies(read: pd.DataFrame, by: Sequence[str] = ("condition", "temperature", "answer")) -> pd.DataFrame:
    """The accuracy of draws that were read by rules, a row each group: ``accuracy, low, high, unanswered, compliance``.

    In points, but for ``problems``, their number.
    """
    rows = []
    for name, some in read.groupby(list(by), sort=False):
        problems = some.groupby(["problem_id", "cluster"])["correct"].mean().reset_index()
        ends = clustered_wilson(problems["correct"].to_numpy(float), clusters=problems["cluster"])
        row = dict(zip(by, name, strict=True))
        row |= dict(zip(("accuracy", "low", "high"), 100 * np.array(ends), strict=True))
        rows.append(
            row
            | {
                "unanswered": 100 * some["extracted"].isna().mean(),
                "compliance": 100 * some["compliant"].mean(),
                "problems": len(problems),
            }
        )
    return pd.DataFrame(rows)


def by_family(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with all its families once more, together, under `ALL`."""
    return pd.concat([table, table.assign(task=ALL)], ignore_index=True)


def shared(draws: pd.DataFrame) -> pd.DataFrame:
    """`draws` without the one-step problems that not every condition of theirs was asked: what is left compares."""
    steps = draws[~draws["condition"].map(on_paper)]
    common = set.intersection(*(set(some) for _, some in steps.groupby("condition")["problem_id"]))
    return draws[draws["condition"].map(on_paper) | draws["problem_id"].isin(common)]


def won(read: pd.DataFrame, condition: str, temperature: float = 1.0) -> tuple[int, int]:
    """How many problems of a condition are wrong greedily, and how many of these are right in some draw at T > 0.

    That is, at `temperature`; of draws that were read by one rule.
    """
    some = read[read["condition"] == condition]
    greedy, hot = (some[some["temperature"] == t].groupby("problem_id")["correct"].any() for t in (0.0, temperature))
    return int((~greedy).sum()), int((~greedy & hot).sum())


def exact_outcomes() -> pd.DataFrame:
    """P(correct) of the one-step problems, exactly, at `TEMPERATURES`.

    Columns ``problem_id, task, temperature, lower, upper`` and ``correct``, the middle of the two bounds.
    """
    table = pd.read_parquet(EXACT)
    table = table[table["metric"] == "correct"].drop(columns="metric").reset_index(drop=True)
    return table.assign(correct=(table["lower"] + table["upper"]) / 2)


def outcomes(exact: pd.DataFrame, read: pd.DataFrame) -> pd.DataFrame:
    """P(correct) of the one-step problems in plain text: exact where it is stored, else the share of right draws.

    Columns ``problem_id, task, temperature, correct, how``: ``exact`` or ``sampled``.
    """
    some = read[(read["condition"] == PLAIN) & (read["answer"] == "first")]
    at = ["problem_id", "task", "temperature"]
    sampled = some.groupby(at, sort=False)["correct"].mean().reset_index().assign(how="sampled")
    known = pd.concat([exact[[*at, "correct"]].assign(how="exact"), sampled])
    known = known.drop_duplicates(at)  # of both the first, which is exact
    whole = known.groupby("temperature")["problem_id"].transform("size") == sampled["problem_id"].nunique()
    return known[whole].reset_index(drop=True)  # no temperature at which some family is missing


def curves(known: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by family and temperature: rows of `outcomes`.

    Columns ``task, temperature, accuracy, low, high, how``; in points.
    """
    rows = []
    for (task, temperature), some in by_family(known).groupby(["task", "temperature"], sort=False):
        how = "exact" if (some["how"] == "exact").all() else "sampled"
        rows.append((task, temperature, *(100 * np.array(clustered_wilson(some["correct"].to_numpy()))), how))
    table = pd.DataFrame(rows, columns=["task", "temperature", "accuracy", "low", "high", "how"])
    return table.sort_values(["task", "temperature"]).reset_index(drop=True)


def changes(table: pd.DataFrame, first: float, second: float) -> pd.DataFrame:
    """The change of ``correct`` from one temperature to another, paired by problem, by family and over all.

    Columns ``task, before, after, change, low, high``; in points.
    """
    rows = []
    for task, some in by_family(table).groupby("task", sort=False):
        before, after = (some[some["temperature"] == t] for t in (first, second))
        differences = paired(before, after)
        ends = bounded_interval(differences, clusters_of(differences))
        means = (side.groupby("problem_id")["correct"].mean().mean() for side in (before, after))
        rows.append([task, *(100 * value for value in (*means, *ends))])
    return pd.DataFrame(rows, columns=["task", "before", "after", "change", "low", "high"])


def heat_helps(exact: pd.DataFrame) -> pd.DataFrame:
    """How many problems of each family T = 1 spoils, and heat helps: a row a family.

    Of those that are right greedily, ``lost`` are right in less than half of the draws at T = 1; of those that are
    wrong, ``gained`` have a better chance than half at some temperature.

    The bounds decide: a problem counts where it is certain.
    """
    wide = by_family(exact).set_index(["task", "problem_id", "temperature"])[["lower", "upper"]].unstack()
    right = wide["lower"][0.0] > HALF
    table = pd.DataFrame(
        {
            "problems": right.groupby("task", sort=False).size(),
            "right": right.groupby("task", sort=False).sum(),
            "lost": (right & (wide["upper"][1.0] < HALF)).groupby("task", sort=False).sum(),
            "wrong": (~right).groupby("task", sort=False).sum(),
            "gained": (~right & (pd.DataFrame(wide["lower"]).max(axis=1) > HALF)).groupby("task", sort=False).sum(),
        }
    )
    return table.reset_index()


def failures(draws: pd.DataFrame) -> pd.DataFrame:
    """What becomes of the draws of each condition and temperature: ``right``, or the paper's class of failure.

    Columns ``condition, temperature, what, share``, the share in [0, 1] of all draws.
    """
    read = rescore(draws, "first")
    read["what"] = read["failure"].where(~read["correct"], "right")
    at = ["condition", "temperature"]
    counts = read.groupby([*at, "what"]).size().rename("share").reset_index()
    return counts.assign(share=counts["share"] / counts.groupby(at)["share"].transform("sum"))


def agreement(read: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """How many of a problem's runs gave its most frequent answer, and whether that is right, a row a problem.

    Columns ``problem_id, runs, agree, right``; where several answers are most frequent, ``right`` is the share of them.
    """
    rows = []
    some = read[(read["condition"] == PLAIN) & (read["temperature"] == temperature) & (read["answer"] == "first")]
    for problem, runs in some.groupby("problem_id", sort=False):
        counts = Counter(None if pd.isna(answer) else int(answer) for answer in runs["extracted"])
        most = max(counts.values())
        modes = [answer for answer, count in counts.items() if count == most]
        rows.append((problem, len(runs), most, modes.count(int(runs["expected"].iloc[0])) / len(modes)))
    return pd.DataFrame(rows, columns=["problem_id", "runs", "agree", "right"])


def sampled_minus_exact(read: pd.DataFrame, exact: pd.DataFrame, temperature: float = 1.0) -> tuple[float, ...]:
    """The sampled accuracy of `PLAIN` minus the exact one at a temperature: its mean and interval, in points."""
    some = read[(read["condition"] == PLAIN) & (read["temperature"] == temperature) & (read["answer"] == "first")]
    found = paired(exact[exact["temperature"] == temperature], some.drop(columns="cluster"))
    return tuple(100 * end for end in bounded_interval(found))


def at(
    table: pd.DataFrame, temperatures: float | Sequence[float], *, paper: bool, shipped: bool = True
) -> pd.DataFrame:
    """The rows of some temperatures, on the paper's problems or on those of one step; `shipped`: as shipped, too."""
    some = table[table["temperature"].isin(np.atleast_1d(temperatures)) & (table["condition"].map(on_paper) == paper)]
    return some if shipped else some[~some["condition"].str.endswith("as_shipped")]
