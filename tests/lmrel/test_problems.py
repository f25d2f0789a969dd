from __future__ import annotations

import hashlib
import json
import os
import random
import re
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmrel import InputError, load_problems, paper_problems
from lmrel.problems import FEW_SHOT_EXAMPLES, as_rows, as_table, one_of, solve
from lmrel.prompts import expression, worksheet_item
from tiny import corpus
from tiny.split import held_out_problems, may_train_on, problem_key


def test_paper_problems_are_the_published_240() -> None:
    problems = paper_problems()
    lines = [f"{worksheet_item(row)} = {row['answer']}" for row in problems.to_dict("records")]
    assert lines[0] == "a = 2, b = 1, c = a * b, d = c + 5, d = 7"
    assert lines[120] == "(70 - 1) * 9 + 1 = 622"
    # The hash is of the published data file's items, compared once and brought into this form.
    text = "\n".join(lines)
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "316a5710e87091bec5c1d9e56e656f38000714f6a4ce0ef23a5317c892a9ca46"
    )
    assert problems["task"].tolist() == ["variable_binding"] * 120 + ["arithmetic"] * 120
    assert problems["problem_id"].is_unique


def test_paper_problems_have_the_published_peculiarities() -> None:
    problems = paper_problems()
    assert (problems["answer"] < 0).groupby(problems["task"]).sum().to_dict() == {
        "variable_binding": 22,
        "arithmetic": 2,
    }
    assert problems["answer"].mode().tolist() == [13]
    assert (problems["answer"] == 13).sum() == 10
    operands = problems.drop(columns=["problem_id", "question"])
    assert operands.duplicated().sum() == 1


def test_answers_are_what_python_makes_of_the_text() -> None:
    for problem in paper_problems().to_dict("records"):
        if problem["task"] == "arithmetic":
            assert eval(expression(problem)) == problem["answer"]
        else:
            scope: dict[str, int] = {}
            exec(worksheet_item(problem).removesuffix(", d").replace(", ", "\n"), scope)
            assert scope["d"] == problem["answer"]


def test_training_never_meets_a_reserved_problem_or_its_twin() -> None:
    reserved = {problem_key(row) for row in paper_problems().to_dict("records")}
    reserved |= {problem_key(row) for row in held_out_problems(10_000).to_dict("records")}
    reserved |= {problem_key(row) for row in FEW_SHOT_EXAMPLES}
    rng = random.Random(0)
    for _ in range(20_000):
        problem = corpus.training_problem(rng)
        assert problem_key(problem) not in reserved
        if problem["task"] == "variable_binding" and problem["op1"] in "+*":
            assert problem_key(problem | {"a": problem["b"], "b": problem["a"]}) not in reserved


def test_held_out_problems_are_new_distinct_and_right() -> None:
    problems = held_out_problems(150)
    assert problems["task"].value_counts().to_dict() == {"arithmetic": 150, "variable_binding": 150}
    rows = problems.to_dict("records")
    keys = [problem_key(row) for row in rows]
    assert len(set(keys)) == len(keys)
    assert not any(may_train_on(row) for row in rows)
    assert not set(keys) & {problem_key(row) for row in paper_problems().to_dict("records")}
    assert all(solve(row) == row["answer"] for row in rows)


def test_limit_takes_the_first_of_each_task() -> None:
    assert load_problems("paper", 2)["problem_id"].tolist() == ["vb-000", "vb-001", "ar-000", "ar-001"]


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "3"])
def test_bad_limit_is_named(limit: object) -> None:
    with pytest.raises(InputError, match="limit is .*; it must be an integer of at least 1"):
        load_problems("paper", limit)  # type: ignore[arg-type]


def test_what_is_no_path_is_named() -> None:
    sources: list[Any] = [None, 5, b"paper", "", "a\0.jsonl", "\ud800.jsonl", "x" * 5000, 10**5000, ["paper"]]
    for source in sources:
        with pytest.raises(InputError, match="problems is .*; it must be a path"):
            load_problems(source)


@pytest.mark.parametrize("number", [2, -1, True, "1", 0.0])
def test_a_problem_is_picked_by_a_row_that_is_there(number: Any) -> None:
    problems = paper_problems().head(2)
    assert one_of(problems, 1)["problem_id"].tolist() == ["vb-001"]
    with pytest.raises(InputError, match="problem is .*; it must be an integer from 0 to 1"):
        one_of(problems, number)


