from __future__ import annotations

from pathlib import Path

import pytest

from study.code import ROOMS
from tests.conftest import ROOT
from tools import tree


@pytest.mark.parametrize("path", [*tree.written()], ids=lambda path: str(path.relative_to(ROOT)))
def test_readme_and_the_reference_show_the_tree_as_it_is(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == tree.written()[path], "run `python -m tools.tree`"


def test_every_file_of_the_rooms_has_a_caption_that_is_a_sentence() -> None:
    lines = list(tree.tree())
    for room in ROOMS:
        for path in tree.modules(room):
            assert any(f"`{path.name}` " in line for line in lines)
            assert tree.caption(path)[-1] in ".?", path
            assert len(tree.caption(path)) <= 125, path
