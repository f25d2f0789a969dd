from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from lmrel import Decoder, InputError, sample
from lmrel.engine.forest import Forest
from lmrel.engine.probes import check_model, check_tree
from lmrel.engine.rotary import longest_short
from tests.conftest import random_model, small_tokenizer
from tools.architectures import difference, small_model

FACTORS = {"short_factor": [1.0] * 8, "long_factor": [2.0 + i for i in range(8)], "rope_theta": 1e4}
LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 32, **FACTORS}


@pytest.mark.parametrize("kind", ["phi3", "phimoe"])
@pytest.mark.parametrize("lengths", [(3, 40, 4, 36), (40, 50, 34), (3, 5)])
def test_short_and_long_texts_get_their_own_factors(kind: str, lengths: tuple[int, ...]) -> None:
    more = {"long_mscale": 1.3, "short_mscale": 1.1} if kind == "phimoe" else {}
    model = small_model(kind, rope_parameters=LONGROPE | more, original_max_position_embeddings=32)
    assert longest_short(model) == 32
    assert difference(model, lengths) < 1e-3
    assert not any(module._forward_hooks for module in model.modules())


def test_draws_of_short_problems_do_not_change_beside_long_ones() -> None:
    model = small_model("phi3", rope_parameters=LONGROPE, original_max_position_embeddings=32)
    rows = [{"problem_id": f"p{i}", "task": "own", "question": "7" * (4 + i % 3), "answer": 1} for i in range(6)]
    short, long = pd.DataFrame(rows), pd.DataFrame([rows[0] | {"problem_id": "long", "question": "12" * 20}])
    decoders = [Decoder(t, max_new_tokens=8) for t in (0.0, 1.0)]

    def drawn(problems: pd.DataFrame) -> pd.DataFrame:
        draws = sample(model, small_tokenizer(40), problems, decoders, runs=3, prompt_style="zero_shot")
        return draws[draws["problem_id"] != "long"].reset_index(drop=True)

    alone, beside = drawn(short), drawn(pd.concat([long, short], ignore_index=True))
    assert alone["token_ids"].map(list).tolist() == beside["token_ids"].map(list).tolist()
    assert alone["mean_logprob"].to_numpy() == pytest.approx(beside["mean_logprob"].to_numpy(), abs=1e-4)


def test_a_text_that_would_change_its_factors_while_it_grows_is_refused() -> None:
    model = small_model("phi3", rope_parameters=LONGROPE, original_max_position_embeddings=32)
    check_model(model, [[5] * 24, [5] * 33], 8)
    with pytest.raises(InputError, match="a prompt of 25 tokens would grow past 32 with 8 new ones"):
        check_model(model, [[5] * 24, [5] * 25], 8)


def test_dynamic_factors_are_never_reached() -> None:
    dynamic: dict[str, Any] = {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}}
    model = random_model("qwen2", max_position_embeddings=32, **dynamic)
    prompts = [[1, 5, 3, 9], [5, 3] * 14]
    check_model(model, prompts, 4)
    check_tree(model, prompts, 4)
    with torch.inference_mode():
        together = Forest(model, prompts).logits
        alone = [model(torch.tensor([prompt])).logits[0, -1] for prompt in prompts]
    assert torch.allclose(together, torch.stack(alone), atol=1e-4)
    with pytest.raises(InputError, match="need 33 positions; this model has 32"):
        check_model(model, [[1] * 29], 4)
