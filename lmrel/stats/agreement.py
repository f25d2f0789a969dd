"""How far repeated draws agree, and what repeating buys: tables from draws, by setting and task.

Everything is per problem first, then a mean over problems. The published "consistency" (`metrics.summarize`) is a
standard deviation of whole runs: it shrinks with the number of problems and says little of any one of them.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from lmrel.errors import InputError, check_number, needs_columns
from lmrel.stats.metrics import BUT_TEMPERATURE, GROUP, SETTING, has_answers, with_all

RIGHT = ("right",)  # an answer, in whatever form another tool's verdict took it


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of `k` draws is right, unbiased, from `c` right ones of `n` (arXiv 2107.03374)."""
    _check_counts(n, c, k)
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def pass_power_k(n: int, c: int, k: int) -> float:
    """Chance that all of `k` draws are right ("pass^k"), unbiased, from `c` right ones of `n`."""
    _check_counts(n, c, k)
    return math.comb(c, k) / math.comb(n, k)


def same_at_k(answers: Sequence[Hashable], k: int) -> float:
    """Chance that `k` draws give one answer, unbiased, from the `answers` of at least as many; none (None) is one."""
    check_number("k", k, 1, len(answers), whole=True)
    return sum(math.comb(count, k) for count in Counter(answers).values()) / math.comb(len(answers), k)


def majority_at_k(answers: Sequence[Hashable], right: Hashable, k: int) -> float:
    """Chance that the most frequent of `k` of the `answers` is `right`; ties are decided by a fair draw.

    Exact over all subsets of `k`. No answer (None) takes part in the vote like any other, and is never right.
    """
    check_number("k", k, 1, len(answers), whole=True)
    others = Counter(answers)
    rights = 0 if right is None else others.pop(right, 0)
    favourable = Fraction(0)
    for votes in range(1, min(rights, k) + 1):
        # Subsets with so many right answers and none more frequent, by how many others they hold and how many tie.
        subsets = {(0, 0): math.comb(rights, votes)}
        for count in others.values():
            wider: dict[tuple[int, int], int] = defaultdict(int)
            for (size, ties), number in subsets.items():
                for more in range(min(count, votes, k - votes - size) + 1):
                    wider[size + more, ties + (more == votes)] += number * math.comb(count, more)
            subsets = wider
        favourable += sum(Fraction(number, 1 + ties) for (size, ties), number in subsets.items() if size + votes == k)
    return float(favourable / math.comb(len(answers), k))


def _check_counts(n: int, c: int, k: int) -> None:
    check_number("c", c, 0, n, whole=True)
    check_number("k", k, 1, n, whole=True)


@needs_columns(*GROUP, "problem_id", "run", "correct", "extracted", "text", empty=True)
def repeated(draws: pd.DataFrame, k: int = 2) -> pd.DataFrame:
    """One row per setting with several runs, and task (and ``all``): the means over problems of

    - ``same_text`` and ``same_answer``: whether all draws agree, in every character or in the answer (TARr@N and TARa@N
      of arXiv 2408.04667);
    - ``answer_entropy``: of the answers' frequencies, in bits; the plug-in value, too low with few runs;
    - ``pass_at_k``, ``pass_power_k`` and ``majority_at_k``. Answers that were judged right are one answer.

    And the split of the variance of a single draw's correctness: ``problem_variance`` between problems' chances of
    success, and ``sampling_variance`` within them; unbiased, so the former may come out negative. What rests on texts
    or answers is NaN where they are not known.
    """
    several = draws.groupby([*SETTING, "problem_id"])["run"].transform("size") > 1
    of_problem = draws[several].groupby([*GROUP, "problem_id"]).apply(_of_problem, k=k, answered=has_answers(draws))
    if of_problem.empty:
        raise InputError("there is no setting with several runs.")
    means = with_all(of_problem.reset_index()).groupby(GROUP)[list(of_problem)].mean()
    split = variance_split(draws).set_index(GROUP)[["sampling_variance", "problem_variance"]]
    return means.join(split).reset_index()


