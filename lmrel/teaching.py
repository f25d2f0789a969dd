"""What the lessons compute: a next token's logits, draws by hand, and all answers to one problem.

A table of tokens has a row per token of the vocabulary, likeliest first, with columns ``token, logit``. Problems are
shown in the few-shot style. Figures are `lmrel.teaching_charts`' business.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from lmrel.agreement import majority_at_k
from lmrel.charts import enable
from lmrel.decoding import MAX_TEMPERATURE, Decoder
from lmrel.errors import InputError, check_count, check_number, reads
from lmrel.metrics import temperature_name
from lmrel.probes import check_model
from lmrel.problems import Problem, solve
from lmrel.prompts import encode_problems
from lmrel.tables import plain
from lmrel.tree import eos_ids

STYLE = "few_shot"


def set_up() -> None:
    """Charts shown as in the book, and no progress bars, which would differ from run to run."""
    enable()
    logging.disable_progress_bar()


def shown(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """A table for the page: fractions with that many digits, everything as text, no index."""
    number = f"{{:.{digits}f}}".format
    return plain(table.apply(lambda column: column.map(number) if column.dtype.kind == "f" else column))


def arithmetic(x: int, y: int, z: int, w: int) -> dict[str, Any]:
    """The problem ``(x - y) * z + w``, a row for `lmrel.sample` and all that is here."""
    problem: dict[str, Any] = {"task": "arithmetic", "x": x, "y": y, "z": z, "w": w}
    return problem | {"answer": solve(problem), "problem_id": f"({x} - {y}) * {z} + {w}"}


@functools.lru_cache(maxsize=4)
def _in_64_bits(model: PreTrainedModel) -> PreTrainedModel:
    return copy.deepcopy(model).double()


def next_logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problem: Problem, answers: Sequence[Sequence[int]]
) -> Tensor:
    """Raw logits, float64 (answers, vocabulary), of what follows the prompt and each of `answers`, equally long ids.

    They are computed in 64 bits, so that the digits shown are the same on every machine: for small models only.
    """
    return _logits(model, tokenizer, problem, answers)[:, -1]


def _logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problem: Problem, answers: Sequence[Sequence[int]]
) -> Tensor:
    """Of what follows the prompt and each beginning of each of `answers`: (answers, tokens of one + 1, vocabulary)."""
    (prompt,) = encode_problems([problem], STYLE, tokenizer)
    check_model(model, [prompt], len(answers[0]))
    rows = torch.tensor([[*prompt, *answer] for answer in answers], device=model.device)
    with torch.inference_mode():
        return _in_64_bits(model)(rows).logits[:, len(prompt) - 1 :].double().cpu()


def next_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problem: Problem, so_far: str = " "
) -> pd.DataFrame:
    """The table of tokens after the prompt and the answer `so_far`; an answer begins with a space."""
    ids = tokenizer.encode(so_far, add_special_tokens=False)
    logits = next_logits(model, tokenizer, problem, [ids])[0].tolist()
    tokens = [_named(tokenizer, token) for token in range(len(logits))]
    table = pd.DataFrame({"token": tokens, "logit": logits}).round({"logit": 4})
    return table.sort_values("logit", ascending=False, kind="stable", ignore_index=True)


def _named(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    return str(tokenizer.decode([token])).replace("\n", "⏎").replace(" ", "␣")


@reads("token", "logit")
def distribution(table: pd.DataFrame, temperature: float, **knobs: Any) -> pd.DataFrame:
    """`table` with each token's ``probability`` under a `Decoder` with these knobs; greedy puts all of it on one."""
    return table.assign(
        probability=Decoder(temperature, **knobs).chances(torch.tensor(table["logit"].to_numpy())).numpy()
    )


@reads("token", "logit")
def entropy(table: pd.DataFrame, temperatures: Sequence[float]) -> pd.DataFrame:
    """Columns ``temperature, bits, top``: Shannon's entropy of the next token, and the likeliest one's probability."""
    rows = []
    for temperature in temperatures:
        p = distribution(table, temperature)["probability"].to_numpy()
        bits = -(p[p > 0] * np.log2(p[p > 0])).sum()
        rows.append({"temperature": temperature, "bits": abs(float(bits)), "top": float(p.max())})
    return pd.DataFrame(rows)


def inverse_cdf(probabilities: Sequence[float] | np.ndarray, u: np.ndarray) -> np.ndarray:
    """For each `u` in [0, 1) the place at which the running sum of `probabilities` first exceeds it."""
    outside = np.extract(~((np.asarray(u) >= 0) & (np.asarray(u) < 1)), u)
    if len(outside):
        raise InputError(f"u holds {outside[0]}; it must hold numbers from 0 to below 1.")
    cumulative = np.cumsum(np.asarray(probabilities))
    return np.searchsorted(cumulative / cumulative[-1], u, side="right")


def gumbel_max(logits: Sequence[float] | np.ndarray, temperature: float, count: int, seed: int) -> np.ndarray:
    """`count` draws, as places: the highest of logit / T plus Gumbel noise, which is -log(-log u) (Gumbel 1954)."""
    check_number("temperature", temperature, 0.0, MAX_TEMPERATURE, open_below=True)
    u = np.random.default_rng(seed).random((count, len(logits)))
    return np.asarray((np.asarray(logits) / temperature - np.log(-np.log(u))).argmax(axis=1))


