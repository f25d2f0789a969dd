from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from book.analysis import taxonomy
from book.analysis.taxonomy import CLASSES, failure, mistakes
from lmrel import InputError, paper_problems
from lmrel.problems import solve
from tests.conftest import ROOT

SUM = {"task": "arithmetic", "x": 23, "y": 7, "z": 4, "w": 5}  # 69
BINDING = {"task": "variable_binding", "a": 7, "b": 6, "op1": "*", "k": 9, "op2": "+"}  # 51


def labelled(split: str) -> list[dict[str, Any]]:
    lines = (ROOT / "book" / "data" / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


@pytest.mark.parametrize(("split", "share"), [("tune", 0.95), ("test", 0.85)])
def test_rules_agree_with_the_labels(split: str, share: float) -> None:
    rows = labelled(split)
    said = [failure(row["problem"], row["text"], row["finished"])[0] for row in rows]  # type: ignore[index]
    assert sum(a == row["label"] for a, row in zip(said, rows, strict=True)) / len(rows) >= share


def test_the_labelled_file_is_large_and_a_third_of_it_is_for_testing_only() -> None:
    tune, test = len(labelled("tune")), len(labelled("test"))
    assert tune + test >= 150
    assert test / (tune + test) == pytest.approx(1 / 3, abs=0.01)
    assert {row["label"] for row in labelled("tune") + labelled("test")} == set(CLASSES)


@pytest.mark.parametrize(
    ("problem", "text", "finished", "name", "reason"),
    [
        (SUM, " \n", True, "empty", "the text is empty"),
        (SUM, "I am sorry, 4.", True, "refusal", "it says 'sorry'"),
        (SUM, "69.", True, "ran_on", "the first integer is right, and there is more text"),
        (SUM, "23 - 7 = 16, so 16 * 4 + 5 = 69.", True, "misread", "its answer is 69, and the first integer another"),
        (SUM, "16 16 16 16 16 16 16 16 16 16 16 16 16", False, "runaway", "it was cut off while it repeated itself"),
        (SUM, "The value is", False, "truncated", "it was cut off before a number"),
        (SUM, "The value is", True, "no_number", "it holds no number"),
        (SUM, "23 - 7 = 16", True, "reasoning", "the line of its first number has '3 - 7'"),
        (SUM, "-69", True, "sign", "-69 is 69 with the other sign"),
        (SUM, "64", True, "wrong_operation", "(23 - 7) * 4 alone gives 64"),
        (SUM, "0", True, "wrong_operation", "23 - 7 * 4 + 5 gives 0"),
        (BINDING, "22", True, "wrong_operation", "(7 + 6) + 9 gives 22"),
        (BINDING, "33", True, "wrong_operation", "(7 * 6) - 9 gives 33"),
        (BINDING, "105", True, "wrong_operation", "7 * (6 + 9) gives 105"),
        (SUM, "96", True, "transposed", "96 has the digits of 69 in another order"),
        (SUM, "70", True, "off_by_small", "70 is 1 away from 69"),
        (SUM, "23", True, "copied_operand", "23 is the problem's x"),
        (SUM, "42", True, "few_shot_copied", "42 answers an example of the prompt"),
        (SUM, "79\n(4 - 1) * 2", True, "one_digit", "79 differs from 69 in one digit"),
        (SUM, "169", True, "one_digit", "169 differs from 69 in one digit"),
        (SUM, "1000", True, "other_number", "1000 is none of these"),
        ({"task": "custom", "question": "?", "answer": 3}, "1000", True, "other_number", "1000 is none of these"),
    ],
)
def test_each_class_has_its_reason(problem: Any, text: str, finished: bool, name: str, reason: str) -> None:
    assert failure(problem, text, finished) == (name, reason)


def test_a_right_number_alone_is_no_failure() -> None:
    assert failure(SUM, " 69\n", True) is None


def test_mistakes_are_what_they_say_and_none_is_the_right_way() -> None:
    for problem in (SUM, BINDING):
        for how, value in mistakes(problem):
            assert eval(how.removesuffix(" alone")) == value
        assert solve(problem) not in [value for _, value in mistakes(problem)]


def test_precision_and_recall_by_hand() -> None:
    found = taxonomy.precision_and_recall(["a", "a", "b", "c"], ["a", "b", "b", "b"]).set_index("class")
    assert found.loc["a", ["precision", "recall"]].tolist() == [1.0, 0.5]
    assert found.loc["b", "precision"] == pytest.approx(1 / 3)
    assert found.loc["c", "recall"] == 0.0
    assert found["labelled"].tolist() == [2, 1, 1]


def test_draws_are_classed_by_their_problems() -> None:
    problems = paper_problems().head(2)
    names, answers = problems["problem_id"].tolist(), problems["answer"].tolist()
    texts = [f"{answers[0]}", f"{answers[0] + 1234}", ""]
    draws = pd.DataFrame({"problem_id": [names[0], names[0], names[1]], "text": texts, "finished": True})
    found = taxonomy.of_draws(draws, problems)
    assert found.isna().tolist() == [True, False, False]
    assert found.tolist()[1:] == ["other_number", "empty"]
    with pytest.raises(InputError, match="the draws have a problem 'another' that is not among the problems"):
        taxonomy.of_draws(draws.assign(problem_id="another"), problems)
