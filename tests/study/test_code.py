from __future__ import annotations

import ast

import pytest

from lmrel import InputError
from study.code import ROOMS, ROOT, sources
from study.origins import ASKED_BY, DRAWN_BY


def names(*starts: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in sources(*starts)}


def test_a_module_is_made_by_what_it_imports_directly_or_not() -> None:
    found = names("study.progress")
    assert {"study/progress.py", "study/jobs.py", "study/costs.py", "lmrel/registry.py", "lmrel/registry.toml"} <= found
    assert not {path for path in found if path.startswith(("tiny/", "book/", "tools/"))}


def test_a_notebook_is_made_by_what_its_cells_import() -> None:
    found = names("notebooks/scale.ipynb")
    assert {"book/figures/scale.py", "book/figures/style.py", "study/costs.py", "lmrel/charts.py"} <= found
    assert "lmrel/sampling.py" not in found


def test_draws_depend_on_how_they_are_made_and_on_nothing_else() -> None:
    found = names(*DRAWN_BY)
    assert {"lmrel/sampling.py", "lmrel/engine/sampler.py", "lmrel/engine/forest.py", "lmrel/answers.py"} <= found
    assert not {"lmrel/enumeration.py", "lmrel/engine/enumerator.py", "lmrel/charts.py", "study/run.py"} & found
    asked = names(*ASKED_BY)
    assert {"lmrel/server.py", "lmrel/client.py", "lmrel/prompts.py", "lmrel/answers.py"} <= asked
    assert not {"lmrel/engine/forest.py", "lmrel/models.py", "study/origins.py"} & asked


def test_every_import_of_this_project_is_found() -> None:
    found = names("study.run", "tools.bench", "tiny.factorial")
    for path in found:
        if path.endswith(".py"):
            for node in ast.walk(ast.parse((ROOT / path).read_text())):
                if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in ROOMS:
                    file = str(node.module).replace(".", "/")
                    assert {f"{file}.py", f"{file}/__init__.py"} & found or (ROOT / file).is_dir(), (path, node.module)


@pytest.mark.parametrize("name", ["study.progres", "torch", "evaluate"])
def test_a_name_that_is_no_module_is_not_passed_over(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' is no module of this project"):
        sources(name)
