"""The text half of NeoMME (H Company, 2026): an encoder with exclusive attention and factorized embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn.functional import normalize

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.head_types import HeadType
from ..heads.heads import Head, LanguageModel, average
from ..heads.outputs import Output
from ..nn.attention.exclusive import ExclusiveAttention, ExclusiveLayer, MixedResidual, Narrowing, ValueEmbeddings
from ..nn.feedforward import FeedForward
from ..nn.forward_context import ForwardContext
from ..nn.layer import Residual
from ..nn.norms import PlainRMSNorm
from ..nn.positions import rotary
from ..nn.ragged import Layout
from ..nn.stack import Stack
from ..nn.weights import Embedding, Linear
from .common.architecture import Architecture
from .common.patterns import FULL, SLIDING, layer_kinds
from .common.rotary_config import RotaryConfig

THETAS, PARTS, LONG = {FULL: 1000000.0, SLIDING: 10000.0}, {FULL: 0.25, SLIDING: 1.0}, 1024


@dataclass(kw_only=True)
class NeoMMEConfig(RotaryConfig):
    model_type = "neomme"
    inert: ClassVar[tuple[str, ...]] = ("patch_size", "document_token_id")

    vocab_size: Size = 131072
    embedding_rank: Size = 256
    hidden_size: Size = 1024
    intermediate_size: Size = 3584
    hidden_act: Literal["relu2"] = "relu2"
    mlp_bias: bool = False
    num_hidden_layers: Count = 17
    num_attention_heads: Size = 16
    num_key_value_heads: Size = 4
    head_dim: Size = 64
    max_position_embeddings: Size = 16384
    norm_eps: float = 1e-6
    initializer_range: float = 0.02
    attention_dropout: float = 0.0
    attention_bias: bool = False
    layer_types: list[str] | None = None
    per_layer_config: dict[Any, Any] | None = None
    sliding_window: Size | None = 256
    residual_multiplier: float | None = None
    embedding_dim: Size = 128
    pad_token_id: int | None = 0

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Complete the rotary parameters of each kind of layer, and keep the id of images to refuse it."""
        entries, rope = dict(entries), dict(entries.get("rope_parameters") or {})
        theta = entries.pop("rope_theta", None)
        if not all(kind in THETAS and isinstance(own, Mapping) for kind, own in rope.items()):
            raise UnsupportedConfig(f"rope_parameters must hold an object for {FULL} and {SLIDING}, not {rope!r}.")
        usual = {kind: {"rope_type": "default", "rope_theta": theta or THETAS[kind],
                        "partial_rotary_factor": PARTS[kind]} for kind in THETAS}  # fmt: skip
        entries["rope_parameters"] = {kind: {**own, **rope.get(kind, {})} for kind, own in usual.items()}
        if "per_layer_config" in entries and entries["per_layer_config"] is None:
            entries["per_layer_config"] = {}  # null says that layers do not differ, no entry that they do as usual
        image = entries.pop("image_token_id", 6)
        known = {"placeholder_token_ids": {"image_token_id": image}} if isinstance(image, int) else {}
        return {**known, **entries}

    def check(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads or FULL not in self.kinds:
            raise UnsupportedConfig("num_key_value_heads must divide num_attention_heads, and a layer must see all.")
        for number, sizes in (self.per_layer_config or {}).items():
            if set(sizes) - {"sliding_window"}:
                raise UnsupportedConfig(f"per_layer_config changes {sorted(sizes)} of layer {number}.")
        if self.per_layer_config is None:
            return
        bounded = [i for i, kind in enumerate(self.kinds) if kind == FULL and self._own_window(i) is not None]
        if bounded:  # the reference's implementations of attention disagree about such layers
            raise UnsupportedConfig(
                f'per_layer_config must say {{"sliding_window": null}} for each {FULL} layer, also for {bounded}.'
            )

    def _own_window(self, i: int) -> int | None:
        """Return the window that `per_layer_config` gives layer i, or the window of all."""
        own = {int(number): sizes for number, sizes in (self.per_layer_config or {}).items()}
        return own.get(i, {}).get("sliding_window", self.sliding_window)

    @property
    def kinds(self) -> list[str]:
        last = self.num_hidden_layers - 1
        usual = [FULL if (i + 1) % 6 == 0 or i == last else SLIDING for i in range(self.num_hidden_layers)]
        return layer_kinds(self, usual)

    @property
    def windows(self) -> list[int | None]:
        """Window of each layer on both sides, in tokens; None for all."""
        local = [i for i, kind in enumerate(self.kinds) if kind == SLIDING]
        long = local[1::2] if self.per_layer_config is None else []
        return [(LONG if i in long else self._own_window(i)) if i in local else None
                for i in range(self.num_hidden_layers)]  # fmt: skip


def build(config: NeoMMEConfig) -> Stack:
    wide, kinds, windows = config.hidden_size, config.kinds, config.windows
    positions = {
        kind: rotary(config.head_dim, rope, config.max_position_embeddings)
        for kind, rope in config.rope_parameters.items()
    }
    whole = [i for i, kind in enumerate(kinds) if kind == FULL]
    scale = config.residual_multiplier or (2 * config.num_hidden_layers) ** -0.5

    def layer(i: int) -> ExclusiveLayer:
        window = windows[i]
        attention = ExclusiveAttention(
            wide,
            config.num_attention_heads,
            embedded=i in (whole[0], whole[-1]),
            key_heads=config.num_key_value_heads,
            head_width=config.head_dim,
            bias=config.attention_bias,
            positions=positions[kinds[i]],
            window=None if window is None else window + 1,
            q_norm=PlainRMSNorm(config.head_dim, config.norm_eps),
            k_norm=PlainRMSNorm(config.head_dim, config.norm_eps),
            dropout=config.attention_dropout,
        )
        ffn = FeedForward(wide, config.intermediate_size, config.hidden_act, bias=config.mlp_bias)
        return ExclusiveLayer(
            MixedResidual(attention, before=PlainRMSNorm(wide, config.norm_eps), scale=scale),
            Residual(ffn, before=PlainRMSNorm(wide, config.norm_eps), scale=scale),
        )

    embed = ValueEmbeddings(
        Embedding(config.vocab_size, config.embedding_rank),
        Embedding(config.vocab_size, config.num_key_value_heads * config.head_dim),
        widen=Linear(config.embedding_rank, wide, bias=False),
        norm=PlainRMSNorm(wide, config.norm_eps),
    )
    return Stack(embed, [layer(i) for i in range(config.num_hidden_layers)], PlainRMSNorm(wide, config.norm_eps))


def keys(config: NeoMMEConfig) -> KeyMap:
    ours, theirs = "layers.*.attention.step", "layers.*.self_attn"
    rows: Rows = {
        "embed.token": "embed_tokens.word_embeddings",
        "embed.widen": "embed_tokens.embedding_projection",
        "embed.values": "value_embeddings",
        **{f"{ours}.{part}": f"{theirs}.{part}_proj" for part in "qkv"},
        f"{ours}.share": f"{theirs}.exclusive_self_attention.alpha",
        f"{ours}.gate": f"{theirs}.output_projection.gate_proj",
        f"{ours}.out": f"{theirs}.output_projection.o_proj",
        "layers.*.attention.shares": "layers.*.lambdas",
        "layers.*.ffn.step.up": "layers.*.mlp.up_proj",
        "layers.*.ffn.step.down": "layers.*.mlp.down_proj",
    }
    copies = (r"^(lm_head|unembedding_projection)\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "model.", ignored=(r"(^|\.)patch_embeddings\.", r"^multi_vector_head\.", *copies))


def word_head(config: NeoMMEConfig, backbone: Stack) -> Head:
    widen: Any = backbone.embed.widen
    if config.tie_word_embeddings:
        return Head(LanguageModel(backbone.embed.token, transform=Narrowing(widen)))
    narrow = Narrowing(Linear(config.embedding_rank, config.hidden_size, bias=False))
    table: nn.Module = Linear(config.embedding_rank, config.vocab_size, bias=False)
    return Head(
        LanguageModel(table, transform=narrow),
        {"table": "/lm_head", "transform.linear": "/unembedding_projection"},
    )


@dataclass
class RetrievalOutput(Output):
    """Unit vectors of tokens (batch, length, embedding_dim), zero at padding, and of texts (batch, width)."""

    embeddings: Tensor | None = None
    dense_embeddings: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class Retriever(nn.Module):
    """Unit vectors of tokens, for scores by late interaction, and of whole texts."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.proj = Linear(width, out, bias=False)

    def forward(self, hidden: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor, Tensor]:
        # (tokens, out), (sequences, width), (tokens, width)
        return normalize(self.proj(hidden), dim=-1), normalize(average(hidden, context), dim=-1), hidden


def vectors(raw: Any, layout: Layout, labels: Mapping[str, Tensor], config: Config) -> dict[str, Any]:
    tokens, texts, hidden = raw
    return {
        "embeddings": layout.unpack(tokens),
        "dense_embeddings": texts,
        "last_hidden_state": layout.unpack(hidden),
    }


def retrieve(config: NeoMMEConfig, backbone: Stack) -> Head:
    return Head(Retriever(config.hidden_size, config.embedding_dim), {"proj": "/multi_vector_head.proj"})


ARCHITECTURE = Architecture(
    "NeoMME",
    NeoMMEConfig,
    build,
    keys,
    heads={"Model": None, "ForMaskedLM": word_head, "ForRetrieval": retrieve},
    head_types={"ForRetrieval": HeadType("", RetrievalOutput, vectors, labels=())},
)
