"""Training the tiny suite from scratch: ``python -m tiny.train tiny-dense-base``.

A base model is pretrained on pages; an instruct model is the base model of its kind, tuned on chat turns with the
loss on the answer and end-of-text only; see `tiny.batches`. The whole state is saved every few hundred steps, so that
a killed run continues where it was and ends with the same weights. Which models an experiment needs is not known here.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import platform
import shutil
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lmrel import files
from lmrel.decoding import Decoder
from lmrel.errors import InputError, command
from lmrel.files import read_object, writing
from lmrel.models import load_model
from lmrel.problems import Problem
from lmrel.registry import CHECKPOINTS, TINY
from lmrel.sampling import sample
from tiny import shapes, targets
from tiny.batches import STAGES, Batch, Stage, make_batch
from tiny.optimizer import Optimizer, Stateful

LAST_WRITTEN = "loss.csv"


def loss_on(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """A batch's weighted mean cross-entropy in nats, and the router's load-balancing loss (0 for a dense model)."""
    ids, weights = batch
    sparse = hasattr(model.config, "router_aux_loss_coef")
    output = model(input_ids=ids, use_cache=False, **({"output_router_logits": True} if sparse else {}))
    logits, wanted = output.logits[:, :-1].flatten(0, 1), weights[:, 1:].flatten(0, 1)
    if wanted.ndim == 1:
        losses = nn.functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
    else:
        losses = -logits.log_softmax(dim=-1)
    balance = model.config.router_aux_loss_coef * output.aux_loss if sparse else losses.new_zeros(())
    return (losses * wanted).sum() / wanted.sum(), balance


def learning_rate_factor(step: int, stage: Stage) -> float:
    """The learning rate at a step, counted from 0, as a share of the full rate.

    In each cycle it rises linearly to the peak and falls along a cosine to 0.05 (warm restarts, arXiv 1608.03983).
    """
    cycles = iter(stage.cycles)
    steps, peak = next(cycles)
    while step >= steps:
        step -= steps
        steps, peak = next(cycles)
    if step < stage.warmup:
        return peak * (step + 1) / stage.warmup
    progress = (step - stage.warmup) / max(1, steps - stage.warmup)
    return 0.05 + (peak - 0.05) * 0.5 * (1 + math.cos(math.pi * progress))


def update(model: PreTrainedModel, optimizer: Optimizer, stage: Stage, step: int, batch: Batch) -> Tensor:
    """Train on one batch; the loss before that, in nats. `step` counts from 0."""
    loss, balance = loss_on(model, batch)
    (loss + balance).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    factor = learning_rate_factor(step, stage)
    optimizer.step(step + 1, stage.muon_lr * factor, stage.adam_lr * factor)
    return loss.detach()


def train(name: str, steps: int | None, out: Path, work: Path, seed: int = 0, save_every: int = 250) -> Path:
    """Train `name`, going on from the state in `work` if there is one; returns the checkpoint's folder, `out / name`.

    Names are ``tiny-<architecture>-<stage>``. `steps` cuts a stage short (for tests); None runs it whole. A stage that
    goes on from another one starts from `out`'s model of that architecture and stage. Raises `InputError` if that is
    missing, or if another process trains the same model.
    """
    _, architecture, last = name.split("-", 2)
    stage = STAGES[last] if steps is None else replace(STAGES[last], cycles=((steps, 1.0),))
    tokenizer = shapes.build_tokenizer(chat=stage.kind == "chat")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = shapes.build_model(architecture)
    source, saved = out / f"tiny-{architecture}-{stage.start}", work / f"{name}.safetensors"
    if stage.start:
        if not (source / LAST_WRITTEN).exists():
            raise InputError(f"{name} needs its base model, and {source} is missing; train that first.")
        # Through transformers, which stores a mixture's experts under other names than it computes with.
        model.load_state_dict(type(model).from_pretrained(source, dtype=torch.float32).state_dict())
    model.train()
    optimizer = Optimizer(model)
    losses, first = torch.zeros(stage.steps), 0
    with files.locked(saved.with_suffix(".lock"), f"another training is writing to {saved}; wait for it to end."):
        if saved.exists():
            first = restore(saved, model, optimizer, losses)
        target = own_target(source, stage, seed, saved.with_suffix(".json")) if stage.target == "own" else None
        bar = tqdm(range(first, stage.steps), desc=name, initial=first, total=stage.steps, mininterval=2)
        for step in bar:
            losses[step] = update(model, optimizer, stage, step, make_batch(stage, seed, step, tokenizer, target))
            if (step + 1) % save_every == 0 or step + 1 == stage.steps:
                save_state(saved, step + 1, model, optimizer, losses)
                bar.set_postfix(loss=f"{losses[max(0, step - 99) : step + 1].mean():.3f}")
        export(model, tokenizer, losses, out / name)
    return out / name


def own_target(source: Path, stage: Stage, seed: int, path: Path) -> targets.Target:
    """The target that teaches what the model in `source` answers itself; its answers (see `ask`) are kept at `path`."""
    base = files.sha256(source / "model.safetensors")
    known = read_object(path) if path.exists() else {}
    if known.get("base") != base:
        known = {"base": base, "answers": ask(source, stage, seed)}
        files.write_json(known, path)
    return targets.own(known["answers"])


def ask(source: Path, stage: Stage, seed: int) -> dict[str, int | None]:
    """What the model in `source` answers greedily, in the prompt ``few_shot``, to all that a stage's pages ask.

    Returns the answer to each question as a worksheet puts it, None where it is no integer.
    """
    asked: dict[str, int] = {}

    def note(question: str, answer: int, problem: Problem | None) -> targets.Chances:
        asked[question] = answer
        return targets.right(question, answer, problem)

    model, tokenizer = load_model(str(source), "fp32")
    wider = replace(stage, rows=stage.rows + 2)  # own answers may be shorter, so that more of them fill a batch
    for step in range(stage.steps):
        make_batch(wider, seed, step, tokenizer, note)
    table = pd.DataFrame({"problem_id": list(asked), "question": list(asked), "answer": list(asked.values())})
    found = sample(model, tokenizer, table, [Decoder(0.0, max_new_tokens=8, stop="decided")])
    answers = [None if pd.isna(answer) else int(answer) for answer in found["extracted"]]
    return dict(zip(asked, answers, strict=True))


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """One hash over the names and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_state(path: Path, step: int, model: PreTrainedModel, optimizer: Stateful, losses: Tensor) -> None:
    """Write what a training needs to go on after so many steps, as one file that is either the old or the new one."""
    weights = {f"model.{key}": tensor for key, tensor in model.named_parameters()}
    state = {**weights, **optimizer.state, "losses": losses, "step": torch.tensor(step)}
    temporary = path.with_suffix(".tmp")
    with writing(path):
        temporary.write_bytes(save(state, {"sha256": _checksum(state)}))
        os.replace(temporary, path)


