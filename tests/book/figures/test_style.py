from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import pytest

from book.figures.style import MIME, bundle, training, write_svg
from lmrel import InputError


def test_a_stored_chart_has_a_picture_and_its_text() -> None:
    curve = pd.DataFrame({"step": [50, 100], "loss": [2.0, 1.0]})
    stored = bundle(training(curve, "Loss", "A falling line.").to_dict())
    assert set(stored) == {MIME, "image/png", "text/plain"}
    assert base64.b64decode(stored["image/png"]).startswith(b"\x89PNG")
    assert stored["text/plain"] == "A falling line."


def test_a_chart_without_a_description_is_an_error() -> None:
    chart = alt.Chart(pd.DataFrame({"x": [1]})).mark_point()
    with pytest.raises(ValueError, match="needs a description"):
        bundle(chart.to_dict())


def test_a_picture_that_cannot_be_written_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.file"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="could not be written: No space left on device"):
        write_svg({"description": "x", "mark": "point", "data": {"values": []}}, path)
    assert path.read_text() == "old"


def test_a_specification_without_end_is_refused(tmp_path: Path) -> None:
    spec: dict[str, Any] = {"mark": "bar"}
    for _ in range(2000):
        spec = {"layer": spec}
    with pytest.raises(InputError, match="this is no chart's specification: maximum recursion depth"):
        write_svg(spec, tmp_path / "a.svg")
