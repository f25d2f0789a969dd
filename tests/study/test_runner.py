from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lmrel import InputError
from study import devices, progress, runner
from study.runner import run_notebook
from tests.conftest import ROOT


def notebook(path: Path, *cells: tuple[str, list[str]]) -> Path:
    built = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    )
    built.cells = [nbformat.v4.new_markdown_cell("# A title\n\nText.")]
    built.cells += [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in cells]
    nbformat.write(built, path)
    return path


def test_parameters_title_and_tags(tmp_path: Path) -> None:
    source = notebook(tmp_path / "a.ipynb", ("x = 1", ["parameters", "hide-input"]), ("x + 1", []))
    target = run_notebook(source, tmp_path / "deep" / "out.ipynb", {"x": 41}, title="Mine")
    done = nbformat.read(target, as_version=4)
    assert done.cells[0].source == "# Mine\n\nText."
    assert done.cells[-2].outputs[0]["data"]["text/plain"] == "42"
    again = done.cells[-1].source
    assert f"papermill {source} out.ipynb -y '{{x: 41}}'" in again
    assert "The parameters are `x`" in again
    defaults, injected = done.cells[1:3]
    assert "remove-cell" in defaults.metadata.tags
    assert injected.metadata.tags == ["injected-parameters", "hide-input"]
    assert injected.source.splitlines()[-1] == "x = 41"
    assert [path.name for path in target.parent.iterdir()] == ["out.ipynb"]


def test_a_parameter_may_be_a_mapping_of_constants(tmp_path: Path) -> None:
    source = notebook(tmp_path / "a.ipynb", ("columns = None", ["parameters"]), ("columns", []))
    columns = {"question": 'a "prompt"\n\\', "answer": "gold"}
    done = nbformat.read(run_notebook(source, tmp_path / "out.ipynb", {"columns": columns}), as_version=4)
    assert ast.literal_eval(done.cells[-2].outputs[0]["data"]["text/plain"]) == columns


def test_the_command_on_a_page_leaves_the_run_of_the_page_alone(tmp_path: Path) -> None:
    source = notebook(tmp_path / "a.ipynb", ("output_dir = ''\nreplace = False", ["parameters"]))
    target = run_notebook(source, tmp_path / "out.ipynb", {"output_dir": "results/mine", "replace": True})
    command = nbformat.read(target, as_version=4).cells[-1].source
    assert "-y '{output_dir: results/again}'" in command


def test_a_mistyped_parameter_is_an_error(tmp_path: Path) -> None:
    source = notebook(tmp_path / "a.ipynb", ("x = 1", ["parameters"]))
    with pytest.raises(InputError, match="has no parameter 'xx'; it has x"):
        run_notebook(source, tmp_path / "out.ipynb", {"xx": 2})
    assert not (tmp_path / "out.ipynb").exists()


def test_a_failed_run_keeps_the_last_good_notebook_and_names_the_other(tmp_path: Path) -> None:
    source = notebook(tmp_path / "a.ipynb", ("x = 1", ["parameters"]), ("1 / x", []))
    target = run_notebook(source, tmp_path / "out.ipynb", {})
    good = target.read_bytes()
    with pytest.raises(
        InputError, match=r"ZeroDivisionError: division by zero\nThe traceback is in .*out\.failed\.ipynb"
    ):
        run_notebook(source, target, {"x": 0})
    assert target.read_bytes() == good
    failed = nbformat.read(tmp_path / "out.failed.ipynb", as_version=4)
    assert any(output.output_type == "error" for cell in failed.cells for output in cell.get("outputs", []))


