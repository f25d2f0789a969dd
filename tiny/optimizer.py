"""The optimizer of the tiny models: Muon for the matrices inside the layers, Adam for the rest."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix to each of (..., rows, columns), roughly, by Newton-Schulz (Muon)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # in their own precision: bf16 is emulated by most CPUs, ten times as slow
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Optimizer:
    """Muon for the matrices inside the layers (each expert its own matrix), Adam for the rest."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.matrices: dict[str, nn.Parameter] = {}
        self.others: dict[str, nn.Parameter] = {}
        for name, p in model.named_parameters():
            inside = ".layers." in name and p.ndim >= 2 and not name.endswith("gate.weight")
            (self.matrices if inside else self.others)[name] = p
        self.state = {f"momentum.{name}": torch.zeros_like(p) for name, p in self.matrices.items()}
        for name, p in self.others.items():
            self.state |= {f"mean.{name}": torch.zeros_like(p), f"square.{name}": torch.zeros_like(p)}

    @torch.no_grad()
    def step(self, step: int, muon_lr: float, adam_lr: float) -> None:
        """One update; `step` counts from 1. Gradients are cleared."""
        parameters = (self.matrices | self.others).items()
        gradients = {name: p.grad for name, p in parameters if p.grad is not None}
        shapes: dict[torch.Size, list[str]] = {}
        for name, p in self.matrices.items():
            gradient = gradients[name]
            gradient.lerp_(self.state[f"momentum.{name}"].lerp_(gradient, 0.05), 0.95)
            shapes.setdefault(p.shape, []).append(name)
        for shape, names in shapes.items():
            updates = orthogonalize(torch.stack([gradients[name] for name in names]))
            scale = max(1.0, shape[-2] / shape[-1]) ** 0.5
            for name, update in zip(names, updates, strict=True):
                self.matrices[name].add_(update, alpha=-muon_lr * scale)
        for name, p in self.others.items():
            mean = self.state[f"mean.{name}"].lerp_(gradients[name], 0.1)
            square = self.state[f"square.{name}"].lerp_(gradients[name].square(), 0.05)
            denominator = (square / (1 - 0.95**step)).sqrt_().add_(1e-8)
            p.addcdiv_(mean, denominator, value=-adam_lr / (1 - 0.9**step))
        for p in (*self.matrices.values(), *self.others.values()):
            p.grad = None