@reads("token", "logit")
def draw_both_ways(table: pd.DataFrame, temperature: float, count: int, seed: int = 0, top: int = 6) -> pd.DataFrame:
    """Of the `top` tokens the probability and the share of `count` draws each way: columns ``token, way, share``."""
    check_count("count", count)
    p = distribution(table, temperature)["probability"].to_numpy()
    uniform = np.random.default_rng(seed).random(count)
    ways = {"probability": p}
    ways["inverse CDF"] = np.bincount(inverse_cdf(p, uniform), minlength=len(p)) / count
    ways["Gumbel-max"] = (
        np.bincount(gumbel_max(table["logit"].to_numpy(), temperature, count, seed + 1), minlength=len(p)) / count
    )
    parts = [pd.DataFrame({"token": table["token"], "way": way, "share": share})[:top] for way, share in ways.items()]
    return pd.concat(parts, ignore_index=True)


def token_by_token(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problem: Problem, text: str, temperature: float = 1.0
) -> pd.DataFrame:
    """How likely the answer `text` is, token by token: ``token, probability, product`` (of those so far)."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    chances = Decoder(temperature).chances(_logits(model, tokenizer, problem, [ids])[0])
    p = np.array([chances[place, token].item() for place, token in enumerate(ids)])
    tokens = [_named(tokenizer, token) for token in ids]
    return pd.DataFrame({"token": tokens, "probability": p, "product": p.cumprod()})


def all_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problem: Problem,
    temperatures: Sequence[float],
    *,
    least: float = 1e-3,
    longest: int = 8,
) -> pd.DataFrame:
    """Every answer, to its line's end, that has a chance of `least` at some temperature, with its exact chance.

    Columns ``answer, temperature, probability``, likeliest first at the first temperature. Level by level, each prefix
    that is likely enough is followed; the last rows, ``(all others)``, are what was not, or passed `longest` tokens.
    """
    check_number("least", least, 0.0, 1.0, open_below=True)
    check_count("longest", longest)
    if not len(temperatures):
        raise InputError("there is no temperature at which to look for answers.")
    ends = set(eos_ids(model, tokenizer))
    level: dict[tuple[int, ...], np.ndarray] = {(): np.ones(len(temperatures))}
    found: dict[str, np.ndarray] = {}
    while level and len(next(iter(level))) < longest:
        logits = next_logits(model, tokenizer, problem, list(level))
        tempered = torch.stack([Decoder(t).chances(logits) for t in temperatures], dim=-1).numpy()
        following: dict[tuple[int, ...], np.ndarray] = {}
        for (prefix, mass), shares in zip(level.items(), tempered, strict=True):
            chances = mass * shares
            for token in np.flatnonzero(chances.max(axis=-1) >= least).tolist():
                if token in ends or "\n" in tokenizer.decode([token]):
                    text = tokenizer.decode(prefix).strip()
                    found[text] = found.get(text, 0.0) + chances[token]
                else:
                    following[*prefix, token] = chances[token]
        level = following
    order = sorted(found, key=lambda text: -found[text][0])
    shares = np.array([found[text] for text in order]).reshape(len(order), len(temperatures))
    shares = np.vstack([shares, (1 - shares.sum(axis=0)).clip(min=0)])
    index = pd.MultiIndex.from_product([[*order, "(all others)"], temperatures], names=["answer", "temperature"])
    return pd.DataFrame({"probability": shares.ravel()}, index=index).reset_index()


@reads("temperature", "problem_id", "extracted", "expected")
def majority(draws: pd.DataFrame, sizes: Sequence[int]) -> pd.DataFrame:
    """Accuracy of a vote among k draws: columns ``temperature, k, accuracy``, means over problems (sampled only)."""
    rows = []
    for temperature, some in draws[draws["temperature"] > 0].groupby("temperature"):
        votes = [(own["extracted"].tolist(), int(own["expected"].iloc[0])) for _, own in some.groupby("problem_id")]
        votes = [([None if pd.isna(answer) else answer for answer in answers], right) for answers, right in votes]
        for k in sizes:
            mean = float(np.mean([majority_at_k(answers, right, k) for answers, right in votes]))
            rows.append({"temperature": temperature_name(float(str(temperature))), "k": k, "accuracy": mean})
    return pd.DataFrame(rows)


@reads("problem_id", "run", "correct", "text")
def right_or_wrong(draws: pd.DataFrame) -> pd.DataFrame:
    """A row per draw, ready for `runs_grid`: columns ``problem, run, outcome, text``, hardest problem last."""
    share = draws.groupby("problem_id")["correct"].transform("mean")
    table = draws.assign(share=share).sort_values(["share", "problem_id", "run"], ascending=[False, True, True])
    outcome = table["correct"].map({True: "right", False: "wrong"})
    shown = table["text"].str.strip().str.split("\n").str[0]
    return pd.DataFrame({"problem": table["problem_id"], "run": table["run"] + 1, "outcome": outcome, "answer": shown})
