from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lmrel import InputError, load_model
from lmrel.checkpoint import resolve, revision_of
from lmrel.registry import CHECKPOINTS, REGISTRY
from tests.conftest import ROOT, UNIX


def copied(folder: Path, name: str = "mine") -> Path:
    return shutil.copytree(CHECKPOINTS / "tiny-dense-base", folder / name)


def test_any_folder_or_repo_id_resolves(tmp_path: Path) -> None:
    assert resolve("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"
    assert resolve("qwen2.5-3b") == "Qwen/Qwen2.5-3B"
    copy = copied(tmp_path)
    assert resolve(str(copy)) == str(copy)
    model, _ = load_model(str(copy))
    assert model.num_parameters() == REGISTRY["tiny-dense-base"].total


def test_folders_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no config.json"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="has no weights: no .*safetensors"):
        resolve(str(tmp_path))
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(InputError, match="pickled weights can run code"):
        resolve(str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(InputError, match="brings its own code"):
        resolve(str(tmp_path))
    for broken in ("{oops", "5"):
        (tmp_path / "config.json").write_text(broken)
        with pytest.raises(InputError, match="cannot be read"):
            resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("config.json", '{"quantization_config": {"quant_method": "bitsandbytes"}}', "was quantized by 'bitsandbytes'"),
        ("config.json", '{"quantization_config": 5}', "was quantized by 5"),
        ("generation_config.json", '{"temperature": 0.6', "generation_config.json cannot be read"),
    ],
)
def test_what_transformers_would_pass_over_is_refused(file: str, text: str, said: str, tmp_path: Path) -> None:
    copy = copied(tmp_path)
    (copy / file).write_text(text)
    with pytest.raises(InputError, match=said):
        resolve(str(copy))


@pytest.mark.parametrize("size", ["num_hidden_layers", "num_labels"])
def test_sizes_that_no_model_has_are_refused_before_it_is_built(tmp_path: Path, size: str) -> None:
    copy = copied(tmp_path)
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {size: 10**7}))
    with pytest.raises(InputError, match=f"has {size}=10000000 in config.json"):
        resolve(str(copy))


@UNIX
def test_a_pipe_in_place_of_weights_is_not_waited_for(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    os.mkfifo(copy / "model-2.safetensors")
    with pytest.raises(InputError, match="is no file that can be read"):
        resolve(str(copy))


def test_what_stands_for_no_model_is_named() -> None:
    names: list[Any] = [
        None,
        5,
        True,
        ["a"],
        b"a",
        "",
        "\0",
        "\ud800",
        "x" * 5000,
        "a/" + "b" * 5000,
        "٣/٣",
        "/dev/null",
    ]
    for name in names:
        with pytest.raises(InputError, match=r"^model is .*(it must be a name, a folder or a repo id|no known name)"):
            resolve(name)


@pytest.mark.parametrize("files", [("adapter_config.json", "adapter_model.safetensors"), ("adapter_model.bin",)])
@pytest.mark.parametrize("alone", [False, True])
def test_an_adapter_is_to_be_merged_first(tmp_path: Path, files: tuple[str, ...], alone: bool) -> None:
    if not alone:
        shutil.copytree(CHECKPOINTS / "tiny-dense-base", tmp_path, dirs_exist_ok=True)
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="holds an adapter, such as LoRA's; merge it into its base model first"):
        resolve(str(tmp_path))


def test_a_revision_may_follow_a_repo_id(tmp_path: Path) -> None:
    assert (resolve("me/it@v2"), revision_of("me/it@v2")) == ("me/it", "v2")
    assert (resolve("qwen2.5-3b@abc"), revision_of("qwen2.5-3b@abc")) == ("Qwen/Qwen2.5-3B", "abc")
    assert revision_of("qwen2.5-3b") == REGISTRY["qwen2.5-3b"].revision
    assert revision_of("me/it") is None
    folder = str(copied(tmp_path, "me@home"))
    assert (resolve(folder), revision_of(folder)) == (folder, None)
    with pytest.raises(InputError, match="is no known name, no folder and no repo id"):
        resolve("me/it@")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"model.norm.weight": torch.ones(128, dtype=torch.int32)},
            r"has model\.norm\.weight in I32; weights are in F16",
        ),
        ({"evil\x1b[31m": torch.zeros(2)}, r"has weights named 'evil\\x1b\[31m'; names are in printable characters"),
    ],
    ids=["integers", "escapes"],
)
def test_weights_that_no_model_has_are_refused(tmp_path: Path, change: dict[str, torch.Tensor], said: str) -> None:
    path = copied(tmp_path) / "model.safetensors"
    save_file(load_file(path) | change, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=said):
        resolve(str(path.parent))


def test_a_file_of_weights_that_is_cut_off_is_named_with_the_first_tensor_that_it_lacks(tmp_path: Path) -> None:
    weights = copied(tmp_path) / "model.safetensors"
    whole = weights.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = {name: each for name, each in json.loads(whole[8 : 8 + length]).items() if name != "__metadata__"}
    ends = sorted((8 + length + each["data_offsets"][1], name) for name, each in header.items())
    assert ends[-1][0] == len(whole)
    (before, _), (end, first) = ends[9:11]
    for size in (before, end - 1):
        weights.write_bytes(whole[:size])
        tensor = f"its tensor {first} ends at {end:,}, the last one at {len(whole):,}"
        with pytest.raises(InputError) as found:
            resolve(str(weights.parent))
        said = f"has model.safetensors, which is cut off: it has {size:,} bytes, and {tensor}."
        assert str(found.value) == f"{weights.parent} {said}"
    weights.write_bytes(whole)
    assert resolve(str(weights.parent)) == str(weights.parent)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"5",
        b"{",
        b"[" * 100_000,
        b'{"a": 1}',
        b'{"a": {"data_offsets": 5}}',
        b'{"a": {"data_offsets": [0]}}',
    ],
    ids=lambda header: repr(header)[:20],
)
def test_a_header_that_says_nothing_of_tensors_is_left_to_loading(tmp_path: Path, header: bytes) -> None:
    weights = copied(tmp_path) / "model.safetensors"
    for start in (len(header).to_bytes(8, "little"), b"\xff" * 8, b""):
        weights.write_bytes(start + header)
        assert resolve(str(weights.parent)) == str(weights.parent)


def test_a_mistyped_name_is_told_the_one_that_was_meant_and_any_other_all_of_them() -> None:
    with pytest.raises(
        InputError, match=r"no known name, no folder and no repo id\. Did you mean 'tiny-dense-base'\?$"
    ):
        resolve("tiny-dense-bass")
    with pytest.raises(InputError, match=r"no folder and no repo id\. Known: tiny-dense-base, .*, mixtral-8x7b"):
        resolve("zzz")


def test_to_look_at_a_checkpoint_loads_no_torch() -> None:
    code = (
        "import sys; from lmrel.checkpoint import resolve; resolve('tiny-dense-base'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
