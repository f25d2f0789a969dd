from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmrel import InputError
from lmrel.stats import agreement


def table(answers: dict[str, list[int | None]], right: int = 1, greedy: dict[str, int] | None = None) -> pd.DataFrame:
    """Draws of one setting: of each problem the answers of its runs."""
    base: dict[str, Any] = {
        "model": "m",
        "precision": "fp32",
        "prompt_style": "few_shot",
        "decoding": "pure",
        "decoder": "d",
    }
    base |= {"task": "arithmetic", "expected": right}
    rows = [
        base
        | {"temperature": 0.5, "problem_id": name, "run": run, "extracted": a, "text": f"{a}", "correct": a == right}
        for name, runs in answers.items()
        for run, a in enumerate(runs)
    ]
    for name, a in (greedy or {}).items():
        row = {"temperature": 0.0, "problem_id": name, "run": 0, "extracted": a, "text": f"{a}", "correct": a == right}
        rows.append(base | row)
    return pd.DataFrame(rows).astype({"extracted": "Int64"})


@pytest.mark.parametrize(("n", "c", "k"), [(4, 0, 2), (4, 1, 2), (4, 3, 2), (5, 2, 3), (6, 6, 4), (3, 1, 1)])
def test_pass_at_k_and_pass_power_k_are_means_over_all_subsets(n: int, c: int, k: int) -> None:
    subsets = list(combinations([True] * c + [False] * (n - c), k))
    assert agreement.pass_at_k(n, c, k) == pytest.approx(np.mean([any(s) for s in subsets]))
    assert agreement.pass_power_k(n, c, k) == pytest.approx(np.mean([all(s) for s in subsets]))


def test_pass_at_k_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    p, n, k = 0.3, 6, 3
    found = [agreement.pass_at_k(n, int((rng.random(n) < p).sum()), k) for _ in range(20_000)]
    assert np.mean(found) == pytest.approx(1 - (1 - p) ** k, abs=0.01)


def test_majority_by_hand() -> None:
    assert agreement.majority_at_k([1, 1, 2], 1, 3) == 1.0
    assert agreement.majority_at_k([1, 2], 1, 2) == 0.5  # a tie, decided by a fair draw
    assert agreement.majority_at_k([1, 2, 3], 1, 3) == pytest.approx(1 / 3)
    assert agreement.majority_at_k([None, None, 1], 1, 3) == 0.0
    assert agreement.majority_at_k([None, None], None, 2) == 0.0
    # Of 1, 1, 2: the pairs are 11, 12, 12.
    assert agreement.majority_at_k([1, 1, 2], 1, 2) == pytest.approx((1 + 0.5 + 0.5) / 3)


def test_majority_agrees_with_simulated_votes() -> None:
    rng = np.random.default_rng(1)
    answers, k = [1, 1, 1, 2, 2, 3, None], 4
    won = 0.0
    for _ in range(20_000):
        counts = Counter(answers[i] for i in rng.choice(len(answers), k, replace=False))
        winners = [a for a, count in counts.items() if count == max(counts.values())]
        won += winners[rng.integers(len(winners))] == 1
    assert agreement.majority_at_k(answers, 1, k) == pytest.approx(won / 20_000, abs=0.015)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("answers", [[1, 1, 1, 2, 2, 3, None], [1, 2, 3, 4, 5, 6, 7], [1, 1, 2, 2, 3, 3, None]])
def test_majority_is_the_mean_over_all_subsets(answers: list[int | None], k: int) -> None:
    won = []
    for subset in combinations(answers, k):
        counts = Counter(subset)
        winners = [answer for answer, count in counts.items() if count == max(counts.values())]
        won.append((1 in winners) / len(winners))
    assert agreement.majority_at_k(answers, 1, k) == pytest.approx(np.mean(won))
    assert agreement.majority_at_k(answers, None, k) == 0.0


def test_majority_of_many_draws_is_exact() -> None:
    assert agreement.majority_at_k([1] * 40 + [2] * 24, 1, 8) + agreement.majority_at_k(
        [1] * 40 + [2] * 24, 2, 8
    ) == pytest.approx(1.0)


def test_a_k_out_of_range_is_refused() -> None:
    for k in (0, 4):
        with pytest.raises(InputError, match=f"k is {k}; it must be an integer from 1 to 3"):
            agreement.pass_at_k(3, 1, k)


def test_agreement_and_entropy_by_hand() -> None:
    found = agreement.repeated(table({"a": [1, 1, 1, 1], "b": [1, 2, 1, 2], "c": [None, None, None, None]}))
    row = found[found["task"] == "all"].iloc[0]
    assert row["same_answer"] == row["same_text"] == pytest.approx(2 / 3)
    assert row["answer_entropy"] == pytest.approx(1 / 3)
    assert row["pass_at_k"] == pytest.approx((1 + 5 / 6 + 0) / 3)
    assert row["majority_at_k"] == pytest.approx((1 + (1 / 6 * 1 + 4 / 6 * 0.5)) / 3)


def test_same_answer_does_not_need_the_same_text() -> None:
    draws = table({"a": [1, 1]})
    draws["text"] = ["1", "1 apple"]
    row = agreement.repeated(draws).iloc[0]
    assert (row["same_text"], row["same_answer"]) == (0.0, 1.0)


def test_the_variance_split_finds_the_truth() -> None:
    rng = np.random.default_rng(2)
    chances = rng.beta(2, 2, 3000)  # variance 1/20; mean of p (1 - p) is 1/5
    draws = table({str(i): [int(x) for x in rng.random(4) < p] for i, p in enumerate(chances)})
    row = agreement.repeated(draws).iloc[0]
    assert row["problem_variance"] == pytest.approx(1 / 20, abs=0.006)
    assert row["sampling_variance"] == pytest.approx(1 / 5, abs=0.006)


def test_flips_by_hand() -> None:
    draws = table({"a": [1, 2], "b": [2, 3], "c": [1, 1]}, greedy={"a": 1, "b": 2, "c": 2})
    row = agreement.flips(draws).query("task == 'all'").iloc[0]
    assert row["flipped"] == pytest.approx(4 / 6)
    assert row["right_to_wrong"] == pytest.approx(1 / 6)
    assert row["wrong_to_right"] == pytest.approx(2 / 6)


def test_one_run_is_not_enough() -> None:
    with pytest.raises(InputError, match="no setting with several runs"):
        agreement.repeated(table({"a": [1]}))


@pytest.mark.parametrize("c", [-1, 5])
@pytest.mark.parametrize("chance", [agreement.pass_at_k, agreement.pass_power_k], ids=["pass_at_k", "pass_power_k"])
def test_more_right_draws_than_draws_are_refused(chance: Any, c: int) -> None:
    with pytest.raises(InputError, match=f"c is {c}; it must be an integer from 0 to 3"):
        chance(3, c, 2)


def test_flips_from_two_greedy_decoders_are_refused() -> None:
    draws = table({"a": [1, 2]}, greedy={"a": 1})
    other = draws[draws["temperature"] == 0].assign(decoder="other", extracted=2)
    with pytest.raises(InputError, match="several greedy ones of a problem, as of two greedy decoders"):
        agreement.flips(pd.concat([draws, other]))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_the_chance_of_one_answer_is_a_mean_over_all_subsets(k: int) -> None:
    answers = [1, 1, 2, None, 1]
    expected = np.mean([len(set(some)) == 1 for some in combinations(answers, k)])
    assert agreement.same_at_k(answers, k) == pytest.approx(expected)
