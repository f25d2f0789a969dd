"""The tree with a caption a file, in README, and the book's reference, a page a room: ``python -m tools.tree``.

Captions are the first sentences of the modules' docstrings, so that there is no list to keep by hand.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

from lmrel.errors import command
from lmrel.files import write_text
from study.code import ROOMS

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- The tree, by `python -m tools.tree`. -->", "<!-- The end of the tree. -->"
PAGE = """# {title}

*Rests on: the code of this book; made from it at every build.*

{caption}

Names of arguments are the field's: temperatures are numbers from 0, probabilities lie between 0 and 1,
log-probabilities are natural.

"""
MODULE = """## {name}

```{{eval-rst}}
.. automodule:: {name}
   :members:
```
"""


def caption(path: Path) -> str:
    """The first sentence of a module's docstring, on one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"(?<=[.?!]) (?=[A-Z])", paragraph)[0]


def modules(room: str) -> list[Path]:
    """The modules of a room, its own first, then those of each folder in it."""
    files = [path for path in (ROOT / room).rglob("*.py") if path.name != "__init__.py"]
    return sorted(files, key=lambda path: (path.parent != ROOT / room, path))


def tree() -> Iterator[str]:
    """The lines of the tree: every room, folder and module with its caption."""
    for room in ROOMS:
        yield f"- **`{room}/`** {caption(ROOT / room / '__init__.py')}"
        for path in modules(room):
            inner = path.parent != ROOT / room
            if inner and path == min(path.parent.glob("[!_]*.py")):
                yield f"  - **`{path.parent.name}/`** {caption(path.with_name('__init__.py'))}"
            yield f"{'    ' if inner else '  '}- `{path.name}` {caption(path)}"


def page(room: str) -> str:
    """The reference page of a room."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules(room)]
    head = PAGE.format(title=f"The room {room}", caption=caption(ROOT / room / "__init__.py"))
    return head + "\n".join(MODULE.format(name=name) for name in names)


def written() -> dict[Path, str]:
    """Each file that this makes, or makes a part of, and what it should hold."""
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    lines = "\n".join(tree())
    found = {readme: f"{before}{BEGIN}\n\n{lines}\n\n{END}{rest.partition(END)[2]}"}
    return found | {ROOT / "book" / "api" / f"{room}.md": page(room) for room in ROOMS}


@command()
def main() -> None:
    """Command line."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    for path, text in written().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(text, path)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
