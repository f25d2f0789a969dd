from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from huggingface_hub import errors as hub
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from lmrel import Decoder, InputError, load_model, models, paper_problems, sample
from lmrel.models import resolve_precision
from lmrel.parameters import PROMPT_STYLES
from lmrel.precision import bits_per_weight, precision_of
from lmrel.prompts import render
from lmrel.registry import CHECKPOINTS, REGISTRY, SHAPES, TINY, TINY_SUITE, known
from lmrel.tokens import encode, encode_problems
from tests.conftest import tiny
from tiny.shapes import ARCHITECTURES, build_model, build_tokenizer
from tiny.train import export


def test_shipped_models_are_what_the_registry_says(tiny_name: str) -> None:
    model, tokenizer = tiny(tiny_name)
    spec = REGISTRY[tiny_name]
    assert model.num_parameters() == spec.total
    assert model.config.model_type == spec.shape.lower()
    assert spec.wide == sum(p.numel() for n, p in model.named_parameters() if ".layers." not in n or p.ndim < 2)
    assert spec.sparse == hasattr(model.config, "num_local_experts")
    assert spec.instruct == bool(tokenizer.chat_template)
    assert precision_of(model) == "fp32"
    experts = [p.numel() for name, p in model.named_parameters() if ".experts." in name]
    idle = sum(experts) * 6 // 8  # two of eight work on a token
    assert spec.active == spec.total - idle
    assert (CHECKPOINTS / tiny_name / "model.safetensors").stat().st_size <= 4_000_000


def test_dense_and_sparse_share_every_weight_outside_the_feed_forward_blocks() -> None:
    shapes = [
        {name: p.shape for name, p in tiny(f"tiny-{kind}-base")[0].named_parameters() if ".mlp." not in name}
        for kind in ("dense", "sparse")
    ]
    assert shapes[0] == shapes[1]


def test_auto_tokenizer_reads_what_was_saved(tiny_name: str) -> None:
    from tiny.shapes import build_tokenizer

    loaded = AutoTokenizer.from_pretrained(CHECKPOINTS / tiny_name)
    built = build_tokenizer(chat=tiny_name.endswith("instruct"))
    assert len(loaded) == 128
    assert loaded.chat_template == built.chat_template
    for row in paper_problems().iloc[::20].to_dict("records"):
        for style in PROMPT_STYLES:
            assert loaded.encode(render(row, style)) == built.encode(render(row, style))


@pytest.mark.parametrize("precision", ["bf16", "nf4"])
def test_other_precisions_load_and_draw(precision: str) -> None:
    model, tokenizer = load_model("tiny-sparse-instruct", precision)
    assert precision_of(model) == precision
    draws = sample(model, tokenizer, paper_problems().head(4), [Decoder(0.0)])
    assert (draws["precision"] == precision).all()
    assert draws["compliant"].all()


def test_precision_auto_is_the_registrys_or_the_devices() -> None:
    assert resolve_precision("tiny-dense-base", "auto") == "fp32"
    assert resolve_precision("mixtral-8x7b-instruct", "auto") == "nf4"
    assert resolve_precision("some/model", "auto") == ("bf16" if torch.cuda.is_available() else "fp32")


def test_registry_names_and_repos_are_distinct_and_hold_the_papers_models() -> None:
    repos = [spec.repo for spec in REGISTRY.values() if spec.repo]
    assert len(set(repos)) == len(repos) == 10
    assert all(re.fullmatch("[0-9a-f]{40}", spec.revision) for spec in REGISTRY.values() if spec.repo)
    papers = {"Qwen/Qwen2.5-3B-Instruct", "mistralai/Mixtral-8x7B-Instruct-v0.1", "allenai/OLMoE-1B-7B-0924"}
    assert papers <= set(repos)
    assert set(TINY) == {path.name for path in CHECKPOINTS.iterdir() if path.is_dir()}


def test_the_book_lists_the_registry() -> None:
    text = (CHECKPOINTS.parent / "book" / "settings.md").read_text()
    assert all(f"`{name}`" in text for name in REGISTRY)


def test_a_damaged_checkpoint_ends_in_a_sentence(tmp_path: Path) -> None:
    copy = shutil.copytree(CHECKPOINTS / "tiny-dense-base", tmp_path / "mine")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="could not be loaded from"):
        load_model(str(copy))


