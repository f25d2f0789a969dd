"""The source files that a result depends on, read from imports, so that a changed file marks it as out of date.

So nobody keeps a list by hand of what a page, or a run's draws, depend on. Imports are read, not carried out: what a
file would import by another way is not seen.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from lmrel.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
DRAWN_BY = ("lmrel.sampling", "lmrel.models")  # draws are made here by these modules and what they import
ASKED_BY = ("lmrel.server",)  # and those of a server by this one
ROOMS = ("lmrel", "study", "tiny", "book", "tools")


def sources(*starts: str) -> list[Path]:
    """The files behind `starts`, names of modules or paths of notebooks below the project's root, in order of path.

    A module's data, a TOML file beside it of the same name, is among them. `InputError` for what is neither.
    """
    found: set[Path] = set()
    waiting = [_start(start) for start in starts]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path)
    modules = [path for path in found if path.suffix == ".py"]
    return sorted([*modules, *(data for path in modules if (data := path.with_suffix(".toml")).is_file())])


def _start(name: str) -> Path:
    path = ROOT / name if name.endswith(".ipynb") else _module(name)
    if path is None:
        raise InputError(f"{name!r} is no module of this project and no notebook.")
    return path


def _module(name: str) -> Path | None:
    """The file of a module or package of this project; None for any other name."""
    place = ROOT.joinpath(*name.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if name.split(".")[0] in ROOMS and path.is_file()), None)


def _imported(path: Path) -> list[Path]:
    """The files of this project that a module or notebook imports, wherever in it that stands."""
    return _imports(path, path.stat().st_mtime_ns)


@cache
def _imports(path: Path, _: int) -> list[Path]:
    """What the file imports as it is since it was last changed; a plan asks of each of many jobs."""
    return list(_read_imports(path))


def _read_imports(path: Path) -> Iterator[Path]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # A name may be a module in a package or, failing that, something that the package or module holds.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if _module(name) else name.rpartition(".")[0] for name in names]
        else:
            continue
        yield from (file for name in names if (file := _module(name)))
