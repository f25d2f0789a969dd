from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrel import extract_answer
from lmrel.answers import Verdict, paper_failure, verdict_after


def sole(text: str) -> object:
    return extract_answer(text, "sole")[0]


@pytest.mark.parametrize(
    ("text", "answer", "compliant"),
    [
        ("13", 13, True),
        (" \n-7\t", -7, True),
        ("+5", 5, True),
        ("The answer is 42.", 42, False),
        ("12\n(3 - 1)", 12, False),
        ("5-3", 5, False),
        ("x-3", -3, False),
        ("1,234", 1, False),
        ("3.5", 3, False),
        ("1e3", 1, False),
        ("- 5", 5, False),
        ("007", 7, True),
        ("--5", -5, False),
        ("", None, False),
        ("none", None, False),
        ("-", None, False),
        ("٣", None, False),  # Arabic-Indic digit: not ASCII
        ("１２", None, False),  # full-width digits
        ("\N{MINUS SIGN}5", 5, False),  # a real minus sign is text
        ("\N{NO-BREAK SPACE}5", 5, False),
        ("12 34", 12, False),
        ("9" * 4300, int("9" * 4300), True),
        ("9" * 4301, None, True),
        ("-" + "9" * 4300, -int("9" * 4300), True),
    ],
)
def test_extraction_and_compliance(text: str, answer: int | None, compliant: bool) -> None:
    assert extract_answer(text) == (answer, compliant)


def test_decided_means_that_nothing_later_changes_the_outcome_and_undecided_that_something_can() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choice("07 +-\nx") for _ in range(rng.randint(0, 7)))
        verdict = verdict_after(Verdict.BLANK, text)
        outcomes = {extract_answer(text + more) for more in ("", "5", " ", "x", "-3", "\n8", " x 9 ")}
        assert (verdict is Verdict.DECIDED) == (len(outcomes) == 1), text


def test_reading_in_pieces_is_reading_at_once() -> None:
    rng = random.Random(1)
    for _ in range(500):
        text = "".join(rng.choice("07 +-\nx") for _ in range(9))
        cut = rng.randint(0, 9)
        assert verdict_after(verdict_after(Verdict.BLANK, text[:cut]), text[cut:]) == verdict_after(Verdict.BLANK, text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("13", 13),
        ("The answer is -42.", -42),
        ("1,234", 1234),
        ("12,345,678 apples", 12345678),
        ("1{,}234", 1234),
        (r"1\,234", 1234),
        ("1\N{NARROW NO-BREAK SPACE}234", 1234),
        ("\N{MINUS SIGN}5", -5),
        (r"$42$", 42),
        (r"\[ (23 - 7) \times 4 + 5 = \boxed{69} \]", 69),
        (r"\boxed{1}, or rather \boxed{2}", 2),
        (r"\( 7 \text{ m}^2 \)", 7),
        ("29 cm^2", 29),
        ("29 m2", 29),
        ("x1 = 5", 5),
        (r"16*4=64, \boxed{69\,\text{cm}}", 69),
        (r"\boxed{\text{29}}", 29),
        (r"\frac12", Fraction(1, 2)),
        ("$3$$4$", None),
        ("3\N{NO-BREAK SPACE}5", None),
        ("- 5", -5),
        ("d = - 5", -5),
        ("8 - 5", None),
        (".5", Fraction(1, 2)),
        ("-.5", Fraction(-1, 2)),
        ("5e5", 500_000),
        ("7\N{VULGAR FRACTION ONE HALF}", None),
        ("7\N{SUPERSCRIPT TWO}", None),
        ("2**2", None),
        ("2^{2}", None),
        ("3+3", None),
        ("5 / 5", None),
        ("42.", 42),
        (r"12\ \mathrm{cm}", 12),
        ("12 cm", 12),
        ("= 7\n7", 7),
        ("d = 12 + 3 = 15", None),
        ("5-3", None),
        ("12\n13", None),
        ("3.5", Fraction(7, 2)),
        ("3,5", None),
        ("1/2", Fraction(1, 2)),
        ("2^5", None),
        ("none", None),
        ("", None),
        ("12,34", None),
        ("9" * 4301, None),
    ],
)
def test_the_sole_number_is_read_however_it_is_written_and_not_guessed(text: str, answer: int | None) -> None:
    assert sole(text) == answer


