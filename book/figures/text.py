"""Tables and lines as text for people: every cell is escaped by pandas, and no character in it acts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pandas as pd

from lmrel.errors import visible


def percent_with_interval(row: pd.Series, name: str) -> str:
    """Like ``41.7 % [36, 48]``."""
    low, high = (f"{100 * row[f'{name}_{end}']:.0f}" for end in ("low", "high"))
    return f"{100 * row[name]:.1f} % [{low}, {high}]"


def temperature_name(temperature: float) -> str:
    """Like ``T = 0.5``, or ``greedy``."""
    return f"T = {temperature:g}" if temperature else "greedy"


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Everything as text on which no character acts, nothing for what is missing, no index to distract."""
    missing = table.isna().to_numpy()
    table = table.astype(object).map(lambda cell: visible(str(cell))).mask(missing, "")
    table.index = pd.Index([""] * len(table))
    table.columns = pd.Index([visible(str(name)) for name in table.columns])
    return table


def rests_on(models: Sequence[str], knobs: str, when: str = "") -> str:
    """The line that says what a page rests on: which models, which decoders, and when it was run (today)."""
    return visible(f"Rests on: {', '.join(map(str, models))} · {knobs} · run {when or date.today().isoformat()}")


def percent_range(low: float, high: float) -> str:
    """Like ``41.67 to 41.70 %``, or one number where both read the same."""
    ends = f"{low:.2f}", f"{high:.2f}"
    return f"{ends[0]} %" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]} %"
