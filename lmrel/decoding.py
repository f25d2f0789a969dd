"""The decoder: its knobs, all explicit, and how they turn logits into the probabilities of the next token.

Knobs apply in the order of transformers' logits processors: repetition penalty, temperature, top-k, top-p, min-p,
typical-p. A repetition penalty sees the prompt and the answer.
The module knows nothing of models or random numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from hashlib import blake2b
from typing import Annotated, Any

import torch
from torch import Tensor

from lmrel.errors import InputError, quoted
from lmrel.parameters import (
    NEW_TOKENS,
    PENALTY,
    SHARE,
    SHARE_OR_NONE,
    STOP_STRINGS,
    TEMPERATURE,
    TOP_K,
    Asking,
    Stop,
    table,
)

# Fields of a generation config that `as_shipped` takes over or replaces, those that change no distribution, and of the
# others the value that changes nothing, where that is neither 0 nor empty. Beams are refused; what tunes them is not.
HANDLED = {"temperature", "do_sample", "top_k", "top_p", "min_p", "repetition_penalty", "typical_p", "stop_strings"}
HARMLESS = {"max_new_tokens", "max_length", "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"}
HARMLESS |= {"use_cache", "disable_compile", "length_penalty", "early_stopping", "num_return_sequences"}
HARMLESS |= {"renormalize_logits", "low_memory", "prefill_chunk_size", "max_cache_len", "transformers_version"}
HARMLESS_STEMS = ("_", "output_", "return_", "cache_", "compile_", "assistant_", "num_assistant_", "prompt_lookup_")
NEUTRAL = {"num_beams": 1, "num_beam_groups": 1, "encoder_repetition_penalty": 1.0, "guidance_scale": 1.0}


@table
class Decoder:
    """How a next token is chosen. The defaults are *pure* sampling: temperature and nothing else.

    Temperature 0 is greedy: the highest logit after the repetition penalty. `top_k` 0, `top_p` 1, `min_p` 0,
    `typical_p` 1 and `repetition_penalty` 1 are off. A draw ends with the token that completes one of `stop_strings`
    (at most 16) in the answer, which keeps it, as in transformers. `stop` is ``"eos"`` (until end of text or
    `max_new_tokens`) or ``"decided"`` (also as soon as neither the extracted answer nor compliance can change). Raises
    `InputError` out of range.
    """

    temperature: Annotated[float, TEMPERATURE] = 1.0
    top_k: Annotated[int, TOP_K] = 0
    top_p: Annotated[float, SHARE] = 1.0
    min_p: Annotated[float, SHARE_OR_NONE] = 0.0
    typical_p: Annotated[float, SHARE] = 1.0
    repetition_penalty: Annotated[float, PENALTY] = 1.0
    stop_strings: Annotated[tuple[str, ...], STOP_STRINGS] = ()
    max_new_tokens: Annotated[int, NEW_TOKENS] = 16
    stop: Stop = "eos"

    @property
    def greedy(self) -> bool:
        """Whether the highest logit is taken, no draw being made."""
        return self.temperature == 0.0

    def n_draws(self, runs: int) -> int:
        """How many draws a problem gets in that many runs: greedy decoding gives but one."""
        return 1 if self.greedy else runs

    @property
    def columns(self) -> dict[str, Any]:
        """What a draw says of its decoder: the id, which stands for all knobs, and the most used of them."""
        knobs = ("temperature", "top_p", "min_p", "repetition_penalty")
        return {"decoder": self.id, "top_k": self.top_k} | {name: float(getattr(self, name)) for name in knobs}

    @property
    def pure(self) -> bool:
        """Whether temperature is the only knob in use."""
        return self == Decoder(self.temperature, max_new_tokens=self.max_new_tokens, stop=self.stop)

    def processed(self, logits: Tensor, seen: Tensor | None = None) -> Tensor:
        """Next-token distributions, float32 (rows, vocabulary), from raw logits of that shape.

        Minus infinity is a token that cannot be drawn. Raises `InputError` for a row that holds NaN or infinity, or
        nothing that can be drawn.

        `seen` is a boolean mask of that shape: the tokens in the prompt and the text so far; only a repetition
        penalty needs it. A greedy decoder takes the maximum of the distribution returned here, which is that of
        the penalized logits at temperature 1: what ``generate`` calls its scores.
        """
        if not isinstance(logits, Tensor) or logits.ndim == 0 or not logits.shape[-1]:
            raise TypeError("logits must be a tensor whose last dimension is the vocabulary")
        logits = logits.float()
        if self.repetition_penalty != 1.0:
            if seen is None or seen.dtype != torch.bool or seen.shape != logits.shape:
                raise ValueError("a repetition penalty needs the mask of tokens seen so far, one bool for each logit")
            penalized = torch.where(logits < 0, logits * self.repetition_penalty, logits / self.repetition_penalty)
            logits = torch.where(seen, penalized, logits)
        highest = logits.amax(dim=-1, keepdim=True)
        if not highest.isfinite().all():
            raise InputError("logits hold NaN or infinity, or a row in which no token can be drawn.")
        if self.greedy:
            return logits.softmax(dim=-1)
        # Subtracting the maximum first keeps temperatures near 0 from overflowing.
        logits = (logits - highest).div_(self.temperature)
        if 0 < self.top_k < logits.shape[-1]:
            kth = logits.topk(self.top_k, dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < kth, -math.inf)
        if self.top_p < 1.0:
            ascending, order = logits.sort(dim=-1)
            tail = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1.0 - self.top_p
            tail[..., -1] = False
            logits = logits.masked_fill(tail.scatter(-1, order, tail), -math.inf)
        if self.min_p > 0.0:
            probabilities = logits.softmax(dim=-1)
            unlikely = probabilities < self.min_p * probabilities.amax(dim=-1, keepdim=True)
            logits = logits.masked_fill(unlikely, -math.inf)
        if self.typical_p < 1.0:
            logits = logits.masked_fill(self._atypical(logits), -math.inf)
        return logits.softmax(dim=-1)

    def distribution(self, logits: Tensor, seen: Tensor | None = None) -> Tensor:
        """What is drawn, float64: `processed`, but that greedy decoding is certain of its token."""
        probabilities = self.processed(logits, seen).double()
        if self.greedy:
            return torch.zeros_like(probabilities).scatter_(-1, probabilities.argmax(dim=-1, keepdim=True), 1.0)
        return probabilities

    def _atypical(self, logits: Tensor) -> Tensor:
        """What locally typical sampling drops (Meister et al. 2023): surprise furthest from the entropy."""
        logprobs = logits.log_softmax(dim=-1)
        entropy = -(logprobs * logprobs.exp()).nansum(dim=-1, keepdim=True)
        oddity = (logprobs + entropy).abs()
        sorted_oddity, order = oddity.sort(dim=-1)
        mass = logits.gather(-1, order).softmax(dim=-1).cumsum(dim=-1)
        last = (mass < self.typical_p).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
        return oddity > sorted_oddity.gather(-1, last)

    @property
    def id(self) -> str:
        """Eight hexadecimal digits, the same for the same knobs."""
        # A whole number given as a float is the same knob: 1 and 1.0, 0 and -0.0.
        knobs = asdict(self).items()
        return _short_hash({k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in knobs})

    def describe(self) -> dict[str, Any]:
        """Every knob and its value, and the id, for run.json."""
        return {"id": self.id, **asdict(self)}


def as_decoders(decoders: Any) -> list[Decoder]:
    """`decoders` as a list; `InputError` unless each is a `Decoder`, and no other's equal."""
    found: list[Any] = list(decoders) if isinstance(decoders, Iterable) else [None]
    if not all(isinstance(decoder, Decoder) for decoder in found):
        raise InputError(f"decoders is {quoted(decoders)}; it must be a list of Decoder, such as [Decoder(0.7)].")
    if len(set(found)) < len(found):
        raise InputError(f"decoders is {quoted(decoders)}; each may occur once.")
    return found


