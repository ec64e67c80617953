"""Zamba (Glorioso et al., 2024, arXiv:2405.16712) and Zamba 2 (arXiv:2411.15242): state spaces and a shared block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Interleaved, Part, Shaped, Source
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import MixerLayer, Residual
from ..nn.norms import RMSNorm
from ..nn.positions import Positions
from ..nn.shared_block import Adapted, Adapter, KeptEmbeddings, SharedBlock, SharedBlockLayer
from ..nn.stack import Stack
from ..nn.state_space import GatedNorm, HeadedMamba, Mamba2
from ..nn.weights import Embedding, Linear
from . import llama, mamba
from .common.architecture import equal_tensors
from .common.patterns import LINEAR, layer_kinds, rope_entries, rotary_of

HYBRID = "hybrid"


@dataclass(kw_only=True)
class ZambaConfig(Config):
    model_type = "zamba"
    inert: ClassVar[tuple[str, ...]] = (
        *mamba.INITIAL.split(),
        *("use_mamba_kernels", "num_logits_to_keep"),
    )
    aliases: ClassVar[dict[str, str]] = {"layer_types": "layers_block_type", "head_dim": "attention_head_dim"}

    vocab_size: Size = 32000
    hidden_size: Size = 3712
    attention_hidden_size: Size | None = None
    intermediate_size: Size | None = 14848
    num_hidden_layers: Count = 76
    layers_block_type: list[str] | None = None
    attn_layer_period: Size = 6
    attn_layer_offset: int = 4
    num_attention_heads: Size = 16
    attention_head_dim: Size | None = None
    num_key_value_heads: Size | None = 16
    n_mamba_heads: Size = 2
    hidden_act: str = "gelu"
    hidden_mamba_act: str = "silu"
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-5
    max_position_embeddings: Size = 4096
    attention_dropout: float = 0.0
    mamba_d_state: Size = 16
    mamba_d_conv: Size = 4
    mamba_expand: Size = 2
    mamba_dt_rank: Size | None = None
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Replace `auto` by what follows from the width."""
        return {**entries, "mamba_dt_rank": None} if entries.get("mamba_dt_rank") == "auto" else entries

    def check(self) -> None:
        layer_kinds(self, self.usual, (LINEAR, HYBRID))
        if self.inner % self.n_mamba_heads:
            raise UnsupportedConfig(f"{self.n_mamba_heads} heads cannot share {self.inner} channels evenly.")
        if self.attention_hidden_size not in (None, 2 * self.hidden_size):
            raise UnsupportedConfig(
                f"attention_hidden_size is {self.attention_hidden_size}; states and embeddings together are "
                f"{2 * self.hidden_size} wide."
            )

    @property
    def usual(self) -> list[str]:
        """Kinds of layers where the config names none."""
        rest = range(self.num_hidden_layers - 3)
        period, offset = self.attn_layer_period, self.attn_layer_offset
        return [LINEAR, LINEAR, HYBRID, *(HYBRID if i % period == offset else LINEAR for i in rest)]

    @property
    def hybrids(self) -> list[int]:
        """Layers with a shared block."""
        kinds = layer_kinds(self, self.usual, (LINEAR, HYBRID))
        return [i for i, kind in enumerate(kinds) if kind == HYBRID]

    @property
    def head_width(self) -> int:
        return self.attention_head_dim or 2 * self.hidden_size // self.num_attention_heads

    @property
    def inner(self) -> int:
        return self.mamba_expand * self.hidden_size

    @property
    def wide(self) -> int:
        return self.intermediate_size or 4 * self.hidden_size


