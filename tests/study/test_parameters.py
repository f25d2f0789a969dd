"""Good and bad values of every parameter, derived from what its table says of it in words.

The bounds are read out of the sentence that a user reads, so a check and its sentence cannot drift apart.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrel import Decoder, InputError, enumerate_outcomes, sample
from lmrel.errors import quoted
from lmrel.parameters import TEMPERATURE, Comparing, Enumeration, Parameters, Sampling, in_words
from study.jobs import OWN, Study, StudyFile
from study.run import Run
from tests.conftest import ROOT

HUGE = 10**5000  # Python itself refuses to write it
NAN, INF = math.nan, math.inf
TABLES: dict[Any, dict[str, Any]] = {  # each with values that fit
    Parameters: {"model": "a", "shards": 10**6},  # so that any shard is one of them
    Sampling: dict(
        **dict(runs=1, first_run=0, seed=0, prompt_style="readme", template=None, system=None, chat_template="off"),
        **dict(chat_template_kwargs=None),
        **dict(answer="last", chunk=1, model_name="a", decoding=None),
    ),
    Enumeration: dict(temperatures=[0.5], tolerance=0.1, max_nodes=9, prompt_style="readme", chunk=1),
    Comparing: dict(temperatures=[0, 1], metric="correct", margin=0.05),
    Decoder: {},
    StudyFile: {"models": ["tiny-dense-base"], "parameters": {}},
}
FIELDS = [(table, name) for table in TABLES for name in table.__pydantic_fields__]
NOWHERE = [HUGE, b"x", 1j, object(), pd.NA, Path("a"), {1}, " ", "\ud800"]  # fits no parameter
TEXTS = ["a", "a/b", np.str_("a")], ["", 5, True, ["a"], np.array(["a", "b"])]
KINDS: dict[str, tuple[list[Any], list[Any]]] = {  # by how their words begin: values that are allowed, and not
    "a name": TEXTS,
    "a text": TEXTS,
    "a path": ([*TEXTS[0], "x" * 255, "/é b/c"], [*TEXTS[1], "a\0b", "x" * 256, "é" * 128, "x/" * 2500]),
    "a list such as": (
        ["[0, .5]", "(0, 1)", [0, 0.5], (0.5,), np.array([0, 0.5]), [np.float32(0.5)], [1e-6, 10]],
        [0.5, "0.5", "[0.5", "{[]}", "[" * 9999, [], "[]", True, {0.5: 1}, np.float64(0.5), np.array(0.5)],
    ),
    "first, last": (["first", "marked", "regex:= ([0-9]+)", np.str_("sole")], ["", "First", "regex", 5, ["first"]]),
    "a mapping of names": (
        [{"enable_thinking": False}, "enable_thinking=false top=5 date_string=x", {"a": 0.5, "b": "c"}],
        [{}, "", "a", {"tokenize": True}, {"a b": 1}, {1: "a"}, {"a": [1]}, {"a": None}, ["a=b"], "{'a'", 5],
    ),
    "a mapping of our": (
        [{"question": "prompt"}, "question=prompt answer=gold", "{'a': 'b'}"],
        [{}, "", "question", "question=", {"a": 1}, {1: "a"}, ["a=b"], "{'a'", 5],
    ),
    "a list of at most": ([[], ["Q:"], ("\n", "x" * 999), ["x"] * 16], [[""], [1], ["é"], ["x"] * 17, np.array(["x"])]),
    "a list of names": ([["a"], ["a", "b/c"]], [[], [None], ["a", ""], ["a\0b"], ["x" * 5000], [HUGE], "a"]),
    "a list, each": ([[{}], [{"model": "a"}, {"name": 5}]], [[], [None], ["a"], [{}, "a"], {}, {"a": 1}, "a", ({},)]),
    "names and values": ([{}, {"a": 1}, None], [5, "a", ["a"], [("a", 1)], True]),
    "True or False": ([True, False], [0, 1, "True", [True], NAN]),
}


def numbers(words: str) -> tuple[list[Any], list[Any]]:
    """Numbers that are allowed and numbers that are not, from both sides of each bound."""
    if bits := re.search(r"at most (\d+) bits", words):
        high = 2 ** int(bits[1]) - 1
        low, whole = -high, True
    else:
        found = re.search(r"(an integer|a number) (from|above) (\S+) to ([\d.e,+-]*\d)", words)
        assert found, words
        whole, read = found[1] == "an integer", int if found[1] == "an integer" else float
        low, high = (read(bound.replace(",", "")) for bound in found.group(3, 4))
        low = math.nextafter(low, INF) if found[2] == "above" else low
    wrong = [NAN, INF, -INF, -HUGE, True, np.True_, "1", [1], {1: 1}, Fraction(HUGE, 3), np.array([1, 1])]
    if whole:
        return [low, high, np.int64(1), np.uint8(1)], [low - 1, high + 1, 1.0, 1.5, np.float64(1), *wrong]
    return [low, high, np.float32(high)], [math.nextafter(low, -INF), math.nextafter(high, INF), *wrong]


def cases(table: Any, name: str) -> tuple[list[Any], list[tuple[Any, str]]]:
    """Values that parameter `name` may have, and pairs of one that it may not and the sentence that says so."""
    words, options = in_words(table.__pydantic_fields__[name])
    bare, hints = words.removeprefix("None or "), {option[:-1]: f" Did you mean {option!r}?" for option in options}
    if options:
        good = [*options, np.str_(options[0])]
        bad = [True, 16, "", "zzz", "x" * 5000, options[0].upper(), [options[0]], {}, np.array(options), *hints]
    else:
        good, bad = next((kind for start, kind in KINDS.items() if bare.startswith(start)), None) or numbers(bare)
    may_be_none = words != bare or any(value is None for value in good)
    good, bad = ([*good, None], bad) if may_be_none else (good, [*bad, None])
    sentence = f"{name} is {{}}; it must be {words}.{{}}"
    return good, [
        (value, sentence.format(quoted(value), hints.get(value, "") if isinstance(value, str) else ""))
        for value in [*bad, *NOWHERE]
        if name != "stop_strings" or not isinstance(value, str)  # which has a hint of its own
    ]


def refusal(call: Callable[..., Any], *given: Any, **named: Any) -> str:
    """What an `InputError` says; nothing where the call succeeds."""
    try:
        call(*given, **named)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("table", "name"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
def test_a_value_fits_or_a_sentence_names_it_and_what_may_be(table: Any, name: str) -> None:
    good, bad = cases(table, name)
    for value in good:
        assert not refusal(table, **TABLES[table] | {name: value})
    for value, sentence in bad:
        assert refusal(table, **TABLES[table] | {name: value}) == sentence
        assert len(sentence.splitlines()) == 1
        assert len(sentence) < 500


def test_of_a_list_the_one_that_does_not_fit_is_named() -> None:
    good, bad = numbers(TEMPERATURE.words)
    assert not refusal(Parameters, "a", temperatures=[0, *good[:2]])
    for value in [*bad, *NOWHERE, -math.nextafter(0, 1), None]:
        said = f"temperature is {quoted(value)}; it must be 0 (greedy) or a number from 1e-06 to 10."
        assert refusal(Parameters, "a", temperatures=[0.5, value]) == said
    for twice in ([0, -0.0], [1, np.float32(1)]):
        assert refusal(Parameters, "a", temperatures=twice) == f"temperatures is {quoted(twice)}; each may occur once."
    hint = "stop_strings is 'Q:'; it must be a list of strings: for this one alone, ['Q:']."
    assert refusal(Decoder, stop_strings="Q:") == hint
    for expression, said in {"[": "is no regular expression", "7": "a pair of brackets must say where"}.items():
        assert said in refusal(Parameters, "a", answer=f"regex:{expression}")
    assert "answer 'last' needs 'eos'" in refusal(Parameters, "a", answer="last", stop="decided")
    assert refusal(Parameters, "a", shards=3, shard=3) == "shard is 3; it must be None or an integer from 0 to 2."


def test_numbers_of_numpy_become_pythons_own() -> None:
    found = Parameters("a", temperatures=np.array([0, 0.5]), runs=np.int64(3), limit=np.uint8(2))  # type: ignore[arg-type]
    assert found == Parameters("a", temperatures="[0, .5]", runs=3, limit=2)  # type: ignore[arg-type]
    assert [type(value) for value in (found.runs, found.limit, *found.temperatures)] == [int, int, float, float]
    assert Decoder(np.float64(0.5), top_k=np.int8(3)).id == Decoder(0.5, top_k=3).id  # type: ignore[arg-type]


@pytest.mark.parametrize("name", Parameters.__pydantic_fields__)  # type: ignore[attr-defined]
def test_run_study_and_the_table_say_the_same(name: str) -> None:
    """And what a run refuses, the decoder, `sample` and `enumerate_outcomes` refuse in these words."""
    good, bad = cases(Parameters, name)
    given_by_study = (*OWN, "model")
    for value, said in bad:
        given = {"model": "a"} | {name: value}
        assert refusal(Run, **given) == refusal(Run.from_namespace, given) == said
        if name not in given_by_study:
            assert refusal(Study.of, TABLES[StudyFile] | {"parameters": {name: value}}) == f"study.yaml: {said}"
        if name in Decoder.__pydantic_fields__:  # type: ignore[attr-defined]
            needed = said.replace("must be None or", "must be")  # a decoder has each of its knobs
            assert refusal(Decoder, **{name: value}) == needed
            assert refusal(enumerate_outcomes, None, None, None, [1.0], **{name: value}) == needed
    for value in good if name not in (*given_by_study, "problems", "columns", "template") else ():
        assert not refusal(Study.of, TABLES[StudyFile] | {"parameters": {name: value}})


@pytest.mark.parametrize(("table", "call"), [(Sampling, sample), (Enumeration, enumerate_outcomes)])
def test_sample_and_enumerate_look_first_at_what_their_tables_hold(table: Any, call: Any) -> None:
    for name in table.__pydantic_fields__:
        for value, said in cases(table, name)[1]:
            given = {"decoders": []} if call is sample else {"temperatures": [1.0]}
            assert refusal(call, None, None, None, **given | {name: value}) == said


@pytest.mark.parametrize("table", TABLES)
def test_a_name_that_is_no_parameter_is_said_with_a_guess_and_all_that_are_missing(table: Any) -> None:
    known = list(table.__pydantic_fields__)
    for name, hint in ((f"{known[0]}x", f" Did you mean {known[0]!r}?"), ("zzz", ""), ("\udcff", "")):
        said = f"{name!r} is no parameter.{hint} The parameters are {', '.join(known)}."
        assert refusal(table, **TABLES[table], **{name: 1}) == said
    missing = [name for name, field in table.__pydantic_fields__.items() if field.is_required()]
    assert refusal(table, **{known[-1]: HUGE}).startswith(
        f"parameters are missing: {', '.join(n for n in missing if n != known[-1])}." if missing else known[-1]
    )
    with pytest.raises(TypeError, match="Unexpected positional argument"):
        table(*[None] * 99)
    with pytest.raises(TypeError, match="multiple values"):
        table(1, **{known[0]: 1})


def test_to_construct_a_run_touches_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda *given, **_: touched.append(given))
        for name in ("open", "stat", "lstat", "mkdir", "scandir", "listdir", "access", "getcwd"):
            patch.setattr(os, name, lambda *given, **_: touched.append(given))
        run = Run("nowhere/model", problems="nowhere.jsonl", output_dir="nowhere/run", shards=2, shard=1)
        assert run.folder == Path("nowhere/run/shards/1-of-2")
    assert touched == []


def test_notebook_and_book_have_the_tables_parameters_and_defaults() -> None:
    cells = json.loads((ROOT / "notebooks" / "evaluate.ipynb").read_text(encoding="utf-8"))["cells"]
    given: dict[str, Any] = {}
    exec("".join(next(c["source"] for c in cells if "parameters" in c["metadata"].get("tags", []))), {}, given)
    assert list(given) == [field.name for field in fields(Parameters)]  # type: ignore[arg-type]
    assert Parameters(**given) == Parameters(given["model"])
    text = (ROOT / "book" / "settings.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(?:`\w+` \(.+?\)(?:, )?)+$", text, re.M)
    told = dict(re.findall(r"`(\w+)` \((?:default )?`?(.+?)`?\)", "\n".join(lines)))
    assert told == {name: str(value) for name, value in given.items()} | {"limit": "none"}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(NOWHERE[1:]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(FIELDS), ANYTHING)
def test_whatever_comes_fits_or_ends_in_one_line(field: tuple[Any, str], value: Any) -> None:
    table, name = field
    said = refusal(table, **TABLES[table] | {name: value})
    assert not said or re.match(f"{name} is |temperature is ", said)
    assert len(said.splitlines()) <= 1
