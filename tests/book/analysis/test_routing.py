from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from book.analysis import routing
from book.analysis.trends import holm
from lmrel import Decoder, InputError, paper_problems, sample
from lmrel.registry import TINY
from lmrel.tokens import encode_problems
from tests.conftest import tiny

PROBLEMS = paper_problems().iloc[::20]


def test_routes_are_those_that_the_model_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny("tiny-sparse-base")
    [prompt] = encode_problems([PROBLEMS.iloc[0].to_dict()], "few_shot", tokenizer)
    seen: list[torch.Tensor] = []
    router = type(model.model.layers[0].mlp.gate)
    real = router.forward

    def watched(self: torch.nn.Module, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = real(self, hidden)
        seen.append(found[2])
        return found

    monkeypatch.setattr(router, "forward", watched)
    chosen, entropy = routing.routes(model, prompt, [7, 8, 9])
    assert chosen.shape == (2, 4, 8)
    for layer, experts in enumerate(seen):
        for token, pair in enumerate(experts[-2:]):
            assert set(chosen[token, layer].nonzero().flatten().tolist()) == set(pair.tolist())
    assert ((entropy > 0) & (entropy <= np.log(8))).all()


def test_what_read_the_same_tokens_has_the_same_experts() -> None:
    model, tokenizer = tiny("tiny-sparse-base")
    draws = sample(model, tokenizer, PROBLEMS, [Decoder(t, max_new_tokens=8) for t in (0.0, 1.0)], runs=3)
    table = routing.divergence(model, tokenizer, PROBLEMS, draws)
    assert len(table) == 3 * len(PROBLEMS)
    same = table["tokens"] == 0
    assert table.loc[same, "experts"].abs().max() < 1e-6
    assert (table.loc[~same, "experts"] > 0).mean() > 0.9
    assert table["tokens"].between(0, 1).all()
    twin = draws[draws["temperature"] == 0].assign(temperature=0.5)
    assert routing.divergence(model, tokenizer, PROBLEMS, pd.concat([draws[draws["temperature"] == 0], twin]))[
        ["tokens", "experts"]
    ].to_numpy().max() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("effect", [0.0, 4.0])
def test_what_experts_say_beyond_tokens_is_found_if_it_is_there(effect: float) -> None:
    rng = np.random.default_rng(5)
    tokens = rng.random(4000) * 0.9 + 0.1
    experts = 0.5 * tokens + 0.3 * rng.random(4000)
    odds = -1 + 2 * tokens + effect * (experts - experts.mean())
    wrong = rng.random(4000) < 1 / (1 + np.exp(-odds))
    columns = {"problem_id": rng.integers(0, 200, 4000), "tokens": tokens, "experts": experts, "wrong": wrong}
    apart = pd.DataFrame(columns).assign(greedy_wrong=True)
    # Whatever the experts, to part from a right answer is an error: such draws must not enter.
    other = apart.assign(greedy_wrong=False, wrong=True, experts=rng.random(4000))
    found = routing.beyond_tokens(pd.concat([apart, other])).loc["experts"]
    assert found["low"] < effect < found["high"]
    assert (found["p"] < 0.001) == (effect > 0)


def test_a_dense_model_has_no_routes() -> None:
    with pytest.raises(InputError, match="MistralForCausalLM has no experts"):
        routing.routes(tiny("tiny-dense-base")[0], [1], [2, 3])


def test_what_the_page_says_of_routing_in_words_is_what_is_found() -> None:
    """As in the notebook, of all sparse models."""
    tests = {}
    decoders = [Decoder(t, stop="decided") for t in (0.0, 1.0)]
    for name in (name for name in TINY if "sparse" in name):
        model, tokenizer = tiny(name)
        draws = sample(model, tokenizer, paper_problems(), decoders, runs=8)
        table = routing.divergence(model, tokenizer, paper_problems(), draws)
        apart = routing.parted(table)
        assert apart.loc[~apart["greedy_wrong"], "wrong"].all(), name
        assert table["entropy"].mean() < 0.25 * np.log(8)
        tests[name] = routing.beyond_tokens(table).loc["experts"]
    slopes = pd.DataFrame(tests).T
    assert set(np.sign(slopes["slope"])) == {-1, 1}  # no common sign
    assert min(holm(slopes["p"].to_dict()).values()) > 0.05
