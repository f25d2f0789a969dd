from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import bitsandbytes.functional as bnb
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lmrel import InputError, load_model
from lmrel.nf4 import is_block_matrix, narrow_linears
from lmrel.precision import bits_per_weight, check_narrow, precision_of, save_quantized
from tests.conftest import ARCHITECTURES, ROOT, random_model, small_tokenizer

DATA = ROOT / "tests" / "data" / "nf4"
IDS = torch.randint(3, 12, (2, 10), generator=torch.Generator().manual_seed(0))


def there_and_back(weight: torch.Tensor) -> torch.Tensor:
    """What bitsandbytes' own functions make of a weight."""
    packed, state = bnb.quantize_4bit(weight.detach().contiguous(), quant_type="nf4", compress_statistics=True)
    return bnb.dequantize_4bit(packed, state)


def saved(architecture: str, folder: Path, **changes: Any) -> tuple[Any, str]:
    """A random model in bf16, and its checkpoint, in shards."""
    model = random_model(architecture, **changes).bfloat16()
    model.save_pretrained(folder, max_shard_size="100KB")
    small_tokenizer().save_pretrained(folder)
    return model, str(folder)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_matrix_of_the_blocks_is_loaded_in_four_bit_experts_and_routers_included(
    architecture: str, tmp_path: Path
) -> None:
    _, folder = saved(architecture, tmp_path / "wide")
    wide, _ = load_model(folder, "bf16")
    assert bits_per_weight(wide) == (16.0, 1.0)
    with torch.no_grad():
        for name, weight in wide.named_parameters():
            if ".layers." in name and weight.ndim >= 2:
                weight.copy_(there_and_back(weight))
    exact = copy.deepcopy(wide).float()(IDS).logits
    model, _ = load_model(folder, "nf4")
    bits, share = bits_per_weight(model)
    assert 4.1 <= bits <= 4.2
    assert share == 0
    assert precision_of(model) == "nf4"
    kept = {name for name, p in model.named_parameters() if p.dtype == torch.bfloat16 and p.ndim >= 2}
    assert kept == {"model.embed_tokens.weight", "lm_head.weight"}
    rounding = (wide(IDS).logits.float() - exact).norm()  # what bf16 costs with the same weights
    assert (model(IDS).logits.float() - exact).norm() < 2 * rounding < 0.04 * exact.norm()
    for name, module in model.named_modules():
        for weight, parts in getattr(module, "parametrizations", {}).items():
            whole = wide.get_parameter(f"{name}.{weight}")
            assert torch.equal(getattr(module, weight), whole), "not what bitsandbytes makes of the whole"
            assert len(parts) == 1


