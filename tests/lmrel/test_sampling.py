from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from lmrel import (
    Decoder,
    InputError,
    enumerate_outcomes,
    extract_answer,
    load_model,
    paper_problems,
    records,
    rescoring,
    sample,
    sampling,
)
from lmrel.engine import memory
from lmrel.registry import CHECKPOINTS, label
from lmrel.stats.agreement import flips
from lmrel.stats.metrics import summarize
from lmrel.tokens import written
from tests.conftest import random_model, small_tokenizer, tiny

PROBLEMS = paper_problems()
SHORT = pd.DataFrame({"problem_id": ["a", "b"], "task": "custom", "question": ["1 + 1", "2 + 0"], "answer": [2, 2]})


def test_rows_are_consistent_with_their_own_text(tiny_name: str) -> None:
    model, tokenizer = tiny(tiny_name)
    draws = sample(model, tokenizer, PROBLEMS.iloc[::10], [Decoder(0.0), Decoder(1.0)], runs=3)
    assert draws.columns.tolist() == records.DRAWS_SCHEMA.names
    assert len(draws) == 24 * (1 + 3)
    assert set(draws.loc[draws["temperature"] == 0, "run"]) == {0}
    answers = PROBLEMS.set_index("problem_id")["answer"]
    for row in draws.to_dict("records"):
        extracted, compliant = extract_answer(row["text"])
        assert row["text"] == written(row["token_ids"], tokenizer, [2])
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
        ({"decoders": []}, "nothing to sample"),
        ({"decoders": None}, "decoders is None; it must be a list of Decoder"),
        ({"decoders": Decoder(0.5)}, r"decoders is Decoder\(.*; it must be a list of Decoder"),
        ({"decoders": [0.5]}, r"decoders is \[0.5\]; it must be a list of Decoder"),
        ({"decoders": [Decoder(0.5), Decoder(0.5)]}, "each may occur once"),
        ({"decoders": [Decoder(0.5)], "runs": 10**9}, "these are 2,000,000,000 draws; .* use fewer runs"),
        ({"first_run": 1}, "nothing to sample"),
        ({"problems": "paper"}, "problems is 'paper'; it must be a table"),
        ({"problems": PROBLEMS.head(0)}, "nothing to sample"),
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
    monkeypatch.setattr(rescoring, "read_answer", lambda *_: (next(values, None), False))
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
    for module in (sampling, memory):
        monkeypatch.setattr(module, "free_memory", lambda device: 100_000_000)
    problems = PROBLEMS.head(40)
    draws = sample(model, tokenizer, problems, [Decoder(1.0)], runs=200)
    assert len(draws) == 40 * 200
    assert draws["problem_id"].drop_duplicates().tolist() == problems["problem_id"].tolist()
    assert 1 < len(sizes) < 20
    assert sizes[1] > 3 * sizes[0]


def altered(change: Callable[[torch.Tensor], Any]) -> Any:
    """A random model over 40 tokens whose logits go through `change`."""
    model = random_model("mistral", 40)

    def hook(_: Any, __: Any, output: Any) -> Any:
        output.logits = change(output.logits)
        return output

    model.register_forward_hook(hook)
    return model


