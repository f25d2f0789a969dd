from __future__ import annotations

import pytest

from lmrel import extract_answer
from lmrel.answers import paper_failure


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
