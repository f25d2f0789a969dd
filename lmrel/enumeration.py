"""The call that gives exact outcomes at every temperature, with bounds; ``engine/enumerator.py`` does the search.

The probability of each prefix is known at all temperatures of a grid at once, since its logits depend on none. The tree
grows best first: by the highest probability, over the grid, of what is still undecided. What was not followed
counts as unknown, so the truth lies between the bounds wherever the walk stops (up to the model's own arithmetic).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel.decoding import Decoder
from lmrel.engine.automaton import Lexer
from lmrel.engine.enumerator import METRICS, Enumerator
from lmrel.engine.forest import walk
from lmrel.engine.memory import free_memory, in_halves
from lmrel.engine.probes import check_model, check_tree
from lmrel.errors import InputError
from lmrel.parameters import Enumeration, Stop
from lmrel.problems import as_rows
from lmrel.tokens import PieceReader, encode_problems, eos_ids

CHUNK = 64  # problems whose trees grow together


def enumerate_outcomes(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: pd.DataFrame,
    temperatures: Iterable[float],
    *,
    tolerance: float = 0.01,
    max_nodes: int = 1000,
    prompt_style: str = "few_shot",
    max_new_tokens: int = 16,
    stop: Stop = "decided",
    chunk: int = CHUNK,
    **knobs: Any,
) -> pd.DataFrame:
    """Bounds on what sampling does with each problem: columns ``problem_id, temperature, metric, lower, upper``.

    Metrics are probabilities that an answer is ``correct`` (its first integer), ``compliant`` (only a number),
    ``strict`` (both) and ``finished`` (end of text within `max_new_tokens`), and ``mean_logprob``, the expected mean
    log-prob per token, raw, in nats. A problem's tree grows until the first three are known to `tolerance` at every
    temperature or until it has `max_nodes` nodes; then the bounds are as wide as they are. Temperature 0 is greedy.

    With ``stop="decided"`` a branch is closed once nothing later can change the first three; how it ends is
    then unknown, and ``finished`` and ``mean_logprob`` are bounded only. ``"eos"`` follows each branch to its end and
    holds ``finished`` to the tolerance too. ``attrs["nodes"]`` is the number of nodes computed.
    `knobs` are those of a `Decoder` beside temperature, such as ``top_p=0.8``; without any sampling is pure. Repetition
    penalty and stop strings are not supported. Raises `InputError` for parameters out of range.
    """
    asked = Enumeration(temperatures, tolerance, max_nodes, prompt_style, chunk)  # type: ignore[arg-type]
    decoders = [Decoder(t, max_new_tokens=max_new_tokens, stop=stop, **knobs) for t in asked.temperatures]
    if any(decoder.repetition_penalty != 1 or decoder.stop_strings for decoder in decoders):
        raise InputError("enumeration supports no repetition_penalty and no stop_strings.")
    rows = as_rows(problems)
    if not rows:
        raise InputError("there is nothing to enumerate: no problems.")
    encoded = encode_problems(rows, asked.prompt_style, tokenizer)
    check_model(model, encoded, decoders[0].max_new_tokens)
    check_tree(model, encoded, decoders[0].max_new_tokens)
    eos, vocabulary = eos_ids(model, tokenizer), model.config.get_text_config().vocab_size
    lexer = Lexer(PieceReader(tokenizer, eos), vocabulary, [int(row["answer"]) for row in rows], model.device)

    def grow(block: slice) -> tuple[Tensor, Tensor, int]:
        enumerator = Enumerator(
            lexer.of(block), decoders, eos, asked.tolerance, asked.max_nodes, decoders[0].max_new_tokens, stop == "eos"
        )
        nodes = walk(model, encoded[block], enumerator.children, budget=0.8 * free_memory(model.device))
        return *enumerator.bounds(), nodes

    chunks = [slice(start, min(start + asked.chunk, len(rows))) for start in range(0, len(rows), asked.chunk)]
    parts = [part for whole in chunks for _, part in in_halves(whole, grow)]
    lowers, uppers, nodes = zip(*parts, strict=True)
    lower, upper = (torch.cat(column).cpu().flatten().numpy() for column in (lowers, uppers))
    index = pd.MultiIndex.from_product(
        [[row["problem_id"] for row in rows], [float(decoder.temperature) for decoder in decoders], METRICS],
        names=["problem_id", "temperature", "metric"],
    )
    table = index.to_frame(index=False).assign(lower=lower, upper=upper)
    table.attrs["nodes"] = sum(nodes)
    return table
