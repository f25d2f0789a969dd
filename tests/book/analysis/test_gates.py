from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

import lmrel
from book.analysis import gates
from lmrel import InputError
from lmrel.stats import design
from lmrel.stats.metrics import GROUP
from tests.conftest import ROOT

OUTPUTS = ROOT / "tests/data/outputs"


def drawn(rng: np.random.Generator, chances: np.ndarray, runs: int = 5, **setting: object) -> pd.DataFrame:
    """Independent draws of problems with these chances, as of a log of verdicts."""
    n = len(chances)
    rows = pd.DataFrame({"problem_id": np.repeat([f"p{i}" for i in range(n)], runs), "run": np.tile(range(runs), n)})
    right = rng.random(len(rows)) < np.repeat(chances, runs)
    given = dict.fromkeys(GROUP, "unknown") | {"model": "m", "temperature": 0.7, "task": "t"} | setting
    return rows.assign(correct=right, **given)


def log(rng: np.random.Generator, problems: int = 300) -> pd.DataFrame:
    """Two models at three temperatures, whose chances change unevenly."""
    ease = rng.beta(2.0, 2.0, problems)
    shift = rng.normal(0.0, 0.1, problems)
    parts = [
        drawn(rng, np.clip(ease + weight * shift * temperature, 0, 1), model=model, temperature=temperature)
        for model, weight in {"a": 0.2, "b": 1.0}.items()
        for temperature in (0.0, 0.1, 1.0)
    ]
    return pd.concat(parts, ignore_index=True)


def of(table: pd.DataFrame, model: str = "m", temperature: float = 0.7) -> pd.Series:
    return table[(table["model"] == model) & (table["temperature"] == temperature) & (table["task"] == "all")].iloc[0]


def test_errors_and_alarms_are_what_new_draws_of_the_same_and_of_other_problems_show() -> None:
    """The variances of one log of 2,000 problems are within 5 % but for one log in some 500; chances follow them."""
    rng, n, runs = np.random.default_rng(5), 2000, 5
    chances = rng.beta(2.0, 2.0, n)
    row = of(gates.gates(drawn(rng, chances, runs)))
    same = rng.binomial(runs, chances, (4000, n)).mean(axis=1) / runs
    new = rng.binomial(runs, rng.beta(2.0, 2.0, (2000, n))).mean(axis=1) / runs
    assert row["error_same"] == pytest.approx(same.std(), rel=0.07)
    assert row["error_new"] == pytest.approx(new.std(), rel=0.1)
    assert row["alarm_same_1"] == pytest.approx(np.mean(np.round(n * runs * (same[::2] - same[1::2])) > 100), abs=0.03)
    assert row["alarm_new_1"] == pytest.approx(np.mean(np.round(n * runs * (new[::2] - new[1::2])) > 100), abs=0.05)
    assert row["alarm_same_1"] < row["alarm_new_1"]


def test_a_change_of_the_smallest_size_is_found_four_times_in_five_and_the_margin_is_shown_as_often() -> None:
    """Shares of 1,500 simulated comparisons, off by 0.04 once in 10,000 times; the variances add as much."""
    rng, n, runs = np.random.default_rng(6), 800, 4
    chances = rng.uniform(0.2, 0.8, n)
    row = of(gates.gates(drawn(rng, chances, runs)))
    shares = rng.binomial(runs, np.broadcast_to(chances, (3000, n))) / runs
    moved = rng.binomial(runs, np.broadcast_to(chances - row["smallest_shift"], (1500, n))) / runs
    differences = moved - shares[:1500]
    z = differences.mean(axis=1) / (differences.std(axis=1, ddof=1) / math.sqrt(n))
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.8, abs=0.06)
    still = shares[1500:] - shares[:1500]
    within = np.abs(still.mean(axis=1)) + 1.645 * still.std(axis=1, ddof=1) / math.sqrt(n) < row["margin"]
    assert np.mean(within) == pytest.approx(0.8, abs=0.06)


