from __future__ import annotations

import random

from lmrel import extract_answer
from lmrel.answers import Verdict, verdict_after


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
