"""What the paper reported: the table in its repository's README, as data. Nothing here was measured by us.

Source: arXiv 2601.00942 (Grover, January 2026) and its code repository, kabirrgrover/lm-reliability-sparsity. The raw
outputs behind the table were never published. Intervals are ours, from the numbers of problems.
"""

from __future__ import annotations

import pandas as pd

from book.figures.text import temperature_name
from lmrel.stats.inference import wilson

PROBLEMS = 240
TEMPERATURES = (0.0, 0.1, 0.5, 1.0)
ACCURACY = {
    "OLMoE-7B": (0.058, 0.060, 0.049, 0.038),
    "Qwen2.5-3B": (0.117, 0.118, 0.115, 0.121),
    "Mixtral-8x7B": (0.304, 0.301, 0.304, 0.303),
}
ABOUT = {
    "OLMoE-7B": ("sparse", "base", "nf4", 0.00),
    "Qwen2.5-3B": ("dense", "instruct", "16 bit", 1.00),
    "Mixtral-8x7B": ("sparse", "instruct", "nf4", 0.58),
}


def published_accuracy() -> pd.DataFrame:
    """The published accuracy with a 95 % interval: a row for each of 3 models at each of 4 temperatures.

    Columns ``model, temperature, accuracy, accuracy_low, accuracy_high``. The interval is Wilson's for 240 trials. At
    T > 0, where the paper averaged four runs, it is a little too wide; by how much cannot be known without the outputs.
    """
    rows = []
    for model, accuracies in ACCURACY.items():
        for temperature, accuracy in zip(TEMPERATURES, accuracies, strict=True):
            low, high = wilson(accuracy, PROBLEMS)
            row = {"model": model, "temperature": temperature, "accuracy": accuracy}
            rows.append(row | {"accuracy_low": low, "accuracy_high": high})
    return pd.DataFrame(rows)


def published_title() -> str:
    """The largest change that any published model shows from greedy decoding to T = 1."""
    change = max((values[-1] - values[0] for values in ACCURACY.values()), key=abs)
    return f"Published: from T = 0 to T = 1 no model changes by more than {100 * abs(change):.1f} points"


def published_table() -> pd.DataFrame:
    """The published table for a page, a row per model."""
    accuracy = pd.DataFrame(ACCURACY, index=list(map(temperature_name, TEMPERATURES))).T
    about = pd.DataFrame(ABOUT, index=["architecture", "training", "precision", "compliance"]).T
    shares = pd.concat([accuracy, about[["compliance"]]], axis=1).map(lambda share: f"{share:.1%}")
    kind = about["architecture"] + " " + about["training"] + ", " + about["precision"]
    table = pd.concat([kind.rename("kind"), shares], axis=1).rename_axis("model").reset_index()
    table.index = pd.Index([""] * len(table))
    return table
