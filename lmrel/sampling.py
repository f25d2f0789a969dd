"""From problems and decoders to a table of draws: chunks that fit into memory, rows joined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel import records
from lmrel.answers import extract_answer, sole_number
from lmrel.decoding import Decoder, as_decoders
from lmrel.errors import MAX_RUNS, InputError, check_count, shown
from lmrel.failures import paper_failure
from lmrel.forest import bytes_of_prompts, bytes_per_token
from lmrel.memory import free_memory, in_halves
from lmrel.models import precision_of
from lmrel.probes import check_model, check_tree
from lmrel.problems import as_rows
from lmrel.prompts import encode_problems
from lmrel.tree import AS_IS, Draws, eos_ids, sample_chunk

INT64 = np.iinfo(np.int64)
DRAW_BYTES = 1000  # at least, of a draw in a table; `study.ROW_MB` is what one takes at its summary


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
            raise InputError(f"{name} is {shown(label)}; it must be None or a text.")
    if isinstance(first_run, bool) or not isinstance(first_run, int) or first_run < 0:
        raise InputError(f"first_run is {shown(first_run)}; it must be an integer of at least 0.")
    rows = as_rows(problems)
    decoders = [decoder for decoder in as_decoders(decoders) if decoder.draws(runs) > first_run]
    if not rows or not decoders:
        raise InputError("there is nothing to sample: no problems, no decoders or no further runs.")
    check_size(len(rows) * sum(decoder.draws(runs) for decoder in decoders))
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
    size = chunk or _rows_that_fit(model, length, decoders, runs)
    while done < len(rows):
        whole, widest = slice(done, min(done + size, len(rows))), 0.0
        for part, draws in in_halves(whole, draw):
            pieces.append((part, draws))
            widest = max(widest, draws.widest / (part.stop - part.start))
            bar.update(part.stop - part.start)
        done = whole.stop
        if chunk is None:  # twice what these problems needed, for the next
            size = _rows_that_fit(model, length, decoders, runs, 2 * math.ceil(widest))
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
    return _rows_that_fit(model, max(map(len, encoded)), decoders, runs)


def _rows_that_fit(
    model: PreTrainedModel, length: int, decoders: Sequence[Decoder], runs: int, width: int | None = None
) -> int:
    """Rows for which half of the free memory suffices if a problem has `width` distinct nodes at a depth."""
    config = model.config.get_text_config()
    draws = sum(decoder.draws(runs) for decoder in decoders)
    width = min(draws, 16 * math.isqrt(draws) if width is None else max(width, 1))
    steps = max(decoder.max_new_tokens for decoder in decoders)
    cache = bytes_per_token(model) * 2 * width * steps + bytes_of_prompts(model, 1, length, length, length)
    logits = width * config.vocab_size * (model.dtype.itemsize + 1)
    scores = 16 * width * (length + steps) * config.num_attention_heads
    return max(1, int(free_memory(model.device) / 2 / (cache + logits + scores)))


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
        raise InputError(f"seed is {shown(seed)}; it must be an integer of at most 1024 bits.")


def check_size(draws: int) -> None:
    """Raise `InputError` if a table of so many draws, all of them in memory, is more than this machine can hold."""
    memory = psutil.virtual_memory().total
    if draws * DRAW_BYTES > memory:
        some = f"{draws:,}" if draws < 10**15 else "more than 10^15"
        raise InputError(
            f"these are {some} draws; a table of them does not fit into the memory of this machine, "
            f"{memory / 1e9:.0f} GB: use fewer runs, or shards of the problems."
        )
