"""The lessons: executes them in place, and makes the students' versions.

``python -m tools.lessons`` executes each from its own folder, and the same code gives the same files: no times and no
machine are recorded. ``python -m tools.lessons --exercises FOLDER`` writes them without outputs and solutions instead.
"""

from __future__ import annotations

import argparse
import copy
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from lmrel import files
from lmrel.errors import InputError, command
from lmrel.files import writing

LESSONS = sorted((Path(__file__).resolve().parent.parent / "notebooks" / "learn").glob("*.ipynb"))
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}


def read_lesson(path: Path) -> NotebookNode:
    """The notebook in `path`."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return notebook


def write_lesson(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook with `METADATA` in place of what a kernel and an editor would leave there."""
    notebook.metadata = nbformat.from_dict(METADATA)  # type: ignore[no-untyped-call]
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    files.write_text(text.rstrip("\n") + "\n", path)


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run `notebook` in `folder` and return it with its outputs. A cell that fails raises."""
    client = NotebookClient(
        notebook,
        timeout=300,
        record_timing=False,
        coalesce_streams=True,  # or the number of outputs would depend on when the kernel's buffer is read
        resources={"metadata": {"path": str(folder)}},
    )
    client.extra_arguments = ["--log-level=ERROR"]  # or the kernel warns of its own transport
    return client.execute()


def plain(text: str) -> str:
    """The Markdown of a lesson as any notebook's editor shows it: roles keep their text, and directives are named."""
    text = re.sub(r"\{\w[\w:]*\}`([^`<]*?)\s*<[^`>]*>`", r"\1", text)
    return re.sub(r"^(`{3,}|:{3,})\{\w+\}.*?^\1$", "*(A live figure, on the page.)*", text, flags=re.M | re.S)


def exercise(notebook: NotebookNode) -> NotebookNode:
    """The student's version: a copy without outputs and without the cells tagged ``solution``, in plain Markdown."""
    copied = copy.deepcopy(notebook)
    copied.cells = [cell for cell in copied.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in copied.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = plain(cell.source)
    return copied


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exercises", type=Path, metavar="FOLDER", help="write the students' versions, run nothing")
    folder = parser.parse_args().exercises
    if folder is not None:
        if there := [path.name for path in LESSONS if (folder / path.name).exists()]:
            raise InputError(f"{folder} has a {there[0]} already, which is not replaced; name another folder.")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    for path in LESSONS:
        lesson, target = read_lesson(path), (folder or path.parent) / path.name
        write_lesson(exercise(lesson) if folder else execute(lesson, path.parent), target)
        print(target)


if __name__ == "__main__":
    main()
