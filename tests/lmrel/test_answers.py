from __future__ import annotations

import pytest

from lmrel import extract_answer
from lmrel.answers import sole_number


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
        (r"\frac12", None),
        ("$3$$4$", None),
        ("3\N{NO-BREAK SPACE}5", None),
        ("- 5", -5),
        ("d = - 5", -5),
        ("8 - 5", None),
        (".5", None),
        ("-.5", None),
        ("5e5", None),
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
        ("3.5", None),
        ("3,5", None),
        ("1/2", None),
        ("2^5", None),
        ("none", None),
        ("", None),
        ("12,34", None),
        ("9" * 4301, None),
    ],
)
def test_the_sole_number_is_read_however_it_is_written_and_not_guessed(text: str, answer: int | None) -> None:
    assert sole_number(text) == answer
