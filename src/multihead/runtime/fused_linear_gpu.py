"""Linear layers of a GPU: several products as one of torch's own, with an activation and a sum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.ops import backend
from ..nn.activations import ACTIVATIONS
from ..nn.norms import RMSNorm, WideRMSNorm
from ..nn.weights import LayerNorm
from .layer_spec import register


class FusedLinearGPU(nn.Module):
    """add + act(x @ weight.T + bias), of which all but the product may be missing.

    Args:
        weights: parts of the matrix, (outputs, inputs) each, one under the other. biases: of each part, or none.
        act: an activation's name. gated: of the two parts, the first is activated and multiplies the second.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        *,
        act: str | None = None,
        gated: bool = False,
    ) -> None:
        super().__init__()
        # (outputs,) each; a part without a bias adds zeros
        parts = [w.new_zeros(len(w)) if b is None else b for w, b in zip(weights, biases, strict=True)]
        self.weight = nn.Parameter(torch.cat(list(weights)), requires_grad=False)  # (outputs of all parts, inputs)
        some = any(b is not None for b in biases)
        self.bias = nn.Parameter(torch.cat(parts), requires_grad=False) if some else None
        self.act, self.gated = act, gated

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs of the product, inputs)."""
        return self.weight.shape[0], self.weight.shape[1]

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """Return `product(x)` + add: (rows, inputs) to (rows, outputs); `add` is (rows, outputs)."""
        y = self.product(x)
        return y if add is None else y + add

    def product(self, x: Tensor) -> Tensor:
        """Return act(x @ weight.T + bias), gated where the layer is: (rows, inputs) to (rows, outputs)."""
        y = F.linear(x, self.weight, self.bias)  # (rows, outputs of all parts)
        if self.gated:
            assert self.act is not None
            gated = backend(y).activation_gate(y, self.act)  # (rows, outputs): one kernel instead of two
            y = self._gated(y) if gated is None else gated
        elif self.act is not None:
            y = ACTIVATIONS[self.act](y)
        return y

    def _gated(self, y: Tensor) -> Tensor:
        first, second = y.chunk(2, -1)  # (rows, outputs) each
        return ACTIVATIONS[self.act or ""](first) * second


def normed_sum(x: Tensor, y: Tensor, norm: nn.Module, keep: bool) -> tuple[Tensor, Tensor] | None:
    """x + y, (rows, width) each, and its norm, by one program; None where there is none for these.

    Args:
        keep: whether the sum is wanted too; else the norm stands in its place.
    """
    weight: Tensor | None = getattr(norm, "weight", None)
    bias: Tensor | None = getattr(norm, "bias", None)
    if weight is None:
        return None
    if type(norm) is LayerNorm:
        return backend(x).add_norm(x, y, weight, bias, norm.eps, kind=2, centre=0.0, keep_sum=keep)
    if type(norm) in (RMSNorm, WideRMSNorm):
        made: RMSNorm = norm  # type: ignore[assignment]
        centre = getattr(made, "centre", 0.0)
        return backend(x).add_norm(x, y, made.weight, None, made.eps, kind=1, centre=centre, keep_sum=keep)
    return None


register(FusedLinearGPU, "act bias gated weight")
