"""From problems and decoders to a table of draws: chunks that fit into memory, rows joined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel import records
from lmrel.decoding import Decoder, due
from lmrel.engine.forest import shared_header
from lmrel.engine.memory import check_size, free_memory, in_halves, rows_that_fit
from lmrel.engine.probes import check_model, check_tree
from lmrel.engine.sampler import Draws, sample_chunk
from lmrel.errors import InputError
from lmrel.parameters import ChatTemplate, PromptStyle, Sampling
from lmrel.precision import precision_of
from lmrel.problems import Problem, as_rows, extra_columns
from lmrel.registry import label
from lmrel.rescoring import judged, labels_of, of_problems
from lmrel.tokens import AS_IS, Prepared, encode_problems, eos_ids, written


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: pd.DataFrame,
    decoders: Sequence[Decoder],
    *,
    runs: int = 4,
    first_run: int = 0,
    seed: int = 0,
    prompt_style: PromptStyle = "few_shot",
    template: str | None = None,
    system: str | None = None,
    chat_template: ChatTemplate = "auto",
    chat_template_kwargs: dict[str, Any] | None = None,
    answer: str = "first",
    chunk: int | None = None,
    model_name: str | None = None,
    decoding: str | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Every draw of every decoder for every problem, with the columns of `records.DRAWS_SCHEMA`.

    Rows stand in the order of `problems`, then `decoders`, then runs. A greedy decoder has one run, the others
    `runs`. A draw depends on (seed, problem id, run) and the model's logits only: `chunk` (problems per forward;
    None fits it to free memory) and the order or selection of problems change nothing but rounding.
    With a `first_run` only draws from that run on are made, of a greedy decoder none, to extend a table of the others.
    With ``stop="decided"`` answers, correctness and compliance are those of ``"eos"``; a text that was cut short has no
    failure class, and its tokens, log-probs and `finished` are those of the part that was drawn.
    Prompts are in one of the paper's styles, or as the file `template` says, which holds ``{question}``; for `system`,
    `chat_template` and `chat_template_kwargs` see `tokens.encode`. Answers are read by the rule `answer`: see
    `extract_answer`. `model_name` and `decoding` are labels; by default they are the checkpoint's folder, and
    ``"pure"`` or ``"custom"``.
    Raises `InputError` for parameters out of range and for prompts that do not fit the model.
    """
    shape = (template, system, chat_template, chat_template_kwargs)
    asked = Sampling(runs, first_run, seed, prompt_style, *shape, answer, model_name, decoding, chunk)
    rows = as_rows(problems)
    decoders = due(rows, decoders, asked)
    check_size(len(rows) * sum(decoder.n_draws(asked.runs) for decoder in decoders))
    if any(decoder.stop == "decided" for decoder in decoders):
        check_decidable(rows, answer)
    prepared = Prepared(rows, encode_problems(rows, prompt_style, tokenizer, *shape))
    longest = max(decoder.max_new_tokens for decoder in decoders)
    check_model(model, prepared.ids, longest)
    check_tree(model, prepared.ids, longest)
    return draw(model, tokenizer, prepared, decoders, asked, progress)


def check_decidable(rows: Sequence[Problem], answer: str) -> None:
    """Raise `InputError` where a text cannot be ended once its outcome is decided: that is followed for integers."""
    if answer != "first" or not all(isinstance(row["answer"], int) for row in rows):
        raise InputError("stop='decided' follows the first integer of a text; other rules and answers need stop='eos'.")


