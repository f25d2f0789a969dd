"""The optimizer of the tiny models: Muon for the matrices inside the layers, Adam for the rest.

It knows parameters by name and shape; what loss they are trained on, and for how long, is `tiny.train`'s.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix to each of (..., rows, columns), roughly: singular values from 0.5 to 1.3.

    By Newton-Schulz iterations in bfloat16, as Muon does it (Jordan et al. 2024, kellerjordan.github.io/posts/muon).
    """
    a, b, c = 3.4445, -4.7750, 2.0315  # Muon's: they lift small singular values fastest, and never settle at 1
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # in their own precision: bf16 is emulated by most CPUs, ten times as slow
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Stateful(Protocol):
    """Whatever keeps tensors by name, with which a killed training goes on."""

    state: dict[str, Tensor]


class Optimizer:
    """Muon for the matrices inside the layers (each expert its own matrix), Adam for the rest.

    Routers are left to Adam, as embeddings, head and norms are. `state` holds float32 tensors by name, to be saved.
    """

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
        """Update the parameters from their gradients, with these two learning rates, and clear the gradients.

        `step` counts from 1: by it Adam corrects its averages, which began at 0.
        """
        parameters = (self.matrices | self.others).items()
        gradients = {name: p.grad for name, p in parameters if p.grad is not None}
        shapes: dict[torch.Size, list[str]] = {}
        for name, p in self.matrices.items():
            gradient = gradients[name]
            gradient.lerp_(self.state[f"momentum.{name}"].lerp_(gradient, 0.05), 0.95)  # Nesterov's momentum
            shapes.setdefault(p.shape, []).append(name)
        for shape, names in shapes.items():  # matrices of one shape at once: each is small
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