@pytest.mark.parametrize("architecture", ["mixtral", "qwen2"])
def test_a_saved_quantized_model_is_read_back_as_it_was(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = saved(architecture, tmp_path / "wide")
    model, tokenizer = load_model(folder, "nf4")
    with monkeypatch.context() as patch:
        patch.setattr(type(tokenizer), "save_pretrained", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(InputError, match="narrow could not be written: full"):
            save_quantized(model, tokenizer, tmp_path / "narrow")
    assert not (tmp_path / "narrow").exists()  # no half of it that would have to be removed first
    save_quantized(model, tokenizer, tmp_path / "narrow")
    again, _ = load_model(str(tmp_path / "narrow"))
    before = model(IDS).logits
    bits_per_weight(model)
    assert torch.equal(model(IDS).logits, before)  # neither use nor a look at the weights changes them
    used, _ = load_model(str(save_quantized(model, tokenizer, tmp_path / "used")))
    assert torch.equal(used(IDS).logits, before)
    assert precision_of(again) == "nf4"
    assert bits_per_weight(again) == bits_per_weight(model)
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert (tmp_path / "narrow" / "model.safetensors").stat().st_mode & 0o777 == 0o644
    with pytest.raises(InputError, match="exists; a quantized model is saved to a new folder"):
        save_quantized(model, tokenizer, str(tmp_path / "narrow"))
    with pytest.raises(InputError, match="has no layers that this code can quantize"):
        save_quantized(load_model(folder, "bf16")[0], tokenizer, tmp_path / "other")
    with pytest.raises(InputError, match="'bf16', but .* was saved in nf4"):
        load_model(str(tmp_path / "narrow"), "bf16")


@pytest.mark.parametrize(
    ("family", "block", "names"),
    [("mixtral", "block_sparse_moe", ("w1", "w3", "w2")), ("olmoe", "mlp", ("gate_proj", "up_proj", "down_proj"))],
)
def test_codes_and_logits_are_those_of_the_papers_route(
    family: str, block: str, names: tuple[str, str, str], tmp_path: Path
) -> None:
    """``data/nf4/reference.json`` is what transformers 4.57.1 with bitsandbytes makes of the same checkpoint."""
    reference = json.loads((DATA / "reference.json").read_text())
    expected = dict(reference[family]["codes"])
    folder = shutil.copytree(DATA / family, tmp_path / family)
    small_tokenizer().save_pretrained(folder)
    model, _ = load_model(str(folder), "nf4")

    def take(name: str, codes: torch.Tensor) -> None:
        assert hashlib.sha256(codes.contiguous().numpy().tobytes()).hexdigest() == expected.pop(name), name

    for i, layer in enumerate(model.model.layers):
        place = f"model.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            take(f"{place}.self_attn.{name}", getattr(layer.self_attn, name).weight.data)
        take(f"{place}.{block}.gate", layer.mlp.gate.parametrizations.weight.original)
        experts = layer.mlp.experts.parametrizations
        gates_and_ups, downs = experts.gate_up_proj.original.chunk(8), experts.down_proj.original.chunk(4)
        for e in range(4):
            codes = (gates_and_ups[2 * e], gates_and_ups[2 * e + 1], downs[e])
            for name, one in zip(names, codes, strict=True):
                take(f"{place}.{block}.experts.{e}.{name}", one)
    assert not expected
    logits, theirs = model(torch.tensor(reference["ids"])).logits.float(), torch.tensor(reference[family]["logits"])
    # Scales are quantized to 8 bit: theirs of each expert apart, ours of all experts of a layer together. That changes
    # logits by a few per cent, and sends a token whose router hardly prefers one expert to another.
    off = (logits - theirs).norm(dim=-1) / theirs.norm(dim=-1)
    assert (off < 0.05).sum() >= off.numel() - 2
    assert off.median() < 0.025


def test_rows_that_are_no_multiple_of_64_are_refused(tmp_path: Path) -> None:
    _, folder = saved("mistral", tmp_path / "wide", intermediate_size=96)
    with pytest.raises(InputError, match=r"rows of .* have 96 weights, no multiple of 64"):
        load_model(folder, "nf4")


def test_a_model_that_stayed_wide_is_an_error() -> None:
    with pytest.raises(InputError, match="has no layers that this code can quantize"):
        check_narrow(random_model("mistral").bfloat16())
    half = random_model("mixtral").bfloat16()
    layer = half.model.layers[0]
    narrow_linears(half)
    for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
        module = getattr(layer.self_attn, projection)
        module.weight = type(module.weight)(torch.randn(64, 64), quant_type="nf4").to("cpu")
    with pytest.raises(InputError, match="of the block weights stayed in 16 bit"):
        check_narrow(half)


PEAK = """
import re, sys, threading, time
from pathlib import Path
import torch
import lmrel.nf4
from lmrel import load_model
def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
load_model("tiny-sparse-base", "nf4")  # whatever is imported and set up once
before, peak, going = held(), 0, True
def watch():
    global peak
    while going:
        peak = max(peak, held())
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
model, _ = load_model(sys.argv[1], "nf4")
going = False
thread.join()
size = sum(tensor.nbytes for tensor in model.state_dict().values())
print(peak - before, size)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_no_wide_copy_is_held_while_loading(tmp_path: Path) -> None:
    shape = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 12, "num_local_experts": 8}
    wide, folder = saved("mixtral", tmp_path / "wide", **shape)
    largest = max(parameter.nbytes for parameter in wide.parameters())
    everything = sum(parameter.nbytes for parameter in wide.parameters())
    # The C library gives large blocks back when they are freed; here "large" is set low, to suit a small model.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, folder], env=environment, capture_output=True, text=True, check=True
    )
    peak, size = map(int, json.loads(f"[{done.stdout.split(chr(10))[-2].replace(' ', ',')}]"))
    assert size < 0.3 * everything
    assert peak < 1.25 * size + largest


def test_a_router_that_is_a_kind_of_linear_layer_stays_itself_and_neither_bias_nor_norm_is_a_matrix() -> None:
    class Router(torch.nn.Linear):
        pass

    model = random_model("mistral")
    model.model.layers[0].router = Router(64, 4, bias=False)
    model.model.layers[0].correction_bias = torch.nn.Parameter(torch.zeros(1, 64))
    narrow_linears(model)
    assert type(model.model.layers[0].router) is Router
    assert is_block_matrix("model.layers.0.router.weight", model.model.layers[0].router.weight)
    assert not is_block_matrix("model.layers.0.correction_bias", model.model.layers[0].correction_bias)
    assert not is_block_matrix("model.layers.0.self_attn.q_norm.weight", torch.ones(4, 64))  # as in Command R+


def test_shared_experts_are_read_back_as_linear_layers(tmp_path: Path) -> None:
    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "moe_intermediate_size", "head_dim", "v_head_dim"), 64)
    sizes |= dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim"), 64)
    sizes |= dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "n_routed_experts"), 2)
    sizes |= dict.fromkeys(("n_group", "topk_group", "num_experts_per_tok", "first_k_dense_replace"), 1)
    config = AutoConfig.for_model("deepseek_v3", **sizes, vocab_size=12, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "wide")
    small_tokenizer().save_pretrained(tmp_path / "wide")
    model, tokenizer = load_model(str(tmp_path / "wide"), "nf4")
    again, _ = load_model(str(save_quantized(model, tokenizer, tmp_path / "narrow")))
    assert torch.equal(again(IDS).logits, model(IDS).logits)