def due(problems: Sequence[Any], decoders: Sequence[Decoder], asked: Asking) -> list[Decoder]:
    """Those of `decoders` that have draws to make; `InputError` where there are none, or no `problems`."""
    found = [decoder for decoder in as_decoders(decoders) if decoder.n_draws(asked.runs) > asked.first_run]
    if not problems or not found:
        raise InputError("there is nothing to sample: no problems, no decoders or no further runs.")
    return found


def decoders_id(decoders: Sequence[Decoder]) -> str:
    """Eight hexadecimal digits for a whole sweep, the same for the same decoders in the same order."""
    return _short_hash([decoder.id for decoder in decoders])


def _short_hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def stops(before: str, piece: str, strings: Sequence[str]) -> bool:
    """Whether one of `strings` ends within `piece`, which follows the text `before`."""
    text = before + piece
    return any(text.find(string, max(0, len(before) - len(string) + 1)) >= 0 for string in strings)


def pure(temperature: float, **knobs: Any) -> Decoder:
    """Temperature alone."""
    return Decoder(temperature=temperature, **knobs)


def as_shipped(temperature: float, generation_config: Any, **knobs: Any) -> Decoder:
    """What ``model.generate(temperature=...)`` would do with this checkpoint, as explicit values.

    `generation_config` is the checkpoint's own. Where it leaves `top_k` unset, transformers samples with 50.
    Greedy decoding inherits the repetition penalty and the stop strings only. What stands in `knobs` overrides it all.
    Raises `InputError` for a knob that this engine lacks.
    """
    fields = vars(type(generation_config)())  # what else a checkpoint's file holds, transformers does not read
    for knob, value in generation_config.to_diff_dict().items():
        passed_over = knob in HANDLED | HARMLESS or knob.startswith(HARMLESS_STEMS) or knob not in fields
        empty = not value and not knob.startswith("forced_")  # a forced token may be the one numbered 0
        if not (passed_over or empty or value == NEUTRAL.get(knob)):
            raise InputError(
                f"decoding is 'as_shipped' and the checkpoint sets {knob}={value!r}, which is not supported."
            )
    strings = generation_config.stop_strings or ()
    inherited: dict[str, Any] = {"stop_strings": (strings,) if isinstance(strings, str) else strings}
    names = {"repetition_penalty": 1.0}
    if temperature > 0:
        names |= {"top_k": 50, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}
    for name, unset in names.items():
        value = getattr(generation_config, name)
        inherited[name] = unset if value is None else value
    return Decoder(temperature=temperature, **inherited | knobs)
