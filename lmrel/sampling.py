"""From problems and decoders to a table of draws: prompts in buckets, chunks that fit into memory, rows joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel import records
from lmrel.answers import extract_answer
from lmrel.decoding import Decoder
from lmrel.errors import InputError, check_count
from lmrel.failures import paper_failure
from lmrel.models import precision_of
from lmrel.prompts import encode, render
from lmrel.tree import AS_IS, Draws, eos_ids, sample_chunk, walk

INT64 = np.iinfo(np.int64)


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: pd.DataFrame,
    decoders: Sequence[Decoder],
    *,
    runs: int = 4,
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
    With ``stop="decided"`` answers, correctness and compliance are those of ``"eos"``; a text that was cut short has no
    failure class, and its tokens, log-probs and `finished` are those of the part that was drawn.
    `model_name` and `decoding` are labels; by default the checkpoint's folder name, and ``"pure"`` or ``"custom"``.
    Raises `InputError` for parameters out of range and for prompts that do not fit the model.
    """
    check_count("runs", runs)
    check_count("chunk", chunk, optional=True)
    check_seed(seed)
    if not len(problems) or not decoders:
        raise InputError("there is nothing to sample: no problems or no decoders.")
    rows: list[dict[str, Any]] = problems.to_dict("records")  # type: ignore[assignment]
    encoded = [encode(render(row, prompt_style), tokenizer) for row in rows]
    check_model(model, max(map(len, encoded)) + max(decoder.max_new_tokens for decoder in decoders))
    check_tree(model, encoded[0])
    pieces: list[tuple[list[int], Draws]] = []
    bar = tqdm(total=len(rows), unit="problem", disable=not progress)
    for members in _chunks(model, encoded, decoders, runs, chunk):
        prompts = torch.tensor([encoded[i] for i in members], device=model.device)
        names = [rows[i]["problem_id"] for i in members]
        for part, draws in _sample_or_halve(model, tokenizer, prompts, names, decoders, runs, seed):
            pieces.append(([members[i] for i in part], draws))
        bar.update(len(members))
    bar.close()
    eos = set(eos_ids(model, tokenizer))
    frames = [_frame(indices, draws, rows, encoded, tokenizer, decoders, eos) for indices, draws in pieces]
    frame = pd.concat(frames, ignore_index=True).sort_values(["_problem", "_decoder", "run"], ignore_index=True)
    all_pure = all(decoder.pure for decoder in decoders)
    return frame.assign(
        model=model_name or Path(model.config.name_or_path).name,
        precision=precision_of(model),
        prompt_style=prompt_style,
        decoding=decoding or ("pure" if all_pure else "custom"),
    )[records.DRAWS_SCHEMA.names]


def check_model(model: PreTrainedModel, context: int) -> None:
    """Raise `InputError` if the tree cannot run on this model with `context` tokens of prompt and answer."""
    config = model.config.get_text_config()
    if config._attn_implementation != "sdpa":
        raise InputError(f"attention is {config._attn_implementation!r}; the tree needs 'sdpa', which obeys its mask.")
    limit = getattr(config, "max_position_embeddings", None) or context
    if context > limit:
        raise InputError(f"prompt and max_new_tokens need {context} positions; this model has {limit}.")
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if window and context > window:
        raise InputError(
            f"prompt and max_new_tokens need {context} tokens; this model attends to the last {window} only."
        )


