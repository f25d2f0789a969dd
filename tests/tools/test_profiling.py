from __future__ import annotations

import time

import pytest
import torch

from tools import bench


def test_the_time_of_a_call_is_shared_out_among_its_parts() -> None:
    square = torch.rand(400, 400)

    def multiply() -> None:
        for _ in range(20):
            square @ square

    found = bench.shares(multiply)
    assert sum(found.values()) == pytest.approx(1)
    assert max(found, key=lambda part: found[part]) == "matrix products"
    idle = bench.shares(lambda: time.sleep(0.1))
    assert idle[bench.OUTSIDE] > 0.9


@pytest.mark.parametrize(
    ("operator", "part"),
    [
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::mm", "matrix products"),
        ("aten::_grouped_mm", "matrix products"),
        ("aten::mul", bench.OTHER),
        ("aten::index_put_", "copying and indexing"),
    ],
)
def test_operators_have_a_part(operator: str, part: str) -> None:
    assert bench.part_of(operator) == part