@needs_columns(*GROUP, "problem_id", "correct", empty=True)
def variance_split(draws: pd.DataFrame) -> pd.DataFrame:
    """One row per setting with several runs, and task (and ``all``): the variance of a single draw's correctness.

    ``problem_variance`` is that between problems' chances of success, and ``sampling_variance`` that within them, both
    unbiased; beside them ``problems``, ``runs`` a problem and ``accuracy``. Problems with a single run do not count.
    """
    shares = draws.groupby([*GROUP, "problem_id"])["correct"].agg(["size", "mean"]).astype(float).reset_index()
    shares = shares[shares["size"] > 1]
    if shares.empty:
        raise InputError("there is no setting with several runs.")
    n, share = shares["size"], shares["mean"]
    shares["within"] = share * (1 - share) * n / (n - 1)
    groups = with_all(shares.assign(error=shares["within"] / n)).groupby(GROUP)
    columns = {
        "problems": groups.size(),
        "runs": groups["size"].mean(),
        "accuracy": groups["mean"].mean(),
        # Shares of few draws scatter more between problems than the chances behind them, by their own sampling error.
        "problem_variance": groups["mean"].var(ddof=1) - groups["error"].mean(),
        "sampling_variance": groups["within"].mean(),
    }
    return pd.DataFrame(columns).reset_index()


def _of_problem(draws: pd.DataFrame, k: int, answered: bool) -> pd.Series:
    n, c = len(draws), int(draws["correct"].sum())
    pairs = zip(draws["correct"], draws["extracted"], strict=True)
    answers = [RIGHT if correct else (None if pd.isna(answer) else answer,) for correct, answer in pairs]
    frequencies = np.array(list(Counter(answers).values())) / n
    return pd.Series(
        {
            "runs": n,
            "same_text": math.nan if draws["text"].isna().any() else float(draws["text"].nunique() == 1),
            "same_answer": float(len(frequencies) == 1) if answered else math.nan,
            "answer_entropy": abs(float(-(frequencies * np.log2(frequencies)).sum())) if answered else math.nan,
            "pass_at_k": pass_at_k(n, c, k),
            "pass_power_k": pass_power_k(n, c, k),
            "majority_at_k": majority_at_k(answers, RIGHT, k) if answered else math.nan,
        }
    )


@needs_columns(*GROUP, "problem_id", "correct", "extracted")
def flips(draws: pd.DataFrame) -> pd.DataFrame:
    """Against the greedy draw of the same problem: the share of draws with another answer, by setting and task.

    Columns ``flipped``, and of all draws those that went ``right_to_wrong`` and ``wrong_to_right``.
    """
    found = against_greedy(draws)
    shares = ["flipped", "right_to_wrong", "wrong_to_right"]
    return with_all(found).groupby(GROUP)[shares].mean().reset_index()


@needs_columns(*SETTING, "problem_id", "correct", "extracted")
def against_greedy(draws: pd.DataFrame) -> pd.DataFrame:
    """The draws above temperature 0 whose problem has a greedy draw, with the three outcomes of `flips` for each."""
    if not has_answers(draws):
        raise InputError("of these draws only the verdicts are known, so their answers cannot be compared.")
    asked = [*BUT_TEMPERATURE, "problem_id"]
    greedy = draws[draws["temperature"] == 0].set_index(asked)[["extracted", "correct"]]
    if greedy.index.has_duplicates:
        raise InputError(
            "the draws hold several greedy ones of a problem, as of two greedy decoders; give one of them."
        )
    others = draws[draws["temperature"] > 0].join(greedy.add_suffix("_greedy"), asked, how="inner")
    # As text, so that no answer, which is no text, is the same as none.
    now, then = (others[column].astype("string").fillna("") for column in ("extracted", "extracted_greedy"))
    right, was_right = others["correct"], others["correct_greedy"]
    found: dict[str, Any] = {
        "flipped": (now != then).astype(float),
        "right_to_wrong": was_right & ~right,
        "wrong_to_right": ~was_right & right,
    }
    return others.assign(**found)