def check_tree(model: PreTrainedModel, prompt: list[int]) -> None:
    """Raise `InputError` if a branch of a tree gets other logits than a plain forward over the same tokens.

    So it is for models that carry a state from token to token instead of attending to them. The error allowed is 0.1 %
    of the logits' spread in 32 bit, and 20 % in fewer, where a mixture may route a token elsewhere.
    """
    ids = torch.tensor([prompt], device=model.device)
    branches = ids[0, -2:].tolist()
    found: list[torch.Tensor] = []

    def children(depth: int, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found.append(logits[-1].float())
        grown = {0: ([0] * len(branches), branches), 1: ([len(branches) - 1], branches[:1])}.get(depth, ([], []))
        parent, token = (torch.tensor(column, dtype=torch.long, device=model.device) for column in grown)
        return parent, token

    refusal = f"{type(model).__name__} cannot be run as a tree of prefixes"
    try:
        walk(model, ids, children)
        path = torch.tensor([[branches[-1], branches[0]]], device=model.device)
        with torch.inference_mode():
            plain = model(torch.cat([ids, path], dim=1)).logits[0, -1].float()
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise error if isinstance(error, InputError) else InputError(f"{refusal}: {error}.") from error
    error_share = ((found[-1] - plain).norm() / (plain - plain.mean()).norm()).item()
    if error_share > (1e-3 if precision_of(model) == "fp32" else 0.2):
        raise InputError(f"{refusal}: its logits are off by {error_share:.1%} there.")


def _chunks(
    model: PreTrainedModel, encoded: list[list[int]], decoders: Sequence[Decoder], runs: int, chunk: int | None
) -> Iterator[list[int]]:
    """Indices of problems whose prompts have equal length, at most `chunk` (or what fits into memory) at a time."""
    lengths: dict[int, list[int]] = {}
    for i, ids in enumerate(encoded):
        lengths.setdefault(len(ids), []).append(i)
    for length, members in sorted(lengths.items()):
        size = chunk or _rows_that_fit(model, length, decoders, runs)
        for start in range(0, len(members), size):
            yield members[start : start + size]


def _rows_that_fit(model: PreTrainedModel, length: int, decoders: Sequence[Decoder], runs: int) -> int:
    """Rows whose worst case, no two draws alike, takes half of the free memory; at least 1."""
    config = model.config.get_text_config()
    draws = sum(1 if decoder.greedy else runs for decoder in decoders)
    nodes = draws * max(decoder.max_new_tokens for decoder in decoders)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_hidden_layers * heads * head_size * model.dtype.itemsize * (length + nodes)
    logits = draws * config.vocab_size * 40  # float32 logits, order, probabilities; float64 cumulative sums
    mask = draws * (length + nodes) * 2 * 5  # boolean, and as sdpa may expand it
    cuda = model.device.type == "cuda"
    free = torch.cuda.mem_get_info(model.device)[0] if cuda else psutil.virtual_memory().available
    return max(1, int(free / 2 / (cache + logits + mask)))


def _sample_or_halve(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: torch.Tensor,
    names: list[str],
    decoders: Sequence[Decoder],
    runs: int,
    seed: int,
) -> Iterator[tuple[range, Draws]]:
    """`sample_chunk`, in halves where memory does not suffice; says so."""
    waiting = [range(len(prompts))]
    while waiting:
        part = waiting.pop(0)
        block = slice(part.start, part.stop)
        try:
            yield part, sample_chunk(model, tokenizer, prompts[block], names[block], decoders, runs, seed)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
                raise
            if len(part) == 1:
                raise InputError("out of memory with a single problem; use fewer runs or fewer new tokens.") from error
            middle = part.start + len(part) // 2
            tqdm.write(f"out of memory with {len(part)} problems at once; going on with {len(part) // 2}")
            waiting[:0] = [range(part.start, middle), range(middle, part.stop)]


def _frame(
    indices: list[int],
    draws: Draws,
    rows: list[dict[str, Any]],
    encoded: list[list[int]],
    tokenizer: PreTrainedTokenizerBase,
    decoders: Sequence[Decoder],
    eos: set[int],
) -> pd.DataFrame:
    """The rows of one chunk. Everything about an answer is worked out once and shared by the draws that gave it."""
    row_of_answer = np.empty(len(draws.token_ids), dtype=int)
    row_of_answer[draws.answer] = draws.row
    answers = []
    for ids, raw, r in zip(draws.token_ids, draws.raw, row_of_answer, strict=True):
        text = tokenizer.decode(ids, skip_special_tokens=True, **AS_IS)
        extracted, compliant = extract_answer(text)
        correct = extracted == rows[indices[r]]["answer"]
        answers.append(
            {
                "text": text,
                "token_ids": ids,
                "n_tokens": len(ids),
                "finished": ids[-1] in eos,
                "extracted": extracted if extracted is not None and INT64.min <= extracted <= INT64.max else None,
                "correct": correct,
                "compliant": compliant,
                "mean_logprob": raw / len(ids),
                "failure": paper_failure(text, extracted, correct, compliant),
            }
        )
    table = pd.DataFrame(answers)
    table["extracted"] = pd.array([answer["extracted"] for answer in answers], dtype="Int64")
    prompts = [tokenizer.decode(encoded[i], **AS_IS) for i in indices]
    frame = table.iloc[draws.answer].reset_index(drop=True)
    cut_short = np.asarray([decoder.stop == "decided" for decoder in decoders])[draws.decoder]
    frame["failure"] = frame["failure"].astype(object).mask(cut_short, None)
    problem = np.asarray(indices)[draws.row]
    return frame.assign(
        _problem=problem,
        _decoder=draws.decoder,
        temperature=np.asarray([float(decoder.temperature) for decoder in decoders])[draws.decoder],
        run=draws.run,
        problem_id=[rows[i]["problem_id"] for i in problem],
        task=[rows[i]["task"] for i in problem],
        prompt=np.asarray(prompts, dtype=object)[draws.row],
        expected=[int(rows[i]["answer"]) for i in problem],
        mean_logprob_processed=draws.processed / frame["n_tokens"].to_numpy(),
    )


def check_seed(seed: Any) -> None:
    """Raise `InputError` unless `seed` is an integer."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError(f"seed is {seed!r}; it must be an integer.")
