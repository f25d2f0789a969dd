"""Numbers, tables and lines as text for a page. No character in a cell acts; pandas escapes the rest.

The module knows nothing of what the numbers mean.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from datetime import date

import pandas as pd

from lmrel.errors import visible
from lmrel.stats.inference import with_interval


def percent_with_interval(row: pd.Series, name: str) -> str:
    """The share in column `name` of a summary's row with its interval, in per cent, like ``41.7 % [36, 48]``."""
    return with_interval(*(100 * row[f"{name}{end}"] for end in ("", "_low", "_high")), form="{:.1f} %", ends="{:.0f}")


def percent_range(lower: float, upper: float) -> str:
    """A share known to lie from `lower` to `upper`, like ``41.67 to 41.70 %``; one number where both read the same."""
    ends = f"{100 * lower:.2f}", f"{100 * upper:.2f}"
    return f"{ends[0]} %" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]} %"


def spelled(text: str) -> str:
    """`text` with spaces and line ends made visible, as ``␣`` and ``⏎``."""
    return text.replace("\n", "⏎").replace(" ", "␣")


def temperature_name(temperature: float) -> str:
    """A temperature as a heading, like ``T = 0.5``; ``greedy`` for 0."""
    return f"T = {temperature:g}" if temperature else "greedy"


def listed(parts: Sequence[str]) -> str:
    """``a, b and c``; nothing for no parts."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """A copy of `table` in which every cell is text on which no character acts, empty where it was missing.

    The index is blank.
    """
    missing = table.isna().to_numpy()
    table = table.astype(object).map(lambda cell: visible(str(cell))).mask(missing, "")
    table.index = pd.Index([""] * len(table))
    table.columns = pd.Index([visible(str(name)) for name in table.columns])
    return table


def sweep(temperatures: Iterable[float]) -> str:
    """The temperatures of a sweep, like ``T = 0, 0.5 and 1``."""
    return f"T = {listed([f'{temperature:g}' for temperature in temperatures])}"


class Lines(list[str]):
    """Sentences that a notebook shows below each other, as wide as the page; no character in them acts."""

    def __repr__(self) -> str:
        return "\n".join(map(visible, self))

    def _repr_html_(self) -> str:
        return "".join(f'<p class="lmrel-said">{html.escape(visible(line))}</p>' for line in self)


def rests_on(models: Sequence[str], knobs: str, when: str = "") -> str:
    """The line that says what a page rests on: which models, which decoders, and when it was run (today)."""
    return visible(f"Rests on: {', '.join(map(str, models))} · {knobs} · run {when or date.today().isoformat()}")
