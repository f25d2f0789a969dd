from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from book.figures.text import percent_range, percent_with_interval, plain, rests_on, with_interval


def test_an_interval_has_a_real_minus_and_no_brackets_where_there_is_none() -> None:
    assert with_interval(-1.24, -3, 0.5) == "\N{MINUS SIGN}1.2 [\N{MINUS SIGN}3.0, +0.5]"
    assert with_interval(0.1, math.nan, math.nan) == "+0.1"
    assert with_interval(14, 3.5, 9.5, form="{:.0f} of 240", ends="{:.1f} %") == "14 of 240 [3.5 %, 9.5 %]"
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
