"""Per-layer embeddings: a small vector for each token and layer, added through a gate (Gemma 3n, Gemma 4)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInput
from .activations import activation
from .cache.layer_cache import LayerCache
from .embeddings import Embeddings, check_ids
from .forward_context import ForwardContext
from .layer import Layer, Residual
from .weights import Linear


class PerLayerEmbeddings(Embeddings):
    """Token embeddings, and for each layer a vector of the token plus a projection of its embedding.

    Args:
        table: (vocabulary, layers * per-layer width); None for the projection alone (EmbeddingGemma 2).
        projection: of token embeddings, to layers * per-layer width.
        per_layer_norm: of each projected vector.
        scales: of the projection, and of the sum.
        searched: the ids of vectors that a caller gives are searched in the table of tokens; else such tokens have
            the projection alone.
    """

    def __init__(
        self,
        token: nn.Embedding,
        layers: int,
        table: nn.Embedding | None,
        projection: nn.Module,
        per_layer_norm: nn.Module,
        *,
        scales: tuple[float, float],
        searched: bool,
    ) -> None:
        super().__init__(token)
        self.table, self.projection, self.per_layer_norm = table, projection, per_layer_norm
        self.layers, self.scales, self.searched = layers, scales, searched

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Return token embeddings (tokens, width); a `PerLayerInput` of each layer reads its vectors."""
        x = super().forward(words, context)
        context.share(PerLayerEmbeddings, self._per_layer(x, context.ids), by_token=True)
        return x

    def _per_layer(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """Return the vectors of all layers, (tokens, layers, per-layer width)."""
        projected = (self.projection(x) * self.scales[0]).unflatten(-1, (self.layers, -1))
        projected = self.per_layer_norm(projected)  # (tokens, layers, per-layer width)
        if self.table is None or (ids is None and not self.searched):
            return projected
        ids = search_ids(self.token, x) if ids is None else ids  # (tokens,)
        if not self.searched:  # tokens past this table's end have its first row
            ids = ids.masked_fill(ids >= self.table.num_embeddings, 0)
        check_ids(ids, self.table.num_embeddings, "input id", "per-layer vocabulary")
        return (projected + self.table(ids).view_as(projected)) * self.scales[1]


@torch.no_grad()
def search_ids(token: nn.Module, x: Tensor) -> Tensor:
    """Return the ids (tokens,) whose embeddings are the vectors x. Raises InvalidInput for a vector of no id."""
    table: Any = token
    factor: Any = getattr(table, "factor", 1.0)
    found = []
    for vector in x:
        # The first channels leave few candidates, of which whole rows are compared.
        near = (table.weight[:, :4] * factor == vector[:4]).all(-1).nonzero().flatten()
        rows = near[(table.weight[near] * factor == vector).all(-1)]
        if not len(rows):
            raise InvalidInput(
                "inputs_embeds hold a vector of no token of the vocabulary, so what the model adds for its token is "
                "unknown: give input_ids."
            )
        found.append(rows[0])
    return torch.stack(found) if found else torch.zeros(0, dtype=torch.long, device=x.device)


class PerLayerInput(nn.Module):
    """Step that lets a layer's own vectors through a gate: out(act(gate(x)) * vectors).

    Args:
        number: of the layer. inner: width of its vectors.
    """

    def __init__(self, number: int, width: int, inner: int, act: str) -> None:
        super().__init__()
        self.number, self.act = number, activation(act)
        self.gate, self.out = Linear(width, inner, bias=False), Linear(inner, width, bias=False)

    def forward(self, x: Tensor, context: ForwardContext) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        vectors = context.shared(PerLayerEmbeddings)[:, self.number]  # (tokens, inner)
        return self.out(self.act(self.gate(x)) * vectors)


class ScaledLayer(Layer):
    """Layer whose result is multiplied by a stored number, after its per-layer vectors were added.

    Args:
        extra: residual of a `PerLayerInput`; None without such vectors.
    """

    def __init__(self, attention: Residual, ffn: Residual, extra: Residual | None = None) -> None:
        super().__init__(attention, ffn)
        self.extra = extra
        self.scalar = nn.Parameter(torch.empty(1), requires_grad=False)  # (1,); it is stored, and never learns

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize the scalar."""
        parameter.fill_(1.0)

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        x = self.ffn(self.attention(x, context, memory))
        x = x if self.extra is None else self.extra(x, context)
        return x * self.scalar
