from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from lmrel import Decoder, InputError, load_model, paper_problems, rescore, sample
from lmrel.answers import OTHER_CLASSES, in_loop

LOOP = "so it is 7, " * 4


def drawn(*rows: tuple[str, Any, str], **columns: Any) -> pd.DataFrame:
    """Draws of a text, a right answer and what ended the text each."""
    table = pd.DataFrame(rows, columns=["text", "expected", "ended"])
    return table.assign(finished=table["ended"] == "eos", **columns)


CHAIN = drawn(
    ("3 + 4 = 7 apples. The answer is 7.", 7, "eos"),
    ("7", 7, "eos"),
    ("I think it is 8", 7, "eos"),
    (LOOP, 8, "length"),
    ("We begin with", 7, "length"),
    ("No idea.", 7, "eos"),
    (" ", 7, "eos"),
    ("It is 106.0", 106, "stop_string"),
    ("It is 106.5", 106, "eos"),
)


def test_a_chain_of_thought_is_right_by_the_rule_that_reads_its_answer() -> None:
    first, marked = rescore(CHAIN, "first"), rescore(CHAIN, "marked")
    assert first["correct"].tolist() == [False, True, False, False, False, False, False, True, True]
    assert first["failure"].iloc[0] == "numeric_error" or first["failure"].iloc[0] == "hallucinated_steps"
    assert marked["correct"].tolist() == [True, True, False, False, False, False, False, True, False]
    assert marked["extracted"].tolist()[:3] == [7, 7, 8]
    assert marked["extracted"].isna().tolist() == [False, False, False, False, True, True, True, False, True]
    wrong = ["wrong_answer", "runaway", "cut_off", "no_answer", "empty", "wrong_answer"]
    assert marked["failure"].dropna().tolist() == wrong
    assert set(wrong) == set(OTHER_CLASSES)
    assert marked["compliant"].tolist() == [False, True, *[False] * 7]
    assert marked["runaway"].tolist() == [False, False, False, True, *[False] * 5]
    assert set(marked["answer"]) == {"marked"}


def test_what_is_drawn_is_what_is_rescored() -> None:
    model, tokenizer = load_model("tiny-dense-base")
    problems = paper_problems().head(4)
    decoders = [Decoder(0.0), Decoder(1.5, stop_strings=["\n"]), Decoder(1.0, max_new_tokens=2)]
    for rule in ("first", "sole", "regex:([0-9])"):
        draws = sample(model, tokenizer, problems, decoders, runs=3, answer=rule)
        assert set(draws["answer"]) == {rule}
        other = rescore(draws, "last")
        pd.testing.assert_frame_equal(rescore(other, rule), draws)
    ended = {text.endswith("\n"): how for text, how in zip(draws["text"], draws["ended"], strict=True)}
    assert ended[True] == "stop_string"
    assert set(draws.loc[draws["finished"], "ended"]) <= {"eos"}
    assert set(draws.loc[draws["n_tokens"].eq(2) & ~draws["finished"], "ended"]) <= {"length", "stop_string"}


def test_texts_that_were_cut_short_are_not_read_by_another_rule() -> None:
    model, tokenizer = load_model("tiny-dense-base")
    draws = sample(model, tokenizer, paper_problems().head(4), [Decoder(1.0, stop="decided")], runs=3)
    assert "decided" in set(draws["ended"])
    with pytest.raises(InputError, match="cut short where their first integer was decided"):
        rescore(draws, "marked")
    with pytest.raises(InputError, match="stop='decided' follows the first integer"):
        sample(model, tokenizer, paper_problems().head(4), [Decoder(1.0, stop="decided")], answer="last")


def test_answers_that_are_no_whole_numbers_are_kept_as_text() -> None:
    choice = rescore(drawn(("The answer is (B).", "B", "eos"), ("C", "B", "eos"), ("none", "B", "eos")), "marked")
    assert choice["extracted"].tolist()[:2] == ["B", "C"]
    assert choice["correct"].tolist() == [True, False, False]
    assert choice["compliant"].tolist() == [False, True, False]
    decimal = rescore(drawn(("so 1.50", "1.5", "eos"), ("3/2", "1.5", "eos"), ("2", "1.5", "eos")), "last")
    assert decimal["correct"].tolist() == [True, True, False]
    assert decimal["extracted"].tolist() == ["1.5", "1.5", "2"]
    words = rescore(drawn(("**Paris**.", "paris", "eos"), ("Answer: Rome", "paris", "eos")), "marked")
    assert words["correct"].tolist() == [True, False]


def test_a_rule_that_is_none_is_refused_before_anything_is_read() -> None:
    for rule in ("zeroth", "regex:[", "regex:7", 5):
        with pytest.raises(InputError, match="answer is "):
            rescore(CHAIN, rule)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        ("1" * 30, True),
        ("1" * 29, False),
        ("abc " * 8, True),
        ("Start. " + "abc " * 8 + "ab", True),
        ("abc " * 8 + "and out", False),
        ("a long line, that is repeated.\n" * 2, False),
        ("a long line, that is repeated.\n" * 3, True),
        ("", False),
        ("x" * 10_000 + "y", False),
    ],
)
def test_a_loop_is_thirty_characters_and_three_rounds(text: str, loop: bool) -> None:
    assert in_loop(text) == loop