def test_a_checkpoint_with_weights_missing_is_refused(tmp_path: Path) -> None:
    copy = shutil.copytree(CHECKPOINTS / "tiny-dense-base", tmp_path / "mine")
    weights = load_file(copy / "model.safetensors")
    save_file(
        {name: w for name, w in weights.items() if "layers.2" not in name}, copy / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(InputError, match=r"lacks 9 of the model's weights, model\.layers\.2"):
        load_model(str(copy))


@pytest.mark.parametrize("name", TINY_SUITE)
def test_the_shipped_suite_reaches_its_marks(name: str) -> None:
    model, tokenizer = tiny(name)
    draws = sample(model, tokenizer, paper_problems(), [Decoder(0.0), Decoder(1.0)], runs=4)
    greedy = draws[draws["temperature"] == 0].groupby("task")["correct"].mean()
    assert greedy["variable_binding"] >= 0.85
    assert greedy["arithmetic"] >= 0.35
    compliance = draws["compliant"].mean()
    assert compliance >= 0.99 if name.endswith("instruct") else compliance <= 0.02


@pytest.mark.parametrize("shape", SHAPES)
def test_the_registrys_counts_follow_from_the_published_shapes(shape: str) -> None:
    config = AutoConfig.for_model(**SHAPES[shape])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    spec = next(spec for spec in REGISTRY.values() if spec.shape == shape)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    number = getattr(config, "num_local_experts", getattr(config, "num_experts", 1))
    idle = experts * (number - getattr(config, "num_experts_per_tok", number)) // number
    assert (spec.sparse, spec.total, spec.active) == (experts > 0, model.num_parameters(), spec.total - idle)
    assert spec.wide == sum(s for n, s in sizes.items() if ".layers." not in n or model.get_parameter(n).ndim < 2)


def test_weights_take_the_bytes_of_their_precision() -> None:
    mixtral = REGISTRY["mixtral-8x7b-instruct"]
    assert mixtral.weights("bf16") == 2 * mixtral.total
    assert 24e9 < mixtral.weights("nf4") < 25e9


def test_a_repo_id_in_the_registry_is_known_as_what_it_is() -> None:
    assert known("Qwen/Qwen2.5-3B") is REGISTRY["qwen2.5-3b"]
    assert known("nobody/nothing") is None
    assert resolve_precision("allenai/OLMoE-1B-7B-0924", "auto") == "nf4"


def test_a_model_that_cannot_fit_is_refused_before_anything_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "free_memory", lambda device: 30e9)
    monkeypatch.setattr(models.AutoTokenizer, "from_pretrained", lambda *_, **__: pytest.fail("something was loaded"))
    with pytest.raises(InputError, match=r"alone take 93 GB, and 30 GB are free\. With precision 'nf4' it takes 24 GB"):
        load_model("mixtral-8x7b", "bf16")


class Response:
    """As much of an HTTP response as the hub's errors look at."""

    headers: ClassVar[dict[str, str]] = {}
    request = None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (hub.GatedRepoError("no", response=Response()), "is gated: accept its terms on its page, then set HF_TOKEN"),
        (hub.RepositoryNotFoundError("no", response=Response()), "there is no repo me/it, or it is private"),
        (hub.RevisionNotFoundError("no", response=Response()), "no longer has the revision that the registry names"),
        (hub.LocalEntryNotFoundError("no"), "no connection to its hub, and it is not in the local cache"),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "out of memory while loading me/it in bf16. Use precision 'nf4'",
        ),
        (OSError(errno.ENOSPC, "No space left"), "the disk is full: me/it could not be stored"),
        (ValueError("Unrecognized configuration class"), "is no causal language model that transformers knows"),
        (OSError("me/it does not appear to have a file named model.safetensors"), "has no weights as safetensors"),
        (KeyError("whatever"), "'whatever'"),
    ],
)
def test_what_goes_wrong_ends_in_a_sentence_that_says_what_to_do(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        try:
            raise error
        except Exception as cause:
            raise OSError("We could not load it.") from cause

    monkeypatch.setattr(models.AutoTokenizer, "from_pretrained", fails)
    with pytest.raises(InputError) as found:
        load_model("me/it", "bf16")
    assert said in str(found.value)
    assert len(str(found.value).splitlines()) == 1


def test_no_backend_for_bitsandbytes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmrel.nf4", None)
    with pytest.raises(InputError, match="bitsandbytes cannot be used here .*; use 'bf16' or 'fp32'"):
        load_model("tiny-dense-base", "nf4")


def test_without_a_network_a_repo_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "import lmrel; lmrel.load_model('Qwen/Qwen2.5-0.5B', 'bf16')"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "could not be downloaded, as there is no connection to its hub" in done.stderr.splitlines()[-1]


def test_a_config_with_fewer_layers_than_the_weights_is_refused(tmp_path: Path) -> None:
    copy = shutil.copytree(CHECKPOINTS / "tiny-dense-base", tmp_path / "lmrel_nf4_study")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"_name_or_path": "lmrel_nf4"}))
    assert precision_of(load_model(str(copy), "fp32")[0]) == "fp32"
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(
        InputError, match=r"has 18 weights that its config.json leaves no room for, such as model\.layers\.2"
    ):
        load_model(str(copy))