@dataclass(kw_only=True)
class Zamba2Config(ZambaConfig):
    model_type = "zamba2"
    inert: ClassVar[tuple[str, ...]] = (
        *ZambaConfig.inert,
        *("use_conv_bias", "chunk_size", "use_mem_eff_path", "use_long_context", "mamba_headdim", "kv_channels"),
        *("num_query_groups", "hybrid_layer_ids", "ffn_hidden_size", "time_step_limit"),
    )
    time_step_min: float = 0.001

    hidden_size: Size = 2560
    intermediate_size: Size | None = None
    num_hidden_layers: Count = 54
    num_attention_heads: Size = 32
    num_key_value_heads: Size | None = None
    n_mamba_heads: Size = 8
    hidden_mamba_act: Literal["silu"] = "silu"
    mamba_d_state: Size = 64
    mamba_ngroups: Size = 1
    add_bias_linear: bool = False
    num_mem_blocks: Size = 1
    use_shared_attention_adapter: bool = False
    adapter_rank: Size = 128
    use_mem_rope: bool = False
    rope_parameters: dict[str, Any] = field(default_factory=lambda: {"rope_type": "default", "rope_theta": 10000.0})

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read older rotary entries; the width of an attention head follows from the others, whatever a file says."""
        entries = rope_entries(super().normalized(entries), theta=10000.0)
        return {**entries, "attention_head_dim": None}

    def check(self) -> None:
        super().check()
        if self.use_shared_attention_adapter and self.num_key_value_heads not in (None, self.num_attention_heads):
            raise UnsupportedConfig("Adapters of shared attention are computed for as many key heads as heads.")

    @property
    def usual(self) -> list[str]:
        sixth = [*[LINEAR] * 5, HYBRID]
        return [LINEAR, *sixth * 7, *[LINEAR] * 4, HYBRID, *[LINEAR] * 3, HYBRID, LINEAR, LINEAR]


def attention(config: Any, positions: Positions | None = None) -> Attention:
    heads, width = config.num_attention_heads, config.head_width
    return Attention(
        2 * config.hidden_size,
        heads,
        head_width=width,
        key_heads=config.num_key_value_heads,
        bias=False,
        positions=positions,
        causal=True,
        scale=(width / 2) ** -0.5,
        dropout=config.attention_dropout,
        projections={"out": Linear(heads * width, config.hidden_size, bias=False)},
    )


def feed_forward(config: Any, bias: bool = False) -> GatedFeedForward:
    return GatedFeedForward(config.hidden_size, config.wide, config.hidden_act, bias=bias)


def block(config: Any, positions: Positions | None = None, bias: bool = False) -> SharedBlock:
    before = RMSNorm(2 * config.hidden_size, config.rms_norm_eps)
    return SharedBlock(attention(config, positions), feed_forward(config, bias), before, llama.norm(config))


def adapted(config: Zamba2Config, shared: SharedBlock, number: int) -> tuple[Attention, GatedFeedForward]:
    """Return a block's attention and feed-forward with the adapters of the `number`-th layer that has a block."""
    wide, both, rank = config.wide, 2 * config.hidden_size, config.adapter_rank
    mixed, ffn = attention(config, shared.attention.positions), feed_forward(config)
    mixed.q, mixed.k, mixed.v, mixed.out = (getattr(shared.attention, name) for name in ("q", "k", "v", "out"))
    if config.use_shared_attention_adapter:
        for name in ("q", "k", "v"):
            one = Adapter(both, rank, {name: both})
            shared.add(name, number, one)
            setattr(mixed, name, Adapted(getattr(shared.attention, name), one, name))
    more = Adapter(config.hidden_size, rank, {"gate": wide, "up": wide})
    shared.add("ffn", number, more)
    for name in ("gate", "up"):
        setattr(ffn, name, Adapted(getattr(shared.ffn, name), more, name))
    ffn.down = shared.ffn.down
    return mixed, ffn


def mixer(config: ZambaConfig) -> HeadedMamba:
    return HeadedMamba(
        config.hidden_size,
        config.inner,
        config.mamba_d_state,
        config.mamba_dt_rank or math.ceil(config.hidden_size / 16),
        heads=config.n_mamba_heads,
        kernel=config.mamba_d_conv,
        act=config.hidden_mamba_act,
        bias=config.mamba_proj_bias,
        conv_bias=config.mamba_conv_bias,
    )


