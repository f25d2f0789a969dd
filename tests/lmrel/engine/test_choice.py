from __future__ import annotations

import pytest
import torch

from lmrel import Decoder
from lmrel.engine import sampler

DECODERS = [Decoder(1.0), Decoder(0.3), Decoder(2.0, top_p=0.9), Decoder(1.0, top_k=3), Decoder(1.0, min_p=0.2)]


def draws(decoder: Decoder, logits: torch.Tensor, count: int = 4000) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    node = torch.randint(0, len(logits), (count,), generator=generator)
    u = torch.rand(count, generator=generator, dtype=torch.double)
    order = sampler.rank(logits)[1]
    return (node, u, *sampler.choose(decoder, logits, order, None, node, u))


def by_the_book(decoder: Decoder, logits: torch.Tensor, node: int, u: float) -> int:
    """The first token, in descending order of logit and then ascending of id, at which the sum exceeds u."""
    row = logits[node].float()
    p = decoder.processed(row[None])[0].double()
    total = 0.0
    for token in sorted(range(len(row)), key=lambda t: (-row[t].item(), t)):
        total += p[token].item() / p.sum().item()
        if total > u:
            return token
    raise AssertionError


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("candidates", [4, 512])
def test_draws_are_by_inverse_cdf_in_order_of_logit_however_few_tokens_are_sorted(
    decoder: Decoder, dtype: torch.dtype, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "CANDIDATES", candidates)
    monkeypatch.setattr(sampler, "BLOCK", 60)  # three of the seven nodes at a time
    logits = (torch.randn(7, 20, generator=torch.Generator().manual_seed(1)) * 2).to(dtype)
    logits[0] = logits[0].round()  # ties, at the lowest candidate too
    node, u, token, logprob = draws(decoder, logits)
    expected = [by_the_book(decoder, logits, n, x) for n, x in zip(node[:300].tolist(), u[:300].tolist(), strict=True)]
    assert token[:300].tolist() == expected
    own = decoder.processed(logits)[node, token].log().double()
    torch.testing.assert_close(logprob, own)


def test_only_the_head_of_a_large_vocabulary_is_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(40, 30_000, generator=torch.Generator().manual_seed(2)).bfloat16() * 3
    sorted_widths: list[int] = []
    real = torch.Tensor.argsort

    def watched(self: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        sorted_widths.extend([self.shape[-1]] * len(self))
        return real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.Tensor, "argsort", watched)
    node, _, token, _ = draws(Decoder(0.5), logits)
    assert len(node) == 4000
    assert sorted_widths.count(30_000) <= 8  # of 40 nodes and 4,000 draws
    assert token.max() < 30_000


def test_normalizers_are_those_of_the_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "BLOCK", 100)
    logits = torch.randn(9, 50)
    torch.testing.assert_close(sampler.rank(logits)[0], logits.logsumexp(-1))


def test_a_draw_near_zero_stays_with_its_own_node() -> None:
    logits = torch.randn(40, 5000, generator=torch.Generator().manual_seed(1)) * 3
    logits[:, :3] += 15
    _, order = sampler.rank(logits)
    node = torch.arange(40)
    for u in (0.0, 1e-12, 3e-8, 1e-7):
        for decoder in (Decoder(0.7, top_k=20), Decoder(0.3)):
            uniform = torch.full((40,), u, dtype=torch.double)
            token, logprob = sampler.choose(decoder, logits, order, None, node, uniform)
            assert torch.equal(token, logits.argmax(dim=-1))
            assert torch.isfinite(logprob).all()
