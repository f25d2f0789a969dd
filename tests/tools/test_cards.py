from __future__ import annotations

from typing import Any

import pytest

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
