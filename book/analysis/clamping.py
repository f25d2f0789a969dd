"""The intervention on experts: what T = 1 costs if tokens are drawn freely but read by the greedy path's experts.

``python -m book.analysis.clamping`` measures it of the sparse models that ship, and of any folders that it is given,
and leaves ``book/data/experts.parquet``. Which experts a token goes to is a function of the tokens read, so that to see
them differ in a wrong draw says nothing of a cause. Here they are held while the tokens differ.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from book.analysis.routing import routes
from lmrel import files
from lmrel.decoding import Decoder
from lmrel.engine.forest import FOREST, Forest
from lmrel.enumeration import CHUNK, enumerate_outcomes
from lmrel.errors import command
from lmrel.models import load_model
from lmrel.problems import as_rows, paper_problems
from lmrel.registry import CHECKPOINTS, TINY
from lmrel.sampling import sample
from lmrel.tokens import encode_problems
from tiny.arms import write

DATA = Path(__file__).resolve().parent.parent / "data" / "experts.parquet"
OWN, GREEDY, ANOTHER = "its own", "the greedy path's", "another problem's"


@contextmanager
def clamped(model: PreTrainedModel, starts: Sequence[int], experts: Sequence[Tensor]) -> Iterator[None]:
    """Sends the token of text r at position ``starts[r] + i`` to ``experts[r][i]``, (layers, experts at work) numbers.

    The router still says how much each counts. Tokens before the start and beyond the last go where they would. Texts
    are the rows of a `Forest`, or there is a single one.
    """
    lengths, begin = torch.tensor([len(one) for one in experts]), torch.tensor(starts)
    held = pad_sequence(list(experts), batch_first=True)  # (texts, places, layers, experts at work)
    now: list[tuple[Tensor, Tensor]] = []  # of the tokens that go through the model: their text and their place in it

    def note(module: Any, arguments: Any, options: dict[str, Any]) -> None:
        position, forest = options["position_ids"].flatten(), FOREST.get(None)
        row = torch.zeros_like(position) if forest is None else forest.steps[forest.device].row
        now[:] = [(row, position - begin[row])]

    def choose(layer: int) -> Any:
        def chosen(module: Any, arguments: Any, output: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            logits, scores, indices = output
            [(row, place)] = now
            here = ((place >= 0) & (place < lengths[row]))[:, None]
            indices = torch.where(here, held[row, place.clamp(0, held.shape[1] - 1), layer], indices)
            chances = logits.float().softmax(dim=-1).gather(-1, indices)
            return logits, torch.where(here, chances / chances.sum(dim=-1, keepdim=True), scores), indices

        return chosen

    hooks = [model.model.register_forward_pre_hook(note, with_kwargs=True)]
    hooks += [layer.mlp.gate.register_forward_hook(choose(i)) for i, layer in enumerate(model.model.layers)]
    try:
        with patch.object(Forest, "tidy", lambda *_: None):  # which would number the rows anew
            yield
    finally:
        for hook in hooks:
            hook.remove()


def intervention(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: pd.DataFrame,
    temperatures: Sequence[float] = (0.0, 1.0),
) -> pd.DataFrame:
    """Exact P(correct) with three choices of experts: columns ``experts, problem_id, task, temperature, lower, upper``.

    A token at a place of an answer is sent to experts of its `OWN`, as always; to those that read the `GREEDY` answer
    of its problem at that place; or, to see whether it matters at all, to those that read the greedy answer of
    `ANOTHER` problem, the next of its task. Where that answer is over, experts are a token's own again.
    """
    prompts = encode_problems(as_rows(problems), "few_shot", tokenizer)
    draws = sample(model, tokenizer, problems, [Decoder(0.0, stop="decided")]).set_index("problem_id")
    names, at_work = problems["problem_id"].tolist(), model.config.num_experts_per_tok
    held = {}
    for name, prompt in zip(names, prompts, strict=True):
        chosen, _ = routes(model, prompt, list(map(int, draws.loc[name, "token_ids"])))
        held[name] = chosen.int().topk(at_work, dim=-1).indices
    following = problems.groupby("task")["problem_id"].transform(lambda some: [*some[1:], some.iloc[0]]).tolist()
    found = [enumerate_outcomes(model, tokenizer, problems, temperatures).assign(experts=OWN)]
    for kind, others in ((GREEDY, names), (ANOTHER, following)):
        for start in range(0, len(names), CHUNK):
            some = slice(start, start + CHUNK)  # one walk, so that the rows are numbered as here
            with clamped(model, [len(prompt) for prompt in prompts[some]], [held[other] for other in others[some]]):
                part = enumerate_outcomes(model, tokenizer, problems.iloc[some], temperatures)
            found.append(part.assign(experts=kind))
    table = pd.concat(found).query("metric == 'correct'").merge(problems[["problem_id", "task"]])
    return table[["experts", "task", "problem_id", "temperature", "lower", "upper"]]


@command()
def main() -> None:
    """Measure the sparse models that ship, and those in the folders that the command line names, as seed/name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, help="further folders .../tiny-sparse-<stage>")
    folders = [CHECKPOINTS / name for name in TINY if "sparse" in name] + parser.parse_args().folders
    tables, weights = [], {}
    for folder in folders:
        name = folder.name if folder.parent == CHECKPOINTS else f"{folder.parent.name}/{folder.name}"
        tables.append(intervention(*load_model(str(folder), "fp32"), paper_problems()).assign(model=name))
        weights[name] = files.sha256(folder / "model.safetensors")
        print(name, flush=True)
    table = pd.concat(tables, ignore_index=True).astype({"lower": "float32", "upper": "float32"})
    said = {"command": "python -m book.analysis.clamping", "weights": weights, "code": files.sha256(Path(__file__))}
    write(table, said, DATA)


if __name__ == "__main__":
    main()