def restore(path: Path, model: PreTrainedModel, optimizer: Stateful, losses: Tensor) -> int:
    """Load what `save_state` wrote into model, optimizer and losses; the number of steps done.

    `InputError` if the file is damaged or of a run with another number of steps.
    """
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata()
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}; delete it to start over.") from error
    if said and said.get("sha256") != _checksum(state):  # older ones have none
        raise InputError(f"{path} is damaged: its checksum is another; delete it to start over.")
    if state["losses"].shape != losses.shape:
        raise InputError(
            f"{path} is of a run of {len(state['losses'])} steps, not {len(losses)}; delete it to start over."
        )
    losses.copy_(state["losses"])
    ours = {f"model.{key}": tensor for key, tensor in model.named_parameters()} | optimizer.state
    with torch.no_grad():
        for key, tensor in ours.items():
            tensor.copy_(state[key])
    return int(state["step"])


def export(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, losses: Tensor, folder: Path) -> None:
    """Write the checkpoint as transformers loads it: weights in bf16, config, tokenizer; and the loss curve.

    Each file is whole or not there, and the loss curve comes last: with it the checkpoint is complete.
    """
    temporary, last = folder.with_name(f".{folder.name}"), folder / LAST_WRITTEN
    with writing(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        model.eval().to(torch.bfloat16).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        config = temporary / "tokenizer_config.json"
        # transformers 5 writes a class name that transformers 4 does not know; this one is read by both.
        config.write_text(config.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
        mark = 50
        curve = [(i + mark, round(losses[i : i + mark].mean().item(), 4)) for i in range(0, len(losses), mark)]
        (temporary / last.name).write_text("step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in curve))
        folder.mkdir(parents=True, exist_ok=True)
        last.unlink(missing_ok=True)
        for path in sorted(temporary.iterdir(), key=lambda path: path.name == last.name):
            os.replace(path, folder / path.name)
        temporary.rmdir()


def cost(name: str, steps: int = 8) -> dict[str, Any]:
    """What training `name` takes on this machine, by the median of a few steps: a row for `main`'s table.

    Tokens are in millions.
    """
    _, architecture, last = name.split("-", 2)
    stage, tokenizer = STAGES[last], shapes.build_tokenizer(chat=STAGES[last].kind == "chat")
    model = shapes.build_model(architecture).train()
    optimizer, seconds = Optimizer(model), []
    target = targets.right if stage.target == "own" else None  # to ask its base model costs extra
    for step in range(steps):
        start = time.perf_counter()
        update(model, optimizer, stage, step, make_batch(stage, 0, step, tokenizer, target))
        seconds.append(time.perf_counter() - start)
    each = statistics.median(seconds)
    weights, at_work = shapes.sizes(model)
    return {
        "model": name,
        "weights": weights,
        "at work": at_work,
        "steps": stage.steps,
        "tokens": round(stage.steps * stage.rows * stage.length / 1e6, 1),
        "seconds a step": round(each, 4),
        "minutes": round(stage.steps * each / 60, 1),
    }


def places(seed: int) -> tuple[Path, Path]:
    """The folders for a seed's models, of seed 0 where they ship, and for the states that killed ones go on from."""
    work = Path("training") / f"seed-{seed}"
    return (work if seed else CHECKPOINTS), work / "state"


@command()
def main() -> None:
    """Train the models that the command line names, in that order, or say what that would take."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", help="tiny-<architecture>-<stage>, bases first; else what ships")
    parser.add_argument("--seed", type=int, default=0, help="0 goes to checkpoints/, others to training/seed-N/")
    parser.add_argument(
        "--cost", nargs="?", const="", help="only say, or write to a file, how long each takes here, of all there are"
    )
    arguments = parser.parse_args()
    known = [f"tiny-{architecture}-{stage}" for architecture in shapes.ARCHITECTURES for stage in STAGES]
    for name in arguments.models:
        if name not in known:
            parts = f"{', '.join(shapes.ARCHITECTURES)} and {', '.join(STAGES)}"
            raise InputError(f"{name!r} is no tiny-<architecture>-<stage>; they are {parts}.")
    if arguments.cost is None:
        for name in arguments.models or TINY:
            print(train(name, None, *places(arguments.seed), arguments.seed), flush=True)
        return
    table = pd.DataFrame([cost(name) for name in arguments.models or known])
    print(table.to_string(index=False))
    if arguments.cost:
        machine = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
        files.write_json(machine | {"rows": table.to_dict("records")}, Path(arguments.cost))


if __name__ == "__main__":
    main()
