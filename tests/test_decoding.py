from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lmrel import Decoder, InputError, extract_answer
from lmrel.decoding import Verdict, as_shipped, pure, read
from tests.conftest import random_model

KNOBS = {
    "temperature": [0.1, 0.7, 1.0, 1.9],
    "top_k": [0, 1, 5, 500],
    "top_p": [1.0, 0.9, 0.3],
    "min_p": [0.0, 0.05, 0.5],
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
    return LogitsProcessorList(steps)(ids, logits).softmax(-1)


def test_probabilities_equal_those_of_transformers_processors() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 40, generator=generator) * 4
    ids = torch.randint(0, 40, (6, 12), generator=generator)
    seen = torch.zeros(6, 40, dtype=torch.bool).scatter_(1, ids, True)
    for values in itertools.product(*KNOBS.values()):
        decoder = Decoder(**dict(zip(KNOBS, values, strict=True)))
        expected = reference(decoder, logits.clone(), ids)
        torch.testing.assert_close(decoder.probabilities(logits, seen), expected, atol=1e-6, rtol=1e-4)


def test_very_low_temperatures_do_not_overflow() -> None:
    probabilities = Decoder(temperature=1e-4).probabilities(torch.tensor([[500.0, -500.0, 499.0]]))
    assert probabilities.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", 1000),
        ("temperature", "hot"),
        ("temperature", True),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", 2),
        ("repetition_penalty", 0),
        ("max_new_tokens", 0),
        ("max_new_tokens", None),
        ("stop", "never"),
    ],
)
def test_a_bad_knob_is_named_with_its_value(knob: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{knob} is {value!r}; it must be"):
        Decoder(**{knob: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("shipped", [{}, {"top_k": 7, "top_p": 0.8, "repetition_penalty": 1.2, "temperature": 0.7}])
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
        torch.testing.assert_close(decoder.probabilities(out.logits[0], seen), out.scores[0].softmax(-1))
    assert as_shipped(0.6, model.generation_config).top_k == shipped.get("top_k", 50)


@pytest.mark.parametrize(
    "knob",
    [
        {"no_repeat_ngram_size": 3},
        {"typical_p": 0.9},
        {"suppress_tokens": [3]},
        {"min_new_tokens": 4},
        {"num_beams": 2},
        {"stop_strings": ["x"]},
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
    assert not Decoder(0.4, top_k=3).pure


def test_decided_means_that_nothing_later_changes_the_outcome_and_undecided_that_something_can() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choice("07 +-\nx") for _ in range(rng.randint(0, 7)))
        verdict = read(Verdict.BLANK, text)
        outcomes = {extract_answer(text + more) for more in ("", "5", " ", "x", "-3", "\n8", " x 9 ")}
        assert (verdict is Verdict.DECIDED) == (len(outcomes) == 1), text


def test_reading_in_pieces_is_reading_at_once() -> None:
    rng = random.Random(1)
    for _ in range(500):
        text = "".join(rng.choice("07 +-\nx") for _ in range(9))
        cut = rng.randint(0, 9)
        assert read(read(Verdict.BLANK, text[:cut]), text[cut:]) == read(Verdict.BLANK, text)
