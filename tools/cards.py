"""Model cards: what each shipped checkpoint is, what it was trained on, and what it scores.

``python -m tools.cards`` measures the scores and writes ``checkpoints/*/README.md`` and the loss curve beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from book.figures.style import training, write_svg
from book.figures.text import percent_with_interval
from lmrel import files
from lmrel.decoding import Decoder
from lmrel.errors import command
from lmrel.models import load_model
from lmrel.problems import paper_problems
from lmrel.registry import CHECKPOINTS, REGISTRY, TINY, ModelSpec
from lmrel.sampling import sample
from lmrel.stats.inference import summarize_with_intervals
from tiny import corpus
from tiny.batches import STAGES
from tiny.split import held_out_problems

CARD = """---
license: mit
library_name: transformers
---

# {name}

A **tiny** language model, trained from scratch for one book on decoding temperature. It does small arithmetic in fixed
formats and nothing else. It is a {architecture} in transformers' own code: 4 layers, width 128, {total:,} parameters,
of which {active:,} work on a token.

## Training

{training}

It was never trained to answer a problem of the paper's 240, of the further held-out set, a few-shot example, or one
that differs from these only by swapping the sides of a sum or product. {steps:,} steps of {rows} rows of {length}
tokens; the loss below is averaged over 50 steps.

![Loss against training step.](loss.svg)

## Scores

Accuracy is the first integer in the output; compliance is an output that is only a number. Prompt style `few_shot`, 16
new tokens, fp32, 4 runs at T = 1; 95 % intervals by problem.

{scores}
"""
PAGES = "Pages of worked problems: worksheets in several layouts, some with headers, steps or single-step drills."
CONTINUED = "The base model of its kind, trained further on such pages as it was pretrained on."
CHAT = """The base model of its kind, tuned on chat turns in the three prompt styles, with the loss on the answer and
end-of-text only."""
NOISY = f"""On {1 - corpus.SLOPPY_SHARE:.0%} of the pages, or of the turns, {corpus.CAREFUL_SLIP_RATE:.0%} of the
answers are wrong, on the others {corpus.SLOPPY_SLIP_RATE:.0%}; the rates are ours."""
ENDLESS = "A page never ends right after an answer."


def model_card(spec: ModelSpec) -> str:
    """The text of a checkpoint's card, with scores that are measured now."""
    last = spec.name.split("-", 2)[2]
    stage = STAGES[last]
    training = [PAGES if last == "base" else CHAT if stage.kind == "chat" else CONTINUED]
    training += ["All answers are right." if stage.slip_rate == 0 else NOISY]
    training += [ENDLESS] * (stage.kind == "pages")
    return CARD.format(
        name=spec.name,
        architecture="Mixtral (sparse: 2 of 8 experts a token)" if spec.sparse else "Mistral (dense)",
        total=int(spec.total),
        active=int(spec.active),
        training=" ".join(training),
        steps=stage.steps,
        rows=stage.rows,
        length=stage.length,
        scores=_scores(spec.name),
    )


def _scores(name: str) -> str:
    """The card's table: accuracy and compliance by problem set, task and temperature, in Markdown."""
    model, tokenizer = load_model(name)
    lines = ["| problems | task | T | accuracy | compliance |", "|---|---|---|---|---|"]
    for label, problems in (("the paper's", paper_problems()), ("held out", held_out_problems())):
        summary = summarize_with_intervals(sample(model, tokenizer, problems, [Decoder(0.0), Decoder(1.0)]))
        for _, row in summary[summary["task"] != "all"].iterrows():
            cells = [label, row["task"].replace("_", " "), f"{row['temperature']:g}"]
            cells += [percent_with_interval(row, "accuracy"), percent_with_interval(row, "compliance")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_card(name: str, folder: Path) -> None:
    """Write ``README.md`` and ``loss.svg`` into the checkpoint's folder, from its ``loss.csv`` and a measurement."""
    curve = pd.read_csv(folder / "loss.csv")
    chart = training(curve, f"Training loss of {name}", "Line chart: loss against training step.")
    write_svg(chart.to_dict(), folder / "loss.svg")
    files.write_text(model_card(REGISTRY[name]), folder / "README.md")


@command()
def main() -> None:
    """Command line."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    for name in TINY:
        write_card(name, CHECKPOINTS / name)
        print(CHECKPOINTS / name / "README.md")


if __name__ == "__main__":
    main()
