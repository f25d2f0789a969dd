from __future__ import annotations

import json
import re
from typing import Any

import pandas as pd
import pytest

from book.figures import evaluate
from lmrel import load_problems, paper_problems, records
from lmrel.parameters import Parameters
from lmrel.stats import inference
from tests.conftest import ROOT
from tests.lmrel.stats.test_metrics import table

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def test_tables_show_intervals() -> None:
    draws = table(text=HOSTILE + "\n", expected=5)
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
    greedy, hot = (draws.assign(extracted=draws["text"]) for draws in (greedy[greedy["run"] == 0], hot))
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


# The page of any run

RUN = ROOT / "results" / "tiny-dense-base"
STORED = pytest.mark.skipif(not (RUN / "run.json").exists(), reason="the tiny models were not evaluated here")
TEXTS = [HOSTILE, "yes\u2028no", "\N{GRINNING FACE} yes", "\u05db\u05df \u202eon", "yes", "long " * 2000 + "yes"]


def record(**parameters: Any) -> dict[str, Any]:
    """The run.json of a made-up run."""
    given = {name: field.default for name, field in Parameters.__dataclass_fields__.items()}
    return {
        "parameters": given | {"model": "m"} | parameters,
        "precision": "fp32",
        "chat_template": False,
        "started": "2026-01-02T03:04:05+00:00",
        "determinism": {"draws": 0},
    }


def made(temperatures: tuple[float, ...] = (0.7,), runs: int = 1, problems: int = 6) -> pd.DataFrame:
    """Draws with answers that are texts, of one task; a wrong problem in three, and one that is right only greedily."""
    rows: list[dict[str, Any]] = []
    for temperature in temperatures:
        for problem in range(problems):
            for run in range(runs if temperature else 1):
                right = problem % 3 > 0 and not (problem == 1 and temperature)
                text = TEXTS[(problem + run) % len(TEXTS)]
                row: dict[str, Any] = {
                    "problem_id": f"p{problem}",
                    "run": run,
                    "temperature": temperature,
                    "text": text,
                }
                row |= {"correct": right, "extracted": "yes" if right else HOSTILE if run % 2 else None}
                row |= {"failure": None if right else "wrong_answer", "decoder": f"d{temperature}"}
                rows.append(row)
    same = {"model": "m", "precision": "fp32", "prompt_style": "few_shot", "decoding": "pure", "task": "custom"}
    same |= {"expected": "yes", "ended": "eos", "finished": True, "compliant": False, "runaway": False, "n_tokens": 3}
    same |= {"mean_logprob": -0.1, "mean_logprob_processed": -0.1, "prompt": "Say yes: " + HOSTILE, "answer": "last"}
    draws = pd.DataFrame(rows).assign(**same)
    return draws.assign(cluster=draws["problem_id"], extracted=draws["extracted"].astype("string"))


def of_problems(draws: pd.DataFrame) -> pd.DataFrame:
    names = draws["problem_id"].unique()
    return pd.DataFrame({"problem_id": names, "task": "custom", "answer": "yes", "question": f"Is it? {HOSTILE}"})


def embedded(block: evaluate.Block) -> dict[str, Any]:
    """What the page holds for its script, which nothing in it may end."""
    assert block.html.lower().count("<script") == block.html.lower().count("</script") == 1
    found = re.search(r'<script type="application/json">(.*)</script>', block.html, re.S)
    assert found is not None
    assert "<" not in found[1]
    return dict(json.loads(found[1]))


@STORED
def test_the_page_of_a_stored_run_says_what_its_draws_say() -> None:
    draws, stored = records.read_draws(RUN), json.loads((RUN / "run.json").read_text())
    summary, problems = inference.summarize_with_intervals(draws), load_problems("paper")
    right = draws.groupby("temperature")["correct"].mean()
    said = evaluate.opening(draws, summary, stored, "few_shot").text
    assert said.startswith(f"{right[0.0]:.1%} right at T = 0, {right[1.0]:.1%} at T = 1: ".replace("%", " %"))
    assert "All of it lies below 0: accuracy falls." in said
    assert "240 problems, 3,120 answers. Each was asked once at T = 0, 4 times at each of T = 0.1, 0.5 and 1, " in said
    assert "the rule 'first': the first integer." in said
    data = embedded(evaluate.explorer(draws, problems))
    assert (len(data["problems"]), data["temperatures"], data["notes"]) == (240, [0.0, 0.1, 0.5, 1.0], [])
    for problem in data["problems"]:
        own = draws[draws["problem_id"] == problem["id"]]
        assert problem["shares"] == own.groupby("temperature")["correct"].mean().tolist()
        assert sum(sum(output[-1]) for output in problem["outputs"]) == len(own)
        assert data["prompt"] + problem["prompt"] == own["prompt"].iloc[0]
        assert problem["greedy"] == [str(own["extracted"].iloc[0]), bool(own["correct"].iloc[0])]
        assert problem["expected"] == str(own["expected"].iloc[0])
    sums = [sum(problem["shares"]) for problem in data["problems"]]
    assert sums == sorted(sums)
    wrong = evaluate.failures(evaluate.classed(draws, problems, stored), problems).text
    assert "one digit" in wrong
    assert "extra text" not in wrong
    assert "majority@4" in evaluate.repeats(draws).text
    assert (evaluate.tasks(summary) or evaluate.said()).text.startswith("By task")
    assert "replace" in evaluate.changed(stored).text
    assert "seed" not in evaluate.changed(stored).text


