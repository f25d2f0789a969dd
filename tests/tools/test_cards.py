from __future__ import annotations

from typing import Any

import pytest

from lmrel.registry import CHECKPOINTS, REGISTRY, TINY
from tools import cards


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("tiny-dense-base", 2)])
def test_a_command_line_with_arguments_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, argument: str, status: int
) -> None:
    measured: list[Any] = []
    monkeypatch.setattr(cards, "write_card", lambda *given: measured.append(given))
    monkeypatch.setattr("sys.argv", ["card", argument])
    with pytest.raises(SystemExit) as ended:
        cards.main()
    assert (ended.value.code, measured) == (status, [])


@pytest.mark.parametrize("name", TINY)
def test_every_card_says_what_its_model_scores(name: str) -> None:
    text = (CHECKPOINTS / name / "README.md").read_text(encoding="utf-8")
    assert (CHECKPOINTS / name / "loss.svg").exists()
    fresh = cards.model_card(REGISTRY[name])
    # Another machine's rounding may move a draw that falls on a boundary, so the scores may differ by half a point.
    for said, measured in zip(text.splitlines(), fresh.splitlines(), strict=True):
        numbers, again = ([float(n) for n in line.split() if n.replace(".", "").isdigit()] for line in (said, measured))
        assert numbers == pytest.approx(again, abs=0.5)
