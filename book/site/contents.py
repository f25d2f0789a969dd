"""The table of contents with the pages of a user's own runs: ``python -m book.site.contents [PATH]``.

The book's own pages stand in ``_toc.yml``. A part for each study that has a page, and one for single runs, follow the
part that says how to run things. Names of folders are taken as they are; a build ends for one that cannot be a page.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lmrel import files
from lmrel.errors import InputError, command
from lmrel.files import read_text
from lmrel.records import RUN

AFTER = "Run your own"  # the part after which a user's own stand
PAGE = "evaluate.ipynb"


def contents(root: Path) -> dict[str, Any]:
    """The table of contents of the book in the folder `root`, as Sphinx External ToC takes it."""
    path = root / "_toc.yml"
    try:
        found = yaml.safe_load(read_text(path))
        places = [part.get("caption") for part in found["parts"]]
        own = {chapter["file"] for part in found["parts"] for chapter in part["chapters"]}
        place = places.index(AFTER) + 1
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no table of contents with a part {AFTER!r}: {error}.") from error
    runs = [page for page in _pages(root, root / "results") if page not in own]
    found["parts"][place:place] = [*_studies(root), *([_part("Your runs", runs)] if runs else [])]
    return found


def _studies(root: Path) -> Iterator[dict[str, Any]]:
    """A part for each study: its page, then those of its conditions that have finished, in order of name."""
    for page in sorted((root / "results" / "studies").glob("[!.]*/study.ipynb")):
        finished = [one for one in _pages(root, page.parent) if (root / one).with_name(RUN).is_file()]
        yield _part(f"Study: {page.parent.name}", [_name(root, page), *finished])


def _pages(root: Path, folder: Path) -> list[str]:
    """The pages of the runs in the folders directly below `folder`, in order of name."""
    return [_name(root, path) for path in sorted(folder.glob(f"[!.]*/{PAGE}"))]


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _part(caption: str, pages: list[str]) -> dict[str, Any]:
    return {"caption": caption, "chapters": [{"file": page} for page in pages]}


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, nargs="?", help="where it is written, instead of printed")
    given = parser.parse_args()
    text = yaml.safe_dump(contents(Path()), sort_keys=False)
    if given.path is None:
        print(text, end="")
    else:
        files.write_text(text, given.path)


if __name__ == "__main__":
    main()
