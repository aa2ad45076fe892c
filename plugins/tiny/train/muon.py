"""The optimiser: Muon for matrices, AdamW for the embedding and the norms, master weights in 32 bits."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def orthogonal(update: Tensor, steps: int = 5) -> Tensor:
    """Bring a stack of matrices near the nearest orthogonal ones (quintic Newton-Schulz iteration in bfloat16)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Optimizer:
    """Steps the master weights and copies them to the model's own in its precision."""

    def __init__(self, parameters: list[torch.nn.Parameter], *, embedding: torch.nn.Parameter) -> None:
        """Keep 32-bit copies of *parameters*."""
        self.parameters = parameters
        self.masters = [p.detach().float().clone() for p in parameters]
        self.first = [torch.zeros_like(m) for m in self.masters]
        self.second = [torch.zeros_like(m) for m in self.masters]
        matrix = [p.ndim == 2 and p is not embedding for p in parameters]
        self.adam = [i for i, is_matrix in enumerate(matrix) if not is_matrix]
        shapes = sorted({tuple(p.shape) for p, is_matrix in zip(parameters, matrix, strict=True) if is_matrix})
        self.groups = [[i for i, p in enumerate(parameters) if matrix[i] and tuple(p.shape) == s] for s in shapes]
        self.count = 0

    def step(self, gradients: list[Tensor], *, matrix_rate: float, vector_rate: float) -> None:
        """Apply one update; each process makes its share of the orthogonal matrices."""
        self.count += 1
        with torch.no_grad():
            for i in self.adam:
                self._adam(i, gradients[i], vector_rate)
            for group in self.groups:
                self._muon(group, gradients, matrix_rate)
            for parameter, master in zip(self.parameters, self.masters, strict=True):
                parameter.copy_(master)

    def _adam(self, i: int, gradient: Tensor, rate: float) -> None:
        self.first[i].lerp_(gradient, 1 - 0.9)
        self.second[i].lerp_(gradient.square(), 1 - 0.98)
        mean = self.first[i] / (1 - 0.9**self.count)
        size = (self.second[i] / (1 - 0.98**self.count)).sqrt()
        self.masters[i] -= rate * mean / (size + 1e-8)

    def _muon(self, group: list[int], gradients: list[Tensor], rate: float) -> None:
        for i in group:
            self.first[i].lerp_(gradients[i], 1 - 0.95)
        ahead = torch.stack([gradients[i].lerp(self.first[i], 0.95) for i in group])
        scale = max(1.0, ahead.shape[-2] / ahead.shape[-1]) ** 0.5
        updates = torch.zeros_like(ahead)
        mine = slice(dist.get_rank(), None, dist.get_world_size())
        updates[mine] = orthogonal(ahead[mine])
        dist.all_reduce(updates)
        for i, update in zip(group, updates, strict=True):
            self.masters[i] *= 1 - 0.02 * rate
            self.masters[i] -= rate * scale * update
