"""The house in order: one-way imports, one set of versions, no leaks, nothing heavy."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import lmrel
from study.code import ROOMS, sources
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS, LOCK = ((ROOT / name).read_text() for name in ("constraints.txt", "requirements.lock"))
LOCKED = re.compile(r"^([\w.-]+)==(\S+)", re.M)  # a package of requirements.lock and its version


def tracked() -> list[str]:
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def plain(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    """The packages that pyproject.toml asks for: the library's own, and those of `extras` and of extras named there."""
    asked = [*PROJECT["dependencies"], *(one for extra in extras for one in PROJECT["optional-dependencies"][extra])]
    own = [re.findall(r"\w+", one)[1:] for one in asked if one.startswith("lmrel[")]
    named = {plain(re.split(r"[<>=\[]", one)[0]) for one in asked if not one.startswith("lmrel[")}
    return named.union(*(declared(*inner) for inner in own))


def imported(*paths: Path) -> set[str]:
    """The modules of other projects that code or notebooks import, by their first name; of a folder, all in it."""
    files = [
        path for top in paths for path in ([top] if top.is_file() else [*top.rglob("*.py"), *top.rglob("*.ipynb")])
    ]
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix == ".py"]
    for path in files:
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            texts += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {*ROOMS, "tests"}


def undeclared(modules: set[str], packages: set[str]) -> set[str]:
    """Those of `modules` that none of `packages` brings."""
    brought_by = packages_distributions()
    return {name for name in modules if packages.isdisjoint(map(plain, brought_by.get(name, [name])))}


def test_the_library_asks_for_what_it_imports_and_nothing_else() -> None:
    used = imported(ROOT / "lmrel", ROOT / "tiny")
    assert undeclared(used, declared("server")) == set()
    assert undeclared(used - {"openai"}, declared()) == set()  # the client of servers, for who has one
    brought_by = packages_distributions()
    needed = {plain(package) for name in used for package in brought_by[name]}
    assert declared() - needed == {"accelerate"}  # transformers imports it, to load a model onto a device


@pytest.mark.parametrize(
    ("room", "extra"),
    [("study", "study"), ("book", "book"), ("notebooks", "book"), ("tools", "dev"), ("tests", "dev")],
)
def test_what_a_room_imports_is_declared_by_its_extra(room: str, extra: str) -> None:
    # Benchmarks compare with these where they happen to be installed.
    peers = {"ctranslate2", "lm_eval", "vllm"} if room == "tools" else set()
    assert undeclared(imported(ROOT / room) - peers, declared(extra)) == set()


def test_the_lessons_need_no_more_than_the_library_and_jupyterlab() -> None:
    lessons = sorted((ROOT / "notebooks" / "learn").glob("*.ipynb"))
    behind = sources(*(str(path.relative_to(ROOT)) for path in lessons))
    assert undeclared(imported(*lessons, *behind), declared("lab")) == set()


def test_rooms_import_each_other_one_way_only() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_dependency_is_locked_and_installed_as_locked() -> None:
    locked = {plain(name): number for name, number in (line.split("==") for line in CONSTRAINTS.split())}
    assert declared("dev") <= locked.keys()
    assert "torch==2.13.0" in PROJECT["dependencies"]
    for name in declared("dev"):
        assert version(name).split("+")[0] == locked[name], name


def test_the_lock_holds_what_the_constraints_hold_with_hashes_and_no_place() -> None:
    locked = {plain(name): number for name, number in LOCKED.findall(LOCK)}
    constraints = {plain(name): number for name, number in (line.split("==") for line in CONSTRAINTS.split())}
    assert constraints.items() <= locked.items()
    blocks = re.split(r"\n(?=\S)", LOCK.strip())
    assert len(blocks) == len(locked)
    for block in blocks:
        first, *hashes = block.split("\n")
        assert re.match(r"[\w.-]+==[\w.]+( ; .+)? \\$", first), first
        assert hashes
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes), first


def test_conda_and_pip_install_the_same() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, *_, pip = environment["dependencies"]
    assert pip == {"pip": ["--constraint constraints.txt", "--editable .[dev]"]}
    assert python.removeprefix("python=") in PROJECT["requires-python"]


def test_hooks_of_commits_are_the_checks_of_make_lint_and_need_no_network() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    assert {repository["repo"] for repository in repositories} == {"local"}
    assert {hook["language"] for hook in hooks} == {"system"}
    lint = re.search(r"^lint:.*\n\t@(.+)", (ROOT / "Makefile").read_text(), re.M)
    assert lint
    checks = [line.removesuffix(" .").replace(" --check", "") for line in lint[1].split(" && ")]
    assert [hook["entry"].replace(" --fix", "") for hook in hooks] == checks


def test_a_version_and_its_day_are_one_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert "version" in PROJECT["dynamic"]  # of lmrel/__init__.py
    assert citation["version"] == lmrel.__version__
    assert released[0] == (citation["version"], str(citation["date-released"]))


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
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        text = path.read_text()
        assert "trust_remote_code=True" not in text
        assert not re.search(r"\b(import pickle|torch\.load|torch\.save|joblib)\b", text), path.name


def test_every_command_that_is_named_is_a_module_that_can_be_run() -> None:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in tracked() if Path(name).suffix in {".py", ".md", ""}]
    named = {name for text in texts for name in re.findall(r"python[\w.]* -m ([a-z_]+\.[a-z_.]+)\b", text)}
    assert "study.runner" in named
    for name in named:
        found = find_spec(name)
        assert found, name
        path = Path(found.origin or "").with_name("__main__.py") if found.submodule_search_locations else found.origin
        assert path, name
        source = Path(path).read_text(encoding="utf-8")
        assert "__main__" in str(path) or '__name__ == "__main__"' in source, name
