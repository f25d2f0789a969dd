"""Tables of the page on tests: what was tried against this suite, from the reports stored in book/data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from book.figures.text import plain
from lmrel.errors import InputError
from lmrel.files import as_path, read_text


def report(path: Path) -> Any:
    """A stored report; `InputError` if there is none."""
    path = as_path("report", path)
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no report that can be read: {error}.") from error
    if not isinstance(found, dict | list):
        raise InputError(f"{path} is no report that can be read: it is neither a JSON object nor a list.")
    return found


def when(found: Mapping[str, Any]) -> str:
    """On which day, machine and versions, as a line."""
    versions = found["versions"]
    return f"{found['date']} · {found['machine']} · Python {versions['python']}, torch {versions['torch']}"


def tests(found: Mapping[str, Any]) -> pd.DataFrame:
    """Test files, the largest first, with their tests and seconds; the last row is all of them."""
    rows = sorted(found["files"], key=lambda row: -row["tests"])
    total = {"file": "all", **{name: sum(row[name] for row in rows) for name in ("tests", "failed", "seconds")}}
    table = pd.DataFrame([*rows, total])
    return plain(table.assign(seconds=table["seconds"].map("{:.0f}".format)))


def faults(found: Mapping[str, Any]) -> pd.DataFrame:
    """Each kind of fault: how often tried, and what came of it."""
    named = {
        "fault": "fault",
        "tried": "tried",
        "resumed": "to the same bytes",
        "sentence": "a sentence",
        "lost": "lost",
    }
    return plain(pd.DataFrame(found["faults"])[list(named)].rename(columns=named))


def sentences(found: Mapping[str, Any]) -> pd.DataFrame:
    """For each kind of fault that ends in one, the sentence."""
    return plain(pd.DataFrame(found["sentences"].items(), columns=["fault", "what is said"]))


def soak(found: Mapping[str, Any]) -> pd.DataFrame:
    """What changed over the time of the soak, with 95 % intervals of the fitted line."""
    after = found["after_warm_up"]
    names = {"memory_mb": "memory, MB", "per_second": "draws a second", "per_yardstick": "draws a yardstick"}
    rows = [
        {
            "of": shown,
            "at the beginning": f"{after[name]['begins']:,.0f}",
            "change": f"{after[name]['change']:+.1%} [{after[name]['low']:+.1%}, {after[name]['high']:+.1%}]",
        }
        for name, shown in names.items()
    ]
    files = after["files"]
    rows.append({"of": "open files", "at the beginning": f"{files['least']} to {files['most']}", "change": ""})
    left = f"{found['left_by_a_load_kb']:+.1f} a load"
    rows.append({"of": "memory by reading weights alone, KB", "at the beginning": "", "change": left})
    return plain(pd.DataFrame(rows).replace("-", "\N{MINUS SIGN}", regex=True))


def licences(rows: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """How many packages have which licence, and what there is to note of it."""
    counts = Counter((row["licence"] or "not on this machine", row["note"]) for row in rows)
    table = [{"licence": name, "packages": count, "note": note} for (name, note), count in counts.most_common()]
    return plain(pd.DataFrame(table))
