from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from lmrel import Decoder, InputError, extract_answer, paper_problems, records, sample, sampling
from lmrel.engine import memory
from tests.conftest import random_model, small_tokenizer, tiny

PROBLEMS = paper_problems()


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
    real = sampling.sample_chunk

    def scarce(model: Any, tokenizer: Any, prompts: list[list[int]], *rest: Any) -> Any:
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, tokenizer, prompts, *rest)

    monkeypatch.setattr(sampling, "sample_chunk", scarce)
    halved = sample(model, tokenizer, problems, decoders, runs=2)
    assert halved["text"].tolist() == expected["text"].tolist()
    assert "out of memory with" in capsys.readouterr().out

    def none_at_all(*_: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(sampling, "sample_chunk", none_at_all)
    with pytest.raises(InputError, match="out of memory with a single problem"):
        sample(model, tokenizer, problems, decoders, runs=2)


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


def test_deciding_early_changes_no_answer_and_claims_no_failure_class() -> None:
    model, tokenizer = tiny("tiny-dense-base")
    draws = sample(model, tokenizer, PROBLEMS.iloc[::8], [Decoder(1.0, stop="decided")], runs=2)
    assert not draws["correct"].all()
    assert draws["failure"].isna().all()


def test_large_answers_keep_every_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([2**53 + 1, None, 2**63 - 1, 2**63])
    monkeypatch.setattr(sampling, "extract_answer", lambda text: (next(values, None), False))
    model, tokenizer = tiny("tiny-dense-base")
    draws = sample(model, tokenizer, PROBLEMS.head(4), [Decoder(0.0)], chunk=4)
    assert sorted(draws["extracted"].dropna()) == [2**53 + 1, 2**63 - 1]


def test_chunks_after_the_first_are_sized_by_what_it_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny("tiny-dense-instruct")
    sizes: list[int] = []
    real = sampling.sample_chunk

    def watched(model: Any, tokenizer: Any, prompts: list[list[int]], *rest: Any) -> Any:
        sizes.append(len(prompts))
        return real(model, tokenizer, prompts, *rest)

    monkeypatch.setattr(sampling, "sample_chunk", watched)
    monkeypatch.setattr(memory, "free_memory", lambda device: 100_000_000)
    problems = PROBLEMS.head(40)
    draws = sample(model, tokenizer, problems, [Decoder(1.0)], runs=200)
    assert len(draws) == 40 * 200
    assert draws["problem_id"].drop_duplicates().tolist() == problems["problem_id"].tolist()
    assert 1 < len(sizes) < 20
    assert sizes[1] > 3 * sizes[0]