@pytest.mark.parametrize("temperatures", [(0.7,), (0.0,), (0.0, 1.0), (0.5, 1.5)])
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("problems", [1, 6, 45])
def test_any_run_has_a_page(temperatures: tuple[float, ...], runs: int, problems: int) -> None:
    draws = made(temperatures, runs, problems)
    summary, asked = inference.summarize_with_intervals(draws), of_problems(draws)
    of_run = record(temperatures=temperatures, runs=runs, answer="last", problems="mine.jsonl")
    classed = evaluate.classed(draws, asked, of_run)
    assert classed is draws  # whose answers are no whole numbers
    pieces = [
        evaluate.opening(draws, summary, of_run, "knobs"),
        evaluate.explorer(draws, asked),
        evaluate.failures(classed, asked),
        evaluate.repeats(draws),
        evaluate.calibrated(draws, of_run),
        evaluate.downloads("x"),
        evaluate.changed(of_run),
        evaluate.recorded(of_run | {"note": HOSTILE}),
    ]
    for piece in pieces:
        shown = re.sub(r"<script.*?</script>", "", piece.html, flags=re.S)
        assert not re.search("<(script|img)", shown)
        assert "nan" not in re.sub(r"[^<>]*alert[^<>]*", "", piece.text).lower()
    assert evaluate.tasks(summary) is None
    assert evaluate.compliance(summary, "") is None
    said = pieces[0].text
    assert (": " in said.splitlines()[0]) == (len(temperatures) == 2)
    assert ("There is one problem, so" in said) == (problems == 1)
    assert ("differ from the greedy one" in said) == (temperatures == (0.0, 1.0))
    assert ("Not shown" in pieces[3].text) == (runs == 1 or temperatures == (0.0,))
    data = embedded(pieces[1])
    texts = {output[0] for problem in data["problems"] for output in problem["outputs"]}
    assert not any("\u2028" in text or "\u202e" in text for text in texts)
    assert HOSTILE in texts
    greedy = [problem["greedy"] for problem in data["problems"]]
    assert all(greedy) == (0.0 in temperatures)
    assert any(problem["common"] for problem in data["problems"]) == (temperatures != (0.0,))


def test_a_flip_is_where_the_most_frequent_answer_is_not_the_greedy_one() -> None:
    draws = made((0.0, 1.0), runs=3)
    data = embedded(evaluate.explorer(draws, of_problems(draws)))
    problems = {problem["id"]: problem for problem in data["problems"]}
    assert problems["p1"]["greedy"] == ["yes", True]
    assert problems["p1"]["common"] == ["", False]  # no answer twice, another once
    assert [name for name, problem in problems.items() if problem["flipped"]] == ["p1"]
    tied = made((0.0, 1.0), runs=2)
    hot = tied["temperature"] == 1.0
    tied.loc[hot, "extracted"] = ["no", "yes"] * 6
    data = embedded(evaluate.explorer(tied, of_problems(tied)))
    assert {problem["common"][0] for problem in data["problems"] if problem["greedy"][0] == "yes"} == {"yes"}


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (60_000, "characters of each longer text. All are in draws.parquet"),
        (16_000, "of 40 runs at each temperature and 300 characters"),
        (3_000, "the first of 40 runs at each temperature, the"),
    ],
)
def test_a_page_that_would_be_heavy_says_what_it_leaves_out(limit: int, said: str) -> None:
    draws = made((0.0, 1.0), runs=40, problems=20)
    problems = of_problems(draws)
    whole = embedded(evaluate.explorer(draws, problems))
    assert whole["notes"] == []
    block = evaluate._explorer(draws, problems, limit)
    data = embedded(block)
    assert len(evaluate._as_json(data).encode()) <= limit + 300  # the notes themselves
    assert said in data["notes"][0]
    shares = {problem["id"]: problem["shares"] for problem in whole["problems"]}
    assert all(problem["shares"] == shares[problem["id"]] for problem in data["problems"])  # of all runs
    assert all(
        output[0].endswith("yes")
        for problem in data["problems"]
        for output in problem["outputs"]
        if "long" in output[0]
    )


