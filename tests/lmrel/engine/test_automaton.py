from __future__ import annotations

import random

import torch

from lmrel import extract_answer
from lmrel.answers import Verdict, advance, verdict_after
from lmrel.engine.automaton import Lexer

PIECES = ["", "0", "1", "2", "12", "21", "-", "+", " ", "\n", "x", "-1", " 1", "1 ", "1x2", "--", "x-", "00", "2-1"]


class Pieces:
    """A vocabulary of PIECES."""

    def piece(self, token: int) -> str:
        return PIECES[token]


def test_states_say_of_any_text_what_extraction_says() -> None:
    rng = random.Random(0)
    expected = [0, 1, 2, 10, 12, 112, -1, -12, 101]
    lexer = Lexer(Pieces(), len(PIECES), expected, torch.device("cpu"))  # type: ignore[arg-type]
    problem = torch.arange(len(expected))
    seen_settled = 0
    for _ in range(3000):
        reading, progress = torch.zeros_like(problem), torch.zeros_like(problem)
        text, settled_as = "", [None] * len(expected)
        for _ in range(rng.randint(1, 6)):
            token = rng.randrange(len(PIECES))
            text += PIECES[token]
            after = lexer.step(problem, reading, progress)
            reading, progress = after[0][:, token], after[1][:, token]
            correct, compliant = lexer.outcome(problem, reading, progress)
            extracted, only_number = extract_answer(text)
            assert correct.tolist() == [extracted == value for value in expected], text
            assert compliant.tolist() == [only_number] * len(expected), text
            known, lost = lexer.settled(reading, progress)
            for i, value in enumerate(correct.tolist()):
                assert settled_as[i] is None or settled_as[i] == value, text
                settled_as[i] = value if known[i] else None
                seen_settled += bool(known[i])
            assert not (lost & compliant).any()
    assert seen_settled > 1000


def test_undecided_is_said_only_where_something_can_still_change() -> None:
    rng = random.Random(1)
    lexer = Lexer(Pieces(), len(PIECES), [12], torch.device("cpu"))  # type: ignore[arg-type]
    zero = torch.zeros(1, dtype=torch.long)
    for _ in range(2000):
        reading, progress, text = zero, zero, ""
        for token in (rng.randrange(len(PIECES)) for _ in range(rng.randint(0, 5))):
            text += PIECES[token]
            after = lexer.step(zero, reading, progress)
            reading, progress = after[0][:, token], after[1][:, token]
        known, lost = lexer.settled(reading, progress)
        futures = [extract_answer(text + more) for more in ("", "12", "2", " ", "x", "-", "x12", "0", " 12")]
        assert bool(known) == (len({answer == 12 for answer, _ in futures}) == 1), text
        assert bool(lost) == (not any(only for _, only in futures)), text


def test_readings_refine_the_verdict() -> None:
    rng = random.Random(2)
    names = {Verdict.DECIDED: Verdict.DECIDED, Verdict.NUMBER: Verdict.NUMBER, Verdict.AFTER: Verdict.AFTER}
    for _ in range(2000):
        text = "".join(rng.choice("07 +-\nx") for _ in range(rng.randint(0, 7)))
        reading, digits, _ = advance(Verdict.BLANK, text)
        verdict = verdict_after(Verdict.BLANK, text)
        assert reading is verdict
        assert (reading in names) == (verdict in names.values())
        assert names.get(reading, verdict) == verdict
        found, _ = extract_answer(text)
        assert (abs(found) if found is not None else None) == (int(digits) if digits else None)
