from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmrel import compare, load_problems, paper_problems, read_outputs
from lmrel.__main__ import main
from lmrel.files import sha256
from lmrel.parameters import Parameters
from lmrel.records import read_draws, write_draws
from study.commands import HELP
from study.run import Run
from tests.conftest import ROOT
from tiny.split import is_held_out, problem_key

ASKED = "question,gold,level\nTom has 3 apples and buys 4. How many?,7,easy\nWhat is 23 - 7?,16,hard\n"


def said(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def refusal(*arguments: Any) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return str(ended.value)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    (folder / "mine.csv").write_text(ASKED)
    main(
        f"evaluate --model tiny-dense-base --problems {folder}/mine.csv --columns answer=gold --temperature 0 1 "
        f"--runs 3 --max-new-tokens 8 --no-determinism --output {folder}/run".split()
    )
    return folder / "run"


def test_evaluate_is_the_notebooks_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((run / "run.json").read_text())
    given = {
        "model": "tiny-dense-base",
        "problems": str(run.with_name("mine.csv")),
        "columns": {"answer": "gold"},
        "temperatures": [0, 1],
        "runs": 3,
        "max_new_tokens": 8,
        "determinism": False,
        "output_dir": str(run),
    }
    same = Run(**given)
    assert {name: record["parameters"][name] for name in given} == given
    draws, _ = same.carry_out(progress=False)  # it is there: nothing is drawn
    assert len(draws) == 2 * (1 + 3)
    assert draws["level"].tolist() == ["easy"] * 4 + ["hard"] * 4


def test_every_parameter_is_a_flag_with_a_line_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    names = [field.name for field in fields(Parameters)]
    assert list(HELP) == names
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in names:
        flag = {"temperatures": "temperature", "output_dir": "output", "determinism": "no-determinism"}.get(name, name)
        assert f"--{flag.replace('_', '-')}" in text
        assert HELP[name].split(";")[0][:30] in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--runs", "0"], "error: runs is 0; it must be an integer from 1 to"),
        (["--runs", "many"], "error: runs is 'many'; it must be an integer"),
        (["--temperature", "0", "-1"], "error: temperature is -1; it must be 0 (greedy)"),
        (["--answer", "regex:7"], "a pair of brackets must say where"),
        (["--problems", "none.csv"], "problems is 'none.csv'; it must be 'paper' or an existing file"),
        (["--columns", "question"], "columns is 'question'; it must be None or a mapping"),
        (["--columns", "question=prompt"], "columns names those of a file, and problems is 'paper'"),
    ],
)
def test_what_cannot_be_used_ends_in_a_sentence(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    assert sentence in refusal("evaluate", "--model", "tiny-dense-base", "--output", tmp_path / "run", *arguments)
    assert not (tmp_path / "run").exists()


def test_a_run_is_read_again_by_another_rule_beside_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "rescore", run, "--answer", "last")
    assert "of 8 verdicts changed" in text
    again = read_draws(run.with_name("run-last"))
    assert set(again["answer"]) == {"last"}
    assert again["text"].tolist() == read_draws(run)["text"].tolist()
    record = json.loads((run.with_name("run-last") / "run.json").read_text())
    assert record["parameters"]["answer"] == "last"
    assert record["rescored_from"]["folder"] == str(run)
    said(capsys, "rescore", "--input", run, "--answer", "last")  # once more, over what it wrote
    assert "holds a run that was drawn" in refusal("rescore", run, "--answer", "last", "--output", run)
    again = run.with_name("run-last")
    assert "is what is read again" in refusal("rescore", again, "--answer", "sole", "--output", again)
    assert "a pair of brackets must say where" in refusal("rescore", run, "--answer", "regex:7")


def test_failures_figures_and_draws_come_out_as_files(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = run.with_name("out")
    assert "finished" in said(capsys, "failures", "--input", run, "--output", run.with_name("failures.csv"))
    shares = pd.read_csv(run.with_name("failures.csv"))
    assert shares["count"].sum() == (~read_draws(run)["correct"]).sum()
    said(capsys, "plot", "--input", run, "--output", target, "--format", "svg", "png", "pdf")
    starts = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}
    found = sorted(target.iterdir())
    assert {path.stem for path in found} >= {
        "accuracy",
        "compliance",
        "runs",
        "confidence",
        "failures",
        "runaway_share",
    }
    assert all(path.read_bytes().startswith(starts[path.suffix[1:]]) for path in found)
    said(capsys, "export", run, "--to", "jsonl")
    rows = [json.loads(line) for line in (run / "draws.jsonl").read_text().splitlines()]
    draws = read_draws(run)
    assert [row["text"] for row in rows] == draws["text"].tolist()
    assert [row["mean_logprob"] for row in rows] == pytest.approx(draws["mean_logprob"].tolist(), rel=1e-12)


