"""Tables of the page on tests: what was tried on this project, from the reports stored in ``book/data``.

Every cell is text. Nothing is tested here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from book.figures.text import Lines, listed, plain
from lmrel.stats.inference import with_interval


def when(found: Mapping[str, Any], *more: str) -> Lines:
    """The sentence that says on which day, machine and versions a report was made, and `more` sentences."""
    versions = found["versions"]
    machine = f"{found['machine']} with Python {versions['python']} and torch {versions['torch']}"
    return Lines([" ".join([f"Tried on {found['date']}, {machine}.", *more])])


def tortured(found: Mapping[str, Any]) -> Lines:
    """When faults were tried, for how long, and how often the process was killed."""
    return when(found, f"In {found['minutes']:.0f} minutes the process was killed {found['kills']:,} times.")


def soaked(found: Mapping[str, Any]) -> Lines:
    """When the long run was, how much it drew, and what stayed within its bounds."""
    flat = found["flat"]
    parts = {"stayed within their bounds": True, "did not": False}
    said = [
        f"{listed(names)} {what}" for what, is_so in parts.items() if (names := [n for n in flat if flat[n] is is_so])
    ]
    drew = f"In {found['minutes']:.0f} minutes {found['draws']:,} draws were made; {'; '.join(said)}."
    return when(found, drew)


def tests(found: Mapping[str, Any]) -> pd.DataFrame:
    """The files of tests with their numbers of tests and seconds, the largest first; the last row is their sum."""
    rows = sorted(found["files"], key=lambda row: -row["tests"])
    total = {"file": "all", **{name: sum(row[name] for row in rows) for name in ("tests", "failed", "seconds")}}
    table = pd.DataFrame([*rows, total])
    return plain(table.assign(seconds=table["seconds"].map("{:.0f}".format)))


def faults(found: Mapping[str, Any]) -> pd.DataFrame:
    """How often each kind of fault was tried, and what came of it."""
    named = {
        "fault": "fault",
        "tried": "tried",
        "resumed": "to the same bytes",
        "sentence": "a sentence",
        "lost": "lost",
    }
    return plain(pd.DataFrame(found["faults"])[list(named)].rename(columns=named))


def sentences(found: Mapping[str, Any]) -> pd.DataFrame:
    """The sentence in which each kind of fault ends, for those that end in one."""
    return plain(pd.DataFrame(found["sentences"].items(), columns=["fault", "what is said"]))


def soak(found: Mapping[str, Any]) -> pd.DataFrame:
    """What changed while the engine drew for an hour or more, with 95 % intervals of a fitted line."""
    after = found["after_warm_up"]
    names = {"memory_mb": "memory, MB", "per_second": "draws a second", "per_yardstick": "draws a yardstick"}
    rows = []
    for name, title in names.items():
        one = after[name]
        change = with_interval(one["change"], one["low"], one["high"], form="{:+.1%}")
        rows.append({"of": title, "at the beginning": f"{one['begins']:,.0f}", "change": change})
    files = after["files"]
    rows.append({"of": "open files", "at the beginning": f"{files['least']} to {files['most']}", "change": ""})
    left = with_interval(found["left_by_a_load_kb"], form="{:+.1f} a load")
    rows.append({"of": "memory by reading weights alone, KB", "at the beginning": "", "change": left})
    return plain(pd.DataFrame(rows))


def licences(packages: pd.DataFrame) -> pd.DataFrame:
    """How many of the locked packages have each licence, and what there is to note about it."""
    licence = packages["licence"].replace("", "not on this machine")
    counts = packages.groupby([licence, "note"], sort=False).size().sort_values(ascending=False, kind="stable")
    return plain(counts.rename("packages").reset_index()[["licence", "packages", "note"]])
