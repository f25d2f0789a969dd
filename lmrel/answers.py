"""From a text to an answer: the paper's first-integer rule, and compliance.

Digits are ASCII 0-9 and white space is ASCII white space; any other character is text. A minus sign counts as a
sign when it stands right before the digits, whatever stands before it ("5-3" holds 5, then -3). A plus sign counts as a
sign too; the paper's pattern for compliance knows only the minus.
"""

from __future__ import annotations

import re

FIRST_INTEGER = re.compile(r"[+-]?[0-9]+")
ONLY_A_NUMBER = re.compile(r"[ \t\n\r\f\v]*[+-]?[0-9]+[ \t\n\r\f\v]*")
MAX_DIGITS = 4300  # Python's own limit for int(str)


def extract_answer(text: str) -> tuple[int | None, bool]:
    """The first integer in `text` (None if there is none) and whether `text` is only a number.

    An integer of more than 4,300 digits is no answer (None) but can still be compliant.
    """
    found = FIRST_INTEGER.search(text)
    compliant = ONLY_A_NUMBER.fullmatch(text) is not None
    if found is None or len(found[0]) > MAX_DIGITS:
        return None, compliant
    return int(found[0]), compliant
