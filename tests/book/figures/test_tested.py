from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from book.figures import tested
from lmrel import InputError
from tests.conftest import ROOT
from tests.report import by_file

XML = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="one" time="1.5"/>
<testcase classname="tests.test_a" name="two" time="0.2"><failure message="no"/></testcase>
<testcase classname="tests.test_b" name="one" time="3"/>
</testsuite></testsuites>"""


def test_tests_are_counted_by_file() -> None:
    rows = by_file(XML)
    assert rows == [
        {"file": "test_a", "tests": 2, "failed": 1, "seconds": 1.7},
        {"file": "test_b", "tests": 1, "failed": 0, "seconds": 3.0},
    ]
    table = tested.tests({"files": rows})
    assert table.iloc[-1].tolist() == ["all", "3", "1", "5"]


def test_every_stored_report_has_its_table_and_nothing_was_lost() -> None:
    data = ROOT / "book" / "data"
    torture, soak = (json.loads((data / f"{name}.json").read_text()) for name in ("torture", "soak"))
    assert torture["kills"] >= 200
    faults = tested.faults(torture)
    assert faults["lost"].iloc[-1] == "0"
    assert not torture["not_tried"]
    assert faults["tried"].iloc[-1] == str(sum(map(int, faults["tried"].iloc[:-1])))
    assert len(tested.sentences(torture)) == len(torture["sentences"])
    assert len(tested.soak(soak)) == 5
    assert soak["minutes"] >= 60
    assert all(soak["flat"].values())
    licences = json.loads((data / "licences.json").read_text())
    assert tested.licences(licences)["packages"].astype(int).sum() == len(licences)
    with pytest.raises(InputError, match="nowhere.json is no report that can be read"):
        tested.report(data / "nowhere.json")
    assert torture["date"] in tested.when(torture)


@pytest.mark.parametrize("text", ["null", '"x"', "5", "[" * 100_000], ids=["null", "text", "number", "deep"])
def test_a_report_of_anything_else_ends_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match=r"report\.json is no report that can be read"):
        tested.report(tmp_path / "report.json")


def test_a_report_that_is_no_file_ends_in_a_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is no report that can be read: it is no file"):
        tested.report(tmp_path / "pipe")
    with pytest.raises(InputError, match="report is None; it must be a path"):
        tested.report(None)  # type: ignore[arg-type]
