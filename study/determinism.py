"""How far results depend on what is computed together: the same problems at once and one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel.decoding import Decoder
from lmrel.engine.forest import walk
from lmrel.engine.sampler import Sampler, Uniforms
from lmrel.tokens import PieceReader, Prepared, eos_ids


def determinism(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prepared: Prepared,
    decoders: Sequence[Decoder],
    runs: int = 4,
    seed: int = 0,
    probed: int = 4,
) -> dict[str, Any]:
    """How far results depend on what is computed together: the first `probed` problems at once and one by one.

    Keys ``problems``, ``draws``, ``flipped`` (draws with another token somewhere), ``max_logit_difference`` (over the
    nodes that both have; raw logits, of which two that are infinite alike differ by 0).
    """
    some = prepared[:probed]
    eos, reader, encoded, names = eos_ids(model, tokenizer), PieceReader(tokenizer), some.ids, some.names

    def grown(members: slice) -> tuple[dict[tuple[int, int], list[int]], dict[tuple[int, ...], torch.Tensor]]:
        sampler = Sampler(encoded[members], decoders, runs, Uniforms(seed, names[members]), eos, reader, model.device)
        prefixes: list[tuple[int, ...]] = [(members.start + i,) for i in range(len(encoded[members]))]
        found: dict[tuple[int, ...], torch.Tensor] = {}

        def children(numbers: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found.update(zip(prefixes[-len(numbers) :], logits.float(), strict=True))
            parent, token = sampler.children(numbers, logits)
            prefixes.extend((*prefixes[p], t) for p, t in zip(parent.tolist(), token.tolist(), strict=True))
            return parent, token

        draws = sampler.collect(walk(model, encoded[members], children, onward=True))
        per_row = len(draws.row) // len(encoded[members])
        texts = {
            (members.start + row, i % per_row): draws.token_ids[answer]
            for i, (row, answer) in enumerate(zip(draws.row.tolist(), draws.answer.tolist(), strict=True))
        }
        return texts, found

    together_texts, together = grown(slice(0, len(some)))
    flipped, difference = 0, 0.0
    for i in range(len(some)):
        texts, alone = grown(slice(i, i + 1))
        flipped += sum(together_texts[draw] != ids for draw, ids in texts.items())
        shared = alone.keys() & together.keys()
        difference = max(difference, *(float((alone[p] - together[p]).abs().nan_to_num().max()) for p in shared))
    return {
        "problems": len(some),
        "draws": len(together_texts),
        "flipped": flipped,
        "max_logit_difference": difference,
    }
