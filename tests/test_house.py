"""The house in order: one-way imports, one set of versions, no leaks, nothing heavy."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from importlib.metadata import version

import yaml

from lmrel.parts import CODE
from tests.conftest import ROOT

FLOW = re.findall(
    r"\w+",
    """
errors devices memory problems prompts registry scale quantize checkpoint models verdict decoding choice forest tree
probes lexer enumeration records answers failures taxonomy metrics agreement inference contrasts calibration published
tables sampling parts shards study progress cluster run charts floor drawings scale_charts audit teaching
teaching_charts profiling bench bench_gpu routing tiny corpus targets batches muon train factorial arms effects
factorial_tables
factorial_charts learn live licences tested
""",
)
MAX_LINES = 300


def tracked() -> list[str]:
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def imports(module: str) -> set[str]:
    """The modules of lmrel that a module imports."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / "lmrel" / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "lmrel":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("lmrel."):
                found.add(node.module.removeprefix("lmrel."))
    return found


def test_no_module_imports_one_to_its_right() -> None:
    for place, module in enumerate(FLOW):
        assert imports(module) <= set(FLOW[:place]), module


def test_modules_stay_short() -> None:
    for path in (ROOT / "lmrel").glob("*.py"):
        assert len(path.read_text().splitlines()) <= MAX_LINES, path.name


def test_every_dependency_is_locked_within_its_range_and_installed_as_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().split()
    locked = {re.sub(r"[-_.]+", "-", name).lower(): v for name, v in (line.split("==") for line in lines)}
    for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
        name = re.split(r"[<>=]", requirement)[0]
        assert re.sub(r"[-_.]+", "-", name).lower() in locked, name
    assert "torch==2.13.0" in project["dependencies"]
    for name in (
        "torch",
        "transformers",
        "jupyter-book",
        "papermill",
        "altair",
        "pandas",
        "bitsandbytes",
        "accelerate",
    ):
        assert version(name).split("+")[0] == locked[name]


def test_conda_and_pip_install_the_same() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, *_, pip = environment["dependencies"]
    assert pip == {"pip": ["--constraint constraints.txt", "--editable .[dev]"]}
    assert (
        python.removeprefix("python=")
        in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    )


def test_source_notebooks_hold_no_outputs_but_lessons_do() -> None:
    for path in (ROOT / "notebooks").glob("**/*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        assert any(cell.get("outputs") for cell in cells) == (path.parent.name == "learn"), path
        for cell in cells:
            assert (
                len(cell["source"]) <= 15
                or "parameters" in cell["metadata"].get("tags", [])
                or cell["cell_type"] == "markdown"
            )


def test_tracked_files_are_light_and_name_no_place_of_one_machine() -> None:
    for name in tracked():
        path = ROOT / name
        assert path.stat().st_size <= 4_000_000, name
        if path.suffix in {".py", ".md", ".yml", ".yaml", ".ipynb", ".txt", ".toml", ""}:
            assert str(ROOT.parent) + "/" not in path.read_text(encoding="utf-8"), name


def test_no_checkpoint_code_and_no_pickle() -> None:
    for path in (ROOT / "lmrel").glob("*.py"):
        text = path.read_text()
        assert "trust_remote_code=True" not in text
        assert not re.search(r"\b(import pickle|torch\.load|torch\.save|joblib)\b", text), path.name


def test_what_draws_depend_on_is_what_their_hash_covers() -> None:
    found, new = set(), {"sampling"}
    while new:
        found |= new
        new = set().union(*(imports(module) for module in new)) - found
    assert sorted(found) == sorted(CODE)
