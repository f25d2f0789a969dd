from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from book.figures.style import MIME
from lmrel import InputError
from tests.conftest import ROOT
from tools import lessons

LESSONS = lessons.LESSONS


def tags(cell: nbformat.NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def lesson() -> nbformat.NotebookNode:
    cells = [
        nbformat.v4.new_markdown_cell("# A lesson", id="title"),
        nbformat.v4.new_code_cell("import os\n\nprint(os.getcwd())", id="where"),
        nbformat.v4.new_code_cell("x = 1\nprint(x)\nprint(x + 1)", id="stub"),
        nbformat.v4.new_code_cell("x = 2\nx", id="solution", metadata={"tags": ["solution", "hide-cell"]}),
        nbformat.v4.new_markdown_cell("Two.", id="said", metadata={"tags": ["solution", "hide-cell"]}),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def test_there_are_nine_lessons_and_the_book_shows_them_in_order() -> None:
    assert len(LESSONS) == 9
    parts = {part["caption"]: part["chapters"] for part in yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]}
    shown = [chapter["file"] for chapter in parts["Learn temperature"]]
    names = [f"notebooks/learn/{path.stem}" for path in LESSONS]
    assert shown == ["book/live", *names, "book/class", "book/teach", "book/sheet"]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_its_parts_in_order(path: Path) -> None:
    notebook = lessons.read_lesson(path)
    cells = notebook.cells
    first, second, last = (cells[i].source for i in (0, 1, -1))
    assert first.startswith(f"# {int(path.name[:2])}. ")
    assert 2 <= first.count("\n- ") <= 3
    assert first.index("**You will be able to**") < first.index("**Rests on**")
    assert "trained from scratch" in first
    assert second.startswith("**Predict first.** ")
    assert second.count("<details") == second.count("</details>") in (3, 4)
    assert second.count('<details class="choice right">') == 1
    assert last.startswith("## What to take away")
    assert 2 <= last.count("\n- ") <= 4
    places = {cell.id: place for place, cell in enumerate(cells)}
    assert places["exercise"] < places["stub"] < places["solution"] < places["solution-said"] == len(cells) - 2
    assert cells[places["exercise"]].source.startswith("## Exercise")
    assert "..." not in cells[places["stub"]].source
    assert "exercises.check(" in cells[places["stub"]].source
    for cell in cells:
        assert ("solution" in tags(cell)) == cell.id.startswith("solution")
        assert ("hide-cell" in tags(cell)) == (cell.id == "solution")


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lessons_cells_are_short_were_run_in_order_and_say_nothing_of_one_machine(path: Path) -> None:
    notebook = lessons.read_lesson(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert max(len(cell.source.splitlines()) for cell in code) <= 12
    outputs = [output for cell in code for output in cell.outputs]
    assert all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs)
    assert all(set(cell.metadata) <= {"tags", "mystnb"} for cell in notebook.cells)
    assert notebook.metadata == lessons.METADATA
    for secret in ("0x", str(ROOT), "it/s]"):
        assert secret not in json.dumps([output for output in outputs if MIME not in output.get("data", {})])


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lessons_figures_are_described_light_and_drawn_by_the_package(path: Path) -> None:
    outputs = [output for cell in lessons.read_lesson(path).cells for output in cell.get("outputs", [])]
    specs = [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]
    assert specs
    for spec in specs:
        assert 1 <= spec["description"].count(".") + spec["description"].count(";") <= 3
        assert spec["usermeta"]["function"].startswith(("book.figures.", "lmrel.charts."))
        assert sum(map(len, spec["datasets"].values())) <= 1000
        title = spec["title"] if isinstance(spec["title"], str) else spec["title"]["text"]
        assert len(title) <= 35, title


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_shows_its_line_of_numpy_and_folds_all_other_code_with_a_caption(path: Path) -> None:
    code = [cell for cell in lessons.read_lesson(path).cells if cell.cell_type == "code"]
    on_screen = [cell.source for cell in code if not cell.metadata]
    assert 1 <= len(on_screen) <= 2
    for source in on_screen:
        assert "np." in source
        assert len(source.splitlines()) <= 6
        assert max(map(len, source.splitlines())) <= 75
    for cell in code:
        if cell.metadata:
            assert len(cell.metadata["mystnb"]["code_prompt_show"]) > 10


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_a_figure_that_is_light_and_no_caption_tells_what_is_to_be_predicted(path: Path) -> None:
    cells = lessons.read_lesson(path).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    specs = [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]
    alive = [spec for spec in specs if "live" in spec["usermeta"]]
    assert alive
    [right] = re.findall(r'<details class="choice right"><summary>(.*?)</summary>', cells[1].source)
    for spec in specs:
        assert right.lower() not in f"{spec['title']} {spec['description']} {spec['usermeta']['caption']}".lower()


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_an_exercise_asks_until_its_solution_answers(path: Path) -> None:
    cells = {cell.id: cell for cell in lessons.read_lesson(path).cells}
    stub, solution = (cells[name].outputs[-1]["data"] for name in ("stub", "solution"))
    assert stub["text/plain"].startswith("Not yet")
    assert "data-exercise" in stub["text/html"]
    assert solution["text/plain"].startswith("Right.")
    assert "data-exercise" not in solution["text/html"]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_students_version_is_plain_markdown(path: Path) -> None:
    for cell in lessons.exercise(lessons.read_lesson(path)).cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"\{[\w:]+\}`|^[`:]{3,}\{|^:::", cell.source, re.M), cell.source


