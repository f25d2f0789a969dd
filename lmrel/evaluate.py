"""One run: one model, one prompt style, all temperatures. Draws, summary and run.json are written at the end.

`sample` gives the draws for any model and decoders in memory; `Run` is the same with every parameter checked before
a model is loaded, and with the three files.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel import records
from lmrel.answers import extract_answer
from lmrel.decoding import DECODINGS, Decoder, as_shipped, pure
from lmrel.errors import InputError
from lmrel.failures import paper_failure
from lmrel.inference import summarize_with_intervals
from lmrel.models import load_model, precision_of, resolve, resolve_precision
from lmrel.problems import load_problems
from lmrel.prompts import PROMPT_STYLES, encode, render
from lmrel.tree import AS_IS, Draws, eos_ids, sample_chunk

INT64 = np.iinfo(np.int64)
IPYTHON_NAMES = frozenset({"In", "Out", "get_ipython", "exit", "quit", "open"})
VERSIONED = ("lmrel", "torch", "transformers", "accelerate", "bitsandbytes", "pandas", "numpy")


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
    `model_name` and `decoding` are labels; by default the checkpoint's folder name, and ``"pure"`` or ``"custom"``.
    Raises `InputError` for parameters out of range and for prompts that do not fit the model.
    """
    _check_count("runs", runs)
    if chunk is not None:
        _check_count("chunk", chunk)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError(f"seed is {seed!r}; it must be an integer.")
    if not len(problems) or not decoders:
        raise InputError("there is nothing to sample: no problems or no decoders.")
    rows: list[dict[str, Any]] = problems.to_dict("records")  # type: ignore[assignment]
    encoded = [encode(render(row, prompt_style), tokenizer) for row in rows]
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
    table = pd.DataFrame(answers).astype({"extracted": "Int64"})
    prompts = [tokenizer.decode(encoded[i], **AS_IS) for i in indices]
    frame = table.iloc[draws.answer].reset_index(drop=True)
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


def _list(value: Any) -> Any:
    """A list that came as text: papermill's ``-p`` parses numbers, but not lists."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; it must be an integer of at least 1.")


@dataclass(frozen=True)
class Run:
    """The parameters of ``notebooks/evaluate.ipynb``, checked: a `Run` that exists can be carried out."""

    model: str
    precision: str
    prompt_style: str
    decoding: str
    temperatures: tuple[float, ...]
    runs: int
    seed: int
    max_new_tokens: int
    stop: str
    problems: str
    limit: int | None
    output_dir: str

    @classmethod
    def from_namespace(cls, namespace: Mapping[str, Any]) -> Run:
        """From a notebook's globals right after its parameters; a name that is no parameter is a mistyped one."""
        given = {
            name: value
            for name, value in namespace.items()
            if not name.startswith("_") and name not in IPYTHON_NAMES and not isinstance(value, ModuleType)
        }
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise InputError(f"{name!r} is no parameter.{hint} The parameters are {', '.join(known)}.")
        return cls(**given)

    def __post_init__(self) -> None:
        temperatures = _list(self.temperatures)
        if not isinstance(temperatures, (list, tuple)) or not temperatures:
            raise InputError(f"temperatures is {self.temperatures!r}; it must be a list such as [0.0, 0.7].")
        object.__setattr__(self, "temperatures", tuple(temperatures))
        for temperature in self.temperatures:
            pure(temperature, max_new_tokens=self.max_new_tokens, stop=self.stop)
        if len(set(self.temperatures)) < len(self.temperatures):
            raise InputError(f"temperatures is {list(self.temperatures)!r}; each may occur once.")
        for name, allowed in (("prompt_style", PROMPT_STYLES), ("decoding", DECODINGS)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}.")
        _check_count("runs", self.runs)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError(f"seed is {self.seed!r}; it must be an integer.")
        resolve(self.model)
        resolve_precision(self.model, self.precision)
        load_problems(self.problems, self.limit)
        records.check_writable(Path(self.output_dir))

    def decoders(self, model: PreTrainedModel) -> list[Decoder]:
        """One per temperature, every knob explicit."""
        knobs: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "stop": self.stop}
        if self.decoding == "pure":
            return [pure(temperature, **knobs) for temperature in self.temperatures]
        return [as_shipped(temperature, model.generation_config, **knobs) for temperature in self.temperatures]

    def carry_out(self, progress: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Load, sample, and write draws.parquet, summary.parquet and, last, run.json. Returns draws and summary."""
        began, clock = datetime.now(UTC), time.perf_counter()
        problems = load_problems(self.problems, self.limit)
        model, tokenizer = load_model(self.model, self.precision)
        decoders = self.decoders(model)
        loaded = time.perf_counter()
        draws = sample(
            model,
            tokenizer,
            problems,
            decoders,
            runs=self.runs,
            seed=self.seed,
            prompt_style=self.prompt_style,
            model_name=Path(self.model).name,
            decoding=self.decoding,
            progress=progress,
        )
        sampled = time.perf_counter()
        summary = summarize_with_intervals(draws)
        folder = Path(self.output_dir)
        hashes = {
            "draws": records.sha256(records.write_draws(draws, folder)),
            "summary": records.sha256(records.write_summary(summary, folder)),
            "problems": hashlib.sha256(problems.to_json(orient="records").encode()).hexdigest(),
        }
        source = resolve(self.model)
        if Path(source).is_dir():
            hashes["weights"] = records.sha256(*sorted(Path(source).glob("*.safetensors")))
        record = {
            "parameters": asdict(self),
            "precision": precision_of(model),
            "decoders": [decoder.describe() for decoder in decoders],
            "revision": getattr(model.config, "_commit_hash", None),
            "device": torch.cuda.get_device_name() if model.device.type == "cuda" else f"cpu ({platform.machine()})",
            "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONED}},
            "started": began.isoformat(timespec="seconds"),
            "seconds": {"load": round(loaded - clock, 2), "sample": round(sampled - loaded, 2)},
            "draws": len(draws),
            "sha256": hashes,
        }
        records.write_json(record, folder / records.RUN)
        return draws, summary
