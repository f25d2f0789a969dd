"""Whether sampling sends tokens to other experts, and whether that tells of errors: the paper's own hypothesis.

A draw is compared with the greedy draw of its problem, position by position. Where both have read the same tokens they
have the same experts; so what counts is what routing says beyond where the tokens part. Which token was drawn there is
not taken out: routes are a function of the tokens read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from book.analysis.trends import holm, logistic
from book.figures.text import plain
from lmrel.errors import InputError, needs_columns
from lmrel.problems import as_rows
from lmrel.tokens import encode_problems


@torch.inference_mode()
def routes(model: PreTrainedModel, prompt: Sequence[int], text: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The experts of each token of `text` but its last, bool (tokens, layers, experts), and routing entropy in nats.

    The last token is never read, so it is sent nowhere. Raises `InputError` for a model without experts.
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
    """One row per sampled draw that shares a position with its problem's greedy draw.

    Columns ``problem_id, temperature, run, wrong, greedy_wrong, tokens, experts, entropy``: whether the draw and the
    greedy one are wrong; over the positions that both have, the share at which the draw has read other tokens by then;
    the mean share of experts that differ, over layers; and the draw's mean routing entropy.
    """
    prompts = encode_problems(as_rows(problems), prompt_style, tokenizer)
    for column in ("problem_id", "temperature", "run", "correct", "token_ids"):
        if column not in getattr(draws, "columns", ()):
            raise InputError(f"the draws have no column {column!r}.")
    prompt_of = dict(zip(problems["problem_id"], prompts, strict=True))
    known: dict[tuple[str, tuple[int, ...]], tuple[Tensor, Tensor]] = {}

    def of(name: str, text: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        if (name, text) not in known:
            known[name, text] = routes(model, prompt_of[name], text)
        return known[name, text]

    columns = draws[["problem_id", "temperature", "run", "correct", "token_ids"]]
    read = [{**row, "text": tuple(map(int, row["token_ids"]))} for row in columns.to_dict("records")]
    greedy = {row["problem_id"]: row for row in read if row["temperature"] == 0}
    found = []
    for draw in (row for row in read if row["temperature"] > 0):
        first = greedy[draw["problem_id"]]
        mine, theirs = draw["text"], first["text"]
        shared = min(len(mine), len(theirs)) - 1
        if shared < 1:
            continue
        (chosen, entropy), (others, _) = of(draw["problem_id"], mine), of(draw["problem_id"], theirs)
        both = (chosen[:shared] & others[:shared]).sum(dim=-1) / chosen[:shared].sum(dim=-1)
        parted = np.cumsum([a != b for a, b in zip(mine[:shared], theirs[:shared], strict=True)]) > 0
        row = {name: draw[name] for name in ("problem_id", "temperature", "run")} | {"wrong": not draw["correct"]}
        row["greedy_wrong"] = not first["correct"]
        row |= {"tokens": float(parted.mean()), "experts": 1 - float(both.mean()), "entropy": float(entropy.mean())}
        found.append(row)
    return pd.DataFrame(found)


def _parted(table: pd.DataFrame) -> pd.DataFrame:
    """The draws that parted from the greedy one at all: the others are no test."""
    return table[table["tokens"] > 0]


@needs_columns("wrong", "greedy_wrong", "tokens", "experts", "problem_id")
def beyond_tokens(table: pd.DataFrame) -> pd.DataFrame:
    """Whether ``experts`` tells of errors beyond ``tokens``: log-odds of a wrong answer, rows of `trends.logistic`.

    Of the draws that parted, those whose greedy answer is wrong: to part from a right one is an error by itself.
    """
    parted = _parted(table)
    parted = parted[parted["greedy_wrong"]]
    return logistic(parted["wrong"], parted[["tokens", "experts"]], parted["problem_id"])


def _counted(draws: pd.DataFrame, wrong: bool) -> str:
    return f"{(draws['wrong'] == wrong).sum()} of {len(draws)}"


def divergence_table(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """`divergence` and `beyond_tokens` of several models, as text; p-values adjusted by Holm's method."""
    tests = {name: beyond_tokens(table) for name, table in found.items()}
    adjusted = holm({name: float(test["p"]["experts"]) for name, test in tests.items()})
    rows = []
    for name, table in found.items():
        means, experts = table[["tokens", "experts", "entropy"]].mean(), tests[name].loc["experts"]
        parted = _parted(table)
        row = {"model": name, "positions after parting": f"{means['tokens']:.0%}"}
        row |= {"experts that differ there": f"{means['experts'] / means['tokens']:.0%}"}
        row |= {"routing entropy, nats": f"{means['entropy']:.2f}"}
        row |= {"parted from right: wrong": _counted(parted[~parted["greedy_wrong"]], wrong=True)}
        row |= {"parted from wrong: right": _counted(parted[parted["greedy_wrong"]], wrong=False)}
        row |= {"slope of experts": f"{experts['slope']:+.1f} [{experts['low']:+.1f}, {experts['high']:+.1f}]"}
        rows.append(row | {"p": f"{adjusted[name]:.2g}"})
    return plain(pd.DataFrame(rows))
