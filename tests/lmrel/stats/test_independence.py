from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmrel import InputError
from lmrel.stats import independence
from tests.lmrel.stats.test_agreement import table

HEAT = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
Rng = np.random.Generator


def repeats(rng: np.random.Generator, problems: int, runs: int, likeliest: float, shared: int = 1) -> pd.DataFrame:
    """Texts of a model that gives the greedy one with probability `likeliest`; each `shared` runs are copies of one."""
    chances = [likeliest, 2 * (1 - likeliest) / 3, (1 - likeliest) / 3]
    own = rng.choice(3, p=chances, size=(problems, -(-runs // shared)))
    texts = np.repeat(own, shared, axis=1)[:, :runs]
    answers = {f"p{i}": row.tolist() for i, row in enumerate(texts)}
    return table(answers, greedy=dict.fromkeys(answers, 0))


def test_independent_repeats_raise_no_alarm_beyond_the_level_even_in_the_worst_case() -> None:
    # The worst case: the greedy text and one other, each with one half; then the test is at its most alarmed.
    rng, level, false = np.random.default_rng(3), 0.05, 0
    for _ in range(150):
        texts = rng.integers(0, 2, (60, 4))
        answers = {f"p{i}": row.tolist() for i, row in enumerate(texts)}
        draws = table(answers, greedy=dict.fromkeys(answers, 0))
        false += independence.independence(draws)["p"].iloc[0] < level
    assert false / 150 <= level + 0.04
    for likeliest in (0.5, 0.9):
        assert not any(independence.copies(repeats(rng, 120, 4, likeliest)) for _ in range(10))


@pytest.mark.parametrize("shared", [2, 4])
def test_copies_are_found_be_they_of_all_runs_or_of_two(shared: int) -> None:
    rng = np.random.default_rng(4)
    for likeliest in (0.5, 0.8):
        found = [independence.copies(repeats(rng, 120, 4, likeliest, shared)) for _ in range(5)]
        assert all("the repeats of m at temperature 0.5 are copies" in said for said in found)


def test_copies_are_counted_by_hand_and_a_few_are_no_proof() -> None:
    answers = {f"p{i}": [5, 5, 6] for i in range(20)} | {f"q{i}": [1, 1, 1] for i in range(10)}
    draws = table(answers, greedy=dict.fromkeys(answers, 1))
    row = independence.independence(draws).iloc[0]
    assert row[["runs", "problems", "identical", "first", "second", "left", "same"]].tolist() == [
        3,
        30,
        10,
        0,
        1,
        20,
        20,
    ]
    assert row["p"] == pytest.approx(3 * 0.5**20)
    said = independence.copies(draws)
    assert "runs 0 and 1 wrote the same in 20 of the 20 problems" in said
    assert "one text in 10 of 30 problems" in said
    assert not independence.copies(draws[draws["problem_id"].isin(["p0", "p1", "p2", "q0"])])


def test_without_a_greedy_draw_or_a_repeat_nothing_is_suspected() -> None:
    alike = table({f"p{i}": [5, 5, 5] for i in range(50)})
    assert independence.independence(alike)[["identical", "left", "p"]].to_numpy().tolist() == [[50, 0, 1]]
    once = table({f"p{i}": [5] for i in range(50)}, greedy={f"p{i}": 1 for i in range(50)})
    assert independence.independence(once).empty
    assert not independence.copies(alike) + independence.copies(once)


def test_one_run_given_twice_is_refused() -> None:
    draws = table({"a": [1, 2]})
    with pytest.raises(InputError, match="a run of a problem twice at one setting"):
        independence.independence(pd.concat([draws, draws]))


# What is tried on answers alone


def drawn(codes: np.ndarray, heat: list[float] = HEAT, **more: Any) -> pd.DataFrame:
    """Draws of another tool from answers (problems, temperatures, runs), of which 0 is right and -1 none."""
    problem, at, run = np.indices(codes.shape).reshape(3, -1)
    base = dict.fromkeys(["precision", "prompt_style", "decoding", "decoder"], "unknown")
    columns = {"model": "m", "task": "custom", "temperature": np.array(heat)[at], "problem_id": problem.astype(str)}
    found = pd.Series(codes.ravel()).astype("Int64")
    columns |= {"run": run, "extracted": found.mask(found == -1), "correct": codes.ravel() == 0, "answer": "imported"}
    return pd.DataFrame(columns | base | {"text": None} | more)


def tempered(rng: Rng, heat: list[float] = HEAT, shared: bool = False, problems: int = 100) -> np.ndarray:
    """Answers of a model with four logits a problem; `shared` random numbers make runs of all temperatures alike."""
    logits = 3 * rng.normal(size=(problems, 1, 1, 4))
    numbers = rng.gumbel(size=(problems, 1 if shared else len(heat), 10, 4))
    return (logits + np.reshape(heat, (1, -1, 1, 1)) * numbers).argmax(axis=-1)


def found(codes: np.ndarray, level: float = independence.LEVEL) -> set[str]:
    table = independence.checks(drawn(codes), level)
    return set(table["check"][table["flagged"]])


@pytest.mark.parametrize("shared", [False, True])
def test_an_honest_model_raises_no_alarm_beyond_the_level_even_with_shared_random_numbers(shared: bool) -> None:
    # By chance more than 5 of 40 are alarmed in less than 2 %, if one in 20 is.
    rng = np.random.default_rng(1)
    assert sum(bool(found(tempered(rng, shared=shared), 0.05)) for _ in range(40)) < 5


def one_setting(rng: Rng) -> np.ndarray:
    codes = tempered(rng)
    codes[:, 4] = codes[:, 4, :1]
    return codes


def cached(rng: Rng) -> np.ndarray:
    codes = tempered(rng)
    return np.where(rng.random((100, 6, 1)) < 2 / 3, codes[..., :1], codes)


def two_runs(rng: Rng) -> np.ndarray:
    codes = tempered(rng)
    codes[:, 3, 7] = codes[:, 3, 2]
    return codes


def drifting(rng: Rng) -> np.ndarray:
    codes = tempered(rng)
    lost = (rng.random(codes.shape) < np.arange(10) / 9 * 0.4) & (codes == 0)
    return np.where(lost, 1, codes)


def one_seed(rng: Rng) -> np.ndarray:
    return np.repeat(tempered(rng, [0.0, 0.7])[:, 1:], 6, axis=1)


FAULTS: list[tuple[Callable[[Rng], np.ndarray], str]] = [
    (one_setting, "copies"),
    (cached, "copies"),
    (one_seed, "same runs"),
    (two_runs, "pair"),
    (lambda rng: tempered(rng)[..., np.arange(10) // 2 * 2], "in order"),
    (drifting, "trend"),
]


@pytest.mark.parametrize(("fault", "check"), FAULTS)
def test_faults_are_found_under_their_names(fault: Callable[[Rng], np.ndarray], check: str) -> None:
    rng = np.random.default_rng(2)
    assert sum(check in found(fault(rng)) for _ in range(6)) >= 5


def test_an_ignored_temperature_is_found_and_nothing_said_where_all_agree() -> None:
    rng = np.random.default_rng(3)
    heat = [0.0, *(np.arange(1, 11) / 10).tolist()]
    tables = [independence.checks(drawn(tempered(rng, [0.7] * 11), heat)) for _ in range(6)]
    assert sum("no effect" in set(table["check"][table["flagged"]]) for table in tables) >= 2
    assert not found(np.zeros((100, 6, 10), dtype=int))


def test_softmax_never_turns_back_and_hotter_draws_agree_no_more_than_with_colder_ones() -> None:
    rng = np.random.default_rng(4)
    for _ in range(300):
        logits, heat = rng.normal(0, rng.exponential(5), rng.integers(2, 8)), np.sort(rng.uniform(0.05, 3, 3))
        a, t, b = (np.exp((logits - logits.max()) / each) for each in heat)
        a, t, b = a / a.sum(), t / t.sum(), b / b.sum()
        assert (t - a) @ (t - b) < 1e-12
        assert t @ (t - a) < 1e-12


def test_no_answer_is_not_an_answer_that_hot_draws_agree_in() -> None:
    rng = np.random.default_rng(5)
    codes = tempered(rng)
    codes[:, -1] = np.where(rng.random((100, 10)) < 0.95, -1, codes[:, -1])
    assert "copies" not in found(codes)


def by_hand(codes: np.ndarray, one: int, other: int) -> list[float]:
    pairs = [(r, s) for r in range(codes.shape[2]) for s in range(codes.shape[2]) if r != s]
    return [np.mean([row[one][r] == row[other][s] for r, s in pairs]) for row in codes]


def test_the_excess_is_the_mean_over_pairs_counted_by_hand() -> None:
    codes = tempered(np.random.default_rng(6), [0.5, 1.0, 2.0], problems=12)
    row = independence.checks(drawn(codes, [0.5, 1.0, 2.0])).iloc[0]
    assert row[["check", "temperature", "other", "problems"]].tolist() == ["copies", 1.0, 0.5, 12]
    within, allowed = by_hand(codes, 1, 1), [np.mean(by_hand(codes, *at)) for at in ((0, 1), (1, 2), (0, 2))]
    assert row["estimate"] == pytest.approx(np.mean(within))
    assert row["expected"] == pytest.approx(allowed[0] + allowed[1] - allowed[2])


@pytest.mark.parametrize("counts", [(1, 1), (2, 2), (3, 1, 2), (4, 2), (2, 2, 2)])
def test_distributions_under_permutation_are_those_over_all_orders(counts: tuple[int, ...]) -> None:
    answers = np.repeat(np.arange(len(counts)), counts)
    n, orders = len(answers), [answers[list(order)] for order in permutations(range(len(answers)))]
    other = np.roll(answers // 2 * 2, 1)
    for made, seen in (
        (independence._neighbouring(tuple(sorted(counts))), [int((o[1:] == o[:-1]).sum()) for o in orders]),
        (
            independence._matching(n, tuple((c, int((other == a).sum())) for a, c in enumerate(counts) if a in other)),
            [int((o == other).sum()) for o in orders],
        ),
        (
            independence._places(counts[0], n),
            [int(np.flatnonzero(o == 0).sum()) - counts[0] * (counts[0] - 1) // 2 for o in orders],
        ),
    ):
        shares = Counter(seen)
        assert made == pytest.approx([shares[k] / len(seen) for k in range(len(made))])
        assert max(seen) < len(made)


def test_tails_are_those_of_the_sum() -> None:
    of = {"a": np.array([0.5, 0.5]), "b": np.array([0.2, 0.0, 0.8])}
    whole = np.convolve(np.convolve(of["a"], of["a"]), of["b"])
    for observed in range(len(whole)):
        upper, lower = independence._tails(of.__getitem__, Counter({("a",): 2, ("b",): 1}), observed)
        assert (upper, lower) == pytest.approx((whole[observed:].sum(), whole[: observed + 1].sum()), abs=1e-11)


def test_verdicts_counts_and_single_draws_are_tried_as_far_as_they_go() -> None:
    codes = one_setting(np.random.default_rng(7))
    verdicts = drawn(codes).assign(extracted=pd.NA)
    assert "copies" in set(independence.checks(verdicts).query("flagged")["check"])
    counts = verdicts.assign(answer="counts").sort_values("correct", ascending=False)
    counts["run"] = counts.groupby(["temperature", "problem_id"]).cumcount()  # as counts are spread out
    kinds = independence.checks(counts)
    assert set(kinds["check"]) == {"copies", "no effect", "greedy"}
    assert set(kinds.query("flagged")["check"]) == {"copies"}
    honest = drawn(tempered(np.random.default_rng(8))).assign(extracted=pd.NA, answer="counts")
    honest["run"] = honest.sort_values("correct").groupby(["temperature", "problem_id"]).cumcount()
    assert not independence.checks(honest)["flagged"].any()
    assert independence.checks(drawn(codes[:, :, :1])).query("check != 'same runs'").empty


def test_texts_count_before_answers_and_clusters_before_problems() -> None:
    codes = np.zeros((60, 1, 4), dtype=int)
    texts = np.random.default_rng(9).integers(0, 1000, codes.shape)
    texts[:, :, 3] = texts[:, :, 1]
    draws = drawn(codes, [1.0], text=texts.ravel().astype(str))
    [said] = independence.doubts(draws)
    assert said.startswith("runs 1 and 3 of m at T = 1 are copies: 100.0 % of their draws agree, 17.2 % of any two")
    copied = drawn(one_setting(np.random.default_rng(2)))
    one = independence.checks(copied.assign(cluster="c" + copied["problem_id"].str[-1])).query("check == 'copies'")
    assert (one["p"] >= 0.5**10).all()


def test_sentences_name_the_model_and_what_was_seen() -> None:
    rng = np.random.default_rng(10)
    draws = pd.concat([drawn(one_setting(rng)), drawn(tempered(rng), model="\u202eother")])
    [said] = independence.doubts(draws)
    assert said.startswith("the repeats of m at T = 0.8 are not independent: 100.0 % of the pairs agree")
    differing = drawn(np.tile([0, 1], (50, 1, 1)), [0.0], model="\u202eother")
    [said] = independence.doubts(differing)
    assert said == r"of \u202eother the greedy draws of 100.0 % of the problems differ from each other"
    [said] = [one for one in independence.doubts(drawn(drifting(rng))) if "accuracy" in one]
    assert "by \N{MINUS SIGN}" in said
    both = independence.doubts(drawn(one_seed(rng)))
    assert any("draws were taken twice" in one and "100.0 % of" in one for one in both)


def test_several_decoders_at_one_temperature_are_apart() -> None:
    codes = tempered(np.random.default_rng(11))
    two = pd.concat([drawn(codes, decoder="a"), drawn(codes, decoder="b")])
    assert set(independence.checks(two)["decoder"]) == {"a", "b"}
    with pytest.raises(InputError, match="a run of a problem twice at one setting"):
        independence.checks(pd.concat([drawn(codes), drawn(codes)]))
