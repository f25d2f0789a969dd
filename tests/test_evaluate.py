from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from lmrel import Decoder, InputError, Run, evaluate, extract_answer, paper_problems, records, sample
from tests.conftest import random_model, small_tokenizer, tiny

PROBLEMS = paper_problems()
PARAMETERS: dict[str, Any] = {
    "model": "tiny-sparse-instruct",
    "precision": "auto",
    "prompt_style": "few_shot",
    "decoding": "pure",
    "temperatures": [0.0, 0.7],
    "runs": 2,
    "seed": 0,
    "max_new_tokens": 16,
    "stop": "eos",
    "problems": "paper",
    "limit": 2,
}


def test_rows_are_consistent_with_their_own_text(tiny_name: str) -> None:
    model, tokenizer = tiny(tiny_name)
    draws = sample(model, tokenizer, PROBLEMS.iloc[::10], [Decoder(0.0), Decoder(1.0)], runs=3)
    assert draws.columns.tolist() == records.DRAWS_SCHEMA.names
    assert len(draws) == 24 * (1 + 3)
    assert set(draws.loc[draws["temperature"] == 0, "run"]) == {0}
    answers = PROBLEMS.set_index("problem_id")["answer"]
    for row in draws.to_dict("records"):
        extracted, compliant = extract_answer(row["text"])
        assert row["text"] == tokenizer.decode(row["token_ids"], skip_special_tokens=True)
        assert row["expected"] == answers[row["problem_id"]]
        assert row["correct"] == (extracted == row["expected"])
        assert row["compliant"] == compliant
        assert row["finished"] == (row["token_ids"][-1] == 2)
        assert row["n_tokens"] == len(row["token_ids"]) <= 16
        assert pd.isna(row["failure"]) == row["correct"]
        assert row["prompt"].startswith("<s>")
        assert row["mean_logprob"] < 0
    assert (draws["precision"] == "fp32").all()


def test_answers_beyond_64_bits_are_kept_out_of_the_table_but_not_called_right() -> None:
    model, tokenizer = random_model("mistral"), small_tokenizer()
    model.lm_head.weight.data[:] = 0
    model.lm_head.weight.data[3:13] = 50.0 * model.model.norm.weight  # any digit, never the end
    draws = sample(model, tokenizer, PROBLEMS.head(1), [Decoder(1.0, max_new_tokens=40)], runs=3)
    assert draws["extracted"].isna().all() or not draws["correct"].any()


