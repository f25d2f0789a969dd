"""The answer rules: how an answer is read from a text, each by name, and the paper's classes of failure.

The rules read characters. They know no model, no token and no problem. `advance` applies the first rule to a text that
is still being written, and says when nothing later can change its answer.
"""

from __future__ import annotations

import re
from enum import IntEnum

from lmrel.errors import InputError, quoted
from lmrel.numerals import MAX_DIGITS, NUMBER, Number, as_text, in_ascii, numbers
from lmrel.parameters import ANSWER, REGEX, Kind

Answer = Number | str  # a number, or for questions with other answers a letter or a text in lower case
SPACES, DIGITS = " \t\n\r\f\v", frozenset("0123456789")  # ASCII only: any other space, digit or minus sign is text
FIRST_INTEGER = re.compile("[+-]?[0-9]+")
ONLY_A_NUMBER = re.compile(f"[{SPACES}]*[+-]?[0-9]+[{SPACES}]*")


def extract_answer(text: str, rule: str = "first", kind: Kind = "number") -> tuple[Answer | None, bool]:
    """The answer that `text` gives under `rule`, None if it gives none, and whether `text` is only that answer.

    The rules are ``"first"``, the paper's: the first integer, whatever stands around it; ``"last"``: the last number;
    ``"sole"``: the only one, in the last box if there is one; ``"marked"``: what is marked as the answer, or else the
    last number of the last line that holds one (see `marked`); ``"regex:…"``: the first group of the first match.
    `kind` is what the question asks for: a ``"number"``, the ``"letter"`` of a choice, or a ``"text"``. A number comes
    as an int where it is whole (``106.0`` is 106), else as an exact fraction. One of more than 4,300 digits is no
    answer. Under the paper's rule a text is only a number if it is one integer and white space. Raises `InputError`
    for a rule that is none.
    """
    check_rule(rule)
    return read_answer(text, rule, kind)


def check_rule(rule: str) -> None:
    """Raise `InputError` for a rule that is none."""
    try:
        ANSWER.checked(rule)
    except ValueError as error:  # of an expression it says what is wrong with it
        raise InputError(
            f"{error}." if str(error) else f"answer is {quoted(rule)}; it must be {ANSWER.words}."
        ) from None


def read_answer(text: str, rule: str, kind: Kind) -> tuple[Answer | None, bool]:
    """`extract_answer` behind its door: the rule was checked."""
    if rule == "first" and kind == "number":
        return first_integer(text)
    found = _read(text, rule, kind)
    return found, found is not None and _alone(text, found, kind)


def first_integer(text: str) -> tuple[int | None, bool]:
    """What the paper's rule reads in `text`, and whether it complies: see `extract_answer`."""
    found = FIRST_INTEGER.search(text)
    compliant = ONLY_A_NUMBER.fullmatch(text) is not None
    if found is None or len(found[0].lstrip("+-")) > MAX_DIGITS:
        return None, compliant
    return int(found[0]), compliant


class Verdict(IntEnum):
    """What `extract_answer` will find in a text, as far as it has been written.

    Only in the first five states may it still be compliant. Only `DECIDED` cannot change: the integer is over and
    compliance is lost.
    """

    BLANK = 0  # white space only
    MINUS = 1  # and a minus sign
    PLUS = 2  # and a plus sign
    NUMBER = 3  # a number so far, and nothing else but white space before it
    AFTER = 4  # a number and white space after it: still compliant, the integer is over
    TEXT = 5  # other text, no integer yet
    TEXT_MINUS = 6  # the same, ending in a minus sign
    NUMBER_IN_TEXT = 7  # other text, and an integer still growing
    DECIDED = 8


_AFTER_TEXT = (Verdict.NUMBER_IN_TEXT, Verdict.TEXT, Verdict.TEXT_MINUS, Verdict.TEXT, Verdict.TEXT)
_AFTER_SIGN = (Verdict.NUMBER, *_AFTER_TEXT[1:])
_NEXT = {  # after a digit, white space, a minus sign, a plus sign, anything else
    Verdict.BLANK: (Verdict.NUMBER, Verdict.BLANK, Verdict.MINUS, Verdict.PLUS, Verdict.TEXT),
    Verdict.MINUS: _AFTER_SIGN,
    Verdict.PLUS: _AFTER_SIGN,
    Verdict.NUMBER: (Verdict.NUMBER, Verdict.AFTER, *[Verdict.DECIDED] * 3),
    Verdict.AFTER: (Verdict.DECIDED, Verdict.AFTER, *[Verdict.DECIDED] * 3),
    Verdict.TEXT: _AFTER_TEXT,
    Verdict.TEXT_MINUS: _AFTER_TEXT,
    Verdict.NUMBER_IN_TEXT: (Verdict.NUMBER_IN_TEXT, *[Verdict.DECIDED] * 4),
    Verdict.DECIDED: (Verdict.DECIDED,) * 5,
}
_KIND = dict.fromkeys(DIGITS, 0) | dict.fromkeys(SPACES, 1) | {"-": 2, "+": 3}  # of characters: columns of `_NEXT`