@pytest.mark.parametrize(
    ("target", "parameters", "said"),
    [
        ("a\0.ipynb", {}, "target is .*; it must be a path"),
        ("a\ud800.ipynb", {}, "target is .*; it must be a path"),
        ("", {}, r"target is '\.'; it must be a path on this machine that ends in \.ipynb"),
        ("s3://b/x.ipynb", {}, "target is 's3:/b/x.ipynb'; it must be a path on this machine"),
        ("out.ipynb", {"x": "\ud800"}, r"x is '\\+ud800'; it must be a number"),
        ("out.ipynb", {"x": [10**5000]}, "x is a number of thousands of digits"),
        ("out.ipynb", {"x": {"a": {1}}}, "it must be a number, text, .* or a list or map of them"),
    ],
    ids=["NUL", "half a character", "nothing", "elsewhere", "half a character in a parameter", "digits", "a set"],
)
def test_what_cannot_be_written_is_refused_before_anything_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, parameters: dict[str, Any], said: str
) -> None:
    source = notebook(tmp_path / "a.ipynb", ("x = 1", ["parameters"]))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        run_notebook(source, Path(target), parameters)
    if not parameters:
        with pytest.raises(InputError, match=said), runner.only_one(Path(target)):
            pass
    assert os.listdir() == ["a.ipynb"]


def test_a_notebook_without_parameters_is_refused_before_it_runs(tmp_path: Path) -> None:
    plain = notebook(tmp_path / "a.ipynb", ("1 / 0", []))
    old = tmp_path / "old.ipynb"
    old.write_text('{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": []}]}')
    os.mkfifo(tmp_path / "pipe.ipynb")
    for source, said in ((plain, "has no parameters"), (old, "has no parameters"), (tmp_path / "pipe.ipynb", "is no")):
        with pytest.raises(InputError, match=rf"{source.name} {said}"):
            run_notebook(source, tmp_path / "out.ipynb", {})


def test_a_kernel_that_was_killed_is_a_sentence(tmp_path: Path) -> None:
    source = notebook(tmp_path / "a.ipynb", ("x = 1", ["parameters"]), ("import os; os.kill(os.getpid(), 9)", []))
    with pytest.raises(InputError, match=r"a\.ipynb: its process was killed, perhaps for want of memory\nThe"):
        run_notebook(source, tmp_path / "out.ipynb", {})
    assert not (tmp_path / "out.ipynb").exists()


def test_a_notebook_that_cannot_be_written_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = notebook(tmp_path / "a.ipynb", ("x = 1", ["parameters"]))
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(runner.papermill, "execute_notebook", lambda *_, **__: (_ for _ in ()).throw(full))
    with pytest.raises(InputError, match=r"out\.failed\.ipynb could not be written: No space left on device\."):
        run_notebook(source, tmp_path / "out.ipynb", {})


HOLDER = """
import sys
import threading
from pathlib import Path
from study.runner import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_job_waits_for_another_that_makes_its_target_until_that_is_killed(tmp_path: Path) -> None:
    target, lock, taken = tmp_path / "evaluate.ipynb", tmp_path / ".evaluate.lock", []
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(target)], cwd=ROOT, **pipes)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"

    def take() -> None:
        with runner.only_one(target):
            taken.append(True)

    waiting = threading.Thread(target=take)
    waiting.start()
    waiting.join(0.3)
    assert not taken
    assert progress._is_locked(lock)
    other.kill()
    other.communicate()
    waiting.join(10)
    assert taken
    assert not progress._is_locked(lock)


# Attempts

COUNTED = """
from pathlib import Path
with Path("tries").open("a") as tries:
    tries.write("x")
if error == "InputError":
    from lmrel import InputError
    raise InputError("the model is no model.")
if error:
    raise KeyError("x")