def test_a_class_has_its_count_its_share_and_three_examples() -> None:
    draws = made((0.0, 1.0), runs=2, problems=30)
    said = evaluate.failures(draws, of_problems(draws)).text
    wrong = int((~draws["correct"]).sum())
    assert f"{wrong} of {len(draws)} answers were wrong" in said
    assert re.search(rf"^wrong answer: {wrong} answers, 100\.0 % \[\d+, 100\] of all wrong ones$", said, re.M)
    assert said.count("Is it?") == 3
    assert (
        evaluate.failures(draws.assign(correct=True, failure=None), of_problems(draws)).text == "No answer was wrong."
    )
    cut = draws.assign(failure=None, ended="decided")
    assert "ended once they were decided have no class" in evaluate.failures(cut, of_problems(draws)).text
    assert evaluate.failures_by_temperature(cut, "") is None
    wrong = draws[~draws["correct"]].assign(failure=[f"kind_{i % 5}" for i in range(wrong)])
    html = evaluate.failures(wrong, of_problems(draws)).html
    assert html.index("kind 1: ") < html.index("<summary>Rarer, with examples: kind 2 ") < html.index("kind 2: ")


def test_agreement_has_intervals_and_counts_versions_of_one_problem_once() -> None:
    draws = made((0.0, 1.0), runs=4, problems=30)
    [_, row] = evaluate.repeats(draws).text.splitlines()
    of_versions = evaluate.repeats(draws.assign(cluster=draws["problem_id"].str[-1])).text.splitlines()[1]
    found, wider = (
        [tuple(map(float, ends)) for ends in re.findall(r"([\d.]+) % \[(\d+), (\d+)\]", line)]
        for line in (row, of_versions)
    )
    assert len(found) == len(wider) == 5
    assert found[1][0] == pytest.approx(100 * (1 - 11 / 30), abs=0.05)  # pass@4: all but those that are never right
    assert [one[0] for one in found] == [one[0] for one in wider]
    assert wider != found


def test_calibration_is_of_one_whole_text_a_problem_or_says_why_not() -> None:
    draws = made((0.0, 1.0), runs=4, problems=90)
    said = evaluate.calibrated(draws, record()).text
    assert "One text for each problem at T = 0, if it ended by itself (90 did)" in said
    assert said.count("0.74") == 4  # exp(-0.3) in each of the four bins
    assert "a server's" in evaluate.calibrated(draws, record() | {"server": {"url": "x"}}).text
    assert "at T = 0 there are 0" in evaluate.calibrated(draws.assign(ended="length"), record()).text
    assert "they are too long" in evaluate.calibrated(draws.assign(n_tokens=1000), record()).text


def test_the_headline_gives_no_interval_where_nothing_varies() -> None:
    draws = made((0.0, 1.0), problems=9).assign(correct=False)
    summary = inference.summarize_with_intervals(draws)
    assert evaluate.headline(draws, summary) == "0.0 % right at T = 0, 0.0 % at T = 1: +0.0 points"
    assert "changed by the same, so there is no interval" in evaluate.certainty(draws, summary)
    versions = made((0.0, 1.0), problems=9).assign(cluster="one")
    summary = inference.summarize_with_intervals(versions)
    assert re.fullmatch(r".* at T = 1: −11\.1 points", evaluate.headline(versions, summary))
    assert "All problems are versions of one" in evaluate.certainty(versions, summary)


def test_a_chat_template_that_was_off_is_not_said_to_have_been_used() -> None:
    draws = made()
    has_one = record() | {"chat_template": True}
    assert "inside the tokenizer's chat template" in evaluate.asked(draws, has_one)
    off = record(chat_template="off", template="/home/me/mine.txt") | {"chat_template": True}
    assert "with the template mine.txt, without a chat template." in evaluate.asked(draws, off)


def test_a_rule_is_told_in_words_that_fit_what_is_asked() -> None:
    draws = made()
    assert evaluate.read_by(draws, "last").endswith("the rule 'last': the last line.")
    assert evaluate.read_by(draws.assign(expected="B"), "sole").endswith("the only letter, if there is one.")
    assert evaluate.read_by(draws.assign(expected="1/2"), "marked").endswith("or else the last number.")
    assert evaluate.read_by(draws, "regex:= (x)").endswith("regex:= (x): what stands in the first pair of brackets.")


def test_questions_of_the_papers_tasks_are_their_lines() -> None:
    told = evaluate.questions(paper_problems())
    assert told["vb-000"] == "a = 2, b = 1, c = a * b, d = c + 5, d"


def test_compliance_that_does_not_move_is_no_figure() -> None:
    ends = {"model": "m", "task": "all", "compliance_low": 0.5, "compliance_high": 0.7}
    summary = pd.DataFrame([ends | {"temperature": t, "compliance": 0.6} for t in (0.0, 1.0)])
    assert evaluate.compliance(summary, "") is None
    chart = evaluate.compliance(summary.assign(compliance=[0.6, 0.5]), "").to_dict()
    assert chart["usermeta"]["caption"] != chart["description"]
