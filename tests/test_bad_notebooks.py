"""Every parameter of every notebook that papermill executes, given what it cannot be: the notebook ends in a sentence.

Cells are executed here, without a kernel, and of each notebook only those that import or name the parameter: what comes
between is minutes of honest work. That papermill ends in the same sentence is tested in `test_runner`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lmrel import InputError, paper_problems
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BAD: dict[tuple[str, str], list[tuple[Any, str]]] = {
    ("tested", "data"): [("nowhere", "nowhere/tests.json cannot be read")],
    ("evaluate", "model"): [(None, "model is None"), ("x" * 5000, "model is 'xxx"), ("a\0b", "model is")],
    ("evaluate", "precision"): [(16, "precision is 16; it must be one of auto"), ("", "precision is ''")],
    ("evaluate", "prompt_style"): [([], r"prompt_style is \[\]"), ("٣", "prompt_style is '٣'")],
    ("evaluate", "decoding"): [(True, "decoding is True; it must be 'pure' or 'as_shipped'")],
    ("evaluate", "temperatures"): [
        (0.5, "temperatures is 0.5; it must be a list"),
        ("[0.5", "temperatures is '.0.5'; it must be a list"),
        ("0.5", "temperatures is '0.5'; it must be a list"),
        ([True], "temperature is True"),
        ([[0.5]], r"temperature is \[0.5\]"),
        ("[1e999]", "temperature is inf"),
    ],
    ("evaluate", "runs"): [
        (10**9, "these are .* draws"),
        ("4", "runs is '4'"),
        (True, "runs is True"),
        (4.0, "runs is 4.0"),
    ],
    ("evaluate", "seed"): [
        ("0", "seed is '0'"),
        (1e3, "seed is 1000.0"),
        (None, "seed is None"),
        (2**1024, "1024 bits"),
    ],
    ("evaluate", "max_new_tokens"): [(10**9, "max_new_tokens is 1000000000; it must be an integer from 1 to 32768")],
    ("evaluate", "stop"): [(None, "stop is None; it must be 'eos' or 'decided'")],
    ("evaluate", "problems"): [(["paper"], r"problems is \['paper'\]; it must be a path"), ("", "problems is ''")],
    ("evaluate", "limit"): [(True, "limit is True"), ("2", "limit is '2'"), (2**70, "limit is 1180591620717411303424")],
    ("evaluate", "output_dir"): [(5, "output_dir is 5; it must be a path"), ("a\0b", "output_dir is 'a")],
    ("evaluate", "replace"): [("True", "replace is 'True'; it must be True or False"), (0, "replace is 0")],
    ("evaluate", "shards"): [("2", "shards is '2'"), (10**6, "shards is 1000000; there are only 240 problems")],
    ("evaluate", "shard"): [(1, "shard is 1; it must be None or an integer from 0 to 0"), ("0", "shard is '0'")],
    ("audit", "base"): [("nope", "model is 'nope', which is no known name"), (None, "model is None")],
    ("audit", "instruct"): [(["tiny-dense-instruct"], "model is"), ("nope", "model is 'nope'")],
    ("audit", "sparse"): [(5, "model is 5"), ("nope", "model is 'nope'")],
    ("audit", "seed"): [("0", "seed is '0'; it must be an integer"), (True, "seed is True")],
    ("compare", "results_dir"): [(None, "results_dir is None; it must be a path"), ("nowhere", "cannot be read")],
    ("compare", "study"): [
        ("tiny-dense-base", "the runs are 'tiny-dense-base'; they must be a list"),
        ([], r"runs are \[\]"),
    ],
    ("engine", "model"): [(None, "model is None"), ("nope", "model is 'nope'")],
    ("engine", "problem"): [
        (240, "problem is 240; it must be an integer from 0 to 239"),
        (-1, "problem is -1"),
        ("7", "'7'"),
    ],
    ("engine", "bench"): [(5, "bench is 5; it must be a path"), ("nowhere.json", "nowhere.json cannot be read")],
    ("engine", "seed"): [(0.5, "seed is 0.5"), ("x", "seed is 'x'")],
    ("factorial", "results_dir"): [(None, "results_dir is None"), ("/dev/null/x", "could not be written")],
    ("factorial", "seed"): [("0", "seed is '0'"), (None, "seed is None")],
    ("factorial", "runs"): [(0, "runs is 0; it must be an integer of at least 1"), (10**9, "these are .* draws")],
    ("gpu", "measured"): [
        (None, "measured is None"),
        ("study.yaml", "study.yaml cannot be read"),
        ("a\0", "measured is"),
    ],
    ("scale", "gpu_gb"): [(0, "gpu_gb is 0; it must be a number above 0"), ("40", "gpu_gb is '40'")],
    ("scale", "disk"): [(0, "disk is 0; it must be a number above 0"), ("1", "disk is '1'")],
    ("scale", "link"): [(-1, "link is -1; it must be a number above 0"), (True, "link is True")],
    ("scale", "overhead"): [(-60, "overhead is -60; it must be a number from 0"), (float("nan"), "overhead is nan")],
    ("scale", "data"): [
        (None, "data is None; it must be a path"),
        ("nowhere", "nowhere/bench/cpu.json cannot be read"),
    ],
}

USED = {("factorial", "seed"): "seed=seed", ("factorial", "runs"): "runs=runs"}  # where the word alone is not enough


def code(path: Path) -> list[tuple[list[str], str]]:
    cells = json.loads(path.read_text())["cells"]
    return [(c["metadata"].get("tags", []), "".join(c["source"])) for c in cells if c["cell_type"] == "code"]


def parameters(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(next(source for tags, source in code(path) if "parameters" in tags), found)
    return {name: value for name, value in found.items() if not name.startswith("__")}


def execute(path: Path, named: re.Pattern[str], namespace: dict[str, Any]) -> None:
    """The cells that import something or in which `named` is found."""
    for tags, source in code(path):
        if "parameters" not in tags and (named.search(source) or re.match(r"import |from ", source)):
            exec(source, namespace)


def test_every_parameter_has_a_case() -> None:
    assert {(path.stem, name) for path in NOTEBOOKS for name in parameters(path)} == set(BAD)


@pytest.mark.parametrize(
    ("notebook", "name", "value", "said"),
    [(*where, value, said) for where, cases in BAD.items() for value, said in cases],
    ids=[
        f"{notebook} with {name} {str(value)[:20]!r}" for (notebook, name), cases in BAD.items() for value, _ in cases
    ],
)
def test_a_notebook_ends_in_a_sentence(
    notebook: str, name: str, value: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    path = ROOT / "notebooks" / f"{notebook}.ipynb"
    given = parameters(path) | ({"output_dir": str(tmp_path)} if notebook == "evaluate" else {})
    namespace: dict[str, Any] = given | {name: value, "problems": given.get("problems", paper_problems())}
    if name == "problems":
        namespace["problems"] = value
    with pytest.raises(InputError, match=said) as found:
        execute(path, re.compile(USED.get((notebook, name), rf"\b{name}\b|from_namespace|Rates\(")), namespace)
    assert "\n" not in str(found.value)
