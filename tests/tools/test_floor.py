from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from book.analysis.prefixes import distinct_prefixes
from lmrel import Decoder, paper_problems, sample
from lmrel.engine.forest import shared_header
from lmrel.tokens import encode_problems
from tests.conftest import tiny
from tools.floor import bare_forward, floor_batch


def test_distinct_prefixes_are_those_that_must_be_computed() -> None:
    draws = pd.DataFrame({"problem_id": ["a", "a", "b", "a"], "token_ids": [[5, 6, 2], [5, 7, 2], [4], [5, 6, 2]]})
    trees = distinct_prefixes(draws, pd.DataFrame({"problem_id": ["b", "a"]}))
    assert trees == [[()], [(), (5,), (5, 6), (5, 7)]]


def test_a_node_sees_its_prompt_and_its_ancestors_and_nothing_else() -> None:
    tree = [(), (5,), (7,), (5, 6), (7, 6), (5, 6, 8)]
    ids, positions, mask = floor_batch([([1, 3], tree), ([1, 4], [()])], 2)
    assert ids[0].tolist() == [1, 3, 5, 7, 6, 6, 8]
    assert positions[0].tolist() == [2, 3, 4, 4, 5, 5, 6]
    for at, prefix in enumerate(tree[1:], start=2):
        seen = {column for column in range(9) if mask[0, 0, at, column]}
        ancestors = {2 + 1 + tree.index(prefix[:n]) for n in range(1, len(prefix) + 1)}
        assert seen == {0, 1, 2, 3} | ancestors
    assert mask[0, 0, :2].tolist() == [[True] * 3 + [False] * 6, [True] * 4 + [False] * 5]


def test_the_floor_computes_what_plain_forwards_compute() -> None:
    model, tokenizer = tiny("tiny-sparse-base")
    problems = paper_problems().iloc[[0, 1, 150]]
    draws = sample(model, tokenizer, problems, [Decoder(1.5, max_new_tokens=4)], runs=5)
    trees = distinct_prefixes(draws, problems)
    prompts = encode_problems(problems.to_dict("records"), "few_shot", tokenizer)
    shared = shared_header(prompts)
    assert (
        len({tuple(prompt[:shared]) for prompt in prompts})
        == 1
        < len({tuple(prompt[: shared + 1]) for prompt in prompts})
    )

    class Spy:
        device = model.device

        def __init__(self) -> None:
            self.logits: list[torch.Tensor] = []

        def __call__(self, *rest: Any, **knobs: Any) -> Any:
            found = model(*rest, **knobs)
            self.logits.append(found.logits)
            return found

    spy = Spy()
    bare_forward(spy, prompts, trees)()  # type: ignore[arg-type]
    lengths = list(dict.fromkeys(map(len, prompts)))
    assert len(spy.logits) == 1 + len(lengths) > 2  # the header once, then each length once
    for length, logits in zip(lengths, spy.logits[1:], strict=True):
        rows = [i for i, prompt in enumerate(prompts) if len(prompt) == length]
        for row, i in enumerate(rows):
            assert len(trees[i]) >= 5
            for at, prefix in enumerate(trees[i], start=length - shared - 1):
                with torch.inference_mode():
                    plain = model(torch.tensor([[*prompts[i], *prefix]])).logits[0, -1]
                torch.testing.assert_close(logits[row, at], plain, atol=1e-3, rtol=1e-3)


def test_a_header_stops_before_the_end_of_the_shortest_prompt() -> None:
    assert shared_header([[1, 2, 3]]) == 2
    assert shared_header([[1, 2], [1, 2, 3]]) == 1
    assert shared_header([[1, 2, 3, 4], [1, 5, 3, 4]]) == 1
