"""The language model of Dots 3 Note (rednote, 2026): latent attention, by an index or in a window with other sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import ByLayer, Interleaved, Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.latent import HeadGatedLatentAttention
from ..nn.experts import SharedExpert
from ..nn.layer import Layer
from ..nn.norms import RMSNorm
from ..nn.positions import rotary
from ..nn.stack import Stack
from . import deepseek, deepseek_sparse, llama
from .common.experts import gated, routed
from .common.later_words import without_mtp
from .common.patterns import FULL, SLIDING, layer_kinds

INDEXED = "indexed_attention"
KINDS = (FULL, SLIDING, INDEXED)
WINDOWED = {  # sizes of layers with a window, where a file names none
    "num_attention_heads": 64, "num_key_value_heads": 64, "q_lora_rank": 1024, "kv_lora_rank": 1024, "head_dim": 256,
    "qk_nope_head_dim": 192, "v_head_dim": 128,
}  # fmt: skip
SIZES = (*WINDOWED, "qk_rope_head_dim")  # what may differ between kinds of layers
THETA, WINDOW_THETA = 80000000.0, 50000.0


@dataclass(kw_only=True)
class Dots3NoteTextConfig(deepseek_sparse.DeepseekV32Config):
    model_type = "dots3_note_text"
    inert: ClassVar[tuple[str, ...]] = tuple(n for n in deepseek_sparse.DeepseekV32Config.inert if n != "layer_types")
    aliases: ClassVar = {"num_local_experts": "n_routed_experts"}

    vocab_size: Size = 152064
    hidden_size: Size = 5120
    intermediate_size: Size = 13824
    num_hidden_layers: Count = 46
    moe_intermediate_size: Size = 1536
    shared_experts_intermediate_size: Size = 1536
    routed_scaling_factor: float = 1.0
    q_lora_rank: Size = 1024
    n_group: Size = 1
    topk_group: Size = 1
    first_k_dense_replace: int = 1
    moe_layer_freq: int | list[int] = 1  # type: ignore[assignment]
    max_position_embeddings: Size = 524288
    rms_norm_eps: float = 1e-5
    head_dim: Size = 256
    rope_parameters: dict[str, Any] = field(default_factory=dict)
    layer_types: list[str] | None = None
    per_layer_config: dict[Any, Any] | None = None
    sliding_window: Size = 512
    pad_token_id: int | None = 151659
    bos_token_id: int | None = 151643
    eos_token_id: int | list[int] | None = 151668

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the authors' entries: `use_dsa`, `use_sliding_window`, `swa_…`, a rotary base of each kind of layer."""
        entries = {**entries, "rope_parameters": ropes(entries)}
        entries = {name: value for name, value in entries.items() if name not in BASES}
        for name, older in OLDER.items():
            value = entries.pop(older, None)
            if value is not None and (entries.get(name) is None or name != "sliding_window"):
                entries[name] = value
        count, own = entries.get("num_hidden_layers", cls.num_hidden_layers), "per_layer_config" in entries
        by_index, slides = entries.pop("use_dsa", None if own else True), entries.pop("use_sliding_window", True)
        window = {name: entries.pop(f"swa_{name}", usual) for name, usual in WINDOWED.items()}
        rest = window["head_dim"] - window["qk_nope_head_dim"]
        window["qk_rope_head_dim"] = entries.pop("swa_qk_rope_head_dim", rest)
        kinds = entries.get("layer_types")
        if kinds is None:
            whole = FULL if by_index is False else INDEXED
            kinds = [whole if not slides or i < 2 or i % 4 == 1 else SLIDING for i in range(count)]
        if by_index is not None:
            old, new = (FULL, INDEXED) if by_index else (INDEXED, FULL)
            kinds = [new if kind == old else kind for kind in kinds]
        usual = {str(i): window for i, kind in enumerate(kinds) if kind == SLIDING}
        return {"per_layer_config": usual, **entries, "layer_types": kinds}

    def __post_init__(self) -> None:
        if self.per_layer_config is None:  # as it is without a file
            made = self.normalized({"num_hidden_layers": self.num_hidden_layers, "layer_types": self.layer_types})
            self.per_layer_config, self.layer_types = made["per_layer_config"], made["layer_types"]
        known = self.rope_parameters or ropes({})
        self.rope_parameters = {kind: known.get(kind, ropes({}).get(kind)) for kind in dict.fromkeys(self.kinds)}
        super().__post_init__()

    def check(self) -> None:
        super().check()
        layer_kinds(self, (), KINDS)
        if self.n_routed_experts // self.n_group < 2:
            raise UnsupportedConfig("A group counts by its best two experts, so that it must have two.")
        for kind in dict.fromkeys(self.kinds):
            own = self.of(kind)
            if own.num_key_value_heads != own.num_attention_heads:
                raise UnsupportedConfig(f"num_key_value_heads of {kind} must be num_attention_heads.")
            if kind == SLIDING and own.head_dim != own.qk_nope_head_dim + own.qk_rope_head_dim:
                raise UnsupportedConfig(f"head_dim of {kind} is not the sum of its two parts.")

    @property
    def kinds(self) -> list[str]:
        return self.layer_types or []

    def of(self, kind: str) -> Dots3NoteTextConfig:
        """Return the config of a model whose layers are all of one kind. Raises UnsupportedConfig if they differ."""
        by_layer = {int(number): sizes for number, sizes in (self.per_layer_config or {}).items()}
        if not by_layer:
            return self
        found = [by_layer.get(i, {}) for i, other in enumerate(self.kinds) if other == kind]
        known = set(found[0]) <= {*SIZES} and None not in found[0].values()
        if any(sizes != found[0] for sizes in found) or not known:
            raise UnsupportedConfig(
                f"per_layer_config may give all {kind} layers the same {', '.join(SIZES)}, not {found[0]}."
            )
        return self.changed(**found[0], per_layer_config={}, layer_types=[kind] * self.num_hidden_layers)


