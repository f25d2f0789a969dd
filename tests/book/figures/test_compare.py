from __future__ import annotations

from pathlib import Path

import pandas as pd

from book.figures import compare
from lmrel import records
from tests.lmrel.stats.test_metrics import table


def test_drops_are_paired_changes_of_runs_that_have_both_temperatures(tmp_path: Path) -> None:
    draws = pd.concat([table(temperature=0.0), table(temperature=1.0, correct=False)])
    folder = tmp_path / "mine"
    folder.mkdir()
    draws.to_parquet(folder / records.DRAWS)
    found = compare.changes_of(tmp_path, ["mine"])
    assert found[["model", "difference"]].to_numpy().tolist() == [["mine", -0.5]]
    assert compare.shown_changes(found).iloc[0, 1].startswith("\N{MINUS SIGN}50.0 [")
    assert compare.changes(table()).empty
