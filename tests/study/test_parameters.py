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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmrel import Decoder, InputError, enumerate_outcomes, sample
from lmrel.errors import quoted
from lmrel.parameters import TEMPERATURE, Enumeration, Parameters, Sampling, in_words
from study.jobs import OWN, Study, StudyFile
from study.run import Run
from tests.conftest import ROOT

HUGE = 10**5000  # Python itself refuses to write it
NAN, INF = math.nan, math.inf
ENUMERATION = {"temperatures": [0.5], "tolerance": 0.1, "max_nodes": 9, "prompt_style": "readme", "chunk": 1}
SAMPLING = {"runs": 1, "first_run": 0, "seed": 0, "prompt_style": "readme", "chunk": 1, "model_name": "a"}
TABLES: dict[Any, dict[str, Any]] = {  # each with values that fit
    Parameters: {"model": "a", "shards": 10**6},  # so that any shard is one of them
    Sampling: SAMPLING | {"decoding": None},
    Enumeration: ENUMERATION,
    Decoder: {},
    StudyFile: {"models": ["tiny-dense-base"], "parameters": {}},
}
FIELDS = [(table, name) for table in TABLES for name in table.__pydantic_fields__]
AS_FIELDS = pytest.mark.parametrize(("table", "name"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
Bad = list[tuple[Any, str]]  # a value, and the sentence about it if the rest of its kind gets another


def numbers_of(words: str) -> tuple[list[Any], Bad]:
    """Numbers that are allowed and numbers that are not, from both sides of each bound."""
    if bits := re.search(r"at most (\d+) bits", words):
        most = 2 ** int(bits[1]) - 1
        low, high, whole = -most, most, True
    else:
        found = re.search(r"(an integer|a number) (from|above) (\S+) to ([\d.e,+-]*\d)", words)
        assert found, words
        whole = found[1] == "an integer"
        low, high = (float(bound.replace(",", "")) for bound in found.group(3, 4))
        low, high = (int(low), int(high)) if whole else (low, high)
        if found[2] == "above":
            low = math.nextafter(low, INF)
    beyond = [low - 1, high + 1] if whole else [math.nextafter(low, -INF), math.nextafter(high, INF)]
    if "0 (greedy)" in words:
        beyond.append(-math.nextafter(0, 1))
    good = [low, high, *((np.int64(1), np.uint8(1)) if whole else (np.float64(high), np.float32(high)))]
    beyond += [1.0, 1.5, np.float64(1)] if whole else []
    wrong = [NAN, INF, -INF, HUGE, -HUGE, True, np.True_, "1", "x", b"1", [1], (1,), {1: 1}, 1j, pd.NA, object()]
    return good, [(value, "") for value in [*beyond, *wrong, Fraction(HUGE, 3), np.array([1, 1])]]


def paths(words: str) -> tuple[list[Any], Bad]:
    bad = [None, 5, "", " ", "\ud800", "a\0b", "x" * 256, "é" * 128, "x/" * 2500, Path("a"), b"a", ["a"], True, HUGE]
    return ["a", "x" * 255, "/é b/c", np.str_("a")], [(value, "") for value in bad]


def texts(words: str) -> tuple[list[Any], Bad]:
    bad = [5, "", " \n", "\ud800", Path("a"), b"a", ["a"], True, HUGE, np.array(["a", "b"])]
    return ["a", "a/b", np.str_("a")], [(value, "") for value in bad]


def temperatures(words: str) -> tuple[list[Any], Bad]:
    good, bad = numbers_of(TEMPERATURE.words)
    lists = ["[0, .5]", "(0, 1)", [0, 0.5], (0.5,), np.array([0, 0.5]), np.array([1]), [np.float32(0.5)], good[:2]]
    wrong = [None, 0.5, "0.5", "hot", "[0.5", "{[]}", "[" * 9999, "1" * 5000, [], "[]", HUGE, True, {0.5: 1}, {0.5}]
    wrong += [np.float64(0.5), np.array(0.5), np.array([]), b"[0.5]", pd.NA]
    twice = [
        (pair, f"temperatures is {quoted(pair)}; each may occur once.") for pair in ([0, -0.0], [1, np.float32(1)])
    ]
    each = [([0.5, value], f"temperature is {quoted(value)}; it must be {TEMPERATURE.words}.") for value, _ in bad]
    return lists, [*((value, "") for value in wrong), *twice, *each]


def stop_strings(words: str) -> tuple[list[Any], Bad]:
    bad = [None, 5, [""], [1], ["é"], ["\n", "\ud800"], ["x"] * 17, {"x"}, HUGE, np.array(["x", "y"])]
    hint = ("Q:", "stop_strings is 'Q:'; it must be a list of strings: for this one alone, ['Q:'].")
    return [[], ["Q:"], ("\n", "x" * 999), ["x"] * 16], [*((value, "") for value in bad), hint]


def models(words: str) -> tuple[list[Any], Bad]:
    bad = [None, [], "tiny-dense-base", [None], ["a", ""], ["a\0b"], ["\ud800"], ["x" * 5000], [HUGE], HUGE, True]
    return [["a"], ["a", "b/c"]], [(value, "") for value in bad]


def mappings(words: str) -> tuple[list[Any], Bad]:
    return [{}, {"a": 1}, None], [(value, "") for value in (5, "a", ["a"], [("a", 1)], True, HUGE)]


def words_of(options: tuple[str, ...]) -> tuple[list[Any], Bad]:
    mistyped = [(option[:-1], f"Did you mean {option!r}?") for option in options]
    wrong = [None, True, 16, "", "zzz", options[0].upper(), b"eos", [options[0]], {}, pd.NA, HUGE, "x" * 10_000]
    wrong.append(np.array([options[0]] * 2))
    return [*options, np.str_(options[0])], [*((value, "") for value in wrong), *mistyped]


KINDS: dict[str, Callable[[str], tuple[list[Any], Bad]]] = {  # by what the words begin with
    "an integer": numbers_of,
    "a number": numbers_of,
    "0 (greedy)": numbers_of,
    "a path": paths,
    "a name": texts,
    "a text": texts,
    "a list such as": temperatures,
    "a list of at most": stop_strings,
    "a list of names": models,
    "names and values": mappings,
}


def cases(table: Any, name: str) -> tuple[list[Any], Bad]:
    """Values that parameter `name` may have, and pairs of one that it may not and the sentence that says so."""
    words, options = in_words(table.__pydantic_fields__[name])
    if options:
        good, bad = words_of(options)
    elif words == "True or False":
        good, bad = [True, False], [(value, "") for value in (0, 1, "True", "yes", None, [True], NAN, HUGE)]
    else:
        bare = words.removeprefix("None or ")
        good, bad = next(kind for start, kind in KINDS.items() if bare.startswith(start))(bare)
        if words != bare:
            good.append(None)
        elif not any(value is None for value in good):
            bad.append((None, ""))
    usual = f"{name} is {{}}; it must be {words}."
    return good, [
        (value, said if said.startswith(name[:4]) else f"{usual.format(quoted(value))} {said}".strip())
        for value, said in bad
    ]


def refusal(call: Callable[..., Any], *given: Any, **named: Any) -> str:
    """What an `InputError` says; nothing where the call succeeds."""
    try:
        call(*given, **named)
    except InputError as error:
        return str(error)
    return ""


@AS_FIELDS
def test_a_value_fits_or_a_sentence_names_it_and_what_may_be(table: Any, name: str) -> None:
    good, bad = cases(table, name)
    for value in good:
        assert not refusal(table, **TABLES[table] | {name: value})
    for value, sentence in bad:
        said = refusal(table, **TABLES[table] | {name: value})
        assert said.startswith(sentence)
        assert len(said.splitlines()) == 1
        assert len(said) < 600


def test_a_shard_is_one_of_the_shards() -> None:
    assert Parameters("a", shards=3, shard=np.int64(2)).shard == 2  # type: ignore[arg-type]
    assert refusal(Parameters, "a", shards=3, shard=3) == "shard is 3; it must be None or an integer from 0 to 2."


def test_numbers_of_numpy_become_pythons_own() -> None:
    found = Parameters("a", temperatures=np.array([0, 0.5]), runs=np.int64(3), limit=np.uint8(2))  # type: ignore[arg-type]
    assert found == Parameters("a", temperatures="[0, .5]", runs=3, limit=2)  # type: ignore[arg-type]
    assert [type(value) for value in (found.runs, found.limit, *found.temperatures)] == [int, int, float, float]
    assert Decoder(np.float64(0.5), top_k=np.int8(3)).id == Decoder(0.5, top_k=3).id  # type: ignore[arg-type]


@pytest.mark.parametrize("name", Parameters.__pydantic_fields__)  # type: ignore[attr-defined]
def test_run_study_and_the_table_say_the_same(name: str) -> None:
    """And a knob's value that a run refuses, the decoder, `sample` and `enumerate_outcomes` refuse in these words."""
    good, bad = cases(Parameters, name)
    for value, _ in bad:
        said = refusal(Parameters, **{"model": "a"} | {name: value})
        assert refusal(Run, **{"model": "a"} | {name: value}) == said
        assert refusal(Run.from_namespace, {"model": "a", name: value}) == said
        if name not in OWN:
            assert refusal(Study.of, TABLES[StudyFile] | {"parameters": {name: value}}) == f"study.yaml: {said}"
        if name in Decoder.__pydantic_fields__:  # type: ignore[attr-defined]
            assert refusal(Decoder, **{name: value}) == said
        if name in SAMPLING:
            assert refusal(sample, None, None, None, [], **{name: value}) == said
        if name in (*ENUMERATION, "max_new_tokens", "stop"):
            assert refusal(enumerate_outcomes, None, None, None, **{"temperatures": [1.0]} | {name: value}) == said
    for value in good if name not in (*OWN, "problems") else ():
        assert not refusal(Study.of, TABLES[StudyFile] | {"parameters": {name: value}})


def test_sample_and_enumerate_look_first_at_what_their_tables_hold() -> None:
    for table, call in ((Sampling, sample), (Enumeration, enumerate_outcomes)):
        for name in table.__pydantic_fields__:  # type: ignore[attr-defined]
            value, sentence = cases(table, name)[1][0]
            given = {"decoders": []} if call is sample else {"temperatures": [1.0]}
            assert refusal(call, None, None, None, **given | {name: value}).startswith(sentence)


@pytest.mark.parametrize("table", TABLES)
def test_a_name_that_is_no_parameter_is_said_with_a_guess(table: Any) -> None:
    known = list(table.__pydantic_fields__)
    listed = f"The parameters are {', '.join(known)}."
    for name, hint in ((f"{known[0]}x", f"Did you mean {known[0]!r}? "), ("zzz", "")):
        assert refusal(table, **TABLES[table], **{name: 1}) == f"{name!r} is no parameter. {hint}{listed}"
    if table is Decoder:
        assert "'bogus' is no parameter" in refusal(enumerate_outcomes, None, None, None, [1.0], bogus=1)
    with pytest.raises(TypeError, match=r"Unexpected positional argument"):
        table(*[None] * 99)


def test_all_that_is_missing_is_named() -> None:
    assert refusal(Sampling, runs=0, seed=0, prompt_style="readme", chunk=None, decoding=None) == (
        "parameters are missing: first_run, model_name."
    )
    with pytest.raises(TypeError, match="multiple values"):
        Decoder(1.0, temperature=0.5)  # type: ignore[misc]


def test_to_construct_a_run_touches_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[Any] = []
    with monkeypatch.context() as patch:
        for place, name in [("builtins", "open"), ("io", "open"), *(("os", n) for n in ("open", "stat", "lstat"))]:
            patch.setattr(f"{place}.{name}", lambda *given, **_: touched.append(given))
        for name in ("mkdir", "scandir", "listdir", "access", "getcwd"):
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
    lines = re.findall(r"^(?:`\w+` \(.+?\)(?:, )?)+$", (ROOT / "book" / "run.md").read_text(encoding="utf-8"), re.M)
    told = dict(re.findall(r"`(\w+)` \(`?(.+?)`?\)", "\n".join(lines)))
    assert list(told) == list(given)
    for name, value in given.items():
        assert told[name].removeprefix("default `") in (str(value), "none" if value is None else None)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([b"x", "\ud800", np.float32(1), np.int64(1), pd.NA, frozenset({1}), 1j, np.array([1, 2])]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FIELDS), ANYTHING)
def test_whatever_comes_fits_or_ends_in_one_line(field: tuple[Any, str], value: Any) -> None:
    table, name = field
    said = refusal(table, **TABLES[table] | {name: value})
    assert not said or re.match(rf"{name}|temperature", said)
    assert len(said.splitlines()) <= 1
