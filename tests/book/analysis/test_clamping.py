from __future__ import annotations

import pandas as pd
import pytest
import torch

from book.analysis import clamping, routing
from lmrel import Decoder, paper_problems, sample
from lmrel.tokens import encode_problems
from tests.conftest import tiny

PROBLEMS = paper_problems().iloc[::24]


def test_a_clamped_token_goes_to_the_experts_it_is_told_and_weighs_them_itself() -> None:
    model, tokenizer = tiny("tiny-sparse-base")
    [prompt] = encode_problems([PROBLEMS.iloc[0].to_dict()], "few_shot", tokenizer)
    text = [99, 6, 7, 100]
    ids = torch.tensor([[*prompt, *text]])
    places = torch.arange(ids.shape[1])[None]
    own = routing.routes(model, prompt, [*text, 0])[0].int().topk(2, dim=-1).indices
    with torch.inference_mode():
        before = model(ids, position_ids=places).logits[0]
        with clamping.clamped(model, [len(prompt)], [own]):
            torch.testing.assert_close(model(ids, position_ids=places).logits[0], before)
        last = own.clone()
        last[1, 3] = (own[1, 3] + 1) % 8  # other experts for one token in the last layer
        with clamping.clamped(model, [len(prompt)], [last[:2]]):
            after = model(ids, position_ids=places).logits[0]
    moved = (after - before).abs().amax(dim=-1) > 1e-4
    assert moved.nonzero().flatten().tolist() == [len(prompt) + 1]
    torch.testing.assert_close(model(ids, position_ids=places).logits[0], before)  # nothing is left of it


def test_greedy_answers_stay_and_anothers_experts_do_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny("tiny-sparse-continued")
    found = clamping.intervention(model, tokenizer, PROBLEMS)
    assert set(found["experts"]) == {clamping.OWN, clamping.GREEDY, clamping.ANOTHER}
    assert len(found) == 3 * 2 * len(PROBLEMS)
    wide = found.pivot(index="problem_id", columns=["experts", "temperature"], values="lower")
    pd.testing.assert_series_equal(wide[(clamping.OWN, 0.0)], wide[(clamping.GREEDY, 0.0)], check_names=False)
    greedy = sample(model, tokenizer, PROBLEMS, [Decoder(0.0)]).set_index("problem_id")["correct"]
    assert wide[(clamping.OWN, 0.0)].sum() == greedy.sum()
    assert (wide[(clamping.OWN, 1.0)] - wide[(clamping.GREEDY, 1.0)]).abs().max() > 1e-4
    assert wide[(clamping.ANOTHER, 1.0)].mean() < wide[(clamping.OWN, 1.0)].mean()
    monkeypatch.setattr(clamping, "CHUNK", 1)  # each problem alone: no row is taken for another
    alone = clamping.intervention(model, tokenizer, PROBLEMS)
    assert alone.drop(columns=["lower", "upper"]).equals(found.drop(columns=["lower", "upper"]))
    assert (alone[["lower", "upper"]] - found[["lower", "upper"]]).abs().max(axis=None) < 0.011


@pytest.mark.parametrize("experts", [clamping.OWN, clamping.GREEDY, clamping.ANOTHER])
def test_the_stored_data_are_of_the_models_that_ship(experts: str) -> None:
    stored = pd.read_parquet(clamping.DATA).query("model == 'tiny-sparse-continued' and experts == @experts")
    names = PROBLEMS["problem_id"].tolist()
    assert len(stored) == 480
    some = clamping.intervention(*tiny("tiny-sparse-continued"), PROBLEMS).query("experts == @experts")
    if experts != clamping.ANOTHER:  # the next of six is not the next of 240
        both = some.merge(stored, on=["problem_id", "temperature"], suffixes=("", "_stored"))
        assert set(both["problem_id"]) == set(names)
        assert (both["lower"] - both["lower_stored"]).abs().max() < 0.011