def advance(verdict: Verdict, text: str) -> tuple[Verdict, str, bool]:
    """The verdict after `text`, the digits that it adds to the first integer, and whether a minus opens that integer.

    The last is False where the integer had begun before.
    """
    digits, negative = "", False
    for character in text:
        before, verdict = verdict, _NEXT[verdict][_KIND.get(character, 4)]
        if verdict in (Verdict.NUMBER, Verdict.NUMBER_IN_TEXT):
            digits += character
            negative |= before in (Verdict.MINUS, Verdict.TEXT_MINUS)
    return verdict, digits, negative


def verdict_after(verdict: Verdict, text: str) -> Verdict:
    """The verdict after `text` follows what led to `verdict`."""
    return advance(verdict, text)[0]


# The other rules: what each takes for the answer.
THOUGHTS = re.compile(r"\A.*</think(?:ing)?>|<think(?:ing)?>.*\Z", re.DOTALL | re.IGNORECASE)
# A turn that the model made up, after its own answer. Here as in the numbers what is repeated without end is possessive
# (``*+``), so that a loop of a hundred thousand characters is read once, and not once from each of them.
NEXT_TURN = re.compile(
    r"\n[^\S\n]*+(?:Q|Question|Problem|Human|User|Instruction|Example|Exercise)\b[ \d]*:", re.IGNORECASE
)
# A minus before a box is its sign, unless it follows a number or a variable.
SIGN = r"(?:(?:^|[=:({\[$]|[A-Za-z]{2}(?= )) *([-\u2212]) *)?"
BOXED = re.compile(SIGN + r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}", re.MULTILINE)
HASHES = re.compile(r"####[ \t]*(.+)")
SAID = re.compile(
    r"\b(?:answer|output|final (?:result|value)|(?:correct|right|best) (?:option|choice))\b[^.\n:=]{0,40}?"
    r"(?:\bis\b|\bbe\b|[:=])[\s:=*_]*(.+)",
    re.IGNORECASE,
)
BOLD = re.compile(r"\*\*(?!\s)([^*\n]+?)\*\*(?!\w|:)")
HEADING = re.compile(r":\s*\Z|\A\s*(?:step|part|case)\b", re.IGNORECASE)
CLAUSE = re.compile(r"\.(?:\s|\Z)|[;\n]|,\s|\s(?:because|since|as|which|so)\b")  # where a marked answer is over
UNFILLED = re.compile(r"(?:\\boxed\s*\{[^{}]*|####\s*)\Z")  # a mark with no answer in it, as where a text was cut off
LETTER = re.compile(
    r"(?<![A-Za-z0-9'])\(?([A-J])\)?(?![A-Za-z0-9']|\s+[a-z]+\s+[a-z])|\(([A-J])\)|(?<![A-Za-z0-9'(])([a-j])\)"
)
LEADING_LETTER = re.compile(r"\W*([A-J])(?:\)|\.|:|\s*\Z|\n)")
ONLY = {
    "number": re.compile(rf"\s*+[$\u20ac\u00a3]?{NUMBER.pattern}\s*+%?\s*+"),
    "letter": re.compile(r"\s*\(?[A-J]\)?\.?\s*"),
}


def _read(text: str, rule: str, kind: Kind) -> Answer | None:
    if rule == "marked":
        return marked(text, kind)
    if rule.startswith(REGEX):
        found = re.search(rule.removeprefix(REGEX), text)
        values = _values(found[1] or "", kind) if found else []
    else:
        boxes = BOXED.findall(text) if rule == "sole" else []
        values = _values("".join(boxes[-1]) if boxes else text, kind)
    if rule == "sole":
        return values[0] if len(set(values)) == 1 else None
    return None if not values else values[-1 if rule == "last" else 0]


def _values(text: str, kind: Kind) -> list[Answer | None]:
    """All that could be answers of that kind in `text`, in order; None for a number that cannot be read."""
    if kind == "number":
        return list(numbers(text))
    if kind == "letter":
        return [(found[1] or found[2] or found[3]).upper() for found in LETTER.finditer(text)]
    return [plain_text(CLAUSE.split(line.strip(), maxsplit=1)[0]) for line in text.splitlines() if line.strip()]


