"""Where make works: in .venv, which it sets up, or in the conda environment of environment.yml while that is active."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

TOOLS = ("ruff", "mypy", "lint-imports")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the rule that sets up reads, and a library to import."""
    folder = tmp_path / "a project"
    (folder / "lmrel").mkdir(parents=True)
    (folder / "lmrel" / "__init__.py").touch()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "constraints.txt").touch()
    return folder


@pytest.fixture
def prefix(tmp_path: Path, project: Path) -> Path:
    """An environment as conda leaves it: `project` installed, and tools that say where they lie."""
    folder = tmp_path / "envs" / "lmrel"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "lmrel.pth").write_text(f"{project}\n")
    for tool in TOOLS:
        (folder / "bin" / tool).write_text('#!/bin/sh\necho "$0"\n')
        (folder / "bin" / tool).chmod(0o755)
    return folder


def make(project: Path, *arguments: str, **conda: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CONDA_", "MAKE"))}
    command = ["make", *arguments]
    return subprocess.run(
        command, cwd=project, env=environment | conda, capture_output=True, text=True, check=False, timeout=60
    )


def active(prefix: Path) -> dict[str, str]:
    """What conda sets while the environment of environment.yml, in `prefix`, is active."""
    name = yaml.safe_load((ROOT / "environment.yml").read_text())["name"]
    return {"CONDA_DEFAULT_ENV": name, "CONDA_PREFIX": str(prefix)}


def test_without_conda_a_virtual_environment_is_set_up(project: Path, prefix: Path) -> None:
    for conda in ({}, {"CONDA_DEFAULT_ENV": "base", "CONDA_PREFIX": str(prefix)}):
        said = make(project, "-n", "lint", "cards", **conda).stdout
        assert " -m venv .venv\n" in said
        assert ".venv/bin/pip install" in said
        assert ".venv/bin/python -m tools.cards" in said
        assert str(prefix) not in said


def test_the_active_conda_environment_is_used_as_it_is(project: Path, prefix: Path) -> None:
    said = make(project, "-n", "lint", "cards", **active(prefix)).stdout
    assert f"{prefix}/bin/python -m tools.cards" in said
    assert not any(word in said for word in ("-m venv", "pip install", ".venv"))
    for expected in ([f"Using the conda environment {prefix}"], []):  # said once
        done = make(project, "lint", **active(prefix))
        assert done.returncode == 0, done.stderr
        where = [f"{prefix}/bin/{tool}" for tool in ("ruff", *TOOLS)]
        assert done.stdout.splitlines() == expected + where
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("lacks", ["the library", "a package", "this folder"])
def test_a_conda_environment_that_lacks_something_says_what_to_do(project: Path, prefix: Path, lacks: str) -> None:
    if lacks == "a package":
        (project / "constraints.txt").write_text("nowhere==1.0\n")
    else:
        [link] = prefix.glob("lib/python*/site-packages/lmrel.pth")
        link.write_text("" if lacks == "the library" else f"{ROOT}\n")
    done = make(project, "lint", **active(prefix))
    assert done.returncode != 0
    assert done.stderr.startswith("This conda environment is not as environment.yml says; run: conda env update -f")
    assert not (project / ".venv").exists()
    assert not done.stdout
