"""Which architectures of transformers the engine runs, tried on a small one of each: ``python -m tools.architectures``.

Short and long prompts go through the engine together, and each text through the model's plain forward alone. Takes a
few minutes and leaves ``book/data/architectures.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import signal
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KINDS

from lmrel import files
from lmrel.engine.forest import walk
from lmrel.engine.probes import check_model, check_tree, error_share
from lmrel.errors import InputError, command

OUTPUT = Path(__file__).resolve().parent.parent / "book" / "data" / "architectures.json"
SECONDS = 60  # to build and to try one, each, at most
LARGEST = 30_000_000  # parameters of what still counts as small
LENGTHS = (40, 3, 4, 20)  # of the prompts, in tokens
NEW = 6  # tokens of a branch
ERROR = 1e-3  # as a share of the logits' spread: what `check_tree` allows in 32 bit
LAYERS = 4
# By the names that configurations have for them; those that a configuration lacks are passed over. The long prompts go
# past the windows, and not past the chunks of chunked attention, beyond which a model is refused.
SIZES: dict[str, int] = {
    name: size
    for size, names in (
        (64, "vocab_size unpadded_vocab_size vocab_size_per_layer_input encoder_hash_byte_group_vocab"),
        (64, "hidden_size n_embd d_model emb_dim embedding_dim word_embed_proj_dim embedding_size lru_width"),
        (64, "attention_hidden_size input_embedding_size intermediate_size n_inner ffn_dim d_inner dff d_ff"),
        (64, "ffn_hidden_size moe_intermediate_size shared_expert_intermediate_size decoder_ffn_dim encoder_ffn_dim"),
        (64, "expert_ffn_hidden_size feed_forward_size intermediate_size_mlp shared_intermediate_size"),
        (64, "dense_intermediate_size attention_chunk_size ssm_state_size mamba_d_state state_size"),
        (
            LAYERS,
            "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_decoder_layers depth",
        ),
        (4, "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads"),
        (4, "num_decoder_attention_heads mamba_n_heads mamba_num_heads n_mamba_heads"),
        (4, "num_experts num_local_experts n_routed_experts moe_num_experts"),
        (2, "num_key_value_heads kv_n_heads num_kv_heads num_query_groups indexer_n_heads indexer_compress_ratio"),
        (2, "num_experts_per_tok num_experts_per_token moe_topk moe_top_k moe_k num_kv_shared_layers eos_token_id"),
        (1, "n_group topk_group num_expert_group n_shared_experts indexer_kv_heads bos_token_id"),
        (1, "mamba_expand expand mamba_n_groups n_groups mamba_ngroups decoder_start_token_id is_decoder"),
        (0, "pad_token_id"),
        (16, "head_dim qk_nope_head_dim qk_rope_head_dim v_head_dim kv_channels d_kv kv_lora_rank q_lora_rank d_head"),
        (16, "mamba_d_head mamba_head_dim indexer_head_dim indexer_budget hc_lowrank"),
        (16, "sliding_window window_size attention_window_size"),
        (128, "max_position_embeddings n_positions context_length n_ctx max_seq_len"),
    )
    for name in names.split()
}
LACKING = {"sliding_window", "window_size", "attention_window_size", "attention_chunk_size"}  # None is none, not unsaid
# What sizes alone do not get right, and what transformers' own defaults lack.
MORE: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "dbrx": {"attn_config": {"rope_theta": 1e4, "clip_qkv": 8, "kv_n_heads": 2}, "num_key_value_heads": 2},
    "dots3_note": {"head_dim": 32},
    "dots3_note_text": {"head_dim": 32},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_d_head": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "reformer": {"axial_pos_embds": False},
    "zaya": {"num_experts_per_tok": 1},
}


def sizes(said: dict[str, Any]) -> dict[str, Any]:
    """Those fields of a configuration that `SIZES` knows, with its sizes."""
    found = {
        name: SIZES[name]
        for name, value in said.items()
        if name in SIZES and (isinstance(value, int) or (value is None and name not in LACKING))
    }
    if "is_decoder" in found:
        found["is_decoder"] = True
    if "kv_lora_rank" in said:  # all heads' keys come from one small vector
        found["num_key_value_heads"] = SIZES["num_attention_heads"]
    return found


def shrunk(config: PretrainedConfig, more: dict[str, Any]) -> PretrainedConfig:
    """A configuration of the same class with the sizes of `SIZES`, then `more`; its parts likewise; few of its layers.

    Kinds of layers take turns, so that one which uses the keys of an earlier one of its kind finds it.
    """
    said = config.to_dict()
    changes, depth = sizes(said), said.get("num_hidden_layers")
    kinds = said.get("layer_types") or said.get("layers_block_type") or [None] * LAYERS
    places = [[i for i, other in enumerate(kinds) if other == kind] for kind in dict.fromkeys(kinds)]
    turns = [i for turn in itertools.zip_longest(*places) for i in turn if i is not None][:LAYERS]
    for name, value in said.items():
        part = getattr(config, name, None) if isinstance(value, dict) else None
        if isinstance(part, PretrainedConfig):
            changes[name] = shrunk(part, {}).to_dict()
        elif isinstance(value, list) and len(value) == depth:
            changes[name] = [value[i] for i in turns]
    if layers := said.get("per_layer_config"):  # in some models layers differ in the size of their heads
        of_layer = {int(i): sizes(own) | ({"head_dim": 32} if "head_dim" in own else {}) for i, own in layers.items()}
        changes["per_layer_config"] = {new: of_layer[old] for new, old in enumerate(turns) if old in of_layer}
    return type(config)(**changes | more)


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise `TimeoutError` in what takes longer."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"it took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def small_model(kind: str, **more: Any) -> PreTrainedModel:
    """A random model of the architecture `kind`, a key of transformers' mapping; `more` is for its configuration."""
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[kind]]
    # The class's own configuration: for a model that also sees or hears, that of its language part.
    config = shrunk(model_class.config_class(), MORE.get(kind, {}) | more)
    with torch.device("meta"):
        parameters = model_class(config).num_parameters()
    if parameters > LARGEST:
        raise ValueError(f"it has {parameters:,} parameters where it should be small")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = model_class(config)
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 or name.endswith("sinks"):  # spread, or all its distributions would be alike
                parameter.data.normal_(std=0.15 if parameter.ndim >= 2 else 1.0)
    return model.eval().requires_grad_(False)


