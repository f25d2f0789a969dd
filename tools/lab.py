"""How fast the lab is in a browser: the first answer to a typed problem, and a turn of the dial.

``python -m tools.lab PAGE CHROMIUM`` opens a built page of the lab from disk, with the network off, and prints a table
in milliseconds. It judges nothing: a machine shared with other jobs is slower by what they take.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from lmrel.errors import command
from lmrel.problems import new_problems
from lmrel.prompts import worksheet_item
from lmrel.registry import TINY_SUITE

PROBLEMS, TURNS = 5, 40  # of each family, and of the dial for each problem
# A typed problem is answered when its P(correct) stands on the page, for each model that is shown.
FIRST = """(text) => new Promise((done) => {
  const begun = performance.now();
  const input = document.querySelector(".lmrel-lab input.problem");
  input.value = text;
  input.dispatchEvent(new Event("input"));
  const count = (what) => document.querySelectorAll(`.lmrel-lab ${what}`).length;
  const look = () => (count(".head strong") === count(".head") ? done(performance.now() - begun) : setTimeout(look, 1));
  look();
})"""
# What the page does at a turn: every probability, every canvas, every word, and where they stand. Both callbacks run in
# the frame in which the page does it, one before it and one after.
TURN = """(t) => new Promise((done) => {
  const dial = document.querySelector(".lmrel-lab input.dial");
  let begun;
  requestAnimationFrame(() => (begun = performance.now()));
  dial.value = t;
  dial.dispatchEvent(new Event("input"));
  requestAnimationFrame(() => {
    document.body.getBoundingClientRect();
    done(performance.now() - begun);
  });
})"""


def timed(page: Page, items: list[str]) -> dict[str, list[float]]:
    """Milliseconds until each typed problem has its first answer, and those of the turns of the dial after it.

    ``work`` is what the page's own thread worked in all for a turn, painting too: a busy machine does not add to it.
    """
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def worked() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(float(metric["value"]) for metric in metrics if metric["name"] == "TaskDuration")

    found: dict[str, list[float]] = {"first": [], "turns": [], "work": []}
    for item in items:
        found["first"].append(float(page.evaluate(FIRST, item)))
        page.wait_for_timeout(3000)  # until the tree has grown
        for t in np.linspace(0, 2, TURNS):
            before = worked()
            found["turns"].append(float(page.evaluate(TURN, t)))
            found["work"].append(worked() - before)
    return found


def measure(page: str, chromium: str) -> list[dict[str, Any]]:
    """A row for each model, and one for all four side by side."""
    drawn = new_problems(PROBLEMS, 2026)
    items = [worksheet_item(problem).removesuffix(", d") for problem in drawn]
    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for names in [*([name] for name in TINY_SUITE), list(TINY_SUITE)]:
            models = ".".join(name.removeprefix("tiny-") for name in names)
            opened = browser.new_context(offline=True).new_page()
            opened.goto(f"{Path(page).resolve().as_uri()}#m={models}")
            opened.wait_for_function(
                f"document.querySelectorAll('.lmrel-lab .head strong').length === {len(names)}", timeout=120_000
            )
            rows.append({"models": names, **timed(opened, items)})
            opened.context.close()
        browser.close()
    return rows


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", help="the built page of the lab")
    parser.add_argument("chromium", help="the browser, as `python -m tests.browser find` prints it")
    given = parser.parse_args()
    print("| models | first answer, median | longest | turn, median | 95 % below | longest | its work, 95 % below |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in measure(given.page, given.chromium):
        first, turns, work = row["first"], row["turns"], row["work"]
        numbers = [
            np.median(first),
            max(first),
            np.median(turns),
            *np.quantile(turns, [0.95, 1]),
            np.quantile(work, 0.95),
        ]
        name = row["models"][0] if len(row["models"]) == 1 else "all four"
        print(f"| {name} | {' | '.join(f'{number:.0f} ms' for number in numbers)} |", flush=True)


if __name__ == "__main__":
    main()