def mixer2(config: Zamba2Config) -> Mamba2:
    return Mamba2(
        config.hidden_size,
        config.n_mamba_heads,
        config.inner // config.n_mamba_heads,
        config.mamba_d_state,
        config.mamba_ngroups,
        kernel=config.mamba_d_conv,
        gate=GatedNorm(config.inner, config.mamba_ngroups, 1e-5),
        bias=config.add_bias_linear,
        out_bias=config.add_bias_linear,
        limits=(config.time_step_min, math.inf),
    )


def shared_blocks(config: Any) -> int:
    """Return the number of blocks; each layer has its own where words are not tied, as the reference reads files."""
    layers = len(config.hybrids)
    return min(layers, getattr(config, "num_mem_blocks", 1)) if config.tie_word_embeddings else layers


def build(config: Any) -> Stack:
    """Build a stack of state spaces; every so many layers, one of a few shared blocks stands before one."""
    second, hybrids = isinstance(config, Zamba2Config), config.hybrids
    positions = rotary_of(config, config.head_width) if second and config.use_mem_rope else None
    count = shared_blocks(config)
    blocks = [block(config, positions, second and config.add_bias_linear) for _ in range(count)]

    def layer(i: int) -> nn.Module:
        own = mixer2(config) if second else mixer(config)
        if i not in hybrids:
            return MixerLayer(Residual(own, before=llama.norm(config)))
        number = hybrids.index(i)
        shared = blocks[number % count]
        mix, ffn = adapted(config, shared, number) if second else (shared.attention, shared.ffn)
        joint = Linear(config.hidden_size, config.hidden_size, bias=False)
        return SharedBlockLayer(shared, mix, ffn, joint, llama.norm(config), own)

    words = KeptEmbeddings(Embedding(config.vocab_size, config.hidden_size))
    return Stack(words, [layer(i) for i in range(config.num_hidden_layers)], llama.norm(config))


def mixer_rows(config: ZambaConfig, ours: str, theirs: str) -> Rows:
    """Return the key map rows of a mixer with heads, whose inputs and gates are stored in turns."""
    heads, inner, states = config.n_mamba_heads, config.inner, config.mamba_d_state
    width = inner // heads
    own: dict[str, str | Source] = {
        f"{ours}.into": Interleaved(f"{theirs}.in_proj", 1),
        f"{ours}.select": f"{theirs}.x_proj_weight",
        f"{ours}.step": f"{theirs}.dt_proj_weight",
        f"{ours}.step_bias": Shaped(f"{theirs}.dt_proj_bias", (inner,), (heads, width)),
        f"{ours}.decay": Shaped(f"{theirs}.A_log", (inner, states), (heads, width, states)),
        f"{ours}.skip": Shaped(f"{theirs}.D", (inner,), (heads, width)),
    }
    return {**mamba.rows(inner, config.mamba_d_conv, ours, theirs), **own}