def test_a_setting_is_compared_with_the_furthest_temperature_and_the_nearest_model() -> None:
    draws = log(np.random.default_rng(7))
    table = gates.gates(draws)
    row = of(table, "b", 0.1)
    assert (row["other_temperature"], row["other_model"]) == (1.0, "a")
    sides = [draws[(draws["model"] == "b") & (draws["temperature"] == t)] for t in (0.1, 1.0)]
    assert design.variances([(sides[0], sides[1])]) == pytest.approx(
        {"between": row["temperature_between"], "sampling": row["temperature_sampling"]}
    )
    expected = design.smallest(300, 5, row["temperature_between"], row["temperature_sampling"])
    assert row["smallest_change"] == pytest.approx(expected)


def test_where_there_is_no_other_setting_nothing_is_said_of_it() -> None:
    row = of(gates.gates(drawn(np.random.default_rng(8), np.full(50, 0.5))))
    assert row[["temperature_between", "smallest_change", "smallest_model_change"]].isna().all()
    assert row["margin"] > 0


def test_a_variance_between_problems_below_zero_counts_as_none() -> None:
    """Problems all alike: of 20 logs some have an estimate below 0, but once in a million."""
    rng = np.random.default_rng(9)
    rows = pd.DataFrame([of(gates.gates(drawn(rng, np.full(40, 0.5)))) for _ in range(20)])
    below = rows[rows["problem_variance"] < 0]
    assert len(below)
    assert (below["error_new"] == below["error_same"]).all()
    assert (below["alarm_new_2"] == below["alarm_same_2"]).all()


def test_draws_that_never_vary_raise_no_alarm_and_promise_nothing() -> None:
    row = of(gates.gates(drawn(np.random.default_rng(1), np.repeat([0.0, 1.0], 20))))
    assert row["alarm_same_1"] == row["error_same"] == 0
    assert row[["smallest_shift", "margin"]].isna().all()


def test_clusters_enter_the_variance_of_a_change() -> None:
    draws = log(np.random.default_rng(12), 100)
    whole = draws.assign(cluster=draws["problem_id"].str[:2].where(draws["problem_id"] != "p7"))
    one, other = of(gates.gates(draws), "b", 1.0), of(gates.gates(whole), "b", 1.0)
    assert one["temperature_sampling"] == other["temperature_sampling"]
    assert one["temperature_between"] != other["temperature_between"]


def test_draws_from_counts_and_from_logs_of_other_tools_are_enough(tmp_path: object) -> None:
    path = f"{tmp_path}/counts.csv"
    rows = [f"m,{t},p{i},10,{(3 * i + round(10 * t)) % 11}" for t in (0.2, 0.8) for i in range(30)]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(["model,temperature,problem_id,draws,correct", *rows]))
    row = of(gates.gates(lmrel.read_outputs(path)), temperature=0.8)
    assert (row["problems"], row["runs"], row["other_temperature"]) == (30, 10, 0.2)
    assert row["smallest_change"] > row["smallest_shift"] > 0
    logged = gates.gates(lmrel.read_outputs(OUTPUTS / "inspect"))
    assert set(logged["problems"]) == {4}
    with pytest.raises(InputError, match="no setting with several runs"):
        gates.gates(lmrel.read_outputs(OUTPUTS / "lm_eval-greedy", verdict="exact_match,strict-match"))


def test_a_gate_s_threshold_has_its_alarm_and_catches_what_it_says() -> None:
    row = gates.thresholds(0.1, [400], [4]).iloc[0]
    without_steps = 10**6  # of so many problems a single draw is no step
    size = math.sqrt(without_steps / 400)
    for loss, chance in ((0.0, 0.05), (row["loss"] / size, 0.8)):
        assert design.gate(row["fall"] / size, without_steps, 4, 0.0, 0.2, loss) == pytest.approx(chance, abs=0.002)


def test_problems_go_on_to_buy_where_runs_have_stopped() -> None:
    table = gates.bought(0.04, 0.2, [100, 400], [1, 1000]).set_index(["problems", "runs"])["smallest"]
    assert table[400, 1] == pytest.approx(table[100, 1] / 2)
    assert table[100, 1000] > table[400, 1] / 1.5
