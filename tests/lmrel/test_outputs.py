from __future__ import annotations

import json
import math
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lmrel import InputError, compare, logs, read_outputs, rescore
from lmrel.outputs import imported
from lmrel.records import DRAWS_SCHEMA, read_draws, write_draws
from lmrel.stats import agreement, calibration, contrasts, independence, inference, metrics
from tests.conftest import ROOT, UNIX

DATA = ROOT / "tests" / "data" / "outputs"
[SAMPLES], [RESULTS] = (list((DATA / "lm_eval").glob(f"{name}_*")) for name in ("samples", "results"))
[EVAL], [JSON] = (list((DATA / name).iterdir()) for name in ("inspect", "inspect-json"))
[INSTANCES] = (DATA / "ever-lm_eval").glob("*_samples.jsonl")
COLUMNS = "model,problem_id,temperature,run,answer,expected,correct"


@pytest.fixture(autouse=True)
def without_inspect_ai(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its logs are read as documented, also where the package happens to be installed."""
    monkeypatch.setattr(logs, "find_spec", lambda name: None)


def csv(folder: Path, *rows: str, columns: str = COLUMNS) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return path


def table(folder: Path, problems: int = 30, temperatures: tuple[float, ...] = (0, 1), **more: Any) -> Path:
    """A plain table: two greedy and hot answers of each problem, of which every third is wrong when hot."""
    rows = [
        {
            "problem_id": f"p{i}",
            "temperature": t,
            "run": run,
            "expected": "b",
            "answer": "c" if t and (i + run) % 3 else "b",
        }
        for i in range(problems)
        for t in temperatures
        for run in range(3 if t else 1)
    ]
    path = folder / "table.parquet"
    pd.DataFrame(rows).assign(**{"model": "m", **more}).to_parquet(path)
    return path


def counts(folder: Path, name: str = "counts.jsonl", hot: int = 4) -> Path:
    rows = [
        {"model": name, "problem_id": f"p{i}", "temperature": t, "draws": 8, "correct": (hot if t > 0.5 else 7) - i % 4}
        for i in range(30)
        for t in (0.2, 0.8)
    ]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_plain_table_says_its_answers_and_nothing_is_invented(tmp_path: Path) -> None:
    path = csv(tmp_path, "m,p1,0.7,0,7,7,1", "m,p1,0.7,1,,7,0", "m,p2,0.7,0,1.5,8,0", "m,p2,0.7,1,8,8,1")
    draws = read_outputs(path)
    assert list(draws) == DRAWS_SCHEMA.names
    assert draws["correct"].tolist() == [True, False, False, True]
    assert draws["expected"].tolist() == ["7", "7", "8", "8"]
    assert draws["extracted"].fillna("none").tolist() == ["7", "none", "1.5", "8"]
    assert set(draws["answer"]) == {"imported"}
    for name in ("precision", "prompt_style", "decoding", "decoder"):
        assert set(draws[name]) == {"unknown"}
    for name in (
        "text",
        "prompt",
        "cluster",
        "token_ids",
        "n_tokens",
        "mean_logprob",
        "finished",
        "runaway",
        "compliant",
    ):
        assert draws[name].isna().all(), name


def test_columns_have_any_name_and_arguments_say_what_the_file_does_not(tmp_path: Path) -> None:
    path = csv(tmp_path, "q1,B,b,easy", "q2,B,C,hard", "q2,B,B,hard", columns="id,gold,said,level")
    columns = {"problem_id": "id", "expected": "gold", "answer": "said", "task": "level"}
    draws = read_outputs(path, model="m", temperature=1, columns=columns)
    assert draws["correct"].tolist() == [True, False, True]
    assert draws["run"].tolist() == [0, 0, 1]
    assert draws["task"].tolist() == ["easy", "hard", "hard"]
    assert set(draws["temperature"]) == {1.0}
    pd.testing.assert_frame_equal(
        read_outputs(path, model="m", temperature=1, columns=" ".join(map("=".join, columns.items()))), draws
    )  # type: ignore[arg-type]


def test_every_way_to_write_a_table_is_read_alike(tmp_path: Path) -> None:
    rows = [
        {
            "model": "m",
            "problem_id": 3,
            "temperature": 0.5,
            "expected": 7,
            "answer": 7,
            "text": "It is 7.",
            "n_tokens": 4,
        }
    ]
    rows += [{**rows[0], "problem_id": 4, "answer": 8, "mean_logprob": -0.5}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    found = [read_outputs(tmp_path / f"a{suffix}") for suffix in (".json", ".jsonl", ".csv", ".parquet")]
    for other in found:
        pd.testing.assert_frame_equal(other, found[0])
    assert found[0]["expected"].dtype == "int64"
    assert found[0]["problem_id"].tolist() == ["3", "4"]
    assert rescore(found[0], "last")["correct"].tolist() == [True, True]


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    for path in (table(tmp_path), counts(tmp_path)):
        draws = read_outputs(path)
        write_draws(draws, tmp_path / "draws.parquet")
        pd.testing.assert_frame_equal(read_draws(tmp_path), draws)
        (tmp_path / "draws.parquet").unlink()


def test_lm_evaluation_harness_says_model_task_knobs_and_texts() -> None:
    draws, origin = imported(DATA / "lm_eval-greedy", verdict="exact_match,strict-match")
    assert draws["text"].tolist() == [" 612", " 32", " 32", " 75"]
    assert draws["correct"].tolist() == [False, True, False, False]
    assert draws["extracted"].tolist() == [612, 32, 32, 75]
    assert draws["problem_id"].tolist() == [f"sums-{i}" for i in range(4)]
    assert draws["prompt"].iloc[0] == "7 * 8 - 6 ="
    assert set(draws["model"]) == {"lmrel/tiny-dense-instruct"}
    assert set(draws["temperature"]) == {0.0}
    assert draws["decoder"].str.fullmatch("[0-9a-f]{8}").all()
    assert origin["version"] == "0.4.13"
    assert list(origin["files"]) == [next((DATA / "lm_eval-greedy").glob("samples*")).name]
    assert {"finished", "n_tokens", "mean_logprob"} <= set(origin["missing"])
    with pytest.raises(InputError, match=r"has 2 verdicts on a draw.*exact_match,strict-match; exact_match,flexible"):
        read_outputs(DATA / "lm_eval-greedy")
    with pytest.raises(InputError, match="has no verdict 'acc'"):
        read_outputs(DATA / "lm_eval-greedy", verdict="acc")
    with pytest.raises(InputError, match="nothing was drawn"):
        read_outputs(DATA / "lm_eval-choice", model="m")


def test_the_harness_keeps_one_verdict_for_repeats_so_a_rule_reads_them() -> None:
    with pytest.raises(InputError, match="keeps one verdict for all 3 responses; where there are texts, answer names"):
        read_outputs(SAMPLES)
    draws = read_outputs(SAMPLES, answer="first")
    assert draws["run"].tolist() == [0, 1, 2] * 4
    assert draws["extracted"].tolist()[:6] == [612, 61, 61, 32, 32, 32]
    assert draws["correct"].sum() == 5
    assert set(draws["answer"]) == {"first"}
    assert set(draws["temperature"]) == {0.7}
    assert draws["runaway"].isna().all()  # how a text ended is not known
    assert draws.loc[~draws["correct"], "failure"].notna().all()
    both = pd.concat([draws, read_outputs(DATA / "lm_eval-greedy", answer="first")])
    other = both.assign(model="other")
    found = compare(both, other, temperatures=(0, 0.7))
    assert any("prompt style of lmrel/tiny-dense-instruct is not known" in note for note in found.notes)
    assert any("all texts of the two runs are the same" in note for note in found.notes)


def test_repeats_of_the_harness_that_are_alike_have_its_verdict(tmp_path: Path) -> None:
    line = json.loads(SAMPLES.read_text().splitlines()[1])
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(line))
    draws = read_outputs(path, model="m")  # without the results beside it
    assert draws["correct"].tolist() == [True] * 3
    assert draws["problem_id"].tolist() == ["1"] * 3
    with pytest.raises(InputError, match="it does not say the model"):
        read_outputs(path)


@pytest.mark.parametrize(
    ("knobs", "temperature"),
    [
        ({}, 0.0),
        ({"do_sample": False}, 0.0),
        ({"temperature": 0.4}, 0.4),
        ({"do_sample": True, "temperature": 0.4}, 0.4),
        ({"do_sample": True}, None),
        ({"do_sample": False, "temperature": 0.4}, None),
    ],
)
def test_the_harness_is_greedy_unless_it_was_told(
    knobs: dict[str, Any], temperature: float | None, tmp_path: Path
) -> None:
    line = json.loads(SAMPLES.read_text().splitlines()[1])
    line["arguments"]["gen_args_0"]["arg_1"] = knobs
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(line))
    if temperature is None:
        with pytest.raises(InputError, match="it does not say the temperature"):
            read_outputs(path, model="m")
        temperature = 0.9
        assert set(read_outputs(path, model="m", temperature=0.9)["temperature"]) == {0.9}
    else:
        assert set(read_outputs(path, model="m")["temperature"]) == {temperature}


@pytest.mark.parametrize(("name", "scorer"), [("inspect", None), ("inspect-json", "match")])
def test_logs_of_inspect_are_read_as_its_own_reader_reads_them(name: str, scorer: str | None) -> None:
    draws, origin = imported(DATA / name, verdict=scorer)
    expected = pd.read_json(DATA / "expected" / f"{name}.jsonl", lines=True, dtype=False)
    assert len(expected) > 1
    pd.testing.assert_frame_equal(draws[list(expected)], expected, check_dtype=False)
    assert origin["version"] == "0.3.285"


def test_its_own_reader_is_asked_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    log = json.loads(JSON.read_text())

    class Read:
        def model_dump(self, mode: str) -> Any:
            return {**log, "eval": {**log["eval"], "model": "as its reader says"}}

    module = type("Module", (), {"read_eval_log": staticmethod(lambda path: Read())})
    monkeypatch.setattr(logs, "find_spec", lambda name: object())
    monkeypatch.setattr(logs, "import_module", lambda name: module)
    assert set(read_outputs(JSON, verdict="match")["model"]) == {"as its reader says"}
    monkeypatch.setattr(logs, "import_module", lambda name: None)
    with pytest.raises(InputError, match="cannot be read by inspect_ai"):
        read_outputs(JSON, verdict="match")


def test_inspect_says_by_the_call_what_the_log_as_a_whole_does_not(tmp_path: Path) -> None:
    log = json.loads(JSON.read_text())
    for event in log["samples"][0]["events"]:
        if event["event"] == "model":
            event["config"] = {"temperature": 0.9}  # as of a solver that sets its own
    log["samples"][1]["output"]["choices"][0]["stop_reason"] = "max_tokens"
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log, indent=2))
    draws = read_outputs(path, verdict="includes")
    assert draws["temperature"].tolist() == [0.9, 0.2]
    assert draws["ended"].isna().tolist() == [True, False]
    assert draws["finished"].tolist() == [None, False]


def test_every_eval_ever_has_one_score_an_instance() -> None:
    draws = read_outputs(INSTANCES, verdict="exact_match:strict-match", temperature=0)
    assert draws["correct"].tolist() == [False, True, False, False]
    assert set(draws["model"]) == {"lmrel/tiny-dense-instruct"}
    with pytest.raises(InputError, match="keeps one score for all 3 repeats"):
        read_outputs(DATA / "ever-inspect")  # whose `is_correct` is True where one of three was right
    again, origin = imported(DATA / "ever-inspect", answer="last")
    assert origin["version"] == "inspect inspect_ai:0.3.285"
    assert again["correct"].tolist() == read_outputs(EVAL)["correct"].tolist()
    assert set(again["temperature"]) == {0.7}


def test_counts_are_draws_whose_order_means_nothing(tmp_path: Path) -> None:
    draws = read_outputs(counts(tmp_path))
    assert len(draws) == 30 * 2 * 8
    assert draws.groupby(["temperature", "problem_id"])["correct"].sum().tolist()[:1] == [7]
    assert set(draws["answer"]) == {"counts"}
    for refusing in (metrics.by_run, independence.independence):
        with pytest.raises(InputError, match="of counts the order of a problem's runs means nothing"):
            refusing(draws)
    summary = inference.summarize_with_intervals(draws).query("task == 'all'")
    assert summary["accuracy"].tolist() == pytest.approx([(7 - 43 / 30) / 8, (4 - 43 / 30) / 8])
    assert summary["consistency"].isna().all()
    found = agreement.repeated(draws)
    assert found["pass_at_k"].between(0, 1).all()
    assert found[["same_text", "same_answer", "answer_entropy", "majority_at_k"]].isna().all(axis=None)


def test_runs_of_counts_are_not_paired_with_each_other(tmp_path: Path) -> None:
    draws = read_outputs(counts(tmp_path))
    mixed = draws.sample(frac=1, random_state=0)
    mixed["run"] = mixed.groupby(["temperature", "problem_id"]).cumcount()  # in another order
    other = read_outputs(counts(tmp_path, "other.jsonl", hot=5))
    one, two = (compare(each, other, temperatures=(0.2, 0.8)) for each in (draws, mixed))
    assert one.variances == pytest.approx(two.variances)
    assert one.variances["sampling"] > 0.5  # four sides with a variance near 0.2 each
    assert any("has no texts" in note for note in one.notes)


def test_all_statistics_work_on_answers_alone_or_say_what_they_lack(tmp_path: Path) -> None:
    draws = read_outputs(table(tmp_path))
    summary = inference.summarize_with_intervals(draws)
    assert summary["accuracy_low"].notna().all()
    assert summary[["compliance", "strict_accuracy", "runaway_share", "confidence", "tokens"]].isna().all(axis=None)
    found = agreement.repeated(draws).query("task == 'all'").iloc[0]
    assert found["same_answer"] == 0.0
    assert found["majority_at_k"] == pytest.approx(found["pass_at_k"] / 2 + found["pass_power_k"] / 2)
    assert math.isnan(found["same_text"])
    assert agreement.flips(draws)["flipped"].iloc[0] == pytest.approx(2 / 3)
    assert contrasts.paired_difference(draws, "correct", 0, 1)["problems"] == 30
    with pytest.raises(InputError, match="independence compares texts, and 120 of 120 draws have none"):
        independence.independence(draws)
    with pytest.raises(InputError, match="120 of 120 draws have no log-probability"):
        calibration.text_probability(draws)
    with pytest.raises(InputError, match="no wrong draw has a class of failure"):
        inference.failure_shares(draws)
    with pytest.raises(InputError, match="120 of 120 draws have no text, so they cannot be read by a rule"):
        rescore(draws, "last")
    with pytest.raises(InputError, match="whose runaway is missing"):
        compare(draws, draws, metric="runaway")
    other = read_outputs(table(tmp_path, model="n", cluster="of one kind"))
    with pytest.raises(InputError, match="all problems are of one cluster"):
        compare(draws, other)  # what the other says of them holds
    assert "has no texts" in str(compare(draws, draws.assign(model="n")))


def test_verdicts_without_answers_are_not_answers_that_agree(tmp_path: Path) -> None:
    rows = [f"m,p{i},{t},{run},{int(run % 2 == 0)}" for i in range(9) for t in (0, 1) for run in range(2 if t else 1)]
    draws = read_outputs(csv(tmp_path, *rows, columns="model,problem_id,temperature,run,correct"))
    assert agreement.repeated(draws)["same_answer"].isna().all()
    with pytest.raises(InputError, match="only the verdicts are known"):
        agreement.flips(draws)
    assert not any("answer" in quantity for quantity in compare(draws, draws).table["quantity"])


def test_right_answers_written_in_two_ways_are_one_answer(tmp_path: Path) -> None:
    path = csv(tmp_path, "m,p,1,0,half,0.5,1", "m,p,1,1,50 percent,0.5,1", "m,p,1,2,two,0.5,0")
    found = agreement.repeated(read_outputs(path), k=3).query("task == 'all'").iloc[0]
    assert found["majority_at_k"] == 1.0
    assert found["answer_entropy"] == pytest.approx(0.9183, abs=1e-4)


def test_the_files_of_a_folder_are_one_table_and_further_runs_of_a_problem_are_numbered_on(tmp_path: Path) -> None:
    for name, text in (("a", "7"), ("b", "8")):
        line = json.loads(SAMPLES.read_text().splitlines()[1]) | {"resps": [[text]], "filtered_resps": [text]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(line))
    (tmp_path / ".hidden.jsonl").write_text("{")
    (tmp_path / "notes.txt").write_text("no draws")
    draws, origin = imported(tmp_path, model="m")
    assert draws["run"].tolist() == [0, 1]
    assert list(origin["files"]) == ["a.jsonl", "b.jsonl"]
    (tmp_path / "c.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes())
    with pytest.raises(InputError, match="holds the same as"):
        imported(tmp_path, model="m")
    (tmp_path / "c.jsonl").write_text(json.dumps({"problem_id": 1, "correct": 1, "temperature": 0}))
    with pytest.raises(InputError, match=r"several formats, lm-evaluation-harness, table"):
        imported(tmp_path, model="m")
    with pytest.raises(InputError, match="holds no file of draws"):
        read_outputs(RESULTS)


ROW = {"model": "m", "problem_id": "p", "temperature": 1, "correct": 1}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"temperature": "hot"}, "temperature is 'hot'; it must be 0"),
        ({"temperature": -1}, "temperature is -1; it must be 0"),
        ({"temperature": math.nan}, "temperature is nan; it must be 0"),
        ({"temperature": None}, "it does not say the temperature; give it as temperature"),
        ({"temperature": True}, "temperature is True; it must be 0"),
        ({"model": None}, "it does not say the model; give it as model"),
        ({"model": 7}, "model is 7; it must be a text"),
        ({"problem_id": None}, "problem_id"),
        ({"problem_id": ["p"]}, r"problem_id is \['p'\]; it must be a text or an integer"),
        ({"run": -1}, "run is -1; it must be an integer from 0"),
        ({"run": 0.5}, "run is 0.5; it must be an integer from 0"),
        ({"correct": math.nan}, "correct is nan; it must be 1, for right, or 0"),
        ({"correct": 0.5}, "correct is 0.5; it must be 1, for right, or 0"),
        ({"correct": "yes"}, "correct is 'yes'; it must be 1, for right, or 0"),
        ({"correct": None}, "it has neither correct, nor an answer beside what is expected"),
        ({"answer": {"a": 1}}, "answer is {'a': 1}; it must be a number"),
        ({"expected": [7]}, r"expected is \[7\]; it must be a number"),
        ({"text": 7}, "text is 7; it must be a text of valid Unicode"),
        ({"text": "\ud800"}, "text is .*; it must be a text of valid Unicode"),
        ({"answer": "\ud800"}, "answer is .*; it must be a text of valid Unicode"),
        ({"n_tokens": "many"}, "n_tokens is 'many'; it must be an integer"),
        ({"mean_logprob": 0.5}, "mean_logprob is 0.5; it must be a number"),
        ({"draws": 0}, "draws is 0; it must be an integer from 1"),
        ({"draws": 10**12}, "draws is 1000000000000; it must be an integer from 1 to"),
        ({"draws": 3, "correct": 4}, "of 3 draws 4 are correct"),
        ({"draws": 3, "correct": 1.5}, "correct is 1.5; it must be an integer"),
        ({"draws": 3, "correct": None}, "counts are draws and how many of them are correct"),
    ],
    ids=str,
)
def test_a_row_that_says_something_else_is_named(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW | change) + "\n")
    with pytest.raises(InputError, match=f"rows.jsonl.*{sentence}"):
        read_outputs(path)


def lines(*rows: Any) -> bytes:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()


def zipped(change: Callable[[dict[str, bytes]], dict[str, bytes]], **changes: Any) -> Callable[[Path], bytes]:
    """A log of Inspect with other members, packed as its older versions did."""

    def made(path: Path) -> bytes:
        log = logs.unpacked(EVAL)
        names = {f"samples/{one['id']}_epoch_{one['epoch']}.json": one for one in log.pop("samples")}
        members = {"header.json": json.dumps(log | changes).encode()} | {
            n: json.dumps(s).encode() for n, s in names.items()
        }
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in change(members).items():
                file.writestr(name, content)
        return path.read_bytes()

    return made


def test_a_log_that_older_versions_packed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.eval"
    zipped(lambda members: members)(path)
    pd.testing.assert_frame_equal(read_outputs(path), read_outputs(EVAL))


with zipfile.ZipFile(EVAL) as log:
    CHECKSUM = struct.pack("<I", log.getinfo("header.json").CRC)
LINE = json.loads(SAMPLES.read_text().splitlines()[1])
FILES: dict[str, tuple[bytes | Callable[[Path], bytes], str]] = {
    "nothing": (b"", "holds no rows"),
    "no text": (b"\xff\xfe\x00", "is not UTF-8 text"),
    "a line cut off": (lines(ROW, json.dumps(ROW)[:20]), "line 2: not valid JSON"),
    "one line cut off": (lines(json.dumps(ROW)[:20]), "line 1: not valid JSON"),
    "an object cut off": (JSON.read_bytes()[:9000], "cannot be read"),
    "no object": (lines(ROW, [1]), "line 2: a row must be an object with names, not list"),
    "another object": (lines({"a": 1}), "has no problem_id but a: it is neither a plain table"),
    "a name twice": (b'{"problem_id": 1, "problem_id": 2}\n{}', "a name occurs twice"),
    "no comma": (b"problem_id,correct\n1\n", "line 2: 1 cells, and line 1 names 2 columns"),
    "a draw twice": (lines(ROW | {"run": 0}, ROW | {"run": 0}), "line 2: run 0 of the problem 'p' at temperature 1 is"),
    "counts twice": (lines(ROW | {"draws": 2}, ROW | {"draws": 2}), "line 2: run 0 of the problem 'p'"),
    "some runs": (lines(ROW | {"run": 0}, ROW), "line 2: run is missing, and other draws have one"),
    "two answers": (
        lines(ROW | {"expected": 7}, ROW | {"expected": 8}),
        "the problem 'p' has two right answers, 7 and 8",
    ),
    "two tasks": (lines(ROW | {"task": "a"}, ROW | {"task": "b"}), "the problem 'p' has two tasks, 'a' and 'b'"),
    "a bad Parquet file": (b"PAR1 nothing", "cannot be read as Parquet"),
    "no responses": (lines(LINE | {"resps": "7"}), "resps is not as lm-evaluation-harness writes it"),
    "no doc_id": (lines(LINE | {"doc_id": "one"}), "doc_id is not as lm-evaluation-harness writes it"),
    "a doc twice": (lines(LINE, LINE), "line 2: the problem 1 is already at"),
    "a score of its own": (lines(LINE | {"exact_match": 0.3}), "correct is 0.3; it must be 1, for right, or 0"),
    "a zip cut off": (EVAL.read_bytes()[:9000], "is damaged"),
    "a zip of other bytes": (EVAL.read_bytes()[:3000] + b"\0" * 9 + EVAL.read_bytes()[3009:], "is damaged"),
    "another checksum": (EVAL.read_bytes().replace(CHECKSUM, bytes(4)), "is damaged: header.json has another checksum"),
    "a zip of something else": (zipped(lambda members: {"a.txt": b"a"}), "it has no header.json"),
    "a member outside": (zipped(lambda members: members | {"../a.json": b"{}"}), "it holds a file named '../a.json'"),
    "a member from the root": (zipped(lambda members: members | {"/a.json": b"{}"}), "it holds a file named '/a.json'"),
    "a header that is none": (zipped(lambda members: members | {"header.json": b"[]"}), "its header is no object"),
    "a member that is no JSON": (zipped(lambda members: members | {"samples/x.json": b"{"}), "is damaged"),
    "a sample twice": (
        zipped(lambda members: members | {"samples/x.json": members["samples/sum-0_epoch_1.json"]}),
        "sample sum-0, epoch 1: it is there twice",
    ),
    "a log that was cancelled": (zipped(lambda members: members, status="cancelled"), "its status is 'cancelled'"),
    "no model": (zipped(lambda members: members, eval={"task": "sums"}), "eval.model is not as inspect_ai writes it"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_damaged_or_contradicts_itself_is_a_sentence(name: str, tmp_path: Path) -> None:
    content, sentence = FILES[name]
    path = tmp_path / "file"
    path.write_bytes(content(tmp_path / "zip") if callable(content) else content)
    with pytest.raises(InputError, match=sentence) as raised:
        read_outputs(path, **({} if b"doc_id" not in path.read_bytes() else {"model": "m"}))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_zip_that_would_fill_the_memory_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LARGEST", 10_000)
    with pytest.raises(InputError, match="bytes unpacked; at most 10,000 are read"):
        read_outputs(EVAL)


def test_arguments_that_contradict_a_file_or_each_other_are_refused(tmp_path: Path) -> None:
    path = csv(tmp_path, "m,p1,0.7,0,7,7,1")
    for arguments, sentence in (
        ({"model": "n"}, "the model is 'm' there; leave out model='n'"),
        ({"temperature": 1.0}, "the temperature is 0.7 there; leave out temperature=1.0"),
        ({"temperature": "warm"}, "temperature is 'warm'; it must be None or 0"),
        ({"columns": {"problem_id": "id"}}, "columns names 'id', which"),
        ({"columns": []}, "columns is .*; it must be None or a mapping"),
        ({"verdict": "acc"}, "is a plain table"),
        ({"verdict": "acc", "answer": "last"}, "give one of them"),
        ({"answer": "best"}, "answer is 'best'; it must be None or first, last"),
        ({"answer": "last"}, "1 of 1 draws have no text"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_outputs(path, **arguments)  # type: ignore[arg-type]
    assert read_outputs(path, model="m", temperature=0.7)["correct"].all()
    with pytest.raises(InputError, match="columns are those of a plain table"):
        read_outputs(EVAL, columns={"problem_id": "id"})
    with pytest.raises(InputError, match="path is 7; it must be a path"):
        read_outputs(7)  # type: ignore[arg-type]


@UNIX
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "nowhere"):
        with pytest.raises(InputError, match="is no file or folder that can be read"):
            read_outputs(path)


def test_a_table_of_draws_is_not_read_as_another_tools(tmp_path: Path) -> None:
    write_draws(read_outputs(table(tmp_path)), tmp_path / "draws.parquet")
    with pytest.raises(InputError, match="is a table of draws already"):
        read_outputs(tmp_path / "draws.parquet")