def test_out_of_memory_is_halved_and_changes_nothing(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    model, tokenizer = tiny("tiny-dense-instruct")
    problems, decoders = PROBLEMS.head(12), [Decoder(0.0), Decoder(1.0)]
    expected = sample(model, tokenizer, problems, decoders, runs=2)
    real = evaluate.sample_chunk

    def scarce(model: Any, tokenizer: Any, prompts: torch.Tensor, *rest: Any) -> Any:
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, tokenizer, prompts, *rest)

    monkeypatch.setattr(evaluate, "sample_chunk", scarce)
    halved = sample(model, tokenizer, problems, decoders, runs=2)
    assert halved["text"].tolist() == expected["text"].tolist()
    assert "out of memory with" in capsys.readouterr().out

    def none_at_all(*_: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(evaluate, "sample_chunk", none_at_all)
    with pytest.raises(InputError, match="out of memory with a single problem"):
        sample(model, tokenizer, problems, decoders, runs=2)


def test_run_writes_three_files_that_agree(tmp_path: Path) -> None:
    draws, summary = Run(**PARAMETERS, output_dir=str(tmp_path)).carry_out(progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draws.parquet", "run.json", "summary.parquet"]
    assert pq.read_schema(tmp_path / "draws.parquet").names == records.DRAWS_SCHEMA.names
    assert len(records.read_draws(tmp_path)) == len(draws) == 4 * 3
    assert len(records.read_summary(tmp_path)) == len(summary) == 2 * 3
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["parameters"] == {**PARAMETERS, "output_dir": str(tmp_path)}
    assert [decoder["temperature"] for decoder in record["decoders"]] == [0.0, 0.7]
    assert record["decoders"][1]["top_k"] == 0
    assert record["precision"] == "fp32"
    assert record["sha256"]["draws"] == records.sha256(tmp_path / "draws.parquet")


def test_equal_parameters_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        Run(**PARAMETERS, output_dir=str(tmp_path / name)).carry_out(progress=False)
    assert (tmp_path / "a/draws.parquet").read_bytes() == (tmp_path / "b/draws.parquet").read_bytes()


def test_as_shipped_run_records_what_it_inherited(tmp_path: Path) -> None:
    parameters = PARAMETERS | {"decoding": "as_shipped", "output_dir": str(tmp_path)}
    draws, _ = Run(**parameters).carry_out(progress=False)
    assert set(draws["decoding"]) == {"as_shipped"}
    decoders = json.loads((tmp_path / "run.json").read_text())["decoders"]
    assert [decoder["top_k"] for decoder in decoders] == [0, 50]  # the library's 50, where a checkpoint is silent


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "tiny-dense-bass"}, "model is 'tiny-dense-bass', which is no .* Known: tiny-dense-base, "),
        ({"model": ""}, "model is ''"),
        ({"precision": "int3"}, "precision is 'int3'; it must be one of auto, fp32, bf16, nf4"),
        ({"prompt_style": "poem"}, "prompt_style is 'poem'; it must be one of readme, few_shot, zero_shot"),
        ({"decoding": "beam"}, "decoding is 'beam'; it must be one of pure, as_shipped"),
        ({"temperatures": [0.5, -1]}, "temperature is -1; it must be a number from 0 to 10"),
        ({"temperatures": [float("nan")]}, "temperature is nan"),
        ({"temperatures": [1e6]}, r"temperature is 1000000\.0"),
        ({"temperatures": []}, r"temperatures is \[\]; it must be a list"),
        ({"temperatures": "hot"}, "temperatures is 'hot'; it must be a list"),
        ({"temperatures": [0.5, 0.5]}, "each may occur once"),
        ({"runs": 0}, "runs is 0; it must be an integer of at least 1"),
        ({"runs": 2.5}, "runs is 2.5"),
        ({"seed": "x"}, "seed is 'x'; it must be an integer"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; it must be an integer from 1"),
        ({"stop": "soon"}, "stop is 'soon'; it must be 'eos' or 'decided'"),
        ({"limit": 0}, "limit is 0; it must be None or an integer of at least 1"),
        ({"problems": "nowhere.jsonl"}, "problems is 'nowhere.jsonl'; it must be 'paper' or an existing"),
        ({"output_dir": "/proc/nowhere"}, "output_dir is '/proc/nowhere', which cannot be written to"),
    ],
)
def test_a_bad_parameter_ends_in_a_sentence_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(evaluate, "load_model", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=said):
        Run(**({**PARAMETERS, "output_dir": str(tmp_path)} | changes))


def test_a_list_given_as_text_is_read() -> None:
    # papermill -p temperatures "[0.0, 0.7]" hands over a string
    run = Run(**(PARAMETERS | {"temperatures": "[0.0, 0.7]", "output_dir": "results"}))
    assert run.temperatures == (0.0, 0.7)


def test_a_mistyped_name_is_an_error_with_a_guess() -> None:
    names = PARAMETERS | {"output_dir": "results", "temperature": [0.5], "_private": 1, "In": [], "evaluate": evaluate}
    with pytest.raises(InputError, match="'temperature' is no parameter. Did you mean 'temperatures'"):
        Run.from_namespace(names)
    del names["temperature"]
    assert Run.from_namespace(names).runs == 2


def test_errors_show_in_notebooks_as_their_sentence_alone() -> None:
    assert InputError("no such thing")._render_traceback_() == ["InputError: no such thing"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runs": 0}, "runs is 0"),
        ({"chunk": 0}, "chunk is 0"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"decoders": []}, "nothing to sample"),
        ({"problems": PROBLEMS.head(0)}, "nothing to sample"),
        ({"prompt_style": "poem"}, "prompt_style is 'poem'"),
        ({"decoders": [Decoder(max_new_tokens=500)]}, "this model has 512"),
    ],
)
def test_sample_refuses_what_it_cannot_do(changes: dict[str, Any], said: str) -> None:
    model, tokenizer = tiny("tiny-dense-base")
    arguments = {"problems": PROBLEMS.head(2), "decoders": [Decoder(0.0)]} | changes
    with pytest.raises(InputError, match=said):
        sample(model, tokenizer, **arguments)
