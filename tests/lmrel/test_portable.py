"""The library and the lessons need nothing that only Unix has, so that they run on Windows."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT

WITHOUT = """
import signal, sys

sys.modules["fcntl"] = None  # from here on, to import it is an ImportError, as on Windows
for name in ("SIGALRM", "SIGVTALRM", "SIGPROF", "ITIMER_REAL", "setitimer", "getitimer", "alarm", "pause", "sigwait"):
    delattr(signal, name)

import lmrel
from book.figures import lessons, style
from lmrel import charts
from lmrel.stats.inference import summarize_with_intervals

model, tokenizer = lmrel.load_model("tiny-dense-base")
decoders = [lmrel.Decoder(temperature=0.0), lmrel.Decoder(temperature=1.0)]
draws = lmrel.sample(model, tokenizer, lmrel.paper_problems()[:2], decoders, runs=2)
assert draws.groupby("temperature").size().to_dict() == {0.0: 2, 1.0: 4}  # the greedy text is drawn once
summary = summarize_with_intervals(draws.assign(model="tiny-dense-base"))
chart = charts.response(summary.query("task == 'all'"), "accuracy", "Accuracy", "Two problems.")
assert "svg" in style.svg(chart.to_dict(), 300)
"""


def test_library_lessons_and_charts_need_neither_fcntl_nor_alarms() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
