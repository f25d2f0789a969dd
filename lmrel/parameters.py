"""The table of parameters: what each may be. Notebook, study, command line and library are checked by it.

A table is a frozen dataclass whose annotations say what a value may be. One that does not fit is an `InputError`, as in
"runs is 0; it must be an integer from 1 to 1,000,000,000." Nothing here touches a disk or needs torch.
"""

from __future__ import annotations

import ast
import functools
import json
import numbers
import os
import re
from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal, TypeVar, cast, dataclass_transform, get_args
from urllib.parse import urlsplit

from pydantic import ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import CoreSchema, core_schema

from lmrel.errors import InputError, guess, is_text, quoted

T = TypeVar("T")
MAX_RUNS = 10**9
LONGEST_NAME = 255  # bytes that a file system takes
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 10.0  # below the minimum, only 0
MAX_STOP_STRINGS = 16
Precision = Literal["auto", "fp32", "bf16", "fp16", "nf4"]
PromptStyle = Literal["readme", "few_shot", "zero_shot"]
Decoding = Literal["pure", "as_shipped"]
Stop = Literal["eos", "decided"]
ChatTemplate = Literal["auto", "off"]
Kind = Literal["number", "letter", "text"]
OWN_KWARGS = (
    "conversation",
    "messages",
    "tokenize",
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
)
RULES, REGEX = ("first", "last", "marked", "sole"), "regex:"


@plain_dataclass(frozen=True)
class Allowed:
    """What a value may be, in words; `fits` decides, of what `read` made of it."""

    words: str
    fits: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic's way to ask how a value with this annotation is checked."""
        return core_schema.no_info_plain_validator_function(self.checked)

    def checked(self, value: Any) -> Any:
        """`value` as it was read; ValueError if it does not fit."""
        found = self.read(value)
        if not self.fits(found):
            raise ValueError
        return found


def number(value: Any) -> Any:
    """A number, numpy's too, as Python's own int or float; None for what is none, as True and False."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    except OverflowError:  # a fraction beyond what a float holds
        return None


def whole(low: int, high: int) -> Allowed:
    """An integer from `low` to `high`."""
    words = f"an integer from {low:,} to {high:,}"
    return Allowed(words, lambda found: isinstance(found, int) and low <= found <= high, number)


def real(low: float, high: float, *, above: bool = False) -> Allowed:
    """A number from `low`, or above it, to `high`."""
    words = f"a number {'above' if above else 'from'} {low:,.10g} to {high:,.10g}"
    return Allowed(words, lambda n: n is not None and low <= n <= high and not (above and n == low), number)


def optional(allowed: Allowed) -> Allowed:
    """None, or what is `allowed`."""
    read = lambda value: None if value is None else allowed.checked(value)  # noqa: E731
    return Allowed(f"None or {allowed.words}", lambda _: True, read)


def as_list(value: Any) -> Any:
    """A list, a numpy array, or a list written as text, as papermill's ``-p`` does, as a list; else `value`."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return value
    if hasattr(value, "tolist"):  # a number of numpy's has it too, and gives no list
        value = value.tolist()
    return list(value) if isinstance(value, (list, tuple)) else value


def _temperatures(value: Any) -> tuple[float, ...]:
    values = as_list(value)
    if not isinstance(values, list) or not values:
        raise ValueError
    for one in values:
        if not TEMPERATURE.fits(number(one)):
            raise ValueError(f"temperature is {quoted(one)}; it must be {TEMPERATURE.words}")
    if len({number(one) for one in values}) < len(values):
        raise ValueError(f"temperatures is {quoted(values)}; each may occur once")
    return tuple(map(number, values))


