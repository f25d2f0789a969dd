"""Executes one notebook with parameters by papermill, and lets no mistake pass; jobs call it.

``python -m study.runner SOURCE TARGET [--title TEXT] [--gpus N] [--attempt N] [-y YAML]``. A parameter that the
notebook lacks is an error. The target is replaced only by a notebook that ran to its end; one that failed is kept
beside it, and a file with .failed.txt for .ipynb says why. What an `InputError` ended is not tried again by a further
attempt. What a notebook computes, and what its parameters may be, is not known here.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from lmrel.errors import InputError, command, guess, quoted, visible
from lmrel.files import as_path, locked, write_text, writing
from study.devices import claimed

REFUSED = "InputError: "  # how a reason begins that another try would meet again


class NotebookError(InputError):
    """A notebook failed; `why` is the kind of its error, and the error's last line."""

    def __init__(self, source: Path, running: Path, why: str) -> None:
        super().__init__(f"{source}: {why}\nThe traceback is in {running}.")
        self.why = why


def run_notebook(source: Path, target: Path, parameters: dict[str, Any], title: str | None = None) -> Path:
    """Execute the notebook `source` with `parameters` and write it, with its outputs, to `target`.

    `title` replaces its first heading. The kernel's working directory is the caller's. Raises `InputError` for a
    parameter that the notebook lacks, and for a notebook that fails; that one is then ``<target>.failed.ipynb``.
    """
    check_target(target)
    known = _parameters_of(source)
    for name, value in parameters.items():
        if name not in known:
            raise InputError(
                f"{source} has no parameter {quoted(name)}; it has {', '.join(known)}.{guess(name, known)}"
            )
        if not _is_plain(value):  # papermill would write it into the notebook as it is, and it might be code
            raise InputError(
                f"{name} is {quoted(value)}; it must be a number, text, True, False, None, or a list or map of them."
            )
    running = target.with_suffix(".failed.ipynb")  # what it is, until it has ended
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with writing(running):
        try:
            papermill.execute_notebook(
                str(source), str(running), parameters, kernel_name="python3", progress_bar=False, cwd="."
            )
        except PapermillExecutionError as error:
            last = str(error.evalue).strip().splitlines()[-1:] or [""]
            raise NotebookError(source, running, f"{error.ename}: {last[0]}") from error
        except DeadKernelError as error:
            raise NotebookError(source, running, "its process was killed, perhaps for want of memory") from error
        notebook = nbformat.read(running, as_version=4)  # type: ignore[no-untyped-call]
        _tidy(notebook, title)
        notebook.cells.append(_again(source, parameters, known))
        nbformat.write(notebook, running)  # type: ignore[no-untyped-call]
        os.replace(running, target)
    return target


def check_target(target: Path) -> None:
    """Raise `InputError` unless `target` is a path on this machine that ends in .ipynb; papermill would take others."""
    if as_path("target", target).suffix != ".ipynb" or re.match(r"\w+:/", str(target)):
        raise InputError(f"target is {quoted(str(target))}; it must be a path on this machine that ends in .ipynb.")


@contextmanager
def told(target: Path, attempt: int = 1) -> Iterator[None]:
    """Leave the reason of a failure in a file beside `target`, and only of the last one.

    A second attempt at what ended with an `InputError` ends at once, with the same one: nothing about it has changed.
    """
    path, before = target.with_suffix(".failed.txt"), ""
    with suppress(OSError, UnicodeDecodeError):
        before = path.read_text(encoding="utf-8")
    if attempt > 1 and before.startswith(REFUSED):
        raise InputError(f"not tried again: {before.removeprefix(REFUSED).strip()}")
    with writing(path):
        path.unlink(missing_ok=True)
    try:
        yield
    except InputError as error:
        why = error.why if isinstance(error, NotebookError) else f"{REFUSED}{error}"
        with suppress(InputError):  # a full disk, say, which is why
            write_text(f"{why}\n", path)
        raise


def only_one(target: Path) -> AbstractContextManager[None]:
    """A lock on what makes `target`. It waits for a job that holds it, one that outlived the coordinator that began it.

    Raises `InputError` for a target that `run_notebook` would refuse.
    """
    check_target(target)
    return locked(target.with_name(f".{target.stem}.lock"))