@pytest.mark.parametrize(
    ("text", "answer", "compliant", "only"),
    [
        ("१२ ⑤ Ⅷ ½", None, False, 12),
        ("１２ 7", 7, False, None),
        ("-" + "9" * 10_000 + " 5", None, False, None),
        ("0" * 4299 + "7", 7, True, 7),
        ("\ufeff5\u200b", 5, False, 5),
        ("\x1b[31m7", 31, False, 31),
        ("5\0", 5, False, 5),
        ("5\x1c", 5, False, 5),
        ("5\x85", 5, False, 5),
        ("5\u2028", 5, False, 5),
        ("\ud8005", 5, False, 5),
        ("x" * 1_000_000 + " 7", 7, False, 7),  # and none of these takes long
        (" " * 1_000_000, None, False, None),
        ("-" * 1_000_000, None, False, None),
        ("\\boxed{" * 100_000, None, False, None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_odd_text_is_read_as_the_rules_say(text: str, answer: int | None, compliant: bool, only: int | None) -> None:
    assert extract_answer(text) == (answer, compliant)
    assert sole(text) == only


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("7" + "\n" * 100_000, 7),
        ("7\nQ: and" + "\n \n" * 50_000 + "Question 2: 5", 7),
        ("7" + " " * 100_000 + "x", 7),
        ("123," * 25_000, None),
        ("1e999 " * 16_000, None),
    ],
    ids=["line ends", "turns", "spaces", "thousands", "exponents"],
)
def test_a_loop_of_a_hundred_thousand_characters_is_read_in_one_pass(text: str, answer: int | None) -> None:
    assert extract_answer(text, "marked")[0] == answer


@settings(deadline=None, derandomize=True)
@given(st.text(st.sampled_from("0123456789+-., \n٣１−x\\{}boxed^/e"), max_size=30) | st.text(max_size=30))
def test_the_rules_and_the_verdict_read_any_text_alike(text: str) -> None:
    answer, compliant = extract_answer(text)
    verdict, none = verdict_after(Verdict.BLANK, text), (0, 1, 2, 5, 6)
    assert compliant == (verdict in (Verdict.NUMBER, Verdict.AFTER))
    assert (answer is None) == (verdict in none)
    assert not compliant or sole(text) == answer
    assert any(map(str.isdecimal, text)) or sole(text) is None


@settings(deadline=None, derandomize=True)
@given(st.integers(-(10**30), 10**30), st.sampled_from(["{}", " {}\n", "d = {}", "The answer is {}."]))
def test_one_integer_is_read_by_both_rules_and_with_commas_by_the_stricter(number: int, around: str) -> None:
    assert extract_answer(around.format(number))[0] == sole(around.format(number)) == number
    assert sole(around.format(f"{number:,}")) == number


@pytest.mark.parametrize(
    ("text", "expected", "failure"),
    [
        ("13", 13, None),
        ("13 and more text", 13, None),
        ("", 13, "incomplete"),
        (" \n", 13, "incomplete"),
        ("abc", 13, "incomplete"),
        ("12", 13, "numeric_error"),
        ("12 abcd", 13, "numeric_error"),  # at most five characters more than the number
        ("12\n(3 - 1) * 4", 13, "extra_text"),
        ("I get 12", 13, "refusal"),  # the bare word "I", as in the paper's rules
        ("Sorry, first 12", 13, "refusal"),  # refusal is tested before reasoning
        ("First, 3 + 4", 13, "hallucinated_steps"),
        ("We calculated 12", 13, "hallucinated_steps"),
        ("it is 12, the sum", 13, "extra_text"),
    ],
)
def test_the_papers_rules_in_the_papers_order(text: str, expected: int, failure: str | None) -> None:
    extracted, compliant = extract_answer(text)
    assert paper_failure(text, extracted, extracted == expected, compliant) == failure


@pytest.mark.parametrize("dash", "-\u2010\u2011\u2012\u2013\u207b\u2212\u2796\ufe63\uff0d")
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "boxed{{{}}}",
        r"\boxed{{{}}}",
        "USD{}",
        r"\({}\)",
        "it is {}.",
        "cm^2 {}",
        "x1 = {}",
        "{} km^{{12}}",
        "H2O: {}",
    ],
)
def test_the_sole_number_keeps_its_digits_and_its_sign(around: str, dash: str) -> None:
    for number in (6, 14, 106, 4205):
        assert sole(around.format(number)) == number
        if not around.startswith("USD"):
            assert sole(around.format(f"{dash}{number}")) == -number
            assert sole(around.format(f"minus {number}")) == -number
            assert sole(around.format(rf"\text{{{dash}}}{number}")) == -number
            assert sole(around.format(f"{dash}{{{number}}}")) == -number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("-$14", -14),
        (r"is -\$1,234.", -1234),
        ("-\u20ac14", -14),
        ("-(14)", -14),
        (r"$-\left(14\right)$", -14),
        (r"-\,14", -14),
        ("-\u200b14", -14),
        (r"-\boxed{14}", -14),
        (r"d = -\boxed{14}", -14),
        (r"The answer is $-\boxed{14}$.", -14),
        (r"17 - \boxed{3}", 3),
        (r"x - \boxed{3}", 3),
        ("-(14 - 3)", None),
        ("3 -(4)", None),
        ("\u00b114", None),
        (r"\pm 14", None),
        ("14 m\u00b2", 14),
        ("14\u00b2", None),
    ],
)
def test_a_sign_may_stand_before_what_a_number_stands_in(text: str, number: int | None) -> None:
    assert sole(text) == number
