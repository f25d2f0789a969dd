"""Whether a model's confidence means what it says: from the draws' probabilities and outcomes to numbers and tables.

A draw's confidence is the probability that the model, untempered, gave the whole text. (The mean log-prob per token,
which the paper reports, is no probability of anything.) Texts must have been drawn to their end.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmrel.errors import InputError, check_count, needs_columns
from lmrel.stats.inference import wilson


@needs_columns("mean_logprob", "n_tokens")
def text_probability(draws: pd.DataFrame) -> np.ndarray:
    """The model's probability of each drawn text, in [0, 1]: exp of its summed raw log-probs.

    Raises `InputError` for draws without log-probabilities or lengths, as other tools and servers may leave them.
    """
    if lacking := int(draws[["mean_logprob", "n_tokens"]].isna().any(axis=1).sum()):
        raise InputError(
            f"{lacking:,} of {len(draws):,} draws have no log-probability, so their confidence is not known."
        )
    return np.exp((draws["mean_logprob"] * draws["n_tokens"]).to_numpy(float)).clip(0.0, 1.0)


def brier(confident: np.ndarray, correct: np.ndarray) -> float:
    """Mean squared difference between confidence and outcome (Brier 1950); 0 is best."""
    _check_draws(confident, correct)
    return float(np.mean((confident - correct) ** 2))


def reliability(confident: np.ndarray, correct: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Draws in `bins` of equal number, by confidence: ``confidence, accuracy, low, high, count``, Wilson intervals."""
    rows = []
    for members in _bins(confident, correct, bins):
        share = float(correct[members].mean())
        low, high = wilson(share, len(members))
        row = {"confidence": float(confident[members].mean()), "accuracy": share, "low": low, "high": high}
        rows.append(row | {"count": len(members)})
    return pd.DataFrame(rows)


def expected_calibration_error(
    confident: np.ndarray, correct: np.ndarray, bins: int = 10, simulations: int = 200, seed: int = 0
) -> dict[str, float]:
    """``ece``, the mean distance of accuracy from confidence over `reliability`'s bins; and ``bias``.

    A perfectly calibrated model does not score 0: accuracies in bins scatter, and distances add up. ``bias`` is what it
    would score on average, with the same confidences, by simulation.
    """
    rng, members = np.random.default_rng(seed), _bins(confident, correct, bins)
    simulated = [_ece(confident, rng.random(len(confident)) < confident, members) for _ in range(simulations)]
    return {"ece": _ece(confident, correct, members), "bias": float(np.mean(simulated))}


def selective_accuracy(confident: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """Accuracy of the most confident draws: ``coverage`` (the share that is answered) and ``accuracy``."""
    _check_draws(confident, correct)
    order = np.argsort(-confident, kind="stable")
    number = np.arange(1, len(order) + 1)
    return pd.DataFrame({"coverage": number / len(order), "accuracy": correct[order].cumsum() / number})


def _bins(confident: np.ndarray, correct: np.ndarray, bins: int) -> list[np.ndarray]:
    """The positions of the draws in each bin, bins in ascending order of confidence."""
    _check_draws(confident, correct)
    check_count("bins", bins)
    return np.array_split(np.argsort(confident, kind="stable"), min(bins, len(confident)))


def _ece(confident: np.ndarray, correct: np.ndarray, members: list[np.ndarray]) -> float:
    gaps = [abs(correct[m].mean() - confident[m].mean()) * len(m) for m in members]
    return float(sum(gaps) / len(confident))


def _check_draws(confident: np.ndarray, correct: np.ndarray) -> None:
    if not len(confident):
        raise InputError("there is no draw to calibrate.")
    if confident.shape != correct.shape:
        raise InputError(f"there are {len(confident)} confidences and {len(correct)} outcomes: one of each a draw.")
    outside = confident[~((confident >= 0) & (confident <= 1))]
    if len(outside):
        raise InputError(f"a confidence is {outside[0]}; it must be a number from 0 to 1.")
