"""The analyses of published outputs, on synthetic twins of them, against a few lines of plain numpy."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from book.analysis import outputs
from lmrel.outputs import read_outputs

PAIR = ("deepseek-base-1.3b", "deepseek-instruct-1.3b")
FUNCTIONS, TASKS, DRAWS = 60, ("input", "output"), 10


def twin(chances: dict[str, tuple[float, float]], seed: int = 0, draws: int = DRAWS) -> pd.DataFrame:
    """Counts as CRUXEval's, of models with these chances of a right answer at both temperatures, problems differing."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 0.12, FUNCTIONS)
    rows: list[dict[str, Any]] = []
    for (model, ends), task, (t, chance) in (
        (named, task, end)
        for named in chances.items()
        for task in TASKS
        for end in zip((0.2, 0.8), named[1], strict=True)
    ):
        right = rng.binomial(draws, np.clip(chance + hard, 0, 1))
        rows += [
            {
                "model": model,
                "task": task,
                "temperature": t,
                "problem_id": f"{task}/{i}",
                "draws": draws,
                "correct": int(c),
            }
            for i, c in enumerate(right)
        ]
        assert len(ends) == 2
    return pd.DataFrame(rows)


def problems_of(counts: pd.DataFrame, folder: Path) -> pd.DataFrame:
    counts.to_csv(folder / "counts.csv", index=False)
    draws = read_outputs(folder / "counts.csv")
    return outputs.by_problem(draws.assign(cluster=draws["problem_id"].str.rpartition("/")[2]))


def loss_of(counts: pd.DataFrame, model: str) -> np.ndarray:
    """Each function's losses, one a task, worked out by hand."""
    some = counts[counts["model"] == model].sort_values("problem_id")
    shares = {
        (task, t): 10 * some.query("task == @task and temperature == @t")["correct"].to_numpy(float)
        for task in TASKS
        for t in (0.2, 0.8)
    }
    return np.array([shares[task, 0.2] - shares[task, 0.8] for task in TASKS])


