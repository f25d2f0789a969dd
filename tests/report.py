"""``python -m tests.report _build/tests.xml``: what pytest's XML says, by file, as book/data/tests.json."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lmrel.files import write_json
from tests.torture.report import DATA, head


def by_file(xml: str) -> list[dict[str, Any]]:
    """Tests, how many failed, and seconds, of each file."""
    files: dict[str, dict[str, Any]] = defaultdict(lambda: {"tests": 0, "failed": 0, "seconds": 0.0})
    for case in ElementTree.fromstring(xml).iter("testcase"):
        row = files[case.get("classname", "").removeprefix("tests.")]
        row["tests"] += 1
        row["failed"] += any(child.tag in ("failure", "error") for child in case)
        row["seconds"] += float(case.get("time", 0))
    return [{"file": name, **row, "seconds": round(row["seconds"], 1)} for name, row in sorted(files.items())]


if __name__ == "__main__":
    write_json(head() | {"files": by_file(Path(sys.argv[1]).read_text(encoding="utf-8"))}, DATA / "tests.json")
