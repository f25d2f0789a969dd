from __future__ import annotations

import json

import pandas as pd

from book.figures import tested
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
    packages = pd.read_json(data / "licences.json")
    assert tested.licences(packages)["packages"].astype(int).sum() == len(packages)
    assert torture["date"] in tested.tortured(torture)[0]
