"""The numbers in a text, however a model writes them: thousands, decimals, fractions, LaTeX, units, currencies."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

Number = int | Fraction
MAX_DIGITS = 4300  # Python's own limit for int(str)
DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u207b\u2212\u2796\ufe63\uff0d"), "-")  # written for minus
# A word with its exponent or index, such as cm^2 and m², or x1; but the digits of USD106 are a number.
WORD = r"\\(?:text|textrm|mathrm|operatorname)\s*\{[^{}0-9]*\}|(?<![A-Za-z\\])[A-Za-z]+"
UNIT = re.compile(rf"(?<![A-Za-z\\])[A-Za-z]{{1,2}}[0-9](?![0-9])|(?:{WORD})(?:[\^_]\{{?[0-9]+\}}?|[\u00b2\u00b3])?")
SPACE = r"\{,\}|\\[,;:!]|[\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}]"
THOUSANDS = re.compile(rf"(?<=[0-9])(?:{SPACE})(?=[0-9]{{3}}(?![0-9]))")
BRACED = re.compile(r"(?:\\(?:text|textrm|mathrm|operatorname))?\{\s*([+-]|[+-]?[0-9][0-9,.]*)\s*\}")
FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{\s*([+-]?[0-9]+)\s*\}|([0-9]))\s*(?:\{\s*([0-9]+)\s*\}|([0-9]))")
POWER_OF_TEN = re.compile(r" ?(?:\\times|\\cdot|[*\u00d7x])\s*10\s*(?:\^|\*\*)\s*\{?\s*([+-]?[0-9]{1,3})\s*\}?")
EXPONENT = re.compile(r"(?<![A-Za-z0-9.])([0-9]+(?:\.[0-9]+)?)[eE]([+-]?[0-9]{1,3})(?![0-9A-Za-z])")
# A sign in words or set apart from its number; after a number or a bracket it is an operator.
BETWEEN = r"(?:\\?[$\u20ac\u00a3\u00a5({]|\\left\b|\\[,;:!]|[\s\u200b\u2060])*"  # as in -$14 and -(14)
BEFORE = r"^|[=:({$]|(?:(?<![0-9)\]}])|(?<=\^[0-9]))\s"
MINUS = re.compile(rf"({BEFORE})(?:-|(?:minus|negative)\b){BETWEEN}(?=[0-9.])", re.IGNORECASE)
ITEM = re.compile(r"^[ \t]*[0-9]{1,2}[.)][ \t]+(?=\S)", re.MULTILINE)  # the number of an item in a list
WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)"
RAISED = r"[\N{VULGAR FRACTION ONE HALF}\N{SUPERSCRIPT TWO}\N{SUPERSCRIPT THREE}]"
OPERATOR = r"[ \t]*(?:\*\*|\\times|\\cdot|[-+*/^\u00d7\u00f7\u00b7])[ \t]*[{(]?"
NUMBER = re.compile(
    rf"(?P<sign>(?<![0-9A-Za-z)\]}}])[+-])?(?:(?P<whole>{WHOLE})(?P<part>\.[0-9]+)?|(?<![0-9A-Za-z])(?P<bare>\.[0-9]+))"
    rf"(?:/(?P<below>[0-9]+))?(?P<more>(?:(?:{OPERATOR}|[.,])[0-9]++)++|\s*+{RAISED})?"
)
UNREADABLE = re.compile(r"\u00b1|\\pm\b|\\[dtc]?frac|\\sqrt")


def numbers(text: str) -> list[Number | None]:
    """The numbers in `text`, in order; None for one that is a part of something else, such as a power or a date.

    Whole numbers come as int, ``106.0`` too, all others as exact fractions. ``1,234``, ``1{,}234`` and thin spaces are
    read as thousands separators, LaTeX is unwrapped, units and names are passed over with their exponents and digits
    (``cm^2``, ``x1``), and so are the numbers of a list's items.
    """
    text = ITEM.sub("", _plain(text))
    found = [_value(match) for match in NUMBER.finditer(UNIT.sub(" ", text))]
    return [*found, None] if UNREADABLE.search(text) else found


def in_ascii(text: str) -> str:
    """`text` with ASCII's digits and minus for those of other scripts."""
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text.translate(DASHES))


def _plain(text: str) -> str:
    """`text` with one way to write a digit, a minus, a thousand, a fraction and a power of ten."""
    text = FRACTION.sub(lambda found: f" {found[1] or found[2]}/{found[3] or found[4]} ", in_ascii(text))
    text = BRACED.sub(r"\1", THOUSANDS.sub(",", text))
    text = EXPONENT.sub(_written_out, POWER_OF_TEN.sub(r"e\1", text))
    return MINUS.sub(r"\1-", text)


def _written_out(found: re.Match[str]) -> str:
    if len(found[2].lstrip("+-")) > 2:
        return "1/0"  # which `_value` cannot read either: no answer has a hundred digits
    value = Fraction(found[1]) * Fraction(10) ** int(found[2])
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def _value(found: re.Match[str]) -> Number | None:
    if found["more"] or len(found[0]) > MAX_DIGITS:
        return None
    digits = (found["whole"] or "0").replace(",", "") + (found["part"] or found["bare"] or "")
    below = int(found["below"] or 1)
    if below == 0:
        return None
    value = Fraction(digits) / below * (-1 if found["sign"] == "-" else 1)
    if value.denominator > 1:
        return value
    return None if found["below"] else value.numerator  # 10/2 is a task, and no answer to it


def as_text(number: Number) -> str:
    """`number` as a table holds it: ``42``, ``106.5`` where so many digits suffice, else ``1/3``."""
    value = Fraction(number)
    digits = next((n for n in range(19) if 10**n % value.denominator == 0), None)
    if digits is None:
        return f"{value.numerator}/{value.denominator}"
    if digits == 0:
        return str(value.numerator)
    scaled = f"{abs(value.numerator) * 10**digits // value.denominator:0{digits + 1}}"
    return f"{'-' if value < 0 else ''}{scaled[:-digits]}.{scaled[-digits:]}"
