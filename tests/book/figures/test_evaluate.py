from __future__ import annotations

import re

import pandas as pd

from book.figures import compare, evaluate
from lmrel.stats import inference
from tests.lmrel.stats.test_metrics import table

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def test_tables_show_intervals_and_escape_what_a_model_wrote() -> None:
    draws = table(text=HOSTILE + "\n", expected=5)
    shown = evaluate.samples(draws).to_html()
    assert "<script" not in shown
    assert "⏎" in shown
    by_temperature = evaluate.by_temperature(inference.summarize_with_intervals(draws))
    assert re.fullmatch(r"50\.0 % \[\d+, \d+\]", by_temperature["accuracy"].iloc[0])
    others = compare.other_runs(inference.summarize_with_intervals(draws).assign(checkpoint="org/name"))
    assert others[["run", "model", "problems"]].iloc[0].tolist() == ["m", "org/name", "2"]
    by_task = evaluate.by_task(inference.summarize_with_intervals(draws))
    assert by_task.columns.tolist() == ["model", "T", "arithmetic", "variable binding"]


def test_tasks_that_only_some_runs_have_leave_cells_empty() -> None:
    summary = inference.summarize_with_intervals(table())
    other = summary.assign(model="b", task=summary["task"].replace({"arithmetic": "another"}))
    by_task = evaluate.by_task(pd.concat([summary, other], ignore_index=True))
    assert "" in by_task["arithmetic"].tolist()
    assert "" in by_task["another"].tolist()
