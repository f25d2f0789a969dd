"""From problems and decoders to a table of draws: chunks that fit into memory, rows joined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel import records
from lmrel.answers import extract_answer, paper_failure, sole_number
from lmrel.decoding import Decoder, as_decoders
from lmrel.engine.memory import (
    check_size,
    free_memory,
    in_halves,
    rows_that_fit_in_memory,
)
from lmrel.engine.probes import check_model, check_tree
from lmrel.engine.sampler import Draws, sample_chunk
from lmrel.errors import MAX_RUNS, InputError, check_count, quoted
from lmrel.precision import precision_of
from lmrel.problems import as_rows
from lmrel.tokens import AS_IS, encode_problems, eos_ids

INT64 = np.iinfo(np.int64)


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: pd.DataFrame,
    decoders: Sequence[Decoder],
    *,
    runs: int = 4,
    first_run: int = 0,
    seed: int = 0,
    prompt_style: str = "few_shot",
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
    `model_name` and `decoding` are labels; by default the checkpoint's folder name, and ``"pure"`` or ``"custom"``.
    Raises `InputError` for parameters out of range and for prompts that do not fit the model.
    """
    check_count("runs", runs, most=MAX_RUNS)
    check_count("chunk", chunk, optional=True)
    check_seed(seed)
    for name, label in (("model_name", model_name), ("decoding", decoding)):
        if label is not None and not isinstance(label, str):
            raise InputError(f"{name} is {quoted(label)}; it must be None or a text.")
    if isinstance(first_run, bool) or not isinstance(first_run, int) or first_run < 0:
        raise InputError(f"first_run is {quoted(first_run)}; it must be an integer of at least 0.")
    rows = as_rows(problems)
    decoders = [decoder for decoder in as_decoders(decoders) if decoder.n_draws(runs) > first_run]
    if not rows or not decoders:
        raise InputError("there is nothing to sample: no problems, no decoders or no further runs.")
    check_size(len(rows) * sum(decoder.n_draws(runs) for decoder in decoders))
    encoded = encode_problems(rows, prompt_style, tokenizer)
    check_model(model, encoded, max(decoder.max_new_tokens for decoder in decoders))
    check_tree(model, encoded[0])
    pieces: list[tuple[slice, Draws]] = []
    bar = tqdm(total=len(rows), unit="problem", disable=not progress)
    names = [row["problem_id"] for row in rows]

    def draw(part: slice) -> Draws:
        budget = 0.8 * free_memory(model.device)
        return sample_chunk(model, tokenizer, encoded[part], names[part], decoders, runs, seed, budget, first_run)

    length, done = max(map(len, encoded)), 0
    size = chunk or rows_that_fit_in_memory(model, length, decoders, runs)
    while done < len(rows):
        whole, widest = slice(done, min(done + size, len(rows))), 0.0
        for part, draws in in_halves(whole, draw):
            pieces.append((part, draws))
            widest = max(widest, draws.widest / (part.stop - part.start))
            bar.update(part.stop - part.start)
        done = whole.stop
        if chunk is None:  # twice what these problems needed, for the next
            size = rows_that_fit_in_memory(model, length, decoders, runs, 2 * math.ceil(widest))
    bar.close()
    all_pure = all(decoder.pure for decoder in decoders)
    labels = {
        "model": model_name or Path(model.config.name_or_path).name,
        "precision": precision_of(model),
        "prompt_style": prompt_style,
        "decoding": decoding or ("pure" if all_pure else "custom"),
    }
    eos = set(eos_ids(model, tokenizer))
    frames = [_frame(draws, rows[part], encoded[part], tokenizer, decoders, eos, labels) for part, draws in pieces]
    return pd.concat(frames, ignore_index=True)[records.DRAWS_SCHEMA.names]


def rows_that_fit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: pd.DataFrame,
    decoders: Sequence[Decoder],
    runs: int,
    prompt_style: str = "few_shot",
) -> int:
    """How many problems are expected to take half of the free memory, all draws of them together; at least 1.

    Raises `InputError` for prompts that do not fit the model.
    """
    encoded = encode_problems(as_rows(problems), prompt_style, tokenizer)
    check_model(model, encoded, max(decoder.max_new_tokens for decoder in decoders))
    return rows_that_fit_in_memory(model, max(map(len, encoded)), decoders, runs)


def _frame(
    draws: Draws,
    problems: list[dict[str, Any]],
    encoded: list[list[int]],
    tokenizer: PreTrainedTokenizerBase,
    decoders: Sequence[Decoder],
    eos: set[int],
    labels: dict[str, str],
) -> pd.DataFrame:
    """The rows of one chunk. Everything about an answer or a problem is worked out once and shared by its draws."""
    row_of_answer = np.empty(len(draws.token_ids), dtype=int)
    row_of_answer[draws.answer] = draws.row
    answers = []
    for ids, raw, row in zip(draws.token_ids, draws.raw, row_of_answer, strict=True):
        text = tokenizer.decode(ids, skip_special_tokens=True, **AS_IS)
        extracted, compliant = extract_answer(text)
        correct = extracted == problems[row]["answer"]
        sole = sole_number(text)
        answers.append(
            {
                "text": text,
                "token_ids": ids,
                "n_tokens": len(ids),
                "finished": ids[-1] in eos,
                "extracted": _in_64_bits(extracted),
                "correct": correct,
                "compliant": compliant,
                "sole": _in_64_bits(sole),
                "correct_sole": sole == problems[row]["answer"],
                "mean_logprob": raw / len(ids),
                "failure": paper_failure(text, extracted, correct, compliant),
            }
        )
    table = pd.DataFrame(answers)
    for name, kind in {"extracted": "Int64", "sole": "Int64", "correct_sole": "boolean"}.items():
        table[name] = pd.array([answer[name] for answer in answers], dtype=kind)  # type: ignore[call-overload]
    table["failure"] = table["failure"].astype("str")
    frame = table.take(draws.answer).reset_index(drop=True)
    cut_short = np.asarray([decoder.stop == "decided" for decoder in decoders])[draws.decoder]
    for name in ("failure", "sole", "correct_sole"):
        frame[name] = frame[name].mask(cut_short)
    asked = pd.DataFrame(
        {
            **labels,
            "problem_id": [problem["problem_id"] for problem in problems],
            "task": [problem["task"] for problem in problems],
            "prompt": [tokenizer.decode(ids, **AS_IS) for ids in encoded],
            "expected": [int(problem["answer"]) for problem in problems],
        }
    )
    temperature = np.asarray([float(decoder.temperature) for decoder in decoders])[draws.decoder]
    frame = pd.concat([asked.take(draws.row).reset_index(drop=True), frame], axis=1)
    return frame.assign(
        temperature=temperature, run=draws.run, mean_logprob_processed=draws.processed / frame["n_tokens"].to_numpy()
    )


def _in_64_bits(number: int | None) -> int | None:
    return number if number is not None and INT64.min <= number <= INT64.max else None


def check_seed(seed: Any) -> None:
    """Raise `InputError` unless `seed` is an integer, of some 300 digits at most."""
    if isinstance(seed, bool) or not isinstance(seed, int) or abs(seed) >= 1 << 1024:
        raise InputError(f"seed is {quoted(seed)}; it must be an integer of at most 1024 bits.")
