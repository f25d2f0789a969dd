from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FOLDS = {"hide-input", "hide-output", "hide-cell"}
UNSEEN = {"remove-cell", "remove-input"}
DRAWS = re.compile(r"charts\.\w+\(|\b(?:tree|mask|exact|speeds|cost|curves|forest|dose|design|lost|predictions)\(\n")


def cells(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def words(cell: dict[str, Any]) -> str:
    return str(cell["metadata"].get("mystnb", {}).get("code_prompt_show", ""))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_folded_says_in_words_of_its_own_what_it_is(path: Path) -> None:
    said = [words(cell) for cell in cells(path) if FOLDS & set(cell["metadata"].get("tags", []))]
    assert all(re.match(r"[A-Z].{10,}", one) for one in said), said
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_is_folded_or_not_shown(path: Path) -> None:
    for cell in cells(path):
        tags = set(cell["metadata"].get("tags", []))
        assert tags & (FOLDS | UNSEEN) or tags == {"parameters"}, "".join(cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_has_a_caption(path: Path) -> None:
    for cell in cells(path):
        source = "".join(cell["source"])
        assert not DRAWS.search(source) or "captioned(" in source, source
