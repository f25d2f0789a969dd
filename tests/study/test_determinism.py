from __future__ import annotations

from typing import Any

import pytest

from lmrel import Decoder, paper_problems
from lmrel.problems import as_rows
from lmrel.tokens import Prepared, encode_problems
from study.determinism import determinism
from tests.conftest import tiny


def prepared(tokenizer: Any) -> Prepared:
    rows = as_rows(paper_problems())[:6]
    return Prepared(rows, encode_problems(rows, "few_shot", tokenizer))


@pytest.mark.parametrize("name", ["tiny-dense-base", "tiny-sparse-instruct"])
def test_the_determinism_probe_measures_what_chunking_changes(name: str) -> None:
    model, tokenizer = tiny(name)
    found = determinism(model, tokenizer, prepared(tokenizer), [Decoder(0.0), Decoder(1.0)], 3)
    assert found == found | {"problems": 4, "draws": 16, "flipped": 0}
    assert 0 < found["max_logit_difference"] < 1e-3


def test_the_determinism_probe_sees_a_model_that_depends_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny("tiny-dense-base")
    real = type(model).forward

    def shaky(self: Any, input_ids: Any = None, **kwargs: Any) -> Any:
        output = real(self, input_ids=input_ids, **kwargs)
        output.logits = output.logits * (1 + 0.05 * (input_ids.shape[-1] % 7))
        return output

    monkeypatch.setattr(type(model), "forward", shaky)
    found = determinism(model, tokenizer, prepared(tokenizer), [Decoder(1.0)], 20)
    assert found["flipped"] > 0
    assert found["max_logit_difference"] > 0.1


def test_logits_that_are_infinite_alike_differ_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny("tiny-dense-base")
    real = type(model).forward

    def never_five(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = real(self, *args, **kwargs)
        output.logits[..., 5] = float("-inf")
        return output

    monkeypatch.setattr(type(model), "forward", never_five)
    found = determinism(model, tokenizer, prepared(tokenizer), [Decoder(1.0)])
    assert 0 < found["max_logit_difference"] < 1e-3