def _parameters_of(source: Path) -> list[str]:
    """The names in the notebook's cell of parameters; `InputError` for a file that is no notebook or has none."""
    try:
        known = papermill.inspect_notebook(str(source)) if source.is_file() else None
    except Exception:  # whatever a file that is no notebook makes papermill say
        known = None
    if known is None:
        raise InputError(f"{source} is no notebook that can be read.")
    if not known:
        raise InputError(f"{source} has no parameters: no cell tagged 'parameters' sets any.")
    return list(known)


def _is_plain(value: Any, depth: int = 3) -> bool:
    """Whether `value` is a constant, or a list or mapping of constants, that can be written into a notebook."""
    if isinstance(value, dict):
        return _is_plain([*value.values()], depth) and all(isinstance(name, str) and _is_plain(name) for name in value)
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(one, depth - 1) for one in value)
    try:
        return value is None or (type(value) in (bool, int, float, str) and str(value).encode() is not None)
    except ValueError:  # half a character, or more digits than Python writes
        return False


def _tidy(notebook: nbformat.NotebookNode, title: str | None) -> None:
    """Fill the title in, and show the parameters that were used but not the defaults that they replaced."""
    defaults = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"  # papermill's is random; equal runs should give equal files
            cell.metadata.tags += set(defaults.metadata.tags) - {"parameters"}
            defaults.metadata.tags.append("remove-cell")
    if title is not None:
        first = notebook.cells[0]
        heading, _, rest = first.source.partition("\n")
        if not heading.startswith("# "):
            raise InputError("the notebook's first cell has no heading to fill in.")
        text = re.sub(r"([^\w\s.,-]|_)", r"\\\1", " ".join(visible(title).split()))  # a title is no Markdown
        first.source = f"# {text}\n{rest}"


def _again(source: Path, parameters: dict[str, Any], known: list[str]) -> nbformat.NotebookNode:
    """A cell with the command that makes this page again."""
    if "output_dir" in parameters:  # the page's own run stays
        parameters = {k: v for k, v in parameters.items() if k != "replace"} | {"output_dir": "results/again"}
    given = yaml.safe_dump(parameters, default_flow_style=True, width=10**6).strip() if parameters else ""
    line = f"papermill {shlex.quote(str(source))} out.ipynb" + (f" -y {shlex.quote(given)}" if parameters else "")
    names = ", ".join(f"`{name}`" for name in known)
    fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", line))])
    text = f"""<details class="more" id="run-it-again"><summary>Run it again</summary>

This page is a notebook; the button at the top downloads it. From the repository's root, after `make book`:

{fence}bash
source .venv/bin/activate
{line}
{fence}

Change a value, or add `-p NAME VALUE`, for other results. The parameters are {names}.

</details>"""
    return nbformat.v4.new_markdown_cell(text, id="run-it-again")  # type: ignore[no-untyped-call]


def read_parameters(text: str) -> dict[str, Any]:
    """The names and values that the command line's YAML holds; `InputError` if it is anything else."""
    try:
        found = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"-y is {quoted(text)}, which is no YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(found, dict):
        raise InputError(f"-y is {quoted(text)}; it must hold names and values, as in '{{runs: 2}}'.")
    return found


@command()
def main() -> None:
    """Execute one notebook, on GPUs of its own where this machine has any, as soon as no other job makes its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--title")
    parser.add_argument("--gpus", type=int, default=0, help="how many to claim, where this machine has any")
    parser.add_argument("--attempt", type=int, default=1, help="which one this is")
    parser.add_argument("-y", "--parameters", action="append", default=[], help="parameters, as YAML; may be repeated")
    arguments = parser.parse_args()
    parameters = {name: value for text in arguments.parameters for name, value in read_parameters(text).items()}
    target = arguments.target
    with only_one(target), told(target, arguments.attempt), claimed(arguments.gpus) as gpus:
        os.environ.update(gpus)
        run_notebook(arguments.source, target, parameters, arguments.title)


if __name__ == "__main__":
    main()