def marked(text: str, kind: Kind = "number") -> Answer | None:
    r"""What `text` marks as its answer, thoughts in think tags and made-up further turns aside.

    That is, of these the first that is there, and of several of its kind the last: what is boxed (``\boxed``), what
    follows ``####``, what follows "answer is" or "answer:", what is bold; else the last number of the last line that
    holds one, or the first line if it is the answer and nothing else. A thought that never ends gives none, and so does
    a mark that was cut off before its answer.
    """
    text = THOUGHTS.sub("", text)
    text = text[: found.start()] if (found := NEXT_TURN.search(text, len(text) - len(text.lstrip()))) else text
    if UNFILLED.search(text):
        return None
    if boxes := BOXED.findall(text):
        return _marked_value("".join(boxes[-1]), kind)
    for pattern in (HASHES, SAID):
        if (spans := pattern.findall(text)) and (value := _marked_value(spans[-1], kind)) is not None:
            return value
    bold = [span for span in BOLD.findall(text) if not HEADING.search(span)]
    if bold and len(set(_values(bold[-1].rsplit("=", 1)[-1], kind))) == 1:
        return _marked_value(bold[-1], kind)
    first = text.strip().split("\n", 1)[0]
    if kind != "text" and ONLY[kind].fullmatch(first):
        return _values(first, kind)[0]
    if kind == "letter" and (leading := LEADING_LETTER.match(text)):
        return leading[1]
    lines = [values for line in text.splitlines() if (values := _values(line, kind))]
    return lines[-1][-1] if lines else None


def _marked_value(span: str, kind: Kind) -> Answer | None:
    """The answer in a marked `span`: the first value of its first clause, and of an equation that of its right side."""
    clause = CLAUSE.split(span.strip(), maxsplit=1)[0]
    values = _values(clause.rsplit("=", 1)[-1], kind)
    return values[0] if values else None


def plain_text(text: str) -> str:
    """`text` as answers in words are compared: in lower case, without the marks and the white space around it."""
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'`*_()[]$")


def _alone(text: str, answer: Answer, kind: Kind) -> bool:
    return plain_text(text) == answer if kind == "text" else ONLY[kind].fullmatch(text) is not None


def only_answer(text: str) -> Answer | None:
    """The answer that `text` is, if it is one and nothing else: a number, a capital letter, or a short text."""
    if ONLY["number"].fullmatch(plain := in_ascii(text)):
        return numbers(plain)[0]
    if ONLY["letter"].fullmatch(text):
        return _values(text, "letter")[0]
    return plain_text(text) or None


def kind_of(answer: Answer) -> Kind:
    """What a question with the right `answer`, as a table of problems holds it, asks for."""
    if not isinstance(answer, str) or NUMBER.fullmatch(answer):
        return "number"
    return "letter" if re.fullmatch("[A-J]", answer) else "text"


def is_right(found: Answer | None, answer: Answer) -> bool:
    """Whether what was `found` in a text is the right `answer`, as a table of problems holds it."""
    if isinstance(found, int) and isinstance(answer, int):
        return found == answer
    return found is not None and as_answer(found) == answer


def as_answer(value: Answer) -> str:
    """`value` as a table holds the answers to questions that do not all have whole ones."""
    return value if isinstance(value, str) else as_text(value)


# How long a loop is that a text ends in: so many characters, of at least three rounds.
LOOP, ROUNDS, LONGEST_ROUND = 30, 3, 500


def in_loop(text: str) -> bool:
    """Whether `text` ends in a part that is repeated, over 30 characters or more: if it never ended, a runaway."""
    longest = min(len(text) // ROUNDS, LONGEST_ROUND)
    return any(text.endswith(text[-n:] * max(ROUNDS, -(-LOOP // n))) for n in range(1, longest + 1))


# The paper's rules, in the paper's order, because order and patterns decide the shares: analyze_failures.py of
# kabirrgrover/lm-reliability-sparsity. Its class "wrong_operation" is named there and never assigned.
REFUSAL = re.compile(r"\b(i|sorry|cannot|can't|unable|please|clarify)\b")  # the bare word "I" included
REASONING = re.compile(r"\b(because|so|therefore|step|first|then|next|let'?s|the answer is)\b|\bcalculat")
PAPER_CLASSES = ("incomplete", "refusal", "hallucinated_steps", "extra_text", "numeric_error")


OTHER_CLASSES = ("empty", "runaway", "cut_off", "no_answer", "wrong_answer")


def failure(text: str, extracted: Answer | None, finished: bool, runaway: bool) -> str:
    """Why an answer is wrong under another rule than the paper's: one of `OTHER_CLASSES`, in order of evidence."""
    if not text.strip():
        return "empty"
    if runaway:
        return "runaway"
    if extracted is None:
        return "no_answer" if finished else "cut_off"
    return "wrong_answer"


def paper_failure(text: str, extracted: Answer | None, correct: bool, compliant: bool) -> str | None:
    """Why the paper's rules call an answer wrong: one of `PAPER_CLASSES`, or None for a right answer."""
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