def test_own_problems_from_jsonl_and_parquet(tmp_path: Path) -> None:
    rows = [
        {"problem_id": "q", "question": "7 * 8 - 6", "answer": 50},
        {"problem_id": "o", "task": "arithmetic", "x": 23, "y": 7, "z": 4, "w": 5},
    ]
    lines = tmp_path / "mine.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8-sig")
    table = tmp_path / "mine.parquet"
    pd.DataFrame(rows).to_parquet(table)
    for path in (lines, table):
        loaded = load_problems(str(path))
        assert loaded["task"].tolist() == ["custom", "arithmetic"]
        assert loaded["answer"].tolist() == [50, 69]


GOOD = '{"problem_id": "a", "question": "1 + 1", "answer": 2}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "{oops", "line 2: not valid JSON"),
        (GOOD + "[1]", "line 2: a problem must be a JSON object, not list"),
        (GOOD + GOOD, "line 2: problem_id 'a' is already at"),
        (GOOD + GOOD.replace("{", '{"answer": 3, '), "line 2: .*a name occurs twice"),
        (GOOD + GOOD.replace("+", "\0"), "line 2: not valid JSON"),
        (
            '{"problem_id": "b", "task": "arithmetic", "x": 1' + "0" * 17 + ', "y": 0, "z": 99, "w": 1}',
            "the answer is 99000.*; it must be an integer of at most 18 digits",
        ),
        (GOOD + '{"problem_id": "b", "question": "1 + 1"}', "line 2: a question needs its answer"),
        (GOOD + '{"problem_id": [3], "question": "1", "answer": 1}', "line 2: problem_id must be a non-empty string"),
        (
            GOOD + '{"problem_id": "b", "quest": "1", "answer": 1}',
            "line 2: it has neither a question nor a task, but 'quest', 'answer'; columns says which is the question",
        ),
        (GOOD + GOOD.replace("}", ', "text": ""}'), "line 2: a further column may not have the name 'text'"),
        (GOOD + GOOD.replace("}", ', "note": "\\ud800"}'), "line 2: note must be valid Unicode"),
        (GOOD + GOOD.replace("}", ', "note": ["\\ud800"]}'), "line 2: note must be valid Unicode"),
        (GOOD + GOOD.replace("2", '"two"').replace('"a"', '"b"'), r"2 \(.*line 1\) and 'two' \(.*line 2\)"),
        (GOOD + '{"problem_id": "b", "task": "algebra"}', "line 2: task is 'algebra'"),
        (GOOD + '{"problem_id": "b", "task": "arithmetic", "x": 1, "y": 1, "z": 1}', "line 2: .*w is missing"),
        (GOOD + '{"problem_id": "b", "task": "arithmetic", "x": 1, "y": 1, "z": 1, "w": 1, "answer": 5}', "give 1"),
        (
            '{"problem_id": "b", "task": "variable_binding", "a": 1, "b": 1, "op1": "/", "k": 1, "op2": "+"}',
            "op1 is '/'",
        ),
        ("\n", "holds no problems"),
        (GOOD + '{"problem_id": "b", "question": "1", "answer": ' + "9" * 5000 + "}", "line 2: not valid JSON"),
        (GOOD + "[" * 100_000, "line 2: not valid JSON"),
        (GOOD + '{"problem_id": "b", "task": ["x"]}', "line 2: task must be a non-empty string"),
        (GOOD + '{"problem_id": "b", "question": "\\ud800", "answer": 1}', "line 2: question must be .* valid Unicode"),
        (GOOD + '{"problem_id": "  ", "question": "1", "answer": 1}', "line 2: problem_id must be a non-empty string"),
        (GOOD + '{"question": "1", "answer": 1}', "line 2: problem_id is missing"),
        (GOOD + '{"problem_id": "b", "question": "1", "answer": 1, "task": "all"}', "a task name of its own"),
        (GOOD + '{"problem_id": "b", "question": "1", "answer": 1, "task": "arithmetic"}', "a task name of its own"),
        (GOOD + '{"problem_id": "b", "question": "1", "answer": 1, "x": 3}', "goes without operands"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        load_problems(str(path))


ONE: dict[str, Any] = {"problem_id": ["a"], "question": ["1 + 1"], "answer": [2]}
ANSWERS = [2.0**60, float("inf"), 10**18, 2**64, "10/2", "1" * 19, " ", "#### ", [2], [[[[[2]]]]]]
OF_TABLES = [b"2", Decimal("1e20000000"), Decimal("1e-20000000"), pd.Timestamp("2020"), pd.Timedelta("1s")]


@pytest.mark.parametrize("value", [*ANSWERS, *OF_TABLES], ids=lambda value: repr(value)[:20])
def test_an_answer_is_one_that_a_table_holds(tmp_path: Path, value: Any) -> None:
    said = r"answer is .*; it must be a number of at most 18 digits, a letter or a text\.$"
    with pytest.raises(InputError, match=f"^problems, row 0: {said}"):
        as_rows(pd.DataFrame(ONE | {"answer": [value]}))
    if any(value is one for one in ANSWERS):
        (tmp_path / "a.jsonl").write_text(json.dumps({"problem_id": "a", "question": "1", "answer": value}))
        with pytest.raises(InputError, match=f"line 1: {said}"):
            load_problems(str(tmp_path / "a.jsonl"))
    with suppress(pa.ArrowException, ValueError, OverflowError):  # what Parquet does not hold
        pd.DataFrame(ONE | {"answer": [value]}).to_parquet(tmp_path / "a.parquet")
        with pytest.raises(InputError, match=f"row 0: {said}"):
            load_problems(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("problems", "said"),
    [
        (None, "^problems is None; it must be a table"),
        ("paper", "^problems is 'paper'; it must be a table"),
        ([{"problem_id": "a"}], "it must be a table"),
        (pd.concat([pd.DataFrame(ONE)] * 2, axis=1), "^problems has two columns of one name"),
        (pd.DataFrame(ONE).drop(columns="answer"), "row 0: a question needs its answer"),
        (pd.DataFrame(ONE | {"answer": [float("nan")]}), "row 0: a question needs its answer"),
        (pd.DataFrame({name: values * 2 for name, values in ONE.items()}), "row 1: problem_id 'a' is already at prob"),
        (pd.DataFrame(ONE | {"answer": [Decimal("sNaN")]}), "row 0: answer is Decimal"),
        (pd.DataFrame(ONE | {"problem_id": [1.5]}), "row 0: problem_id must be a non-empty string"),
        (pd.DataFrame(ONE | {"question": [" "]}), "row 0: question must be a non-empty string"),
        (paper_problems().tail(1).assign(x=pd.NA), "row 0: .*x is missing"),
        (paper_problems().head(1).assign(op1="/"), "row 0: op1 is '/'"),
        (pd.DataFrame(ONE).rename(columns={"question": 5}), "neither a question nor a task, but 5, 'answer'"),
        (pd.DataFrame(ONE).assign(**{"": 1}), "row 0: a column has the name ''; it must be a text"),
    ],
)
def test_a_row_of_a_table_is_checked_like_a_line_of_a_file(problems: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        as_rows(problems)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        "\n\r\n  \n" + GOOD.strip(),
        GOOD.replace("2}", "2.0}"),
        GOOD.replace("1 + 1", "1\\u0000\\u202e"),
        GOOD.replace("1 + 1", "x" * 1_000_000),
        GOOD.replace("1 + 1", "1\u2028+ 1"),
    ],
    ids=["BOM", "CRLF", "CR", "blank lines", "2.0", "NUL, escaped", "enormous", "a line separator"],
)
def test_odd_files_of_problems_are_read_as_they_are_meant(text: str | bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(text.encode() if isinstance(text, str) else text)
    found = load_problems(str(tmp_path / "a.jsonl"))
    assert found[["problem_id", "answer"]].to_numpy().tolist() == [["a", 2]]


def test_large_integers_beside_missing_ones_keep_every_digit(tmp_path: Path) -> None:
    rows = [
        {"problem_id": "a", "question": "1", "answer": 2**53 + 1},
        {"problem_id": "b", "task": "arithmetic", "x": 2**53 + 1, "y": 0, "z": 1, "w": 0},
    ]
    columns = {name: [row.get(name) for row in rows] for name in ["problem_id", "task", "question", *"xyzw", "answer"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("a.parquet", "a.jsonl"):
        found = load_problems(str(tmp_path / name))
        assert found["answer"].tolist() == [2**53 + 1] * 2
        assert found["x"].tolist() == [pd.NA, 2**53 + 1]


def any_line(names: list[str]) -> Any:
    value = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.integers())
    return st.dictionaries(st.sampled_from(names), value).map(lambda row: json.dumps(row).encode())


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=40) | any_line(["problem_id", "task", "question", "answer", "a", "op1", "x"])))
def test_any_file_is_read_or_its_line_is_named(tmp_path: Path, lines: list[bytes]) -> None:
    (tmp_path / "mine.jsonl").write_bytes(b"\n".join(lines))
    said = ""
    try:
        found = load_problems(str(tmp_path / "mine.jsonl"))
    except InputError as error:
        said = str(error)
    if said:
        assert re.search(r"mine\.jsonl(, line \d+:| is not UTF-8| holds no)", said)
    else:
        assert found["problem_id"].is_unique
        assert found["answer"].notna().all()


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be 'paper' or an existing"):
        load_problems(str(tmp_path / "none.jsonl"))
    for name, content, said in [
        ("a.txt", b"x", "must end in .jsonl, .json, .csv, .parquet"),
        ("a.jsonl", GOOD.encode("utf-16"), "is not UTF-8 text"),
        ("a.jsonl", GOOD.encode() + b"\xff", "is not UTF-8 text"),
        ("a.parquet", b"PAR1", "cannot be read as Parquet"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=said):
            load_problems(str(tmp_path / name))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has such a file")
def test_a_file_that_the_system_does_not_give_is_named(tmp_path: Path) -> None:
    for name, said in (("a.jsonl", "cannot be read: Input/output"), ("a.parquet", "cannot be read as Parquet")):
        os.symlink("/proc/self/mem", tmp_path / name)  # a file, and reading it is an error
        with pytest.raises(InputError, match=f"{name} {said}"):
            load_problems(str(tmp_path / name))


@pytest.mark.parametrize("said", [b"{}", b"[]", b"x", b'{"index_columns": ["none"], "columns": []}'])
def test_what_pandas_said_of_a_table_does_not_matter(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "mine.parquet"
    pq.write_table(pa.table(ONE).replace_schema_metadata({b"pandas": said}), path)
    assert load_problems(str(path))["answer"].tolist() == [2]
    pd.DataFrame(ONE, index=["some"]).to_parquet(path)
    assert load_problems(str(path))["answer"].tolist() == [2]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({**ONE, "task": pa.array([b"\xff"]).view(pa.string())}), "'utf-8' codec"),
        (pa.table([["a"], ["1"], [2], [3]], names=[*ONE, "answer"]), "two columns have one name"),
    ],
    ids=["text", "names"],
)
def test_a_table_that_cannot_be_converted_ends_in_one_line(tmp_path: Path, table: pa.Table, said: str) -> None:
    pq.write_table(table, tmp_path / "mine.parquet")
    with pytest.raises(InputError, match=f"cannot be read as Parquet: [^\n]*{said}[^\n]*$"):
        load_problems(str(tmp_path / "mine.parquet"))


