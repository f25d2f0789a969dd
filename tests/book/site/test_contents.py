from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from book.site.contents import AFTER, contents
from lmrel import InputError
from lmrel.registry import TINY_SUITE
from tests.book.site.test_site import build, build_again
from tests.conftest import ROOT

TOC = f"""format: jb-book
root: index
parts:
  - caption: {AFTER}
    chapters:
      - file: note
  - caption: Reference
    chapters:
      - file: results/tiny-dense-base/evaluate
"""
NAMES = ["b: [x]", "a'\"#&*!|>%@`", "yes", "{c}", os.fsdecode(b"d\xff"), "- e"]


def page(path: Path, title: str = "A page") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'{{"cells": [{{"cell_type": "markdown", "id": "a", "metadata": {{}}, "source": ["# {title}"]}}], '
        '"metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}'
    )


def condition(folder: Path) -> None:
    page(folder / "evaluate.ipynb")
    (folder / "run.json").touch()


@pytest.fixture
def book(tmp_path: Path) -> Path:
    (tmp_path / "_toc.yml").write_text(TOC)
    condition(tmp_path / "results" / "tiny-dense-base")
    return tmp_path


def test_without_runs_of_ones_own_it_is_the_books(book: Path) -> None:
    assert contents(book) == yaml.safe_load(TOC)
    shipped = yaml.safe_load((ROOT / "_toc.yml").read_text())
    assert f"{[f'results/{name}/evaluate' for name in TINY_SUITE]}"[1:-1] in str(
        [chapter["file"] for part in shipped["parts"] for chapter in part["chapters"]]
    )
    assert "glob" not in str(shipped)


def test_studies_and_runs_stand_after_how_to_run_them_in_order_of_name(book: Path) -> None:
    for study in ("s2", "s1"):
        page(book / "results" / "studies" / study / "study.ipynb")
        for name in ("late", "early"):
            condition(book / "results" / "studies" / study / name)
    page(book / "results" / "studies" / "s1" / "begun" / "evaluate.ipynb")  # without a finished run
    page(book / "results" / "studies" / "s1" / ".parts" / "evaluate.ipynb")
    condition(book / "results" / "studies" / "no page" / "one")
    page(book / "results" / "mine" / "evaluate.ipynb")
    parts = contents(book)["parts"]
    assert [part["caption"] for part in parts] == [AFTER, "Study: s1", "Study: s2", "Your runs", "Reference"]
    chapters = [chapter["file"] for chapter in parts[1]["chapters"]]
    assert chapters == [f"results/studies/s1/{name}" for name in ("study", "early/evaluate", "late/evaluate")]
    assert parts[3]["chapters"] == [{"file": "results/mine/evaluate"}]


def test_names_of_folders_are_no_yaml(book: Path) -> None:
    for name in NAMES:
        page(book / "results" / "studies" / name / "study.ipynb")
        condition(book / "results" / name)
    target = book / "contents.yml"
    command, environment = [sys.executable, "-m", "book.site.contents"], os.environ | {"PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, cwd=book, env=environment, capture_output=True, text=True, check=True).stdout
    subprocess.run([*command, str(target)], cwd=book, env=environment, check=True)
    assert target.read_text() == printed
    assert yaml.safe_load(printed) == contents(book)
    assert {part["caption"] for part in contents(book)["parts"]} >= {f"Study: {name}" for name in NAMES}


@pytest.mark.parametrize("text", ["", "format: jb-book", "parts: [x]", f"parts: [{{caption: {AFTER}}}]", "parts: []"])
def test_what_is_no_table_of_contents_is_said(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"_toc\.yml is no table of contents with a part"):
        contents(tmp_path)
    (tmp_path / "_toc.yml").write_text(text)
    with pytest.raises(InputError, match=r"_toc\.yml is no table of contents with a part"):
        contents(tmp_path)


def test_the_book_builds_by_it_and_pages_that_it_leaves_out_are_no_trouble(tmp_path: Path) -> None:
    condition(tmp_path / "results" / "tiny-dense-base")
    page(tmp_path / "results" / "studies" / "my study" / "study.ipynb", "My study")
    condition(tmp_path / "results" / "studies" / "my study" / "one")
    page(tmp_path / "results" / "studies" / "my study" / "begun" / "evaluate.ipynb", "Not finished")
    done = build(tmp_path)  # by its own, which has none of them
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "_build" / "html" / "results").exists()
    (tmp_path / "_toc.yml").write_text(TOC)
    (tmp_path / "contents.yml").write_text(yaml.safe_dump(contents(tmp_path), sort_keys=False))
    done = build_again(tmp_path, "--toc", "contents.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "_build" / "html"
    assert (site / "results" / "studies" / "my study" / "one" / "evaluate.html").exists()
    assert not (site / "results" / "studies" / "my study" / "begun").exists()
    assert "Study: my study" in (site / "index.html").read_text()