def with_token(token: int, value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda logits: torch.where(torch.arange(logits.shape[-1]) == token, value, logits)


BROKEN: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "NaN": (lambda logits: logits * math.nan, "MistralForCausalLM returned NaN or infinite logits"),
    "one NaN": (with_token(5, math.nan), "returned NaN or infinite logits"),
    "nothing to draw": (lambda logits: logits * 0 - math.inf, "returned NaN or infinite logits"),
    "infinity": (lambda logits: logits * 0 + math.inf, "returned NaN or infinite logits"),
    "none": (lambda _: None, "cannot be run as a tree of prefixes"),
    "too few": (lambda logits: logits[..., :20], "it gives 20 logits, and its config.json says otherwise"),
    "too many": (lambda logits: torch.cat([logits, logits], -1), "it gives 80 logits, and its config.json says"),
    "of a wrong tree": (lambda x: with_token(5, -math.inf)(x * (1 + x.shape[1])), "its logits are off by"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize(
    ("call", "settings"), [(sample, [Decoder(0.0), Decoder(1.0)]), (enumerate_outcomes, [0.0, 1.0])]
)
def test_a_model_with_broken_logits_is_refused(call: Any, settings: Any, name: str) -> None:
    change, said = BROKEN[name]
    with pytest.raises(InputError, match=said):
        call(altered(change), small_tokenizer(40), SHORT, settings)


def test_a_single_token_that_can_be_drawn_is_drawn() -> None:
    model, tokenizer = altered(lambda x: torch.where(torch.arange(40) == 5, x, -math.inf)), small_tokenizer(40)
    draws = sample(model, tokenizer, SHORT, [Decoder(0.0, max_new_tokens=3), Decoder(1.0, max_new_tokens=3)])
    assert set(draws["text"]) == {"2 2 2"}
    right = enumerate_outcomes(model, tokenizer, SHORT, [0.0, 1.0], max_new_tokens=3).query("metric == 'correct'")
    assert right[["lower", "upper"]].to_numpy().tolist() == [[1.0, 1.0]] * 4


@pytest.mark.parametrize("end", ["configured", "tokenizer's", "none"])
def test_a_tokenizer_without_special_tokens_draws_and_enumerates(end: str) -> None:
    model, tokenizer = random_model("mistral", 40), small_tokenizer(40)
    if end != "configured":
        model.generation_config = None
        model.config.eos_token_id = None
    if end != "tokenizer's":
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer)
    draws = sample(model, tokenizer, SHORT, [Decoder(1.0, max_new_tokens=3)], runs=8)
    assert draws["finished"].any() == (end != "none")
    assert enumerate_outcomes(model, tokenizer, SHORT, [1.0], max_new_tokens=3)["upper"].notna().all()


def test_greedy_runs_cost_nothing_and_seeds_of_any_size_draw() -> None:
    model, tokenizer = random_model("mistral", 40), small_tokenizer(40)
    assert len(sample(model, tokenizer, SHORT, iter([Decoder(0.0)]), runs=10**9)) == 2  # type: ignore[arg-type]
    found = [
        sample(model, tokenizer, SHORT, [Decoder(1.0)], runs=8, seed=seed)["text"].tolist()
        for seed in (2**70, -(2**70), 2**128)
    ]
    assert found[0] != found[1] != found[2]


def test_two_decoders_of_one_temperature_are_told_apart() -> None:
    model, tokenizer = tiny("tiny-dense-base")
    decoders = [Decoder(0.0), Decoder(1.0), Decoder(1.0, top_k=1)]
    draws = sample(model, tokenizer, paper_problems().head(6), decoders, runs=3)
    assert draws.groupby("decoder").size().to_dict() == dict(zip([d.id for d in decoders], [6, 18, 18], strict=True))
    summary = summarize(draws).query("task == 'all'").set_index("decoder")
    assert summary.loc[decoders[2].id, "accuracy"] == summary.loc[decoders[0].id, "accuracy"]
    assert summary.loc[decoders[1].id, "runs"] == 3
    for decoder, own in draws.groupby("decoder"):
        [asked] = [each for each in decoders if each.id == decoder]
        assert {name: own[name].unique().tolist() for name in asked.columns} == {
            k: [v] for k, v in asked.columns.items()
        }
    assert set(flips(draws)["decoder"]) == {decoder.id for decoder in decoders[1:]}


def test_two_checkpoints_whose_folders_end_alike_have_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = set()
    for parent in "ab":
        folder = shutil.copytree(CHECKPOINTS / "tiny-dense-base", tmp_path / parent / "final")
        names |= set(sample(*load_model(str(folder)), paper_problems().head(1), [Decoder(0.0)])["model"])
    assert names == {str(tmp_path / "a" / "final"), str(tmp_path / "b" / "final")}
    assert (label("."), label("me/it")) == (str(Path.cwd()), "me/it")
    assert (label(".."), label("me/it/"), label("/")) == (str(Path.cwd().parent), "me/it", "/")
    monkeypatch.chdir(CHECKPOINTS / "tiny-dense-base")
    assert label(".") == "tiny-dense-base"
