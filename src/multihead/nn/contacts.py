"""Contact prediction of protein residues from attention maps (Rao et al., 2020, doi:10.1101/2020.12.15.422761)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .stack import Stack
from .weights import Linear


class ContactHead(nn.Module):
    """Logistic regression over the symmetrized, background-corrected attention of all heads.

    Args:
        maps: heads of all layers together.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.regression = Linear(maps, 1)

    def forward(self, attention: Tensor) -> Tensor:
        """Map attention maps (batch, maps, length, length) to probabilities (batch, length, length)."""
        both = attention + attention.transpose(-1, -2)
        background = both.sum(-1, keepdim=True) * both.sum(-2, keepdim=True) / both.sum((-1, -2), keepdim=True)
        return torch.sigmoid(self.regression((both - background).movedim(1, -1)).squeeze(-1))


class ContactStack(Stack):
    """Encoder with the regression that reads its attention."""

    contacts: ContactHead