def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prepared: Prepared,
    decoders: Sequence[Decoder],
    asked: Sampling,
    progress: bool = False,
) -> pd.DataFrame:
    """`sample` behind its door: everything was checked, and every decoder has draws to make."""
    pieces: list[tuple[slice, Draws]] = []
    bar = tqdm(total=len(prepared), unit="problem", disable=not progress)

    def of(part: slice) -> Draws:
        some, budget = prepared[part], 0.8 * free_memory(model.device)
        return sample_chunk(
            model, tokenizer, some.ids, some.names, decoders, asked.runs, asked.seed, budget, asked.first_run
        )

    length, shared, done = max(map(len, prepared.ids)), shared_header(prepared.ids), 0
    size = asked.chunk or rows_that_fit(model, length, shared, decoders, asked.runs)
    while done < len(prepared):
        whole, widest = slice(done, min(done + size, len(prepared))), 0.0
        for part, draws in in_halves(whole, of):
            pieces.append((part, draws))
            widest = max(widest, draws.widest / (part.stop - part.start))
            bar.update(part.stop - part.start)
        done = whole.stop
        if asked.chunk is None:  # twice what these problems needed, for the next
            size = rows_that_fit(model, length, shared, decoders, asked.runs, 2 * math.ceil(widest))
    bar.close()
    labels = labels_of(asked, decoders, label(model.config.name_or_path), precision_of(model))
    ends = set(eos_ids(model, tokenizer))
    frames = [_frame(draws, prepared[part], tokenizer, decoders, ends, labels, asked.answer) for part, draws in pieces]
    table = pd.concat(frames, ignore_index=True)
    return table[[*records.DRAWS_SCHEMA.names, *extra_columns(prepared.rows)]]


def _frame(
    draws: Draws,
    prepared: Prepared,
    tokenizer: PreTrainedTokenizerBase,
    decoders: Sequence[Decoder],
    ends: set[int],
    labels: Mapping[str, str],
    answer: str,
) -> pd.DataFrame:
    """The rows of one chunk. Everything about an answer or a problem is worked out once and shared by its draws."""
    row_of_answer = np.empty(len(draws.token_ids), dtype=int)
    row_of_answer[draws.answer] = draws.row
    asked = of_problems(prepared.rows, [tokenizer.decode(ids, **AS_IS) for ids in prepared.ids]).assign(**labels)
    answers = pd.DataFrame(
        {
            "text": [written(ids, tokenizer, ends) for ids in draws.token_ids],
            "token_ids": draws.token_ids,
            "n_tokens": [len(ids) for ids in draws.token_ids],
            "finished": [ids[-1] in ends for ids in draws.token_ids],
            "mean_logprob": [raw / len(ids) for ids, raw in zip(draws.token_ids, draws.raw, strict=True)],
            "expected": asked.pop("expected").take(row_of_answer).to_numpy(),
        }
    )
    # How an answer ended depends on the decoder, so it is judged once for each decoder that drew it.
    pairs, which = np.unique(draws.answer * len(decoders) + draws.decoder, return_inverse=True)
    answer_of, decoder_of = np.divmod(pairs, len(decoders))
    found = answers.take(answer_of).reset_index(drop=True)
    rows = zip(decoder_of, found["text"], found["n_tokens"], found["finished"], strict=True)
    found["ended"] = ["eos" if finished else _cut(decoders[d], text, n) for d, text, n, finished in rows]
    found = judged(found, answer)
    cut_short = np.asarray([decoder.stop == "decided" for decoder in decoders])[decoder_of]
    found["failure"] = found["failure"].mask(cut_short)
    drawn_by = pd.DataFrame([decoder.columns for decoder in decoders])
    parts = (asked.take(draws.row), drawn_by.take(draws.decoder), found.take(which))
    frame = pd.concat([part.reset_index(drop=True) for part in parts], axis=1)
    return frame.assign(run=draws.run, mean_logprob_processed=draws.processed / frame["n_tokens"].to_numpy())


def _cut(decoder: Decoder, text: str, n_tokens: int) -> str:
    """Why a text ended that did not end by itself, as the column ``ended`` names it."""
    if any(string in text for string in decoder.stop_strings):
        return "stop_string"
    return "length" if n_tokens >= decoder.max_new_tokens else "decided"