@pytest.mark.parametrize(
    ("answers", "read"),
    [
        ([7, "1,234", "$5", "\u0663", "#### 72", "\N{MINUS SIGN}4", 106.0, "106.0"], [7, 1234, 5, 3, 72, -4, 106, 106]),
        ([7, 1.5, "3/4", Decimal("0.25"), "-.5"], ["7", "1.5", "0.75", "0.25", "-0.5"]),
        (["1/3", 2], ["1/3", "2"]),
        (["A", "(B)", "C."], ["A", "B", "C"]),
        (["A", "AB", "O"], ["a", "ab", "o"]),
        (["Paris.", " New  York "], ["paris", "new york"]),
        ([True, False], ["true", "false"]),
    ],
)
def test_answers_are_numbers_letters_or_texts(answers: list[Any], read: list[Any]) -> None:
    table = pd.DataFrame({"question": [f"q{i}" for i in range(len(answers))], "answer": answers})
    rows = as_rows(table)
    assert as_table(rows)["answer"].tolist() == read
    assert [row["problem_id"] for row in rows] == [str(i) for i in range(1, len(answers) + 1)]
    assert as_rows(as_table(rows)) == rows


CSV = 'prompt,gold,level,id\r\n"Two, and two?",4,easy,7\r\n"A line\nand a line",5,,8\r\n'