def _stop_strings(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        one = quoted(value)
        raise ValueError(f"stop_strings is {one}; it must be a list of strings: for this one alone, [{one}]")
    if not isinstance(value, (list, tuple)) or len(value) > MAX_STOP_STRINGS:
        raise ValueError
    if not all(isinstance(string, str) and string and string.isascii() for string in value):
        raise ValueError
    return tuple(value)


def _mapping(value: Any) -> Any:
    """A mapping, or one written as text, ``{'a': 'b'}`` or ``a=b c=d``, as papermill's ``-p`` does; else `value`."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value) if value.startswith("{") else dict(_pair(pair) for pair in value.split())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ValueError from None


def _template_kwargs(value: Any) -> dict[str, Any]:
    if isinstance(value, str):  # where true and 5 are written as JSON writes them
        value = {name: _plain(text) if isinstance(text, str) else text for name, text in _mapping(value).items()}
    if not isinstance(value, dict) or not value:
        raise ValueError
    for name, one in value.items():
        if not isinstance(name, str) or not name.isidentifier() or name in OWN_KWARGS:
            raise ValueError
        if not isinstance(one, (bool, int, float, str)) or (isinstance(one, str) and not is_text(one)):
            raise ValueError
    return value


def _plain(text: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, (bool, int, float)) else text


def _columns(value: Any) -> dict[str, str]:
    value = _mapping(value)
    if not isinstance(value, dict) or not value or not all(is_text(one) for pair in value.items() for one in pair):
        raise ValueError
    return value


def _pair(text: str) -> tuple[str, str]:
    ours, _, theirs = text.partition("=")
    return ours, theirs


def _is_rule(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if not value.startswith(REGEX):
        return value in RULES
    try:
        groups = re.compile(value.removeprefix(REGEX)).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"answer is {quoted(value)}, which is no regular expression: {error}") from error
    if not groups:
        raise ValueError(f"answer is {quoted(value)}; a pair of brackets must say where the answer stands in it")
    return True


def is_path(value: Any) -> bool:
    """Whether `value` is text that can name a file."""
    if not is_text(value) or "\0" in value or len(value) > 4000:
        return False
    return max(map(len, value.encode().split(b"/"))) <= LONGEST_NAME


def served(model: str) -> tuple[str, str] | None:
    """The address of a server and the model's name there, of a `model` that is ``URL#NAME``; None for any other name.

    Raises ValueError for an address that is none, and for one that may hold a password or a key: it is written down.
    """
    url, _, name = model.partition("#")
    if "://" not in url:
        return None
    if "@" in url or "?" in url:
        raise ValueError("model has an address with a user or a query; a key is read from OPENAI_API_KEY alone")
    try:
        found = urlsplit(url)
        fits = found.scheme in ("http", "https") and found.hostname and found.port != 0 and is_text(name)
    except ValueError:  # brackets, or a port that is no number
        fits = False
    if not fits or re.search(r"\s", url):
        raise ValueError(f"model is {quoted(model)}; a server's is URL#NAME, such as http://localhost:8000/v1#NAME")
    return url.rstrip("/"), name


def _model(value: Any) -> Any:
    if is_text(value):
        served(value)
    return _at_home(value)


def _at_home(value: Any) -> Any:
    """A path with what ``~`` stands for written out, as a shell would have; anything else as it is."""
    return os.path.expanduser(value) if isinstance(value, str) else value


MODEL = Allowed("a name, a folder, a repo id or URL#NAME", is_text, _model)
TEMPERATURE = Allowed(
    f"0 (greedy) or a number from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}",
    lambda found: found is not None and (found == 0 or MIN_TEMPERATURE <= found <= MAX_TEMPERATURE),
    number,
)
TEMPERATURES = Allowed("a list such as [0.0, 0.7]", lambda _: True, _temperatures)
STOP_STRINGS = Allowed(
    f"a list of at most {MAX_STOP_STRINGS} strings in ASCII (tokens may split other characters), none of them empty",
    lambda _: True,
    _stop_strings,
)
RUNS, NEW_TOKENS, REQUESTS = whole(1, MAX_RUNS), whole(1, 32_768), whole(1, 1024)
TOP_K, SHARE, SHARE_OR_NONE = whole(0, 10**9), real(0.0, 1.0, above=True), real(0.0, 1.0)
PENALTY = real(0.0, 100.0, above=True)
SEED = Allowed(
    "an integer of at most 1024 bits", lambda found: isinstance(found, int) and abs(found) < 1 << 1024, number
)
ANSWER = Allowed(f"{', '.join(RULES)}, or {REGEX} and an expression with a group, such as {REGEX}= (\\d+)", _is_rule)
COLUMNS = Allowed(
    "a mapping of our columns to those of the file, such as question=prompt answer=gold",
    lambda _: True,
    _columns,
)
TEMPLATE_KWARGS = Allowed("a mapping of names to texts, numbers or truth values", lambda _: True, _template_kwargs)
PATH = Allowed("a path, as text", is_path, _at_home)
TEXT = Allowed("a text", is_text)


# Parameters that mean nothing to a server, with the value that asks nothing of it.
NOT_SERVED = (
    ("precision", "auto", "a server has loaded its model already"),
    ("decoding", "pure", "what a server's checkpoint ships is not known here"),
    ("stop", "eos", "a server's texts come whole"),
)
MISUSED = ("unexpected_positional_argument", "multiple_argument_values")  # a programmer's mistakes, and no user's


@dataclass_transform(frozen_default=True)
def table(kind: type[T]) -> type[T]:
    """Makes a class a frozen dataclass that checks its values, and says in a sentence what does not fit."""
    checked = dataclass(kind, frozen=True, config=ConfigDict(strict=True, extra="forbid"))
    construct = checked.__init__

    @functools.wraps(construct)
    def init(self: Any, *values: Any, **named: Any) -> None:
        try:
            construct(self, *values, **named)
        except ValidationError as error:
            found = error.errors(include_url=False)
            if misused := [each["msg"] for each in found if each["type"] in MISUSED]:
                raise TypeError(f"{kind.__name__}: {misused[0]}") from None
            raise InputError(_sentence(checked, found)) from None

    checked.__init__ = init  # type: ignore[method-assign]
    return cast(type[T], checked)


def _sentence(kind: Any, errors: list[Any]) -> str:
    """What is wrong; of several things the first, but all that is missing."""
    fields = kind.__pydantic_fields__
    if missing := [error["loc"][0] for error in errors if error["type"] == "missing"]:
        return f"parameters are missing: {', '.join(missing)}."
    if said := str(errors[0].get("ctx", {}).get("error", "")):  # a check has its own words
        return f"{said}."
    value = errors[0]["input"]
    [place] = errors[0]["loc"] or [value]  # no place is known of a name with half a character
    name = list(fields)[place] if isinstance(place, int) else place  # a number where it was given by position
    if name not in fields:
        return f"{name!r} is no parameter.{guess(name, fields)} The parameters are {', '.join(fields)}."
    words, options = in_words(fields[name])
    return f"{name} is {quoted(value)}; it must be {words}.{guess(value, options)}"


def in_words(field: Any) -> tuple[str, tuple[str, ...]]:
    """What a field of a table may be, and the options if it is one of several words."""
    if found := [each for each in field.metadata if isinstance(each, Allowed)]:
        return found[0].words, ()
    options = get_args(field.annotation)
    if not options:
        return "True or False", ()
    return " or ".join(map(repr, options)) if len(options) == 2 else f"one of {', '.join(options)}", options


@table
class Parameters:
    """The parameters of one run, as ``notebooks/evaluate.ipynb`` has them; what is not given has its default there."""

    model: Annotated[str, MODEL]
    precision: Precision = "auto"
    prompt_style: PromptStyle = "few_shot"
    template: Annotated[str | None, optional(PATH)] = None
    system: Annotated[str | None, optional(TEXT)] = None
    chat_template: ChatTemplate = "auto"
    chat_template_kwargs: Annotated[dict[str, Any] | None, optional(TEMPLATE_KWARGS)] = None
    answer: Annotated[str, ANSWER] = "first"
    decoding: Decoding = "pure"
    top_k: Annotated[int | None, optional(TOP_K)] = None
    top_p: Annotated[float | None, optional(SHARE)] = None
    min_p: Annotated[float | None, optional(SHARE_OR_NONE)] = None
    repetition_penalty: Annotated[float | None, optional(PENALTY)] = None
    stop_strings: Annotated[tuple[str, ...] | None, optional(STOP_STRINGS)] = None
    temperatures: Annotated[tuple[float, ...], TEMPERATURES] = (0.0, 0.1, 0.5, 1.0)
    runs: Annotated[int, RUNS] = 4
    seed: Annotated[int, SEED] = 0
    max_new_tokens: Annotated[int, NEW_TOKENS] = 16
    stop: Stop = "eos"
    problems: Annotated[str, PATH] = "paper"
    columns: Annotated[dict[str, str] | None, optional(COLUMNS)] = None
    limit: Annotated[int | None, optional(whole(1, MAX_RUNS))] = None
    output_dir: Annotated[str, PATH] = "results/run"
    replace: bool = False
    shards: Annotated[int, whole(1, 10**6)] = 1
    shard: Annotated[int | None, optional(whole(0, 10**6 - 1))] = None
    determinism: bool = True
    requests_at_once: Annotated[int, REQUESTS] = 16

    def __post_init__(self) -> None:
        if self.stop == "decided" and self.answer != "first":
            raise ValueError(f"stop is 'decided', which follows the first integer; answer {self.answer!r} needs 'eos'")
        if self.shard is not None and self.shard >= self.shards:
            raise ValueError(f"shard is {self.shard}; it must be None or an integer from 0 to {self.shards - 1}")
        if served(self.model):
            for name, usual, why in NOT_SERVED:
                if (value := getattr(self, name)) != usual:
                    raise ValueError(f"{name} is {value!r}; {why}: leave it {usual!r}")

    @property
    def knobs(self) -> dict[str, Any]:
        """The knobs of its decoders that were given: those left None are off, or what the checkpoint ships."""
        names = ("top_k", "top_p", "min_p", "repetition_penalty", "stop_strings")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def n_draws(self) -> int:
        """How many draws a problem gets: one at temperature 0, `runs` at each other temperature."""
        return sum(1 if temperature == 0 else self.runs for temperature in self.temperatures)


@table
class Asking:
    """What every call that samples takes beside model, problems and decoders."""

    runs: Annotated[int, RUNS]
    first_run: Annotated[int, whole(0, MAX_RUNS)]
    seed: Annotated[int, SEED]
    prompt_style: PromptStyle
    template: Annotated[str | None, optional(PATH)]
    system: Annotated[str | None, optional(TEXT)]
    chat_template: ChatTemplate
    chat_template_kwargs: Annotated[dict[str, Any] | None, optional(TEMPLATE_KWARGS)]
    answer: Annotated[str, ANSWER]
    model_name: Annotated[str | None, optional(TEXT)]
    decoding: Annotated[str | None, optional(TEXT)]


@table
class Sampling(Asking):
    """What `lmrel.sample` takes beside model, problems and decoders."""

    chunk: Annotated[int | None, optional(whole(1, MAX_RUNS))]


@table
class Serving(Asking):
    """What `lmrel.server.sample` takes beside model, problems and decoders."""

    requests_at_once: Annotated[int, REQUESTS]


@table
class Enumeration:
    """What `lmrel.enumerate_outcomes` takes beside model, problems and knobs."""

    temperatures: Annotated[tuple[float, ...], TEMPERATURES]
    tolerance: Annotated[float, real(0.0, 1.0)]
    max_nodes: Annotated[int, whole(1, MAX_RUNS)]
    prompt_style: PromptStyle
    chunk: Annotated[int, whole(1, MAX_RUNS)]


@table
class Comparing:
    """What `lmrel.compare` takes beside two runs; `margin` is a share, so 0.05 for five percentage points."""

    temperatures: Annotated[tuple[float, ...], TEMPERATURES]
    metric: Annotated[str, TEXT]
    margin: Annotated[float, SHARE]


@table
class Importing:
    """What `lmrel.read_outputs` takes beside a path."""

    model: Annotated[str | None, optional(TEXT)]
    temperature: Annotated[float | None, optional(TEMPERATURE)]
    columns: Annotated[Any, optional(COLUMNS)]
    verdict: Annotated[str | None, optional(TEXT)]
    answer: Annotated[str | None, optional(ANSWER)]


PRECISIONS, PROMPT_STYLES, DECODINGS = map(get_args, (Precision, PromptStyle, Decoding))