def test_a_model_without_decoder_blocks_of_the_usual_name_has_no_bits_to_count() -> None:
    config = AutoConfig.for_model("gpt2", n_layer=1, n_embd=64, n_head=2, vocab_size=12, n_positions=16)
    assert bits_per_weight(AutoModelForCausalLM.from_config(config)) == (32.0, 1.0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tiny_architecture_is_saved_and_read_with_its_own_tokenizer(architecture: str, tmp_path: Path) -> None:
    tokenizer = build_tokenizer(chat=True)
    export(build_model(architecture), tokenizer, torch.zeros(50), tmp_path / "model")
    model, loaded = load_model(str(tmp_path / "model"), "nf4")
    assert precision_of(model) == "nf4"
    prompts = encode_problems(paper_problems().iloc[::30].to_dict("records"), "readme", tokenizer)
    assert encode_problems(paper_problems().iloc[::30].to_dict("records"), "readme", loaded) == prompts


def test_weights_that_a_model_would_pass_over_are_refused(tmp_path: Path) -> None:
    copy = shutil.copytree(CHECKPOINTS / "tiny-dense-base", tmp_path / "mine")
    path = copy / "model.safetensors"
    save_file(load_file(path) | {"lm_head.bias": torch.full((128,), 9.0)}, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match="has 1 weights that its config.json leaves no room for, such as lm_head"):
        load_model(str(copy))


def test_a_tokenizer_that_drops_merges_at_random_does_so_no_longer(tmp_path: Path) -> None:
    copy = shutil.copytree(CHECKPOINTS / "tiny-dense-base", tmp_path / "mine")
    chars = sorted(set("the cat"))
    merges = [["t", "h"], ["th", "e"], ["a", "t"]]
    vocab = {piece: i for i, piece in enumerate([*chars, "th", "the", "at"])}
    bpe = {"type": "BPE", "dropout": 0.5, "vocab": vocab, "merges": merges, "unk_token": None, "byte_fallback": False}
    bpe |= {"continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False, "ignore_merges": False}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
    whole |= {"pre_tokenizer": None, "post_processor": None, "decoder": None, "model": bpe}
    (copy / "tokenizer.json").write_text(json.dumps(whole))
    _, tokenizer = load_model(str(copy))
    encoded = {tuple(tokenizer.encode("the cat")) for _ in range(20)}
    assert encoded == {(vocab["the"], vocab[" "], vocab["c"], vocab["at"])}


def foreign(folder: Path, name: str, **changes: dict[str, Any]) -> str:
    """A copy of a tiny checkpoint in which JSON files, named without their ending, have other fields."""
    shutil.copytree(CHECKPOINTS / name, folder)
    for file, fields in changes.items():
        path = folder / f"{file}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return str(folder)


def greedy(source: str, problems: int = 20) -> Any:
    return sample(*load_model(source), paper_problems().head(problems), [Decoder(0.0)])


def test_a_text_ends_with_any_end_that_checkpoint_or_tokenizer_names(tmp_path: Path) -> None:
    other = {"eos_token_id": 3}  # as a fine-tune leaves it: the tokenizer's is 2
    draws = greedy(foreign(tmp_path / "it", "tiny-dense-instruct", config=other, generation_config=other))
    assert draws["text"][0] == f" {draws['expected'][0]}"
    assert draws["correct"].mean() >= 0.9
    assert draws["finished"].all()


def test_no_prompt_ends_in_the_end_of_text(tmp_path: Path) -> None:
    source = foreign(tmp_path / "it", "tiny-dense-base")
    PreTrainedTokenizerFast.from_pretrained(source, add_bos_token=True, add_eos_token=True).save_pretrained(source)
    model, tokenizer = load_model(source)
    assert tokenizer("7")["input_ids"][-1] == tokenizer.eos_token_id
    draws = sample(model, tokenizer, paper_problems().head(20), [Decoder(0.0)])
    assert draws["prompt"][0].startswith("<s>")
    assert not draws["prompt"].str.endswith("</s>").any()
    assert draws["correct"].mean() >= 0.9


@pytest.mark.parametrize("named", ["LlamaTokenizerFast", "T5TokenizerFast", "GPT2TokenizerFast", "Qwen2Tokenizer"])
def test_the_tokenizers_file_wins_over_the_class_that_its_configuration_names(tmp_path: Path, named: str) -> None:
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    source = foreign(tmp_path / "it", "tiny-dense-base", config=llama, tokenizer_config={"tokenizer_class": named})
    _, tokenizer = load_model(source)
    file = Tokenizer.from_file(f"{source}/tokenizer.json")
    for row in paper_problems().iloc[::40].to_dict("records"):
        assert tokenizer(render(row, "few_shot"))["input_ids"] == file.encode(render(row, "few_shot")).ids


def test_what_is_asked_of_transformers_for_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def note(folder: str, **options: Any) -> None:
        asked.append({"folder": folder, **options})
        if "dtype" in options:
            raise ImportError("it needs gguf")

    path = tmp_path / "it.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setattr(models.AutoTokenizer, "from_pretrained", note)
    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", note)
    with pytest.raises(InputError, match="it needs gguf"):
        load_model(str(path), "fp32")
    assert [(each["folder"], each["gguf_file"]) for each in asked] == [(str(tmp_path), "it.gguf")] * 2


def test_a_weight_of_another_shape_is_named(tmp_path: Path) -> None:
    source = foreign(tmp_path / "it", "tiny-dense-base", config={"intermediate_size": 128})
    with pytest.raises(InputError, match=r"of shape \(\d+, \d+\), and its config.json asks for \(\d+, \d+\)"):
        load_model(source)


def test_a_tokenizer_without_a_backend_loads(tmp_path: Path) -> None:
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    source = foreign(tmp_path / "it", "tiny-dense-base", config=llama)
    for path in Path(source).glob("tokenizer*"):
        path.unlink()
    ByT5Tokenizer(extra_ids=0).save_pretrained(source)
    _, tokenizer = load_model(source)
    assert type(tokenizer) is ByT5Tokenizer
    assert encode(["1 + 1"], tokenizer) == [[ord(character) + 3 for character in "1 + 1"]]


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="what is missing here is installed")
def test_what_a_tokenizer_of_sentencepiece_alone_needs_is_said(tmp_path: Path) -> None:
    source = Path(foreign(tmp_path / "it", "tiny-dense-base", tokenizer_config={"tokenizer_class": "LlamaTokenizer"}))
    (source / "tokenizer.json").rename(source / "tokenizer.model")
    with pytest.raises(InputError, match=r"has no tokenizer.json; if it has a tokenizer.model, install sentencepiece"):
        load_model(str(source))


@pytest.mark.parametrize("kind", ["gemma2", "gpt_oss"])
def test_a_model_without_sdpa_attention_is_loaded_and_drawn_from(tmp_path: Path, kind: str) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16, "sliding_window": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "attn_logit_softcapping": 2.0, "num_local_experts": 4}
    tokens = {"vocab_size": 128, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **heads, **tokens))
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path)
    build_tokenizer(chat=False).save_pretrained(tmp_path)
    loaded, tokenizer = load_model(str(tmp_path), "fp32")
    draws = sample(loaded, tokenizer, paper_problems().head(1), [Decoder(0.0)])
    ids = torch.tensor(encode_problems(paper_problems().head(1).to_dict("records"), "few_shot", tokenizer))
    own = model.eval().generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
    assert own[0, ids.shape[1] :].tolist() == list(draws["token_ids"][0])


def test_two_revisions_of_a_repo_are_two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(CHECKPOINTS / "tiny-dense-base")
    monkeypatch.setattr(models, "find_adapter_config_file", lambda *_, **__: None)
    monkeypatch.setattr(models, "_tokenizer", lambda *_, **__: AutoTokenizer.from_pretrained(folder))
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    met: dict[str, Any] = {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}
    monkeypatch.setattr(models, "_model", lambda *_, **__: (found, met))
    for name in ("some/repo", "some/repo@v1", "some/repo@v2"):
        assert set(sample(*load_model(name, "fp32"), paper_problems().head(1), [Decoder(0.0)])["model"]) == {name}