def keys(config: Any) -> KeyMap:
    second = isinstance(config, Zamba2Config)
    ours, theirs = "layers.*.block", f"layers.*.{'shared_transformer' if second else 'shared_transf'}"
    rows: dict[str, Any] = {
        "embed.token": "embed_tokens",
        "norm": "final_layernorm",
        "layers.*.mixer.before": "layers.*.input_layernorm",
        "layers.*.before": "layers.*.mamba_decoder.input_layernorm",
        "layers.*.joint": "layers.*.linear",
        f"{ours}.before": f"{theirs}.input_layernorm",
        f"{ours}.between": f"{theirs}.pre_ff_layernorm",
        **{f"{ours}.attention.{n}": f"{theirs}.self_attn.{n}_proj" for n in ("q", "k", "v")},
        f"{ours}.attention.out": f"{theirs}.self_attn.o_proj",
        **{f"{ours}.ffn.{n}": f"{theirs}.feed_forward.{n}_proj" for n in ("gate", "up", "down")},
    }
    halves = (config.wide, config.wide)
    for name in ("q", "k", "v") if second else ():
        stem = f"{theirs}.self_attn.linear_{name}_adapter_list.*"
        rows |= {f"{ours}.adapters.{name}.*.down": f"{stem}.0", f"{ours}.adapters.{name}.*.out.{name}": f"{stem}.1"}
    if second:
        stem = f"{theirs}.feed_forward.gate_up_proj"
        rows[f"{ours}.adapters.ffn.*.down"] = f"{stem}_adapter_list.*.0"
        for i, name in enumerate(("gate", "up")):
            rows[f"{ours}.ffn.{name}"] = Part(stem, halves, i)
            rows[f"{ours}.adapters.ffn.*.out.{name}"] = Part(f"{stem}_adapter_list.*.1", halves, i)
    for path, stored in (("mixer.step", "mamba"), ("mixer", "mamba_decoder.mamba")):
        if second:
            channels = config.inner + 2 * config.mamba_ngroups * config.mamba_d_state
            more: Rows = mamba.rows2(config, channels, config.mamba_d_conv, f"layers.*.{path}", f"layers.*.{stored}")
        else:
            more = mixer_rows(config, f"layers.*.{path}", f"layers.*.{stored}")
        rows |= {ours: row for ours, row in more.items() if ours not in rows}
    copies = (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()
    layers, count = config.hybrids, shared_blocks(config)
    unread = [rf"(^|\.)layers\.{layer}\.shared_transf" for layer in layers[count:]]
    if second and not config.tie_word_embeddings:  # a layer's block has the adapters of all
        unread += [rf"(^|\.)layers\.{layer}\..*adapter_list\.(?!{i}\.)" for i, layer in enumerate(layers)]
    return KeyMap(rows, "model.", ignored=(*copies, *unread))


class WithCopies(Mapping[str, Tensor]):
    """Stored tensors, and copies of some under further names; a copy is made when it is read.

    Args:
        names: further name -> stored name.
    """

    def __init__(self, stored: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        self._stored, self._names = stored, names

    def __getitem__(self, name: str) -> Tensor:
        return self._stored[self._names[name]].clone() if name in self._names else self._stored[name]

    def __iter__(self) -> Iterator[str]:
        return chain(self._stored, self._names)

    def __len__(self) -> int:
        return len(self._stored) + len(self._names)


def copies_of_blocks(config: Any, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the tensors with those of a shared block at each of its layers, where a file has them at one.

    Raises:
        UnsupportedConfig: layers that share a block have copies with other numbers.
    """
    hybrids, blocks = config.hybrids, getattr(config, "num_mem_blocks", 1)
    copies: dict[tuple[str, int, str], list[str]] = {}
    for name in stored:
        stem, _, rest = name.partition(".shared_transf")
        before, _, number = stem.rpartition("layers.")
        if rest and int(number) in hybrids:
            copies.setdefault((before, hybrids.index(int(number)) % blocks, rest), []).append(name)
    missing: dict[str, str] = {}
    for (before, block, rest), names in copies.items():
        one = stored[names[0]]
        if config.tie_word_embeddings and not all(equal_tensors(one, stored[name]) for name in names[1:]):
            raise UnsupportedConfig(f"{', '.join(names)} differ, and the layers' block is shared here.")
        every = (f"{before}layers.{layer}.shared_transf{rest}" for layer in hybrids[block::blocks])
        missing |= {name: names[0] for name in every if name not in stored}
    return WithCopies(stored, missing)


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM", "ForSequenceClassification")}
ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Zamba", ZambaConfig, build, keys=keys, heads=HEADS, view_tensors=copies_of_blocks
)
ZAMBA2 = replace(ARCHITECTURE, name="Zamba2", config=Zamba2Config)
