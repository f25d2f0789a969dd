from __future__ import annotations

import dataclasses
import itertools
import math
import random
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from lmrel import Decoder, InputError
from lmrel.decoding import as_shipped, decoders_id, pure, stops
from tests.conftest import random_model

NAN, INF = math.nan, math.inf
CHANGES = {"temperature": 0.5, "top_k": 1, "top_p": 0.5, "min_p": 0.5, "typical_p": 0.5, "repetition_penalty": 2}
CHANGES |= {"stop_strings": ["x"], "max_new_tokens": 3, "stop": "decided"}
KNOBS = {
    "temperature": [0.1, 0.7, 1.0, 1.9],
    "top_k": [0, 1, 5, 500],
    "top_p": [1.0, 0.9, 0.3],
    "min_p": [0.0, 0.05, 0.5],
    "typical_p": [1.0, 0.9, 0.2],
    "repetition_penalty": [1.0, 1.3, 0.8],
}


def reference(decoder: Decoder, logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    steps: list[Any] = [RepetitionPenaltyLogitsProcessor(decoder.repetition_penalty)]
    steps.append(TemperatureLogitsWarper(decoder.temperature))
    if decoder.top_k:
        steps.append(TopKLogitsWarper(decoder.top_k))
    steps.append(TopPLogitsWarper(decoder.top_p))
    if decoder.min_p:
        steps.append(MinPLogitsWarper(decoder.min_p))
    if decoder.typical_p < 1:
        steps.append(TypicalLogitsWarper(decoder.typical_p))
    return LogitsProcessorList(steps)(ids, logits).softmax(-1)


def test_probabilities_equal_those_of_transformers_processors() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 40, generator=generator) * 4
    ids = torch.randint(0, 40, (6, 12), generator=generator)
    seen = torch.zeros(6, 40, dtype=torch.bool).scatter_(1, ids, True)
    for values in itertools.product(*KNOBS.values()):
        decoder = Decoder(**dict(zip(KNOBS, values, strict=True)))
        expected = reference(decoder, logits.clone(), ids)
        torch.testing.assert_close(decoder.processed(logits, seen), expected, atol=1e-6, rtol=1e-4)


def test_many_random_logits_with_ties_and_in_16_bit_equal_those_of_transformers_processors() -> None:
    rng, generator = random.Random(0), torch.Generator().manual_seed(1)
    for _ in range(1000):
        rows, vocabulary = rng.randint(1, 5), rng.choice([3, 40, 300])
        logits = torch.randn(rows, vocabulary, generator=generator) * rng.choice([0.1, 1, 4, 20])
        kind = rng.choice(["plain", "ties", "16 bit", "impossible tokens"])
        if kind == "ties":
            logits = logits.round()
        if kind == "16 bit":
            logits = logits.bfloat16()
        if kind == "impossible tokens":
            logits[:, rng.randrange(vocabulary)] = -float("inf")
        ids = torch.randint(0, vocabulary, (rows, 6), generator=generator)
        seen = torch.zeros(rows, vocabulary, dtype=torch.bool).scatter_(1, ids, True)
        decoder = Decoder(**{knob: rng.choice(values) for knob, values in KNOBS.items()})
        found, expected = decoder.processed(logits, seen), reference(decoder, logits.float(), ids)
        assert torch.equal(found > 0, expected > 0), (kind, decoder)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4, msg=f"{kind}, {decoder}")


def test_very_low_temperatures_do_not_overflow() -> None:
    probabilities = Decoder(temperature=1e-4).processed(torch.tensor([[500.0, -500.0, 499.0]]))
    assert probabilities.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    "shipped", [{}, {"top_k": 7, "top_p": 0.8, "typical_p": 0.7, "repetition_penalty": 1.2, "temperature": 0.7}]
)
def test_as_shipped_is_what_generate_does(shipped: dict[str, Any]) -> None:
    model = random_model("mistral", vocabulary=80)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0, **shipped)
    prompt = torch.tensor([[1, 5, 9, 5]])
    seen = torch.zeros(1, 80, dtype=torch.bool).scatter_(1, prompt, True)
    for temperature, how in ((0.6, {"do_sample": True, "temperature": 0.6}), (0.0, {"do_sample": False})):
        out = model.generate(
            prompt, max_new_tokens=1, output_scores=True, output_logits=True, return_dict_in_generate=True, **how
        )
        decoder = as_shipped(temperature, model.generation_config)
        torch.testing.assert_close(decoder.processed(out.logits[0], seen), out.scores[0].softmax(-1))
    assert as_shipped(0.6, model.generation_config).top_k == shipped.get("top_k", 50)


def test_as_shipped_takes_over_stop_strings_at_every_temperature() -> None:
    for shipped, taken in ((["\n\n", "= "], ("\n\n", "= ")), ("\n", ("\n",)), (None, ())):
        for temperature in (0.0, 0.6):
            assert as_shipped(temperature, GenerationConfig(stop_strings=shipped)).stop_strings == taken


@pytest.mark.parametrize(
    "knob",
    [
        {"no_repeat_ngram_size": 3},
        {"suppress_tokens": [3]},
        {"min_new_tokens": 4},
        {"num_beams": 2},
        {"guidance_scale": 1.5},
    ],
)
def test_as_shipped_refuses_a_knob_it_lacks(knob: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"sets {next(iter(knob))}="):
        as_shipped(0.5, GenerationConfig(**knob))


def test_as_shipped_ignores_what_changes_no_distribution() -> None:
    config = GenerationConfig(do_sample=True, eos_token_id=[1, 2], pad_token_id=0, max_length=99, output_scores=True)
    assert as_shipped(0.5, config) == Decoder(0.5, top_k=50)


