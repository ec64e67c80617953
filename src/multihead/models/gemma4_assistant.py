"""Gemma 4's assistants (Google, 2026, model card of gemma-4-E2B-it-assistant): drafts from the model's own keys.

An assistant has queries alone. Its layers read the keys and values of the last full and the last sliding layer of the
model, from one place: that of the last token that the model has read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..errors import CorruptFile, UnsupportedConfig
from ..kernels.ragged import SequenceLayout
from ..nn.attention.shared import NormedValueAttention
from ..nn.empty import empty_weights
from ..nn.forward_context import ForwardContext
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import gemma4

KINDS = ("gemma4_assistant", "gemma4_unified_assistant")
SharedKeys = Mapping[str, tuple[Tensor, Tensor, SequenceLayout]]  # by the type of a layer


@dataclass(kw_only=True)
class Gemma4AssistantTextConfig(gemma4.Gemma4TextConfig):
    """The config of an assistant's layers, none of which has keys."""

    hidden_size_per_layer_input: int | None = 0
    vocab_size_per_layer_input: int = 0
    use_double_wide_mlp: Literal[False] = False
    enable_moe_block: Literal[False] = False

    def check(self) -> None:
        gemma4.check_rope(self)
        self.num_kv_shared_layers = self.num_kv_shared_layers or self.num_hidden_layers
        if self.num_kv_shared_layers != self.num_hidden_layers or self.hidden_size_per_layer_input:
            raise UnsupportedConfig("All layers of an assistant read the model's keys, and have no per-layer vectors.")


class Clusters(nn.Module):
    """Scores of the tokens of the best clusters alone; those of the others are all the same.

    Args:
        count: of clusters. chosen: how many of them are scored.
    """

    tokens: Tensor  # (clusters, tokens of a cluster)

    def __init__(self, width: int, words: int, count: int, chosen: int) -> None:
        super().__init__()
        self.centroids, self.chosen = Linear(width, count, bias=False), chosen
        self.register_buffer("tokens", torch.zeros(count, words // count, dtype=torch.long, device="cpu"))

    def forward(self, states: Tensor, table: Tensor) -> Tensor:
        """Map states (rows, width) to logits (rows, vocabulary). `table`: (vocabulary, width)."""
        best = self.centroids(states).topk(self.chosen, -1).indices  # (rows, chosen)
        tokens = self.tokens[best].flatten(1)  # (rows, scored tokens)
        scores = torch.einsum("rw,rtw->rt", states, table[tokens])
        return scores.new_full((len(states), len(table)), float(scores.min()) - 1).scatter(1, tokens, scores)


class KeyReader(nn.Module):
    """Layers without keys of their own, between a projection of an embedding and a state, and one to the next state.

    Args:
        outer: width of the model's states. clusters: of the vocabulary; None to score all tokens.
    """

    def __init__(self, stack: Stack, outer: int, clusters: Clusters | None) -> None:
        super().__init__()
        width = stack.embed.token.embedding_dim
        self.stack, self.clusters = stack, clusters
        self.before, self.after = Linear(2 * outer, width, bias=False), Linear(width, outer, bias=False)

    def forward(self, words: Tensor, states: Tensor, places: Tensor, keys: SharedKeys) -> tuple[Tensor, Tensor]:
        """Return logits (rows, vocabulary) and states (rows, outer width) of one row a sequence.

        Args:
            words, states: (rows, outer width). places: (rows,), of the rotary positions. keys: of each type of layer.
        """
        context = ForwardContext(places, SequenceLayout.packed((1,) * len(words)), custom_positions=True)
        for kind, shared in keys.items():
            context.share((NormedValueAttention, kind), shared)
        x = self.before(torch.cat([words, states], -1))  # (rows, width)
        for layer in self.stack.layers:
            x = layer(x, context, None)  # (rows, width)
        x = self.stack.norm(x)
        table = self.stack.embed.token.weight
        return x @ table.T if self.clusters is None else self.clusters(x, table), self.after(x)


def load(entries: Mapping[str, Any], stored: Mapping[str, Tensor], source: str, **where: Any) -> KeyReader:
    """Return the assistant of a config.json and its tensors.

    Args:
        where: dtype and device, as `KeyMap.load` takes them.

    Raises:
        UnsupportedConfig: an entry that is not computed. CheckpointMismatch: the tensors do not fit.
    """
    config = Gemma4AssistantTextConfig.read(entries.get("text_config") or {})
    # The query is the last of the keys' sequence, and sees as many before it as the window says.
    windows = replace(config, sliding_window=config.sliding_window + 1, use_bidirectional_attention=None)
    count, ordered = entries.get("num_centroids", 2048), entries.get("use_ordered_embeddings", False)
    with empty_weights():
        clusters = None
        if ordered:
            chosen = entries.get("centroid_intermediate_top_k", 32)
            clusters = Clusters(config.hidden_size, config.vocab_size, count, chosen)
        module = KeyReader(gemma4.build(windows), outer_width(entries), clusters)
    rows = {f"stack.{ours}": theirs for ours, theirs in gemma4.keys(config).rows.items()}
    rows |= {"before": "/pre_projection", "after": "/post_projection"}
    rows |= {"clusters.centroids": "/masked_embedding.centroids"}
    ignored = (*gemma4.keys(config).ignored, r"^lm_head\.", r"^masked_embedding\.token_ordering$")
    KeyMap(rows, "model.", ignored=ignored).load(module, stored, source=source, **where)
    if clusters is not None:
        order = stored["masked_embedding.token_ordering"].long()  # (vocabulary,)
        if len(order.unique()) < config.vocab_size:
            raise CorruptFile(f"{source}: token_ordering names a token twice.")
        clusters.tokens = order.view(count, -1)
    return module.eval()


def outer_width(entries: Mapping[str, Any]) -> Size:
    """Return the width of the model's states."""
    return int(entries.get("backbone_hidden_size") or (3840 if entries["model_type"] == KINDS[1] else 1536))
