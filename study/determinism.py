"""How far results depend on what is computed together: the same problems at once and one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel.decoding import Decoder, as_decoders
from lmrel.engine.forest import walk
from lmrel.engine.sampler import Sampler, Uniforms
from lmrel.errors import InputError, check_count
from lmrel.problems import as_rows
from lmrel.tokens import PieceReader, encode_problems, eos_ids


def determinism(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: pd.DataFrame,
    decoders: Sequence[Decoder],
    *,
    runs: int = 4,
    seed: int = 0,
    prompt_style: str = "few_shot",
    probed: int = 4,
) -> dict[str, Any]:
    """How far results depend on what is computed together: the first `probed` problems at once and one by one.

    Keys ``problems``, ``draws``, ``flipped`` (draws with another token somewhere), ``max_logit_difference`` (over the
    nodes that both have; raw logits, of which two that are infinite alike differ by 0).
    """
    check_count("runs", runs)
    check_count("probed", probed)
    rows, decoders = as_rows(problems)[:probed], as_decoders(decoders)
    if not rows or not decoders:
        raise InputError("there is nothing to probe: no problems or no decoders.")
    encoded = encode_problems(rows, prompt_style, tokenizer)
    names = [row["problem_id"] for row in rows]
    eos, reader = eos_ids(model, tokenizer), PieceReader(tokenizer)

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

    together_texts, together = grown(slice(0, len(rows)))
    flipped, difference = 0, 0.0
    for i in range(len(rows)):
        texts, alone = grown(slice(i, i + 1))
        flipped += sum(together_texts[draw] != ids for draw, ids in texts.items())
        shared = alone.keys() & together.keys()
        difference = max(difference, *(float((alone[p] - together[p]).abs().nan_to_num().max()) for p in shared))
    return {
        "problems": len(rows),
        "draws": len(together_texts),
        "flipped": flipped,
        "max_logit_difference": difference,
    }
