"""Why an answer is wrong: the paper's rules, in the paper's order, because order and patterns decide the shares.

Source: analyze_failures.py of kabirrgrover/lm-reliability-sparsity. Its class "wrong_operation" is named there
and never assigned; the refusal pattern includes the bare word "I".
"""

from __future__ import annotations

import re

REFUSAL = re.compile(r"\b(i|sorry|cannot|can't|unable|please|clarify)\b")
REASONING = re.compile(r"\b(because|so|therefore|step|first|then|next|let'?s|the answer is)\b|\bcalculat")
PAPER_CLASSES = ("incomplete", "refusal", "hallucinated_steps", "extra_text", "numeric_error")


def paper_failure(text: str, extracted: int | None, correct: bool, compliant: bool) -> str | None:
    """One of `PAPER_CLASSES`, or None for a right answer."""
    if correct:
        return None
    text = text.strip()
    if not text:
        return "incomplete"
    if REFUSAL.search(text.lower()):
        return "refusal"
    if REASONING.search(text.lower()):
        return "hallucinated_steps"
    if extracted is None:
        return "incomplete"
    if not compliant and len(text) > len(str(extracted)) + 5:
        return "extra_text"
    return "numeric_error"
