from __future__ import annotations

import pytest

from lmrel import extract_answer


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
    ],
)
def test_extraction_and_compliance(text: str, answer: int | None, compliant: bool) -> None:
    assert extract_answer(text) == (answer, compliant)