def difference(model: PreTrainedModel, lengths: Sequence[int] = LENGTHS) -> float:
    """How far the engine's logits are from plain forwards over each text alone, as a share of their spread, at most.

    Prompts of `lengths` tokens, random but that the last begins like the first, have two branches each.
    """
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(3, 60, (length,), generator=generator).tolist() for length in lengths]
    prompts[-1][: len(prompts[-1]) // 2] = prompts[0][: len(prompts[-1]) // 2]
    check_model(model, prompts, NEW)
    check_tree(model, prompts, NEW)
    drawn = torch.randint(3, 60, (NEW, 2 * len(prompts)), generator=generator)
    texts: dict[int, list[int]] = dict(enumerate(prompts))
    steps, worst = iter(drawn), 0.0

    def children(numbers: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal worst
        for number, found in zip(numbers.tolist(), logits, strict=True):
            plain = model(torch.tensor([texts[number]])).logits[0, -1]
            worst = max(worst, error_share(found, plain))
        tokens = next(steps, drawn[0, :0])
        parents = (
            numbers.repeat_interleave(2)[: len(tokens)] if len(numbers) == len(prompts) else numbers[: len(tokens)]
        )
        for i, (parent, token) in enumerate(zip(parents.tolist(), tokens.tolist(), strict=True)):
            texts[int(numbers[-1]) + 1 + i] = [*texts[parent], token]
        return parents, tokens

    walk(model, prompts, children)
    return worst


def tried(kind: str) -> dict[str, str]:
    """What becomes of the architecture `kind`: its ``state``, and ``why`` where it does not run."""
    try:
        with limited(SECONDS):
            model = small_model(kind)
    except Exception as error:  # whatever a configuration of other sizes than it was made for comes up with
        return {"state": "not built", "why": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    try:
        with limited(SECONDS):
            off = difference(model)
    except InputError as error:
        return {"state": "refused", "why": str(error).split("tree of prefixes", 1)[-1].lstrip(":, ")}
    except Exception as error:
        return {"state": "failed", "why": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return (
        {"state": "runs", "why": ""} if off <= ERROR else {"state": "wrong", "why": f"its logits are off by {off:.1%}."}
    )


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="ARCHITECTURE", help="only these, and write nothing")
    chosen = parser.parse_args().kinds
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rows = []
    for kind in chosen or KINDS:
        rows.append({"architecture": kind, **tried(kind)})
        print(*rows[-1].values(), sep="  ", flush=True)
    print(dict(Counter(row["state"] for row in rows)))
    if not chosen:
        versions = {"transformers": transformers.__version__, "date": date.today().isoformat()}
        text = json.dumps(versions | {"lengths": LENGTHS, "new_tokens": NEW, "rows": rows}, indent=1)
        files.write_text(text + "\n", OUTPUT)
        print(OUTPUT)


if __name__ == "__main__":
    main()
