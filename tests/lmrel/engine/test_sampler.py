from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from lmrel import Decoder, InputError, paper_problems, sample
from lmrel.engine import sampler
from lmrel.engine.forest import walk
from lmrel.engine.sampler import Uniforms, sample_chunk
from lmrel.tokens import encode_problems
from tests.conftest import ARCHITECTURES, random_model, small_tokenizer, tiny

PROBLEMS = paper_problems()
PROMPT = torch.tensor([[1, 5, 3, 9]])
TRUNCATED = [Decoder(1.0), Decoder(0.3), Decoder(2.0, top_p=0.9), Decoder(1.0, top_k=3), Decoder(1.0, min_p=0.2)]


def generated(model: Any, prompts: torch.Tensor, new: int) -> list[list[int]]:
    """Greedy continuations by transformers, end-of-text included, padding cut off."""
    out = model.generate(prompts, max_new_tokens=new, do_sample=False)[:, prompts.shape[1] :].tolist()
    return [row[: row.index(2) + 1] if 2 in row else row for row in out]


def test_greedy_draws_are_those_of_generate_on_every_tiny_model(tiny_name: str) -> None:
    model, tokenizer = tiny(tiny_name)
    draws = sample(model, tokenizer, PROBLEMS, [Decoder(0.0)], prompt_style="zero_shot")
    by_length: dict[int, list[int]] = {}
    encoded = encode_problems(PROBLEMS.to_dict("records"), "zero_shot", tokenizer)
    for i, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).append(i)
    for members in by_length.values():
        expected = generated(model, torch.tensor([encoded[i] for i in members]), 16)
        assert [list(draws["token_ids"][i]) for i in members] == expected


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_and_log_probs_on_every_architecture(architecture: str) -> None:
    model, tokenizer = random_model(architecture), small_tokenizer()
    decoders = [Decoder(0.0, max_new_tokens=8), Decoder(1.3, max_new_tokens=8)]
    prompts = torch.randint(3, 12, (5, 6), generator=torch.Generator().manual_seed(1))
    names = [f"p{i}" for i in range(5)]
    draws = sample_chunk(model, tokenizer, prompts.tolist(), names, decoders, runs=6, seed=0)
    greedy = draws.decoder == 0
    assert [draws.token_ids[a] for a in draws.answer[greedy]] == generated(model, prompts, 8)
    for row, answer in zip(draws.row, draws.answer, strict=True):
        ids = draws.token_ids[answer]
        logits = model(torch.cat([prompts[row], torch.tensor(ids)])[None]).logits[0, 5:-1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum().item()
        assert draws.raw[answer] == pytest.approx(expected, abs=1e-4)


def brute_force(model: Any, decoder: Decoder) -> dict[tuple[int, ...], float]:
    """The probability of every text of at most max_new_tokens tokens, one plain forward per prefix."""
    found: dict[tuple[int, ...], float] = {}

    def grow(text: tuple[int, ...], mass: float) -> None:
        if (text and text[-1] == 2) or len(text) == decoder.max_new_tokens:
            found[text] = mass
            return
        ids = torch.cat([PROMPT[0], torch.tensor(text, dtype=torch.long)])[None]
        logits = model(ids).logits[:, -1]
        seen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, ids, True)
        for token, p in enumerate(decoder.processed(logits, seen)[0].tolist()):
            if p > 0:
                grow((*text, token), mass * p)

    grow((), 1.0)
    return found


@pytest.mark.parametrize("architecture", ["mistral", "mixtral"])
@pytest.mark.parametrize(
    "decoder",
    [
        Decoder(1.0, max_new_tokens=3),
        Decoder(0.6, max_new_tokens=3),
        Decoder(1.5, top_k=5, max_new_tokens=3),
        Decoder(1.2, top_p=0.8, max_new_tokens=3),
        Decoder(1.0, min_p=0.1, repetition_penalty=1.5, max_new_tokens=3),
        Decoder(1.0, typical_p=0.7, max_new_tokens=3),
    ],
)
def test_sampled_frequencies_match_brute_force(architecture: str, decoder: Decoder) -> None:
    model = random_model(architecture)
    exact = brute_force(model, decoder)
    assert math.fsum(exact.values()) == pytest.approx(1.0, abs=1e-5)
    runs = 20_000
    draws = sample_chunk(model, small_tokenizer(), PROMPT.tolist(), ["p"], [decoder], runs=runs, seed=3)
    counts = Counter(tuple(draws.token_ids[a]) for a in draws.answer)
    assert set(counts) <= set(exact)
    common = [text for text, p in exact.items() if p * runs >= 10]
    observed = [counts[text] for text in common]
    expected = [exact[text] * runs for text in common]
    observed.append(runs - sum(observed))
    expected.append(runs - sum(expected))
    # With a right sampler and this many tests, a p-value below 1e-4 has a probability of about 1e-3.
    if expected[-1] < 10:
        observed[-2:], expected[-2:] = [sum(observed[-2:])], [sum(expected[-2:])]
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_processed_log_prob_is_the_decoders_own() -> None:
    model = random_model("mistral")
    decoder = Decoder(0.7, top_k=6, max_new_tokens=3)
    exact = brute_force(model, decoder)
    draws = sample_chunk(model, small_tokenizer(), PROMPT.tolist(), ["p"], [decoder], runs=200, seed=0)
    for answer, processed in zip(draws.answer, draws.processed, strict=True):
        assert processed == pytest.approx(math.log(exact[tuple(draws.token_ids[answer])]), abs=1e-4)