def test_only_temperature_is_pure() -> None:
    assert pure(0.4, max_new_tokens=3).pure
    for knob, value in CHANGES.items():
        assert Decoder(**{knob: value}).pure == (knob in ("temperature", "max_new_tokens", "stop"))


def test_the_order_of_the_knobs_is_that_of_generate() -> None:
    model = random_model("mistral")
    knobs = {"top_k": 5, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.8, "repetition_penalty": 1.2, "temperature": 0.7}
    config = GenerationConfig(do_sample=True, **knobs)
    order = [type(step) for step in model._get_logits_processor(config, input_ids_seq_length=4, device="cpu")]
    assert order == [
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
        MinPLogitsWarper,
        TypicalLogitsWarper,
    ]


def test_an_id_changes_with_every_knob_and_with_nothing_else() -> None:
    base = Decoder()
    assert set(CHANGES) == {field.name for field in dataclasses.fields(Decoder)}
    ids = {base.id} | {dataclasses.replace(base, **{knob: value}).id for knob, value in CHANGES.items()}
    assert len(ids) == len(CHANGES) + 1
    assert all(re.fullmatch("[0-9a-f]{8}", name) for name in ids)
    assert Decoder(temperature=1, top_p=1).id == base.id
    assert Decoder(-0.0).id == Decoder(0.0).id
    strings = ("1", "1.0", "1.0,", "1,", "\n", "e")
    assert len({Decoder(stop_strings=(string,)).id for string in strings}) == len(strings)
    assert base.describe()["id"] == base.id
    assert decoders_id([base, Decoder(0.5)]) != decoders_id([Decoder(0.5), base])


def test_a_stop_string_is_found_where_it_ends_in_the_new_piece() -> None:
    assert stops("1 =", " 2", ["= 2"])
    assert stops("", "a\nb", ["\n"])
    assert not stops("\n", "b", ["\n"])
    assert not stops("1", "2", ["3"])
    rng = random.Random(2)
    for _ in range(2000):
        text = "".join(rng.choice("ab") for _ in range(6))
        cut = rng.randint(0, 6)
        string = "".join(rng.choice("ab") for _ in range(rng.randint(1, 3)))
        found = any(text[:end].endswith(string) for end in range(cut + 1, 7))
        assert stops(text[:cut], text[cut:], [string]) == found


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        *(
            (knob, value)
            for knob in ("repetition_penalty", "top_p", "min_p", "typical_p", "top_k")
            for value in ("x", -1)
        ),
        *(
            ("repetition_penalty", 0),
            ("repetition_penalty", False),
            ("typical_p", 0),
            ("top_k", 1.5),
            ("stop_strings", 5),
        ),
    ],
)
def test_as_shipped_takes_no_odd_value_for_what_is_unset(knob: str, value: Any) -> None:
    config = GenerationConfig()
    setattr(config, knob, value)
    with pytest.raises(InputError, match=f"{knob} is "):
        as_shipped(0.5, config)


@pytest.mark.parametrize("logits", [[NAN, 1.0], [INF, 1.0], [-INF, -INF], [3e38, 0.0]], ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_give_no_distribution_are_refused(logits: list[float], temperature: float) -> None:
    rows = torch.tensor([[1.0, 1.0], logits])
    decoder = Decoder(temperature, repetition_penalty=0.01)  # which makes infinity of 3e38
    with pytest.raises(InputError, match="logits hold NaN or infinity, or a row in which no token can be drawn"):
        decoder.processed(rows, torch.ones_like(rows, dtype=torch.bool))


def test_a_programmers_mistake_with_logits_is_an_error() -> None:
    for wrong in ([[1.0]], torch.tensor(1.0), torch.zeros(2, 0)):
        with pytest.raises(TypeError, match="logits must be a tensor whose last dimension is the vocabulary"):
            Decoder().processed(wrong)  # type: ignore[arg-type]
    for mask in (None, torch.ones(1, 1), torch.ones(2, 1) > 0):
        with pytest.raises(ValueError, match="needs the mask of tokens seen so far, one bool for each logit"):
            Decoder(repetition_penalty=2.0).processed(torch.ones(1, 1), mask)


@settings(deadline=None, derandomize=True)
@given(
    st.fixed_dictionaries({}, optional={knob: st.sampled_from(values) for knob, values in KNOBS.items()}),
    st.lists(st.floats(width=32) | st.floats(-50, 50, width=32), min_size=1),
)
def test_any_logits_give_a_distribution_or_a_sentence(knobs: dict[str, Any], logits: list[float]) -> None:
    row = torch.tensor([logits])
    try:
        found = Decoder(**knobs).distribution(row, torch.zeros_like(row, dtype=torch.bool))
    except InputError:
        found = None
    assert (found is None) == (not math.isfinite(row.amax()))
    if found is not None:
        assert abs(float(found.sum()) - 1) < 1e-5
        assert ((found >= 0) & ((found == 0) | (row > -INF))).all()


def test_as_shipped_passes_over_neutral_values_and_what_is_no_field() -> None:
    neutral = {"num_beams": 1, "length_penalty": 1.0, "no_repeat_ngram_size": 0, "early_stopping": False}
    neutral |= {"bad_words_ids": [], "diversity_penalty": 0.0, "encoder_repetition_penalty": 1.0, "min_length": 0}
    config = GenerationConfig(**neutral)
    config.of_another_library = 3
    assert as_shipped(0.5, config) == Decoder(0.5, top_k=50)
    with pytest.raises(InputError, match="sets forced_eos_token_id=0"):
        as_shipped(0.5, GenerationConfig(forced_eos_token_id=0))