def interval_of(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """The mean and its t interval over functions, which are the units, by hand."""
    of_function = values.mean(axis=0)
    error = of_function.std(ddof=1) / math.sqrt(FUNCTIONS)
    half = stats.t.ppf(0.5 + level / 2, FUNCTIONS - 1) * error
    return float(of_function.mean()), float(of_function.mean() - half), float(of_function.mean() + half)


def test_losses_and_their_intervals_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    counts = twin({PAIR[0]: (0.6, 0.5), PAIR[1]: (0.6, 0.58)})
    found = outputs.losses(problems_of(counts, tmp_path)).set_index(["model", "task"])
    for model in PAIR:
        row = found.loc[(model, "all")]
        assert row[["loss", "low", "high"]].tolist() == pytest.approx(interval_of(loss_of(counts, model)))
        assert row["loss"] == pytest.approx(row["cool"] - row["hot"])
        assert row["retained"] == pytest.approx(row["hot"] / row["cool"])
        assert (row["problems"], row["units"], row["draws"]) == (2 * FUNCTIONS, FUNCTIONS, DRAWS)
        tasks = [found.loc[(model, task), "loss"] for task in TASKS]
        assert row["loss"] == pytest.approx(np.mean(tasks))


def test_a_planned_comparison_is_the_paired_difference_of_losses(tmp_path: Path) -> None:
    counts = twin({PAIR[0]: (0.6, 0.45), PAIR[1]: (0.6, 0.59), "mistral-7b": (0.5, 0.45), "mixtral-8x7b": (0.5, 0.45)})
    found = outputs.compare(problems_of(counts, tmp_path)).set_index("kind")
    assert list(found.index) == ["instruction tuning", "sparsity"]
    tuned, sparse = found.loc["instruction tuning"], found.loc["sparsity"]
    difference = loss_of(counts, PAIR[0]) - loss_of(counts, PAIR[1])
    assert tuned[["difference", "low", "high"]].tolist() == pytest.approx(interval_of(difference))
    assert tuned[["low_90", "high_90"]].tolist() == pytest.approx(interval_of(difference, 0.9)[1:])
    test = stats.ttest_1samp(difference.mean(axis=0), 0)
    assert tuned["p"] == pytest.approx(test.pvalue)
    smaller, larger = sorted(found["p"])
    assert sorted(found["holm"]) == pytest.approx([2 * smaller, larger])
    assert tuned["verdict"] == "loses more"
    assert sparse["verdict"] in ("not settled", "equal within the margin")
    assert ("equal" in sparse["verdict"]) == (max(abs(sparse["low_90"]), abs(sparse["high_90"])) < outputs.MARGIN)


def test_a_model_of_few_draws_or_one_temperature_enters_no_comparison(tmp_path: Path) -> None:
    whole = {"mistral-7b": (0.5, 0.45), "mixtral-8x7b": (0.5, 0.45)}
    few = pd.concat([twin(whole | {PAIR[0]: (0.6, 0.5)}), twin({PAIR[1]: (0.6, 0.5)}, draws=3)])
    assert list(outputs.compare(problems_of(few, tmp_path))["kind"]) == ["sparsity"]
    once = twin({"gpt-4o": (0.6, 0.5)}).query("temperature == 0.2")
    lost = outputs.losses(problems_of(pd.concat([twin(whole), once]), tmp_path))
    assert set(lost["model"]) == set(whole)


def test_the_spread_of_losses_is_that_behind_the_draws(tmp_path: Path) -> None:
    rows = []
    for i in range(400):  # half of the problems lose 40 points, half nothing: a standard deviation of 20
        rng = np.random.default_rng(i)
        for t, chance in ((0.2, 0.7), (0.8, 0.3 if i % 2 else 0.7)):
            named = {"model": "m", "task": "input", "temperature": t, "problem_id": f"input/{i}", "draws": 10}
            rows.append(named | {"correct": rng.binomial(10, chance)})
    [spread] = outputs.losses(problems_of(pd.DataFrame(rows), tmp_path)).query("task == 'all'")["spread"]
    assert spread == pytest.approx(20, abs=2)
    right = np.array([row["correct"] for row in rows]).reshape(-1, 2)
    assert np.std(10 * (right[:, 0] - right[:, 1])) > 25


def questions(
    agreeing: float = 0.0, seed: int = 1, temperatures: tuple[float, ...] = (0.0, 0.1, 0.5, 1.0)
) -> pd.DataFrame:
    """Draws as Renze and Guven's: letters, their chances a softmax at the temperature; `agreeing` copy the first."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(80):
        logits = rng.normal(0, 1.5, 4)
        for t in temperatures:
            odds = np.exp((logits - logits.max()) / max(t, 0.01))
            drawn = rng.choice(4, 10, p=odds / odds.sum())
            drawn = np.where(rng.random(10) < agreeing, drawn[0], drawn)
            said = {"model": "m", "problem_id": f"q{i}", "temperature": t, "expected": "B"}
            rows += [said | {"run": run, "answer": " ABC"[letter].strip()} for run, letter in enumerate(drawn)]
    return pd.DataFrame(rows)


def draws_of(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    table.to_csv(folder / "draws.csv", index=False)
    return read_outputs(folder / "draws.csv").assign(failed=False)


def test_a_change_is_paired_by_problem_and_beside_it_stands_what_ignores_that(tmp_path: Path) -> None:
    table = questions()
    [row] = outputs.changes(draws_of(table, tmp_path)).to_dict("records")
    shares = 100 * table.assign(right=table["answer"] == "B").pivot_table("right", "problem_id", "temperature")
    change = (shares[1.0] - shares[0.0]).to_numpy()
    half = stats.t.ppf(0.975, 79) * change.std(ddof=1) / math.sqrt(80)
    assert [row["change"], row["low"], row["high"]] == pytest.approx(
        [change.mean(), change.mean() - half, change.mean() + half]
    )
    assert row["p"] == pytest.approx(stats.ttest_rel(shares[1.0], shares[0.0]).pvalue)
    assert row["holm"] == row["p"]
    slopes = [np.polyfit(shares.columns.to_numpy(float), line, 1)[0] for line in shares.to_numpy()]
    assert row["slope"] == pytest.approx(np.mean(slopes))
    half_90 = stats.t.ppf(0.95, 79) * change.std(ddof=1) / math.sqrt(80)
    assert row["margin"] == pytest.approx(abs(change.mean()) + half_90)
    assert (row["p_equal"] < 0.05) == (row["margin"] < outputs.NO_CHANGE)
    assert row["apart_high"] - row["apart_low"] > row["high"] - row["low"]
    assert row["apart_p"] == pytest.approx(stats.kruskal(*shares.to_numpy().T).pvalue)


def test_a_model_without_independent_draws_is_not_tested(tmp_path: Path) -> None:
    both = pd.concat([draws_of(questions(), tmp_path), draws_of(questions(0.9), tmp_path).assign(model="copies")])
    found = outputs.changes(both, without=["copies"]).set_index("model")
    assert math.isnan(found.loc["copies", "holm"])
    assert found.loc["m", "holm"] == found.loc["m", "p"]


def test_consistency_is_the_chance_that_two_draws_agree(tmp_path: Path) -> None:
    table = questions()
    found = outputs.consistency(draws_of(table, tmp_path)).set_index("temperature")
    for t, some in table.groupby("temperature"):
        agree, always = [], []
        for _, one in some.groupby("problem_id"):
            pairs = list(itertools.combinations(one["answer"], 2))
            agree.append(np.mean([a == b for a, b in pairs]))
            always.append(one["answer"].nunique() == 1)
        assert found.loc[t, ["agree", "always"]].tolist() == pytest.approx(
            [100 * np.mean(agree), 100 * np.mean(always)]
        )
        assert found.loc[t, "low"] <= found.loc[t, "agree"] <= found.loc[t, "high"]
        assert found.loc[t, "unanswered"] == pytest.approx(100 * (some["answer"] == "").mean())
    lost = outputs.agreement_lost(draws_of(table, tmp_path)).iloc[0]
    assert lost["change"] == pytest.approx(found.loc[1.0, "agree"] - found.loc[0.1, "agree"])
    assert lost["high"] < 0


def test_a_vote_over_unlike_draws_is_that_of_all_their_combinations() -> None:
    groups = [["a", "a", "b"], ["b", None, "a"], ["c", "a", "a"], ["b", "b", "a"]]
    for right in ("a", "b", "z", None):
        chances = []
        for drawn in itertools.product(*groups):
            counts = Counter(drawn)
            first = [name for name, count in counts.items() if count == max(counts.values())]
            chances.append((right in first) / len(first) if right is not None else 0.0)
        assert outputs.majority_of(groups, right) == pytest.approx(np.mean(chances))


def test_mixing_is_compared_with_the_temperature_that_was_best_for_other_problems(tmp_path: Path) -> None:
    table = questions(temperatures=(*outputs.MIXED, 0.1))
    found = outputs.mixing(draws_of(table, tmp_path)).iloc[0]
    cells = {at: list(some["answer"]) for at, some in table.groupby(["problem_id", "temperature"])}

    def vote(drawn: tuple[str, ...]) -> float:
        counts = Counter(drawn)
        first = [name for name, count in counts.items() if count == max(counts.values())]
        return ("B" in first) / len(first)

    names, temperatures = sorted(set(table["problem_id"])), sorted(set(table["temperature"]))
    five = np.array(
        [[np.mean([vote(d) for d in itertools.combinations(cells[i, t], 5)]) for t in temperatures] for i in names]
    )
    best = [five[1 - side :: 2].mean(axis=0).argmax() for side in (0, 1)]
    single = [five[i, best[i % 2]] for i in range(len(names))]
    assert found["single"] == pytest.approx(100 * np.mean(single))
    assert {float(t) for t in found["chosen"].split(", ")} == {temperatures[at] for at in best}
    assert found["difference"] == pytest.approx(found["mixed"] - found["single"])
    assert found["low"] < found["difference"] < found["high"]
