from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from book.figures.text import Lines, percent_range, percent_with_interval, plain, rests_on


def test_a_share_with_its_interval_is_in_per_cent() -> None:
    row = pd.Series({"accuracy": 0.417, "accuracy_low": 0.36, "accuracy_high": 0.479})
    assert percent_with_interval(row, "accuracy") == "41.7 % [36, 48]"


def test_a_range_is_one_number_where_both_ends_read_the_same() -> None:
    assert percent_range(0.4167, 0.417) == "41.67 to 41.70 %"
    assert percent_range(0.41671, 0.41674) == "41.67 %"


def test_a_page_says_what_it_rests_on() -> None:
    assert rests_on(["a", "b"], "decoders 1", "2026-01-02") == "Rests on: a, b · decoders 1 · run 2026-01-02"


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT], ids=str)
def test_a_cell_that_is_missing_is_empty(missing: Any) -> None:
    table = pd.DataFrame({"a": ["x", missing], "b": [1.5, missing]}, dtype=object)
    assert plain(table).to_numpy().tolist() == [["x", "1.5"], ["", ""]]
    assert plain(table.convert_dtypes())["a"].tolist() == ["x", ""]


def test_lines_are_paragraphs_on_which_no_character_acts() -> None:
    lines = Lines(["<b>one", "two\x1b"])
    assert lines._repr_html_() == '<p class="lmrel-said">&lt;b&gt;one</p><p class="lmrel-said">two\\x1b</p>'
    assert repr(lines) == "<b>one\ntwo\\x1b"