OLDER = {  # name of an entry -> the authors'
    "shared_experts_intermediate_size": "moe_shared_expert_intermediate_size",
    "sliding_window": "sliding_window_size",
}
BASES = ("rope_theta", "swa_rope_theta", "rope_scaling")


def ropes(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return rotary parameters of each kind of layer. Raises UnsupportedConfig for a `rope_scaling`."""
    known, theta = entries.get("rope_parameters") or {}, entries.get("rope_theta") or THETA
    if entries.get("rope_scaling"):
        raise UnsupportedConfig("rope_scaling is not computed; rope_parameters must scale each kind of layer.")
    if not known:
        bases = dict.fromkeys(KINDS, theta) | {SLIDING: entries.get("swa_rope_theta") or WINDOW_THETA}
        return {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()}
    if not any(isinstance(rope, Mapping) for rope in known.values()):
        known = dict.fromkeys(KINDS, known)  # numbers for all layers
    # What part of a head is turned follows from its sizes.
    parts = {kind: {k: v for k, v in rope.items() if k != "partial_rotary_factor"} for kind, rope in known.items()}
    return {kind: {"rope_type": "default", "rope_theta": theta, **rope} for kind, rope in parts.items()}


def dense_layers(config: Dots3NoteTextConfig) -> list[bool]:
    """Return for each layer whether it has no experts."""
    if config.mlp_layer_types is not None:
        return deepseek.dense_layers(config)
    every, layers = config.moe_layer_freq, range(config.num_hidden_layers)
    sparse = [bool(every[i]) if isinstance(every, list) else i % every == 0 for i in layers]
    return [i < config.first_k_dense_replace or not sparse[i] for i in layers]


def experts(config: Dots3NoteTextConfig) -> SharedExpert:
    shared = gated(config, config.shared_experts_intermediate_size * config.n_shared_experts)
    return SharedExpert(routed(config, config.n_routed_experts, deepseek.rule3(config), wide=True), shared)


def build(config: Dots3NoteTextConfig) -> Stack:
    dense, wide, eps = dense_layers(config), config.hidden_size, config.rms_norm_eps
    configs = {kind: config.of(kind) for kind in dict.fromkeys(config.kinds)}
    positions = {
        kind: rotary(own.qk_rope_head_dim, config.rope_parameters[kind], config.max_position_embeddings)
        for kind, own in configs.items()
    }

    def layer(i: int) -> Layer:
        kind = config.kinds[i]
        own, turns = configs[kind], positions[kind]
        attention = deepseek.attention(
            own,
            turns,
            # The scale of the queries' low-rank factor is one of the scores; the index ranks keys as without it.
            (wide / own.q_lora_rank / (own.qk_nope_head_dim + own.qk_rope_head_dim)) ** 0.5,
            HeadGatedLatentAttention,
            selection=deepseek_sparse.selection(own, turns, i, ["full"] * (i + 1)) if kind == INDEXED else None,
            latent_scale=(wide / own.kv_lora_rank) ** 0.5,
            key_norm=RMSNorm(own.qk_rope_head_dim, eps),
            norm_eps=eps,
            window=config.sliding_window if kind == SLIDING else None,
        )
        ffn: nn.Module = llama.feed_forward(config) if dense[i] else experts(config)
        return llama.layer(config, attention, ffn)

    return llama.decoder(config, layer)


def rows_of(config: Dots3NoteTextConfig) -> dict[str, Any]:
    """Return the rows of a model whose layers are of one kind."""
    ours, theirs, turned = "layers.*.attention.step", "layers.*.self_attn", config.qk_rope_head_dim
    index = {"q": ("wq_b", config.index_n_heads), "k": ("wk", 1), "norm": ("k_norm", 1)}
    return {
        **deepseek.keys(config).rows,
        **{
            f"{ours}.selection.{part}": Interleaved(f"{theirs}.indexer.{name}", heads, rotated=turned)
            for part, (name, heads) in index.items()
        },
        f"{ours}.selection.weights": f"{theirs}.indexer.weights_proj",
        f"{ours}.key_norm": Interleaved(f"{theirs}.k_rope_only_layernorm", 1),
        f"{ours}.head_gate": f"{theirs}.g_proj",
    }


def keys(config: Dots3NoteTextConfig) -> KeyMap:
    tables = {kind: rows_of(config.of(kind)) for kind in dict.fromkeys(config.kinds)}
    rows = dict(deepseek.keys(config).rows)
    for ours in {name for table in tables.values() for name in table}:
        each = [tables[kind][ours] for kind in config.kinds]
        rows[ours] = ByLayer(each[0].key, tuple(each)) if isinstance(each[0], Source) else each[0]
    return without_mtp(replace(deepseek.keys(config), rows=rows))


ARCHITECTURE = replace(deepseek_sparse.V32, name="Dots3NoteText", config=Dots3NoteTextConfig, build=build, keys=keys)
