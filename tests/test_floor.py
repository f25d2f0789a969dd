from __future__ import annotations

import pandas as pd
import torch

from lmrel import Decoder, paper_problems, sample
from lmrel.floor import distinct_prefixes, floor_batch
from lmrel.prompts import encode, render
from tests.conftest import tiny


def test_distinct_prefixes_are_those_that_must_be_computed() -> None:
    draws = pd.DataFrame({"problem_id": ["a", "a", "b", "a"], "token_ids": [[5, 6, 2], [5, 7, 2], [4], [5, 6, 2]]})
    trees = distinct_prefixes(draws, pd.DataFrame({"problem_id": ["b", "a"]}))
    assert trees == [[()], [(), (5,), (5, 6), (5, 7)]]


def test_the_floor_computes_what_plain_forwards_compute() -> None:
    model, tokenizer = tiny("tiny-sparse-base")
    problems = paper_problems().head(2)
    draws = sample(model, tokenizer, problems, [Decoder(1.5, max_new_tokens=4)], runs=5)
    trees = distinct_prefixes(draws, problems)
    prompts = [encode(render(row, "few_shot"), tokenizer) for row in problems.to_dict("records")]
    assert len({len(prompt) for prompt in prompts}) == 1
    ids, positions, mask = floor_batch(list(zip(prompts, trees, strict=True)), 0)
    with torch.inference_mode():
        logits = model(ids, position_ids=positions, attention_mask=mask).logits
        for row, (prompt, tree) in enumerate(zip(prompts, trees, strict=True)):
            assert len(tree) > 5
            for i, prefix in enumerate(tree):
                plain = model(torch.tensor([[*prompt, *prefix]])).logits[0, -1]
                torch.testing.assert_close(logits[row, len(prompt) - 1 + i], plain, atol=1e-3, rtol=1e-3)
