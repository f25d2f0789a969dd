"""The lessons: executes them in place, and makes the students' versions.

``python -m tools.lessons`` executes each from its own folder; equal code gives equal files. ``python -m tools.lessons
--exercises FOLDER`` writes them without outputs and without the cells that are tagged ``solution``.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from lmrel import files
from lmrel.errors import InputError, command
from lmrel.files import writing

LESSONS = Path(__file__).resolve().parent.parent / "notebooks" / "learn"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}


def lessons() -> list[Path]:
    """Every lesson's notebook, in the order of reading."""
    return sorted(LESSONS.glob("*.ipynb"))


def read_notebook(path: Path) -> NotebookNode:
    """A notebook from a file."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return notebook


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """A notebook to a file, in a form that nothing but its content changes."""
    notebook.metadata = nbformat.from_dict(METADATA)  # type: ignore[no-untyped-call]
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    files.write_text(text.rstrip("\n") + "\n", path)


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """`notebook` with the outputs of a run from `folder`; no times are recorded. A cell that fails raises."""
    done, place = cleared(notebook), {"metadata": {"path": str(folder)}}
    client = NotebookClient(done, timeout=300, record_timing=False, coalesce_streams=True, resources=place)
    client.extra_arguments = ["--log-level=ERROR"]  # or the kernel warns of its own transport
    client.execute()
    return done


def cleared(notebook: NotebookNode) -> NotebookNode:
    """A copy without outputs."""
    copied = copy.deepcopy(notebook)
    for cell in (cell for cell in copied.cells if cell.cell_type == "code"):
        cell.outputs, cell.execution_count = [], None
    return copied


def exercise(notebook: NotebookNode) -> NotebookNode:
    """The student's version: a copy without outputs and without the cells tagged ``solution``."""
    copied = cleared(notebook)
    copied.cells = [cell for cell in copied.cells if "solution" not in cell.metadata.get("tags", [])]
    return copied


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exercises", type=Path, metavar="FOLDER", help="write the students' versions, run nothing")
    folder = parser.parse_args().exercises
    if folder is not None:
        if there := [path.name for path in lessons() if (folder / path.name).exists()]:
            raise InputError(f"{folder} has a {there[0]} already, which is not replaced; name another folder.")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    for path in lessons():
        if folder is None:
            write_notebook(execute(read_notebook(path), path.parent), path)
        else:
            write_notebook(exercise(read_notebook(path)), folder / path.name)
        print((folder or path.parent) / path.name)


if __name__ == "__main__":
    main()
