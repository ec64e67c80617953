"""DeBERTa-v2 and v3 (He et al., 2021, arXiv:2111.09543): distances in buckets, a convolution beside the first layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.activations import activation
from ..nn.attention.attention import Attention
from ..nn.attention.disentangled import ConvolvedLayer, DisentangledBias, Distances, disentangled_scale
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.weights import LayerNorm, Linear
from . import bert, deberta


@dataclass(kw_only=True)
class DebertaV2Config(deberta.DebertaConfig):
    model_type = "deberta-v2"

    vocab_size: Size = 128100
    hidden_size: Size = 1536
    num_hidden_layers: Count = 24
    num_attention_heads: Size = 24
    intermediate_size: Size = 6144
    position_buckets: int = -1
    share_att_key: bool = False
    norm_rel_ebd: Literal["none", "layer_norm"] = "none"
    conv_kernel_size: int = 0
    conv_groups: Size = 1
    conv_act: str = "tanh"
    attention_head_size: Size | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        norm = entries.get("norm_rel_ebd")
        return super().normalized(
            {**entries, "norm_rel_ebd": norm.strip().lower()} if isinstance(norm, str) else entries
        )

    def check(self) -> None:
        super().check()
        if self.conv_kernel_size > 0 and self.conv_kernel_size % 2 == 0:
            raise UnsupportedConfig(f"conv_kernel_size must be odd, not {self.conv_kernel_size}.")

    @property
    def head_width(self) -> int:
        return self.attention_head_size or self.hidden_size // self.num_attention_heads


def build(config: DebertaV2Config) -> Stack:
    width, heads, kinds = config.hidden_size, config.num_attention_heads, set(config.kinds)
    inner, scale = heads * config.head_width, disentangled_scale(config.head_width, len(kinds))
    norm = LayerNorm(width, config.layer_norm_eps) if config.norm_rel_ebd == "layer_norm" else None
    buckets = config.position_buckets if config.position_buckets > 0 else None
    distances = Distances(width, config.reach, buckets=buckets, norm=norm)

    def positions(q: Linear, k: Linear) -> Positions:
        shared = config.share_att_key
        key = (k if shared else Linear(width, inner)) if "c2p" in kinds else None
        query = (q if shared else Linear(width, inner)) if "p2c" in kinds else None
        return DisentangledBias(distances, key, query, scale, config.hidden_dropout_prob)

    def attention() -> Attention:
        q, k = Linear(width, inner), Linear(width, inner)
        return Attention(
            width,
            heads,
            head_width=config.head_width,
            positions=positions(q, k) if config.relative_attention else None,
            scale=scale,
            projections={"q": q, "k": k},
            dropout=config.attention_probs_dropout_prob,
        )

    layers = [deberta.layer(config, attention()) for _ in range(config.num_hidden_layers)]
    if config.conv_kernel_size > 0 and layers:
        kernel, groups, act = config.conv_kernel_size, config.conv_groups, activation(config.conv_act)
        beside = LayerNorm(width, config.layer_norm_eps)
        first = ConvolvedLayer(layers[0], width, kernel, groups, act, beside, config.hidden_dropout_prob)
        return Stack(deberta.embeddings(config), [first, *layers[1:]])
    return Stack(deberta.embeddings(config), layers)


def keys(config: DebertaV2Config) -> KeyMap:
    stem, ours = "encoder.layer.*.attention.self", "layers.*.attention.step"
    rows: dict[str, str | Source] = {
        **bert.EMBEDDING_ROWS,
        **bert.LAYER_ROWS,
        **{f"{ours}.{n[0]}": f"{stem}.{n}_proj" for n in ("query", "key", "value")},
        f"{ours}.positions.key": f"{stem}.pos_key_proj",
        f"{ours}.positions.query": f"{stem}.pos_query_proj",
        f"{ours}.positions.distances.table": "encoder.rel_embeddings",
        f"{ours}.positions.distances.norm": "encoder.LayerNorm",
        "layers.*.weight": "encoder.conv.conv.weight",
        "layers.*.bias": "encoder.conv.conv.bias",
        "layers.*.norm": "encoder.conv.LayerNorm",
    }
    own = {row.replace("layers.*", "layers.*.layer"): key for row, key in rows.items() if row.startswith("layers.*.")}
    aliases = bert.aliases(config, "cls.predictions")
    return KeyMap({**own, **rows}, "deberta.", ignored=deberta.ignored(config), renamed=bert.OLD_NORMS, aliases=aliases)


ARCHITECTURE = replace(
    deberta.ARCHITECTURE,
    name="DebertaV2",
    config=DebertaV2Config,
    build=build,
    keys=keys,
    heads={
        **deberta.ARCHITECTURE.heads,
        "ForMultipleChoice": lambda config, backbone: deberta.classifier(config, 1),
    },
)