def test_what_a_model_wrote_is_the_same_in_csv_and_no_figure_fails_on_a_name(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draws = read_draws(run)
    hostile = ["a\rb", "a\r\nb", 'a"b,', "\x1b[2J", "\u2028", "=1+1", "", " "]
    ids = [np.arange(2000)] * len(hostile)  # more than numpy prints
    write_draws(draws.assign(text=hostile, token_ids=ids, model="m\x1b[2J"), tmp_path / "draws.parquet")
    (tmp_path / "run.json").write_text("{}")
    found = pd.read_csv(said(capsys, "export", tmp_path).strip(), keep_default_na=False)
    assert found["text"].tolist() == hostile
    assert [json.loads(some) for some in found["token_ids"]] == [list(range(2000))] * len(hostile)
    said(capsys, "plot", tmp_path, "--output", tmp_path / "figures", "--format", "png")  # by way of SVG
    assert "\x1b" not in said(capsys, "failures", tmp_path)


def test_two_runs_are_compared_in_a_sentence_and_a_figure(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = run.with_name("other")
    main(
        f"evaluate --model tiny-dense-instruct --problems {run.with_name('mine.csv')} --columns answer=gold --runs 3 "
        f"--temperature 0 1 --max-new-tokens 8 --no-determinism --output {other}".split()
    )
    capsys.readouterr()
    text = said(capsys, "compare", run, other, "--margin", 0.1, "--output", run.with_name("drops.svg"))
    assert text.startswith("From T = 0 to T = 1, correct drops by ")
    assert str(compare(run, other, margin=0.1)) in text
    assert run.with_name("drops.svg").read_bytes().startswith(b"<svg")
    assert "its name must end in .svg" in refusal("compare", run, other, "--output", "drops.gif")
    said(capsys, "rescore", run, "--answer", "last", "--output", run.with_name("by-last"))
    assert "the answer of a is 'first' and that of b 'last'" in refusal("compare", run, run.with_name("by-last"))


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    for name in ("failures", "plot", "export"):
        assert f"{tmp_path} holds no finished run" in refusal(name, tmp_path)
        assert "give the folder of one finished run" in refusal(name)


OUTPUTS = ROOT / "tests" / "data" / "outputs"


def test_what_another_tool_drew_becomes_a_run_for_all_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, target = OUTPUTS / "inspect", tmp_path / "run"
    text = said(capsys, "import", log, "--output", target)
    assert "T  problems  runs" in text
    assert "compliance" not in text  # nothing is known of it
    assert "of these draws of inspect_ai is not known: top_k, min_p" in text
    record = json.loads((target / "run.json").read_text())
    assert record["parameters"] == {}
    assert record["draws"] == 12
    origin = record["imported_from"]
    [file] = log.iterdir()
    assert {name: origin[name] for name in ("format", "version", "files")} == {
        "format": "inspect_ai",
        "version": "0.3.285",
        "files": {file.name: sha256(file)},
    }
    assert record["sha256"]["draws"] == sha256(target / "draws.parquet")
    assert str(tmp_path) not in json.dumps(record)
    known = set(re.findall(r"`(\w+)`", (ROOT / "book" / "data.md").read_text(encoding="utf-8")))
    assert {*record, *origin, *record["sha256"]} <= known
    pd.testing.assert_frame_equal(read_draws(target), read_outputs(log))
    assert "no wrong draw has a class of failure" in refusal("failures", target)
    text = said(capsys, "plot", target, "--output", tmp_path / "figures")
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"accuracy", "runs"}
    assert "compliance: not shown: there is no compliance with an interval" in text
    assert "failures: not shown: no wrong draw has a class" in text
    rows = pd.read_csv(said(capsys, "export", target).strip(), dtype={"text": str})
    assert rows["text"].tolist() == read_draws(target)["text"].tolist()
    assert rows["token_ids"].isna().all()
    assert "a at temperature 0 has no draw; its temperatures are [0.7]" in refusal("compare", target, target)
    assert "of 12 verdicts changed" in said(capsys, "rescore", target, "--answer", "last")
    again = tmp_path / "run-last"
    assert json.loads((again / "run.json").read_text())["imported_from"] == origin
    assert "wrong_answer" in said(capsys, "failures", again)


def test_import_takes_what_the_files_do_not_say_and_leaves_other_runs_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("id,t,gold,said\nq1,0.5,7,7\nq1,0.5,7,8\nq2,0.5,8,8\n")
    command = ["import", tmp_path / "rows.csv", "--columns", "problem_id=id", "expected=gold", "answer=said"]
    assert "it does not say the model; give it as model" in refusal(*command, "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for _ in range(2):  # once more, over what it wrote
        text = said(capsys, *command, "--model", "m", "--temperature", "0.5", "--output", tmp_path / "run")
    assert "75.0 %" in text
    given = {"model": "m", "temperature": 0.5, "columns": "problem_id=id expected=gold answer=said"}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["parameters"] == given
    assert "holds a run that was not imported" in refusal(*command, "--model", "m", "--temperature", 1, "--output", run)
    (tmp_path / "rows.csv").write_text("model,problem_id,temperature,correct\na,1,0,1\nb,1,0,0\n")
    two = refusal("import", tmp_path / "rows.csv", "--output", tmp_path / "two")
    assert "holds draws of 2 models, ['a', 'b']; a run is of one" in two
    greedy = ["import", OUTPUTS / "lm_eval-greedy", "--output", tmp_path / "greedy"]
    assert "name one of its own" in refusal(*greedy)
    assert "25.0 %" in said(capsys, *greedy, "--verdict", "exact_match,strict-match")
    assert "25.0 %" in said(capsys, *greedy, "--answer", "last")


def test_counts_are_drawn_and_compared_but_not_by_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"m,{i},{t},9,{9 - i % 3 - 4 * t:g}" for i in range(12) for t in (0, 1)]
    (tmp_path / "counts.csv").write_text("\n".join(["model,problem_id,temperature,draws,correct", *rows]))
    assert "88.9 %" in said(capsys, "import", tmp_path / "counts.csv", "--output", tmp_path / "run")
    text = said(capsys, "plot", tmp_path / "run", "--output", tmp_path / "figures")
    assert "runs: not shown: by_run looks at single runs, and of counts the order" in text
    text = said(capsys, "compare", tmp_path / "run", tmp_path / "run")
    assert "correct drops by +44.4" in text
    assert "run (a) has no texts, so that its repeats are copies shows in their answers at most" in text


def test_an_import_says_what_speaks_against_independent_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"m,{i},0,{run},{run},1" for i in range(5) for run in range(2)]
    (tmp_path / "draws.csv").write_text("\n".join(["model,problem_id,temperature,run,answer,expected", *rows]))
    text = said(capsys, "import", tmp_path / "draws.csv", "--output", tmp_path / "run")
    assert "note: of m the greedy draws of 100.0 % of the problems differ from each other" in text


def test_problems_are_the_papers_or_new_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.jsonl"
    said(capsys, "problems", "--num-examples", 120, "--seed", 42, "--output", path)
    pd.testing.assert_frame_equal(load_problems(str(path)), paper_problems())
    said(capsys, "problems", "--num-examples", 50, "--seed", 7, "--output", path, "--x", 200, 300, "--k", 2, 2)
    found = load_problems(str(path))
    assert len(found) == 100
    assert found["x"].dropna().between(200, 300).all()
    assert set(found["k"].dropna()) == {2}
    said(capsys, "problems", "--num-examples", 40, "--seed", 7, "--output", path, "--held-out")
    rows = list(map(json.loads, path.read_text().splitlines()))
    assert all(map(is_held_out, rows))
    assert len(set(map(problem_key, rows))) == 80
    bound = refusal("problems", "--output", path, "--held-out", "--a", 1, 1, "--b", 1, 1, "--num-examples", 100)
    assert "problems of variable_binding were found" in bound
    assert "its name must end in .jsonl" in refusal("problems", "--output", tmp_path / "data.csv")
    assert "range of x is 9 to 3" in refusal("problems", "--output", path, "--x", 9, 3)