def test_each_distinct_prefix_is_computed_once() -> None:
    model = random_model("mistral")
    decoders = [Decoder(t, max_new_tokens=4) for t in (0.0, 0.5, 1.0)]
    draws = sample_chunk(model, small_tokenizer(), PROMPT.tolist(), ["p"], decoders, runs=50, seed=0)
    texts = [draws.token_ids[a] for a in set(draws.answer.tolist())]
    inner = {tuple(text[:n]) for text in texts for n in range(len(text))}
    assert draws.nodes == len(inner)


@pytest.mark.parametrize("name", ["tiny-dense-base", "tiny-sparse-instruct"])
def test_draws_do_not_depend_on_chunks_order_or_selection(name: str) -> None:
    model, tokenizer = tiny(name)
    problems = PROBLEMS.iloc[::6].reset_index(drop=True)
    decoders = [Decoder(0.0), Decoder(0.7), Decoder(1.3)]

    def texts(chosen: Any, chunk: int | None) -> Any:
        draws = sample(model, tokenizer, chosen, decoders, runs=5, chunk=chunk)
        return draws.set_index(["problem_id", "temperature", "run"])["text"]

    whole = texts(problems, None)
    variants = [
        texts(problems, 1),
        texts(problems, 3),
        texts(problems.sample(frac=1, random_state=0), 4),
        texts(problems.iloc[5:9], None),
    ]
    flips = sum((whole.loc[other.index] != other).sum() for other in variants)
    # A draw may flip only if its uniform falls within rounding of a boundary: about one in a million.
    assert flips == 0


def test_other_seeds_give_other_draws_and_more_runs_extend() -> None:
    model, tokenizer = tiny("tiny-dense-base")
    problems = PROBLEMS.head(20)
    first = sample(model, tokenizer, problems, [Decoder(1.0)], runs=3, seed=0)
    other = sample(model, tokenizer, problems, [Decoder(1.0)], runs=3, seed=1)
    more = sample(model, tokenizer, problems, [Decoder(1.0)], runs=6, seed=0)
    assert (first["text"] != other["text"]).any()
    assert more[more["run"] < 3]["text"].tolist() == first["text"].tolist()


def test_stopping_when_decided_changes_no_outcome(tiny_name: str) -> None:
    model, tokenizer = tiny(tiny_name)
    outcomes = ["extracted", "correct", "compliant"]
    whole, short = (
        sample(model, tokenizer, PROBLEMS.iloc[::8], [Decoder(t, stop=stop) for t in (0.0, 1.0)], runs=3)
        for stop in ("eos", "decided")
    )
    assert whole[outcomes].equals(short[outcomes])
    assert (short["n_tokens"] <= whole["n_tokens"]).all()
    assert all(long.startswith(text) for long, text in zip(whole["text"], short["text"], strict=True))
    if tiny_name.endswith("base"):
        assert short["n_tokens"].mean() < whole["n_tokens"].mean()


def test_uniforms_are_a_function_of_seed_problem_run_and_step() -> None:
    first = Uniforms(5, ["a", "b"])
    assert np.array_equal(first.at(3, 10)[:, :4], Uniforms(5, ["a", "b"]).at(3, 4))
    assert np.array_equal(first.at(0, 4)[1], Uniforms(5, ["b"]).at(0, 4)[0])
    columns = [Uniforms(s, [p]).at(step, 500)[0] for s, p, step in itertools.product((0, 1), "xy", (0, 1))]
    numbers = np.concatenate(columns)
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3
    correlations = np.corrcoef(columns)[np.triu_indices(8, 1)]
    assert abs(correlations).max() < 0.2  # 28 correlations of 500 pairs: 0.2 has a probability below 1e-4


def test_broken_weights_end_in_a_sentence() -> None:
    model = random_model("mistral")
    model.lm_head.weight.data[0] = math.nan
    with pytest.raises(InputError, match="NaN or infinite logits"):
        walk(model, PROMPT.tolist(), lambda numbers, logits: (PROMPT[0, :0], PROMPT[0, :0]))


