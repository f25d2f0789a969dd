from __future__ import annotations

import re

import pandas as pd

from book.figures import evaluate
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
    by_task = evaluate.by_task(inference.summarize_with_intervals(draws))
    assert by_task.columns.tolist() == ["model", "T", "arithmetic", "variable binding"]


def test_tasks_that_only_some_runs_have_leave_cells_empty() -> None:
    summary = inference.summarize_with_intervals(table())
    other = summary.assign(model="b", task=summary["task"].replace({"arithmetic": "another"}))
    by_task = evaluate.by_task(pd.concat([summary, other], ignore_index=True))
    assert "" in by_task["arithmetic"].tolist()
    assert "" in by_task["another"].tolist()


def test_cautions_name_copies_only_where_there_are_any() -> None:
    record = {"parameters": {"max_new_tokens": 16, "stop": "eos"}, "determinism": {"draws": 0}}
    greedy, hot = table(text="1", temperature=0.0), table(text=list("11123344"), temperature=1.0)
    greedy = greedy[greedy["run"] == 0]
    apart = pd.concat([greedy, hot])
    assert evaluate.cautions(apart, record).endswith("together was not tried")
    many = [t.assign(problem_id=t["problem_id"] + str(i)) for i in range(20) for t in (greedy, hot.assign(text="7"))]
    assert "drawn together was not tried; the repeats of m at temperature 1 are copies" in evaluate.cautions(
        pd.concat(many), record
    )


def test_of_a_server_it_is_said_what_is_not_known() -> None:
    draws = table(text=" 5", finished=True, mean_logprob=float("nan"), mean_logprob_processed=float("nan"))
    server, tried = {"refused": ["min_p", "return_token_ids"]}, {"unverified": ["seed"], "logprobs": "none"}
    record = {"parameters": {"max_new_tokens": 16, "stop": "eos"}, "server": server, "tried": tried}
    said = evaluate.cautions(draws, record)
    assert "drawn by a server, whether min_p, seed held there is not known" in said
    assert "confidence" not in said
    greedy = draws.assign(temperature=0.0, run=0).drop_duplicates("problem_id")
    alike = pd.concat([greedy, draws.assign(temperature=1.0)], ignore_index=True)
    assert "no draw differs from the greedy one" in evaluate.cautions(alike, record)
    other = alike.assign(text=[*alike["text"][:-1], " 6"])
    assert "no draw differs" not in evaluate.cautions(other, record | {"tried": tried | {"logprobs": "its own"}})
    assert "confidence is its own" in evaluate.cautions(other, record | {"tried": tried | {"logprobs": "its own"}})
    shown = evaluate.by_temperature(inference.summarize_with_intervals(draws))
    assert set(shown["confidence"]) == set(shown["processed"]) == {"not given"}
