"""How far results depend on what is computed together: the same problems drawn at once and one by one.

In a batch of another shape a GPU may round otherwise, and a draw near a boundary becomes another token. Of runs and
their folders nothing is known here; `study.run` keeps what this finds in run.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel.decoding import Decoder
from lmrel.engine.forest import walk
from lmrel.engine.sampler import Sampler, Uniforms
from lmrel.tokens import PieceReader, Prepared, eos_ids

NOT_TRIED = {"problems": 0, "draws": 0, "flipped": 0, "max_logit_difference": 0.0}


def determinism(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prepared: Prepared,
    decoders: Sequence[Decoder],
    runs: int = 4,
    seed: int = 0,
    probed: int = 4,
) -> dict[str, Any]:
    """What changes when each of the first `probed` problems is drawn alone instead of together with the others.

    Returns the counts ``problems``, ``draws`` and ``flipped`` (draws with another token somewhere), and
    ``max_logit_difference``, over the prefixes that both ways computed: of raw logits, two infinite ones that are alike
    differing by 0.
    """
    some = prepared[:probed]
    eos = eos_ids(model, tokenizer)
    reader = PieceReader(tokenizer, eos)

    def drawn(members: slice) -> tuple[dict[tuple[int, int], list[int]], dict[tuple[int, ...], torch.Tensor]]:
        """Token ids of each draw, by problem and number; logits (vocabulary) after each prefix, by problem and ids."""
        ids = some.ids[members]
        sampler = Sampler(ids, decoders, runs, Uniforms(seed, some.names[members]), eos, reader, model.device)
        prefixes: list[tuple[int, ...]] = [(members.start + i,) for i in range(len(ids))]  # of the nodes, by number
        logits_after: dict[tuple[int, ...], torch.Tensor] = {}

        def children(numbers: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            # The walk goes layer by layer, so the nodes that it has logits of are the youngest.
            logits_after.update(zip(prefixes[-len(numbers) :], logits.float(), strict=True))
            parent, token = sampler.children(numbers, logits)
            prefixes.extend((*prefixes[p], t) for p, t in zip(parent.tolist(), token.tolist(), strict=True))
            return parent, token

        draws = sampler.collect(walk(model, ids, children, onward=True))
        per_problem = len(draws.row) // len(ids)
        tokens = {
            (members.start + row, i % per_problem): draws.token_ids[answer]
            for i, (row, answer) in enumerate(zip(draws.row.tolist(), draws.answer.tolist(), strict=True))
        }
        return tokens, logits_after

    together, logits_together = drawn(slice(0, len(some))) if len(some) else ({}, {})
    flipped, difference = 0, 0.0
    for i in range(len(some)):
        alone, logits_alone = drawn(slice(i, i + 1))
        flipped += sum(together[draw] != tokens for draw, tokens in alone.items())
        for prefix in logits_alone.keys() & logits_together.keys():
            # Two infinite logits that are alike differ by NaN.
            off = (logits_alone[prefix] - logits_together[prefix]).abs().nan_to_num().max()
            difference = max(difference, float(off))
    return {
        "problems": len(some),
        "draws": len(together),
        "flipped": flipped,
        "max_logit_difference": difference,
    }
