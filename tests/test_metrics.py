from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmrel.metrics import failure_shares, summarize


def table(**columns: Any) -> pd.DataFrame:
    """Two problems, four runs, one setting."""
    base: dict[str, Any] = {
        "model": "m",
        "precision": "fp32",
        "prompt_style": "few_shot",
        "decoding": "pure",
        "temperature": 0.5,
        "run": [0, 1, 2, 3] * 2,
        "problem_id": ["a"] * 4 + ["b"] * 4,
        "task": ["arithmetic"] * 4 + ["variable_binding"] * 4,
        "correct": [True, True, True, False, False, True, False, False],
        "compliant": [True] * 4 + [False] * 4,
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


def test_failure_shares_are_of_the_wrong_draws() -> None:
    shares = failure_shares(table()).set_index("failure")
    assert shares["count"].to_dict() == {"extra_text": 2, "incomplete": 1, "numeric_error": 1}
    assert shares["share"].to_dict() == {"extra_text": 0.5, "incomplete": 0.25, "numeric_error": 0.25}
