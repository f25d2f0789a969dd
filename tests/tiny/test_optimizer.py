from __future__ import annotations

import torch

from tiny.optimizer import orthogonalize


def test_orthogonalize_brings_all_singular_values_near_one() -> None:
    matrices = torch.randn(3, 64, 128, generator=torch.Generator().manual_seed(0))
    for x in (matrices, matrices.mT):
        values = torch.linalg.svdvals(orthogonalize(x).float())
        assert values.min() > 0.5
        assert values.max() < 1.3
