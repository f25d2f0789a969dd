"""The paper's experiment at full size, on one GPU: ``python -m tools.bench_gpu``.

Weights are random, since the time of a forward does not depend on them; they are made parameter by parameter, and in
NF4 quantized one by one, so no wide copy is held. What does depend on them is how much draws share: random weights give
almost uniform distributions, in which nothing is shared, the worst case. So each model also runs with its logits scaled
until their entropy is that of a model that is fairly sure. Prompts are the paper's problems, encoded by the tiny
suite's tokenizer.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel

from book.analysis.prefixes import distinct_prefixes
from lmrel import files, nf4
from lmrel.decoding import Decoder
from lmrel.errors import check_choice, command
from lmrel.parameters import PRECISIONS
from lmrel.precision import bits_per_weight
from lmrel.problems import paper_problems
from lmrel.registry import CHECKPOINTS, SHAPES
from lmrel.sampling import sample
from tools.bench import BATCHED, DRAWS, SINGLY, TEMPERATURES, Bench, counted, generate, spread, timed
from tools.floor import bare_forward, by_length

ARMS = (("Qwen2.5-3B", "bf16"), ("OLMoE-1B-7B", "bf16"), ("OLMoE-1B-7B", "nf4"), ("Mixtral-8x7B", "nf4"))
SAMPLED = {SINGLY: 2, BATCHED: 48}  # timed on so many problems, spread evenly, and scaled up to all
SURE = 0.3  # nats: the entropy of the scaled distributions
AT_ONCE = 16  # prompts in a forward of the floor
NEEDED = (
    "this benchmark builds the paper's models at full size and needs a CUDA GPU, which this machine has not; the "
    "book's page 'Run it on your GPU' says how large a one. `make bench` measures tiny models on a CPU."
)


def random_weights(shape: dict[str, Any], precision: str, device: str) -> PreTrainedModel:
    """A model of `shape` in bf16 or NF4 with random weights; while it is made, no weight is held wider than that."""
    config = AutoConfig.for_model(**shape)
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    if precision == "nf4":
        nf4.narrow_linears(model)
    generator = torch.Generator(device).manual_seed(0)
    for name, empty in list(model.named_parameters()):
        module, leaf = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        value = torch.ones(empty.shape, dtype=torch.bfloat16, device=device)
        if empty.ndim >= 2:
            value.normal_(std=0.02, generator=generator)
        narrow = precision == "nf4" and nf4.is_block_matrix(name, empty)
        setattr(module, leaf, nf4.quantized(module, value) if narrow else nn.Parameter(value, requires_grad=False))
    for name, module in list(model.named_modules()):
        if "RotaryEmbedding" in type(module).__name__:  # its frequencies are no parameters
            with torch.device(device):
                model.set_submodule(name, type(module)(config))
    model.tie_weights()
    nf4.widen_on_use(model)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def sharpness(model: PreTrainedModel, prompts: list[list[int]]) -> float:
    """The factor by which logits must be multiplied for a mean entropy of `SURE` nats after `prompts`, token ids."""
    logits = torch.stack([model(torch.tensor([p], device=model.device)).logits[0, -1].float() for p in prompts])
    low, high = 0.0, 1e4
    for _ in range(60):
        middle = (low + high) / 2
        logprobs = (logits * middle).log_softmax(dim=-1)
        entropy = -(logprobs.exp() * logprobs).sum(dim=-1).mean().item()
        low, high = (middle, high) if entropy > SURE else (low, middle)
    return high


def time_experiment(bench: Bench) -> dict[str, Any]:
    """The seconds of the engine, its peers and the floor for all draws of all problems, and what was computed."""
    model, tokenizer, problems = bench.model, bench.tokenizer, bench.problems
    decoders = [Decoder(t, max_new_tokens=bench.new_tokens) for t in TEMPERATURES]
    sample(model, tokenizer, problems.head(2), decoders)  # to warm up
    seconds, peak, draws = timed(lambda: sample(model, tokenizer, problems, decoders), model.device)
    assert draws is not None
    trees = distinct_prefixes(draws, problems)
    found: dict[str, Any] = {"new_tokens": bench.new_tokens, "draws": len(draws), "seconds": seconds, "peak_mb": peak}
    found |= {"nodes": sum(map(len, trees)), "tokens_per_second": int(draws["n_tokens"].sum()) / seconds}
    found["mean_logprob"] = float(draws["mean_logprob"].mean())
    for task, count in SAMPLED.items():
        some = spread(bench.prompts, count)
        batches = [[prompt] for prompt in some] if task == SINGLY else by_length(some)
        taken = timed(lambda b=batches: generate(bench, b), model.device)[0] * len(bench.prompts) / len(some)  # type: ignore[misc]
        found |= {f"{task}, seconds": taken, f"{task}, ratio": taken / seconds}
    floor = timed(bare_forward(model, bench.prompts, trees, AT_ONCE), model.device)[0]
    return found | {"floor, seconds": floor, "floor, share": floor / seconds}


def measure_arm(
    shape: str, precision: str, problems: pd.DataFrame, lengths: list[int], device: str = "cuda"
) -> list[dict[str, Any]]:
    """A row per length and kind of distribution: ``uniform``, as random weights give it, and scaled to be ``sure``."""
    cuda = device == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    model = random_weights(SHAPES[shape], precision, device)
    about: dict[str, Any] = {"model": shape, "precision": precision, "build_seconds": time.perf_counter() - began}
    about["weights_mb"] = sum(t.nbytes for t in model.state_dict().values()) // 1_000_000
    about["build_peak_mb"] = torch.cuda.max_memory_allocated() // 1_000_000 if cuda else None
    about["bits_per_weight"], about["wide_share"] = bits_per_weight(model)
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS / "tiny-dense-base")
    benches = [Bench(shape, problems, model, tokenizer, n) for n in lengths]
    factor = sharpness(model, spread(benches[0].prompts, 8))
    rows = [about | {"logits": "uniform"} | time_experiment(bench) for bench in benches]
    hook = model.get_output_embeddings().register_forward_hook(lambda _, __, output: output * factor)
    rows += [about | {"logits": "sure"} | time_experiment(bench) for bench in benches]
    hook.remove()
    return rows


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arms", default=",".join(f"{shape}:{precision}" for shape, precision in ARMS))
    parser.add_argument("--problems", type=counted, default=240)
    parser.add_argument("--new-tokens", default="16,64")
    parser.add_argument("--out", type=Path, default=Path("book/data/gpu/fullsize.json"))
    arguments = parser.parse_args()
    lengths = [counted(length) for length in arguments.new_tokens.split(",")]
    for arm in arguments.arms.split(","):
        shape, _, precision = arm.partition(":")
        check_choice("the model of --arms", shape, SHAPES)
        check_choice("the precision of --arms", precision, PRECISIONS[1:])
    if not torch.cuda.is_available():
        raise SystemExit(NEEDED)
    problems = paper_problems()
    problems = problems.iloc[spread(range(len(problems)), arguments.problems)]
    record: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": torch.cuda.get_device_name(),
        "command": f"python -m tools.bench_gpu --arms {arguments.arms} --problems {arguments.problems} "
        f"--new-tokens {arguments.new_tokens}",
        "versions": {package: version(package) for package in ("lmrel", "torch", "transformers", "bitsandbytes")},
        "draws_per_problem": len(DRAWS),
        "rows": [],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for arm in arguments.arms.split(","):
        shape, _, precision = arm.partition(":")
        record["rows"] += measure_arm(shape, precision, problems, lengths)
        print(pd.DataFrame(record["rows"]).round(3).T.to_string())
        files.write_json(record, arguments.out)  # after each arm: a later one may not fit


if __name__ == "__main__":
    main()