def test_files_of_every_kind_hold_the_same_problems_under_names_of_their_own(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "Two, and two?", "gold": 4, "level": "easy", "id": 7},
        {"prompt": "A line\nand a line", "gold": 5, "level": None, "id": 8},
    ]
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + CSV.encode())
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    names = {"question": "prompt", "answer": "gold", "problem_id": "id"}
    for kind in ("csv", "json", "jsonl", "parquet"):
        found = load_problems(str(tmp_path / f"a.{kind}"), columns=names)
        assert found["question"].tolist() == ["Two, and two?", "A line\nand a line"]
        assert found["answer"].tolist() == [4, 5]
        assert found["problem_id"].tolist() == ["7", "8"]
        assert found["level"].isna().tolist() == [False, True]
        split = load_problems(
            str(tmp_path / f"a.{kind}"), columns={**names, "cluster": "prompt", "task": "gold"}, limit=1
        )
        assert split["task"].tolist() == ["4", "5"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "question,answer\n1 + 1,2,3\n", "line 2: 3 cells, and line 1 names 2 columns"),
        ("a.csv", "question,question\n1,2\n", "line 1: two columns have one name"),
        ("a.csv", 'question,answer\n"1 + 1,2\n', "line 2: not valid CSV"),
        ("a.csv", "question,answer\n", "holds no problems"),
        (
            "a.csv",
            "question,gold\n1,2\n",
            r"columns names 'prompt', which .*a.csv does not have.* It has question, gold",
        ),
        ("a.json", '{"question": "1"}', "must hold an array of problems"),
        ("a.json", "[1", "a.json: not valid JSON"),
        ("a.txt", "1", r"its name must end in \.jsonl, \.json, \.csv, \.parquet"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        load_problems(str(tmp_path / name), columns={"question": "prompt"} if "prompt" in said else None)


def test_a_table_is_read_as_pandas_or_a_hand_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    pd.DataFrame(ONE | {"level": ["easy"]}).to_csv(path)  # with its index, below no name
    found = load_problems(str(path)).dropna(axis=1)
    assert found.columns.tolist() == ["problem_id", "task", "answer", "question", "level"]
    path.write_text("question, answer\nOne\u2028and\x85one, 2\n", encoding="utf-8")
    assert load_problems(str(path))[["question", "answer"]].to_numpy().tolist() == [["One\u2028and\x85one", 2]]
    path.write_text("task,x,y,z,w\narithmetic,5,-1, 3,+1\n")
    assert load_problems(str(path))["answer"].tolist() == [19]
    path.write_text("prompt,gold\n1 + 1,2\n")
    with pytest.raises(InputError, match="neither a question nor a task, but 'prompt', 'gold'; columns says which"):
        load_problems(str(path))
    table = pa.table({"question": ["1"], "answer": pa.array([0.1], pa.float32()), "options": [["a", "b"]]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = load_problems(str(tmp_path / "a.parquet"))
    assert found[["answer", "options"]].to_numpy().tolist() == [["0.1", '["a", "b"]']]


def test_a_column_gives_way_to_the_one_that_is_named_for_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "q", "answer": "a long story", "gold": 3}')
    assert load_problems(str(tmp_path / "a.jsonl"), columns={"answer": "gold"})["answer"].tolist() == [3]


def test_a_dataset_comes_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD)
    asked: list[Any] = []

    def download(repo: str, file: str, *, repo_type: str, revision: str | None) -> str:
        asked.append((repo, file, repo_type, revision))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    listed = ["README.md", "main/test.parquet"]
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *_, **__: listed)
    for source in ("hf://datasets/o/n/main/a.jsonl", "hf://datasets/o/n@v1/a.jsonl", "hf://datasets/o/n"):
        assert load_problems(source)["answer"].tolist() == [2]
    assert asked == [
        ("o/n", "main/a.jsonl", "dataset", None),
        ("o/n", "a.jsonl", "dataset", "v1"),
        ("o/n", "main/test.parquet", "dataset", "refs/convert/parquet"),
    ]
    listed.append("main/train.parquet")
    with pytest.raises(
        InputError, match=r"o/n has 2 files of data; name one, such as hf://datasets/o/n@refs%2Fconvert"
    ):
        load_problems("hf://datasets/o/n")
    for source in ("hf://models/o/n", "hf://datasets/n"):
        with pytest.raises(InputError, match="a dataset is named hf://datasets/OWNER/NAME/FILE"):
            load_problems(source)


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(InputError, match="could not be downloaded: there is no connection to the hub"):
        load_problems("hf://datasets/o/n/a.jsonl")
