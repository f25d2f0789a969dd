from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lmrel import InputError
from lmrel.stats import calibration

RNG = np.random.default_rng(0)
CONFIDENT = RNG.random(4000)
CALIBRATED = RNG.random(4000) < CONFIDENT


def test_confidence_is_the_probability_of_the_whole_text() -> None:
    draws = pd.DataFrame({"mean_logprob": [math.log(0.5), 0.0], "n_tokens": [3, 2]})
    assert calibration.text_probability(draws) == pytest.approx([0.125, 1.0])


def test_brier_by_hand_and_for_a_calibrated_model() -> None:
    assert calibration.brier(np.array([1.0, 0.0, 0.5]), np.array([1, 1, 0])) == pytest.approx((0 + 1 + 0.25) / 3)
    # For p uniform and outcomes drawn from p it is E[p (1 - p)] = 1/6.
    assert calibration.brier(CONFIDENT, CALIBRATED) == pytest.approx(1 / 6, abs=0.01)


def test_a_calibrated_model_lies_on_the_diagonal_and_its_error_is_all_bias() -> None:
    table = calibration.reliability(CONFIDENT, CALIBRATED)
    assert table["count"].tolist() == [400] * 10
    assert table["confidence"].is_monotonic_increasing
    inside = (table["low"] <= table["confidence"]) & (table["confidence"] <= table["high"])
    assert inside.sum() >= 8
    found = calibration.expected_calibration_error(CONFIDENT, CALIBRATED)
    assert found["ece"] == pytest.approx(found["bias"], abs=0.01)
    assert found["bias"] > 0.01


def test_an_overconfident_model_is_seen() -> None:
    found = calibration.expected_calibration_error(np.full(500, 0.9), np.arange(500) % 2 == 0)
    assert found["ece"] == pytest.approx(0.4, abs=0.05)
    assert found["bias"] < 0.06


def test_the_error_of_one_bin_is_the_gap_of_the_means() -> None:
    confident, correct = np.array([0.2, 0.6, 0.7]), np.array([0, 1, 1])
    found = calibration.expected_calibration_error(confident, correct, bins=1, simulations=1)
    assert found["ece"] == pytest.approx(2 / 3 - 0.5)


def test_selective_accuracy_by_hand() -> None:
    table = calibration.selective_accuracy(np.array([0.1, 0.9, 0.5]), np.array([1, 1, 0]))
    assert table["coverage"].tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert table["accuracy"].tolist() == pytest.approx([1, 1 / 2, 2 / 3])


def test_no_draws_are_an_error() -> None:
    with pytest.raises(InputError, match="no draw to calibrate"):
        calibration.reliability(np.array([]), np.array([]))


@pytest.mark.parametrize(
    ("confident", "correct", "said"),
    [
        ([0.5, 0.1], [1, 0, 1], "2 confidences and 3 outcomes"),
        ([0.5, 0.1], [1], "2 confidences and 1 outcomes"),
        ([0.5, math.nan], [1, 0], "a confidence is nan; it must be a number from 0 to 1"),
        ([7.0, 0.1], [1, 0], "a confidence is 7.0"),
    ],
    ids=["longer", "shorter", "nan", "seven"],
)
@pytest.mark.parametrize("table", ["brier", "reliability", "expected_calibration_error", "selective_accuracy"])
def test_each_draw_needs_an_outcome_and_a_confidence_that_is_one(
    table: str, confident: list[float], correct: list[int], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        getattr(calibration, table)(np.array(confident), np.array(correct))