def test_prompts_of_any_length_go_together_and_what_they_share_is_computed_once() -> None:
    model = random_model("mixtral")
    prompts = [[1, 5, 3, 9], [1, 5, 3], [1, 5, 3, 9, 4, 4, 7], [1, 5]]
    tokens: list[int] = []
    real = model.model.embed_tokens.forward
    model.model.embed_tokens.forward = lambda ids: tokens.append(ids.numel()) or real(ids)
    decoders = [Decoder(0.0, max_new_tokens=4), Decoder(1.0, max_new_tokens=4)]
    names = ["a", "b", "c", "d"]
    together = sample_chunk(model, small_tokenizer(), prompts, names, decoders, runs=5, seed=0)
    assert tokens[:2] == [1, 3 + 2 + 6 + 1]
    for i, prompt in enumerate(prompts):
        alone = sample_chunk(model, small_tokenizer(), [prompt], [names[i]], decoders, runs=5, seed=0)
        mine = together.row == i
        assert [together.token_ids[a] for a in together.answer[mine]] == [alone.token_ids[a] for a in alone.answer]
        assert together.processed[mine] == pytest.approx(alone.processed, abs=1e-4)


def test_stop_strings_end_a_draw_as_in_generate() -> None:
    model, tokenizer = tiny("tiny-dense-base")
    prompts = encode_problems(PROBLEMS.head(6).to_dict("records"), "few_shot", tokenizer)
    decoder = Decoder(0.0, stop_strings=("\n", "7"))
    names = [str(i) for i in range(6)]
    draws = sample_chunk(model, tokenizer, prompts, names, [decoder, Decoder(0.0)], runs=1, seed=0)
    for i, prompt in enumerate(prompts):
        out = model.generate(
            torch.tensor([prompt]), max_new_tokens=16, do_sample=False, stop_strings=["\n", "7"], tokenizer=tokenizer
        )
        stopped, whole = (draws.token_ids[a] for a in draws.answer[draws.row == i])
        assert stopped == out[0, len(prompt) :].tolist()
        assert len(stopped) < len(whole) == 16


def test_long_draws_that_share_little_have_the_log_probs_of_a_plain_forward() -> None:
    model, prompts = random_model("mistral"), [[1, 5, 3, 9], [1, 7]]
    decoders = [Decoder(t, max_new_tokens=60) for t in (0.0, 1.0, 1.8)]
    draws = sample_chunk(model, small_tokenizer(), prompts, ["a", "b"], decoders, runs=12, seed=0)
    prompt_of = dict(zip(draws.answer.tolist(), draws.row.tolist(), strict=True))
    assert max(map(len, draws.token_ids)) > 40
    for answer, (ids, raw) in enumerate(zip(draws.token_ids, draws.raw, strict=True)):
        prompt = prompts[prompt_of[answer]]
        with torch.inference_mode():
            logprobs = model(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
        assert raw == pytest.approx(sum(logprobs[len(prompt) - 1 + i, t].item() for i, t in enumerate(ids)), abs=1e-3)


def test_a_tree_that_would_not_fit_is_refused_before_memory_is_taken() -> None:
    model, decoders = random_model("mistral"), [Decoder(1.0, max_new_tokens=4)]
    with pytest.raises(torch.OutOfMemoryError, match="bytes are needed, 1e"):
        sample_chunk(model, small_tokenizer(), PROMPT.tolist(), ["p"], decoders, runs=50, seed=0, budget=1e3)


def chosen(decoder: Decoder, logits: torch.Tensor, count: int = 4000) -> tuple[torch.Tensor, ...]:
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


@pytest.mark.parametrize("decoder", TRUNCATED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("candidates", [4, 512])
def test_draws_are_by_inverse_cdf_in_order_of_logit_however_few_tokens_are_sorted(
    decoder: Decoder, dtype: torch.dtype, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "CANDIDATES", candidates)
    monkeypatch.setitem(sampler.BLOCK, "cpu", 60)  # three of the seven nodes at a time
    logits = (torch.randn(7, 20, generator=torch.Generator().manual_seed(1)) * 2).to(dtype)
    logits[0] = logits[0].round()  # ties, at the lowest candidate too
    node, u, token, logprob = chosen(decoder, logits)
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
    node, _, token, _ = chosen(Decoder(0.5), logits)
    assert len(node) == 4000
    assert sorted_widths.count(30_000) <= 8  # of 40 nodes and 4,000 draws
    assert token.max() < 30_000


def test_normalizers_are_those_of_the_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sampler.BLOCK, "cpu", 100)
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
