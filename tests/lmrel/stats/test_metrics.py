from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmrel import InputError
from lmrel.stats import metrics
from lmrel.stats.metrics import summarize


def table(**columns: Any) -> pd.DataFrame:
    """Two problems, four runs, one setting."""
    base: dict[str, Any] = {
        "model": "m",
        "precision": "fp32",
        "prompt_style": "few_shot",
        "decoding": "pure",
        "decoder": "d",
        "temperature": 0.5,
        "run": [0, 1, 2, 3] * 2,
        "problem_id": ["a"] * 4 + ["b"] * 4,
        "task": ["arithmetic"] * 4 + ["variable_binding"] * 4,
        "correct": [True, True, True, False, False, True, False, False],
        "compliant": [True] * 4 + [False] * 4,
        "runaway": [True, False, False, False] * 2,
        "finished": True,
        "n_tokens": 3,
        "mean_logprob": [-1.0] * 4 + [-2.0] * 4,
        "mean_logprob_processed": -0.5,
        "failure": [None, None, None, "numeric_error", "extra_text", None, "extra_text", "incomplete"],
    }
    return pd.DataFrame(base | columns)


def test_summary_by_hand() -> None:
    summary = summarize(table()).set_index("task")
    assert summary.index.tolist() == ["all", "arithmetic", "variable_binding"]
    whole = summary.loc["all"]
    assert (whole["problems"], whole["runs"]) == (2, 4)
    assert whole["accuracy"] == 0.5
    assert whole["compliance"] == 0.5
    assert whole["strict_accuracy"] == 0.375
    assert whole["runaway_share"] == 0.25
    # Runs score 1/2, 2/2, 1/2, 0/2: mean 1/2, standard deviation (ddof 0) sqrt(1/8).
    assert whole["consistency"] == pytest.approx(np.sqrt(0.125))
    assert whole["confidence"] == -1.5
    assert whole["confidence_processed"] == -0.5
    assert summary.loc["arithmetic", "accuracy"] == 0.75


def test_settings_are_kept_apart() -> None:
    draws = pd.concat([table(), table(temperature=1.0, correct=False), table(model="other")])
    summary = summarize(draws)
    assert len(summary) == 9
    assert summary.query("temperature == 1.0")["accuracy"].eq(0).all()


def test_one_run_has_no_spread() -> None:
    draws = table()
    assert summarize(draws[draws["run"] == 0])["consistency"].eq(0).all()


def outcomes(p: list[float], width: float = 0.0) -> pd.DataFrame:
    rows = [
        {"problem_id": str(i), "temperature": 0.7, "metric": "correct", "lower": x - width, "upper": x + width}
        for i, x in enumerate(p)
    ]
    logprob = {"problem_id": "0", "temperature": 0.7, "metric": "mean_logprob", "lower": -3.0, "upper": -1.0}
    return pd.DataFrame([*rows, logprob])


def test_exact_curves_are_what_simulated_runs_show() -> None:
    p, runs, k = np.array([0.1, 0.5, 0.5, 0.9, 1.0, 0.0, 0.3]), 5, 3
    curves = metrics.exact_curves(outcomes(p.tolist()), runs=runs, k=k).set_index("quantity")
    assert (curves["lower"] - curves["upper"]).abs().max() < 1e-12
    draws = np.random.default_rng(0).random((20_000, runs, len(p))) < p
    assert curves.loc["mean", "lower"] == pytest.approx(p.mean())
    spread = draws.mean(axis=2).std(axis=1, ddof=0)
    assert curves.loc["run_std", "lower"] == pytest.approx(np.sqrt((spread**2).mean()), rel=0.02)
    votes = draws[:, :k].sum(axis=1)
    assert curves.loc["pass@3", "lower"] == pytest.approx((votes > 0).mean(), abs=0.005)
    assert curves.loc["majority@3", "lower"] == pytest.approx((votes >= 2).mean(), abs=0.005)


def test_exact_curves_bound_what_any_probability_within_the_bounds_gives() -> None:
    rng = np.random.default_rng(1)
    middle = [0.1, 0.48, 0.7, 0.85]
    bounds = metrics.exact_curves(outcomes(middle, width=0.1)).set_index("quantity")
    for _ in range(200):
        inside = [x + rng.uniform(-0.1, 0.1) for x in middle]
        value = metrics.exact_curves(outcomes(inside)).set_index("quantity")
        assert (value["lower"] >= bounds["lower"] - 1e-12).all()
        assert (value["upper"] <= bounds["upper"] + 1e-12).all()


@pytest.mark.parametrize("column", ["n_tokens", "finished", "mean_logprob_processed"])
def test_a_summary_names_the_column_it_lacks(column: str) -> None:
    with pytest.raises(InputError, match=f"without the column '{column}'"):
        summarize(table().drop(columns=column))


@pytest.mark.parametrize("dtype", ["float64", "object", "boolean", "category"])
def test_draws_are_right_or_wrong_in_any_type_that_a_file_or_a_merge_gives_them(dtype: str) -> None:
    draws = table()
    pd.testing.assert_frame_equal(summarize(draws.astype({"correct": dtype})), summarize(draws))


@pytest.mark.parametrize("value", [7, 0.5, "True"])
def test_draws_that_are_neither_right_nor_wrong_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="some are neither right nor wrong"):
        summarize(table(correct=value))


def test_a_column_that_occurs_twice_is_refused() -> None:
    with pytest.raises(InputError, match="summarize was given a table with two columns of one name"):
        summarize(pd.concat([table(), table()[["correct"]]], axis=1))