def test_roles_keep_their_text_and_directives_are_named() -> None:
    text = "See {doc}`the audit </results/audit>`.\n\n```{live} tree-swap T=0.3\n```\n\nAnd\n\n```python\nx\n```\n"
    assert lessons.plain(text) == "See the audit.\n\n*(A live figure, on the page.)*\n\nAnd\n\n```python\nx\n```\n"


def test_executing_stores_outputs_but_no_times_and_is_repeatable(tmp_path: Path) -> None:
    done = lessons.execute(lesson(), tmp_path)
    where, stub, solution = (cell for cell in done.cells if cell.cell_type == "code")
    assert where.outputs[0].text.strip() == str(tmp_path.resolve())
    assert [output.text for output in stub.outputs] == ["1\n2\n"]
    assert solution.outputs[0].data["text/plain"] == "2"
    assert "execution" not in stub.metadata
    files = [tmp_path / name for name in ("one.ipynb", "two.ipynb")]
    for file in files:
        lessons.write_lesson(lessons.execute(lesson(), tmp_path), file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_students_version_has_no_solution_and_no_outputs() -> None:
    whole = lessons.read_lesson(LESSONS[0])
    given = lessons.exercise(whole)
    kept = [cell.id for cell in given.cells]
    assert kept == [cell.id for cell in whole.cells if "solution" not in tags(cell)]
    assert "stub" in kept
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in given.cells)
    assert any(cell.get("outputs") for cell in whole.cells)  # the original was left alone


def test_the_command_line_writes_every_students_version(tmp_path: Path) -> None:
    folder = tmp_path / "students" / "monday"
    command = [sys.executable, "-m", "tools.lessons", "--exercises", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert sorted(path.name for path in folder.iterdir()) == [path.name for path in LESSONS]
    for path in folder.iterdir():
        notebook = lessons.read_lesson(path)
        nbformat.validate(notebook)
        assert not any("solution" in tags(cell) or cell.get("outputs") for cell in notebook.cells)
    (folder / LESSONS[0].name).write_text("the work of a student")
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "already, which is not replaced; name another folder." in again.stderr
    assert (folder / LESSONS[0].name).read_text() == "the work of a student"


def test_a_lesson_that_cannot_be_written_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.file"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="could not be written: No space left on device"):
        lessons.write_lesson(nbformat.v4.new_notebook(), path)
    assert path.read_text() == "old"
