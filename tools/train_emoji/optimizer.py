"""Muon for the matrices inside blocks (K. Jordan and others, 2024: orthogonalised momentum), AdamW for the rest."""

import torch


def orthogonalise(matrices, steps=5):
    """Newton–Schulz iteration towards the nearest matrix with orthonormal rows or columns; [k, rows, columns]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class Muon:
    """Nesterov momentum, 5 Newton–Schulz steps, update scaled by 0.2·sqrt(longer side), decoupled decay.

    Matrices of one shape are updated together; a weight that holds several (query, key, value) counts as several.
    """

    def __init__(self, weights, momentum=0.95, weight_decay=0.05):
        self.momentum, self.weight_decay = momentum, weight_decay
        self.groups = {}
        for weight, parts in weights:
            self.groups.setdefault((weight.shape[0] // parts, weight.shape[1]), []).append((weight, parts))
        self.buffers = {
            shape: torch.zeros(sum(parts for _, parts in group), *shape, device=group[0][0].device)
            for shape, group in self.groups.items()
        }

    @torch.no_grad()
    def step(self, rate):
        for shape, group in self.groups.items():
            gradient = torch.cat([weight.grad.view(parts, *shape) for weight, parts in group])
            buffer = self.buffers[shape]
            buffer.lerp_(gradient, 1 - self.momentum)
            update = orthogonalise(gradient.lerp(buffer, self.momentum)).float() * (0.2 * max(shape) ** 0.5 * rate)
            start = 0
            for weight, parts in group:
                weight.mul_(1 - rate * self.weight_decay)
                weight.sub_(update[start : start + parts].reshape(weight.shape))
                start += parts

    def state_dict(self):
        return {f"{rows}x{columns}": buffer for (rows, columns), buffer in self.buffers.items()}

    def load_state_dict(self, state):
        for (rows, columns), buffer in self.buffers.items():
            buffer.copy_(state[f"{rows}x{columns}"])