"""


def job(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> str:
    """What the command ends with that executes a notebook which counts its tries; nothing where it ends well."""
    monkeypatch.chdir(folder)
    source = notebook(folder / "a.ipynb", ("error = ''\nother = 0", ["parameters"]), (COUNTED, []))
    monkeypatch.setattr(sys, "argv", ["runner", str(source), "out.ipynb", *arguments])
    try:
        runner.main()
    except SystemExit as ended:
        return str(ended.code)
    return ""


def test_a_second_attempt_does_not_try_again_what_an_input_error_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = ("-y", "{error: InputError}")
    said = job(monkeypatch, tmp_path, *wrong)
    assert said.splitlines()[0] == "error: a.ipynb: InputError: the model is no model.".replace("a.", f"{tmp_path}/a.")
    reason = tmp_path / "out.failed.txt"
    assert reason.read_text() == "InputError: the model is no model.\n"
    assert job(monkeypatch, tmp_path, *wrong, "--attempt", "2") == "error: not tried again: the model is no model."
    assert (tmp_path / "tries").read_text() == "x"
    assert reason.read_text() == "InputError: the model is no model.\n"
    assert job(monkeypatch, tmp_path, *wrong) == said  # a start of its own tries it
    assert (tmp_path / "tries").read_text() == "xx"


def test_a_second_attempt_tries_any_other_error_again_and_success_takes_the_reason_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = tmp_path / "out.failed.txt"
    for attempt in ("1", "2"):
        assert "KeyError: 'x'" in job(monkeypatch, tmp_path, "-y", "{error: KeyError}", "--attempt", attempt)
        assert reason.read_text() == "KeyError: 'x'\n"
    assert (tmp_path / "tries").read_text() == "xx"
    assert job(monkeypatch, tmp_path, "--attempt", "2") == ""
    assert not reason.exists()
    assert (tmp_path / "tries").read_text() == "xxx"


def test_what_is_refused_before_the_notebook_runs_is_a_reason_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "has no parameter 'eror'" in job(monkeypatch, tmp_path, "-y", "{eror: 1}")
    reason = tmp_path / "out.failed.txt"
    assert reason.read_text().startswith(f"InputError: {tmp_path}/a.ipynb has no parameter 'eror'")
    monkeypatch.setattr(devices, "gpus", lambda: ["GPU-a"])
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert job(monkeypatch, tmp_path, "--gpus", "2") == "error: this job asks for 2 GPUs; there are 1 here."
    assert reason.read_text() == "InputError: this job asks for 2 GPUs; there are 1 here.\n"


def test_a_reason_that_cannot_be_written_or_read_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = tmp_path / "out.failed.txt"
    reason.write_bytes(b"\xff")
    monkeypatch.setattr(runner, "write_text", lambda *_: (_ for _ in ()).throw(InputError("the disk is full.")))
    with pytest.raises(InputError, match="no model"), runner.told(tmp_path / "out.ipynb", 2):
        raise InputError("no model.")
    assert not reason.exists()


def test_parameters_may_be_given_several_times_and_the_last_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert job(monkeypatch, tmp_path, "-y", "{error: KeyError, other: 5}", "-y", "{error: ''}") == ""
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    [injected] = [cell for cell in cells if cell.get("id") == "injected-parameters"]
    assert injected.source.splitlines()[-2:] == ['error = ""', "other = 5"]


def papermill(*arguments: str, output: Path) -> Any:
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        "notebooks/evaluate.ipynb",
        str(output),
        *arguments,
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_evaluate_runs_by_papermill_alone(tmp_path: Path) -> None:
    out = tmp_path / "some" / "folder"
    done = papermill(
        *("-p", "model", "tiny-sparse-instruct", "-p", "temperatures", "[0.0, 0.7]", "-p", "runs", "2"),
        *("-p", "limit", "3", "-p", "output_dir", str(out)),
        output=tmp_path / "out.ipynb",
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["draws.parquet", "run.json", "summary.parquet"]
    text = (tmp_path / "out.ipynb").read_text()
    assert "application/vnd.vegalite.v6+json" in text
    assert '"output_type": "error"' not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "temperature", "0.5"], "'temperature' is no parameter. Did you mean 'temperatures'?"),
        (["-p", "model", "gpt-9"], "InputError: model is 'gpt-9', which is no known name"),
    ],
)
def test_a_mistake_at_papermill_ends_in_its_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = papermill(*arguments, "-p", "output_dir", str(tmp_path / "o"), output=tmp_path / "out.ipynb")
    assert done.returncode != 0
    assert said in done.stderr.strip().splitlines()[-1]
