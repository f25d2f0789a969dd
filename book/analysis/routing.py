"""Whether sampling sends tokens to other experts, and whether that tells of errors: the paper's own hypothesis.

A draw is compared with the greedy draw of its problem, position by position. Where both have read the same tokens they
have the same experts, so the question is what routing says beyond the point where the tokens part. The effect of the
token drawn there is not taken out: routes are a function of the tokens read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from book.analysis.trends import logistic
from lmrel.errors import InputError
from lmrel.problems import as_rows
from lmrel.tokens import encode_problems


@torch.inference_mode()
def routes(model: PreTrainedModel, prompt: Sequence[int], text: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The experts to which each token of `text` is sent, and the entropy of the router's distribution over experts.

    Boolean (tokens - 1, layers, experts), and nats, (tokens - 1, layers): the last token is never read, so it is sent
    nowhere. `prompt` and `text` are token ids. Raises `InputError` for a model without experts.
    """
    config = model.config.get_text_config()
    if not hasattr(config, "num_experts_per_tok"):
        raise InputError(f"{type(model).__name__} has no experts.")
    ids = torch.tensor([[*prompt, *text[:-1]]], device=model.device)
    found = model(ids, use_cache=False, output_router_logits=True).router_logits
    logits = torch.stack([layer.float() for layer in found], dim=1)[len(prompt) :]
    chosen = torch.zeros_like(logits, dtype=torch.bool)
    chosen.scatter_(-1, logits.topk(config.num_experts_per_tok, dim=-1).indices, True)
    logprobs = logits.log_softmax(dim=-1)
    return chosen, -(logprobs.exp() * logprobs).sum(dim=-1)


def divergence(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: pd.DataFrame,
    draws: pd.DataFrame,
    prompt_style: str = "few_shot",
) -> pd.DataFrame:
    """How far each sampled draw is from the greedy draw of its problem: a row per draw that shares a position with it.

    Columns ``problem_id, temperature, run``; ``wrong, greedy_wrong``, whether the draw and the greedy one are wrong;
    over the positions that both have, ``tokens``, the share at which the draw has read other tokens by then, and
    ``experts``, the mean share of experts that differ, over layers; ``entropy``, the draw's mean routing entropy.
    """
    prompts = encode_problems(as_rows(problems), prompt_style, tokenizer)
    prompt_of = dict(zip(problems["problem_id"], prompts, strict=True))

    @cache  # draws often agree
    def routes_of(name: str, text: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return routes(model, prompt_of[name], text)

    columns = draws[["problem_id", "temperature", "run", "correct", "token_ids"]]
    rows = [{**row, "text": tuple(map(int, row["token_ids"]))} for row in columns.to_dict("records")]
    greedy = {row["problem_id"]: row for row in rows if row["temperature"] == 0}
    found = []
    for draw in (row for row in rows if row["temperature"] > 0):
        first = greedy[draw["problem_id"]]
        mine, theirs = draw["text"], first["text"]
        shared = min(len(mine), len(theirs)) - 1
        if shared < 1:
            continue
        (chosen, entropy), (others, _) = (routes_of(draw["problem_id"], text) for text in (mine, theirs))
        both = (chosen[:shared] & others[:shared]).sum(dim=-1) / chosen[:shared].sum(dim=-1)
        apart = np.cumsum([a != b for a, b in zip(mine[:shared], theirs[:shared], strict=True)]) > 0
        row = {name: draw[name] for name in ("problem_id", "temperature", "run")} | {"wrong": not draw["correct"]}
        row["greedy_wrong"] = not first["correct"]
        row |= {"tokens": float(apart.mean()), "experts": 1 - float(both.mean()), "entropy": float(entropy.mean())}
        found.append(row)
    return pd.DataFrame(found)


def parted(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `divergence` whose draws read other tokens than the greedy one; the others had its experts anyway."""
    return table[table["tokens"] > 0]


def beyond_tokens(table: pd.DataFrame) -> pd.DataFrame:
    """Whether ``experts`` tells of errors beyond ``tokens``: a logistic regression of ``wrong`` on both.

    Rows as of `trends.logistic`. Of the draws that parted, only those count whose greedy answer is wrong: to part from
    a right answer is an error by itself.
    """
    some = parted(table).query("greedy_wrong")
    return logistic(some["wrong"], some[["tokens", "experts"]], some["problem_id"])
