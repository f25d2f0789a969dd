"""The prefixes of answers: those that draws passed through, and those that matter under given decoders, exactly.

A prefix is the tokens of an answer so far; the empty one is the end of the prompt. When a text ends, and what it says,
is the caller's rule: the module knows no tokenizer and no problem.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lmrel.decoding import Decoder
from lmrel.engine.forest import walk

Prefix = tuple[int, ...]
Rule = Callable[[Prefix, Tensor], Tensor]


def distinct_prefixes(draws: pd.DataFrame, problems: pd.DataFrame) -> list[list[Prefix]]:
    """The prefixes that the draws of each problem passed through, in the order of `problems`, parents first.

    These are the nodes that any engine has to compute. The last token of a draw is never read, so a whole text is none
    of them unless another draw goes on from there. Needs ``problem_id, token_ids`` of draws.
    """
    texts: dict[str, set[Prefix]] = defaultdict(set)
    for name, ids in zip(draws["problem_id"].tolist(), draws["token_ids"].tolist(), strict=True):
        texts[name].add(tuple(ids))
    return [
        sorted({text[:n] for text in texts[name] for n in range(len(text))}, key=lambda prefix: (len(prefix), prefix))
        for name in problems["problem_id"]
    ]


class Node(NamedTuple):
    """A prefix that was computed."""

    parent: int  # its number; -1 for the empty prefix
    prefix: Prefix
    mass: Tensor  # (decoders,), float64: the probability that an answer begins with the prefix


def follow_prefixes(
    model: PreTrainedModel, prompt: Sequence[int], decoders: Sequence[Decoder], rule: Rule, longest: int
) -> tuple[list[Node], Tensor]:
    """The prefixes shorter than `longest` tokens to which `rule` leads, parents first, and their raw logits.

    ``rule(prefix, mass)`` is given a prefix and the probability, (decoders, vocabulary) in float64, that an answer
    begins with it and goes on with each token. It returns which of these tokens to follow, boolean (vocabulary,). The
    logits are (nodes, vocabulary), as the model gives them.
    """
    nodes = [Node(-1, (), torch.ones(len(decoders), dtype=torch.double))]
    computed: list[Tensor] = []

    def children(numbers: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        computed.append(logits)
        first = len(nodes)
        level = [(number, nodes[number]) for number in numbers.tolist()]
        seen = torch.zeros(logits.shape, dtype=torch.bool)  # what a repetition penalty goes by
        for row, (_, node) in zip(seen, level, strict=True):
            row[[*prompt, *node.prefix]] = True
        shares = torch.stack([decoder.distribution(logits.cpu(), seen) for decoder in decoders], dim=1)
        for (number, (_, prefix, mass)), share in zip(level, shares, strict=True):
            onward = mass[:, None] * share
            # The rule sees the longest prefixes too: an answer may end there, though nothing goes on.
            for token in rule(prefix, onward).nonzero().flatten().tolist():
                if len(prefix) + 1 < longest:
                    nodes.append(Node(number, (*prefix, token), onward[:, token]))
        grown = [(node.parent, node.prefix[-1]) for node in nodes[first:]]
        parents, tokens = torch.tensor(grown, dtype=torch.long, device=logits.device).reshape(-1, 2).unbind(1)
        return parents, tokens

    walk(model, [prompt], children, onward=True)
    return nodes, torch.cat(computed)
