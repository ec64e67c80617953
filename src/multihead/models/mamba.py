"""Mamba (Gu and Dao, 2023, arXiv:2312.00752), Falcon Mamba (arXiv:2410.05355), Mamba 2 (arXiv:2405.21060)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Chained, Shaped, Source
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..nn.embeddings import Embeddings
from ..nn.layer import MixerLayer, Residual, WideResidual
from ..nn.norms import NarrowRMSNorm, PlainRMSNorm
from ..nn.stack import Stack
from ..nn.state_space import GatedNorm, Mamba, Mamba2
from ..nn.weights import Embedding
from . import llama
from .common import gguf
from .common.architecture import Architecture

INITIAL = (  # how fresh weights are drawn, which is done in one way here
    "time_step_scale time_step_min time_step_max time_step_init_scheme time_step_floor rescale_prenorm_residual "
    "use_mambapy use_associative_scan"
)


@dataclass(kw_only=True)
class MambaConfig(Config):
    model_type = "mamba"
    inert: ClassVar[tuple[str, ...]] = (*INITIAL.split(), "d_inner", "d_model", "n_layer", "rms_norm")

    vocab_size: Size = 50280
    hidden_size: Size = 768
    state_size: Size = 16
    num_hidden_layers: Count = 32
    layer_norm_epsilon: float = 1e-5
    expand: float = 2
    intermediate_size: Size | None = None
    conv_kernel: Size = 4
    use_bias: bool = False
    use_conv_bias: bool = True
    hidden_act: str = "silu"
    initializer_range: float = 0.1
    residual_in_fp32: bool = True
    time_step_rank: Size | None = None
    pad_token_id: int | None = 0
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Replace `auto` by the value that follows from the width."""
        return {**entries, "time_step_rank": None} if entries.get("time_step_rank") == "auto" else entries

    @property
    def inner(self) -> int:
        return self.intermediate_size or int(self.expand * self.hidden_size)

    @property
    def rank(self) -> int:
        return self.time_step_rank or math.ceil(self.hidden_size / 16)


@dataclass(kw_only=True)
class FalconMambaConfig(MambaConfig):
    model_type = "falcon_mamba"
    inert: ClassVar[tuple[str, ...]] = (*MambaConfig.inert, "use_falcon_mambapy")

    mixer_rms_eps: float = 1e-6


@dataclass(kw_only=True)
class Mamba2Config(MambaConfig):
    model_type = "mamba2"
    inert: ClassVar[tuple[str, ...]] = (*INITIAL.split(), "chunk_size", "rms_norm", "norm_before_gate")

    vocab_size: Size = 32768
    hidden_size: Size = 4096
    state_size: Size = 128
    num_hidden_layers: Count = 64
    num_heads: Size = 128
    head_dim: Size = 64
    n_groups: Size = 8
    time_step_limit: list[float] | None = None
    tie_word_embeddings: bool = False
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        limit = entries.get("time_step_limit")
        entries = {**entries, "time_step_limit": list(limit)} if isinstance(limit, tuple) else entries
        return super().normalized(entries)

    def check(self) -> None:
        if self.num_heads * self.head_dim != int(self.expand * self.hidden_size):
            raise UnsupportedConfig(
                f"num_heads {self.num_heads} times head_dim {self.head_dim} is not expand {self.expand} times "
                f"hidden_size {self.hidden_size}."
            )
        if self.time_step_limit is not None and len(self.time_step_limit) != 2:
            raise UnsupportedConfig(f"time_step_limit is a lowest and a highest step, not {self.time_step_limit}.")

    @property
    def limits(self) -> tuple[float, float]:
        low, high = self.time_step_limit or (0.0, math.inf)
        return low, high


def mixer(config: MambaConfig, **options: Any) -> nn.Module:
    return Mamba(
        config.hidden_size,
        config.inner,
        config.state_size,
        config.rank,
        kernel=config.conv_kernel,
        act=config.hidden_act,
        bias=config.use_bias,
        conv_bias=config.use_conv_bias,
        **options,
    )


def falcon_mixer(config: FalconMambaConfig) -> nn.Module:
    step, vector = (PlainRMSNorm(width, config.mixer_rms_eps) for width in (config.rank, config.state_size))
    return mixer(config, norms=(step, vector, vector))


def mixer2(config: Mamba2Config) -> nn.Module:
    return Mamba2(
        config.hidden_size,
        config.num_heads,
        config.head_dim,
        config.state_size,
        config.n_groups,
        kernel=config.conv_kernel,
        gate=GatedNorm(config.num_heads * config.head_dim, config.n_groups, config.layer_norm_epsilon),
        act=config.hidden_act,
        bias=config.use_bias,
        out_bias=config.use_bias,
        conv_bias=config.use_conv_bias,
        limits=config.limits,
    )


def build(config: Any, mixer: Callable[[Any], nn.Module]) -> Stack:
    def norm() -> nn.Module:
        return NarrowRMSNorm(config.hidden_size, config.layer_norm_epsilon)

    def layer() -> MixerLayer:
        kind = WideResidual if config.residual_in_fp32 else Residual
        return MixerLayer(kind(mixer(config), before=norm()))

    embed = Embeddings(Embedding(config.vocab_size, config.hidden_size))
    return Stack(embed, [layer() for _ in range(config.num_hidden_layers)], norm(), after=True)


def rows(channels: int, kernel: int, ours: str, theirs: str) -> dict[str, str | Source]:
    """Return the key map rows that both mixers share."""
    return {
        f"{ours}.into": f"{theirs}.in_proj",
        f"{ours}.convolution.weight": Shaped(f"{theirs}.conv1d.weight", (channels, kernel), (channels, 1, kernel)),
        f"{ours}.convolution.bias": f"{theirs}.conv1d.bias",
        f"{ours}.decay": f"{theirs}.A_log",
        f"{ours}.skip": f"{theirs}.D",
        f"{ours}.out": f"{theirs}.out_proj",
    }


def table(config: MambaConfig, mixer: Mapping[str, str | Source]) -> KeyMap:
    outer = {"embed.token": "embeddings", "layers.*.mixer.before": "layers.*.norm", "norm": "norm_f"}
    copies = (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()
    renamed = ((r"\bembedding\.weight$", "embeddings.weight"),)
    return KeyMap({**outer, **mixer}, "backbone.", ignored=copies, renamed=renamed)


def keys(config: MambaConfig) -> KeyMap:
    ours, theirs = "layers.*.mixer.step", "layers.*.mixer"
    own = {f"{ours}.select": f"{theirs}.x_proj", f"{ours}.step": f"{theirs}.dt_proj"}
    return table(config, {**rows(config.inner, config.conv_kernel, ours, theirs), **own})


def rows2(config: Any, channels: int, kernel: int, ours: str, theirs: str) -> dict[str, str | Source]:
    own = {f"{ours}.gate.weight": f"{theirs}.norm.weight", f"{ours}.step": f"{theirs}.dt_bias"}
    return {**rows(channels, kernel, ours, theirs), **own}


def keys2(config: Mamba2Config) -> KeyMap:
    channels = config.num_heads * config.head_dim + 2 * config.n_groups * config.state_size
    return table(config, rows2(config, channels, config.conv_kernel, "layers.*.mixer.step", "layers.*.mixer"))


def gguf_keys(config: MambaConfig) -> KeyMap:
    """Return the key map of llama.cpp's names; it stores the decay, not its logarithm."""
    ours, inner, kernel = "layers.*.mixer.step", config.inner, config.conv_kernel
    own: dict[str, str | Source] = {
        "embed.token": "token_embd",
        "norm": "output_norm",
        "/table": "output",
        "layers.*.mixer.before": "blk.*.attn_norm",
        f"{ours}.into": "blk.*.ssm_in",
        f"{ours}.convolution.weight": Shaped("blk.*.ssm_conv1d.weight", (inner, kernel), (inner, kernel)),
        f"{ours}.convolution.bias": "blk.*.ssm_conv1d.bias",
        f"{ours}.select": "blk.*.ssm_x",
        f"{ours}.step": "blk.*.ssm_dt",
        f"{ours}.decay": gguf.Decay("blk.*.ssm_a"),
        f"{ours}.skip": "blk.*.ssm_d",
        f"{ours}.out": "blk.*.ssm_out",
    }
    copies = (r"^output\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(own, ignored=copies)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "hidden_size": "embedding_length",
        "num_hidden_layers": "block_count",
        "conv_kernel": "ssm.conv_kernel",
        "intermediate_size": "ssm.inner_size",
        "state_size": "ssm.state_size",
        "time_step_rank": "ssm.time_step_rank",
        "layer_norm_epsilon": "attention.layer_norm_rms_epsilon",
    }
    if metadata.get("mamba.ssm.dt_b_c_rms"):
        raise UnsupportedConfig("mamba.ssm.dt_b_c_rms: norms of a mixer's vectors are not computed here.")
    return {ours: metadata[f"mamba.{theirs}"] for ours, theirs in names.items() if f"mamba.{theirs}" in metadata}


ARCHITECTURE = Architecture(
    "Mamba",
    MambaConfig,
    lambda config: build(config, mixer),
    keys,
    heads={"Model": None, "ForCausalLM": llama.generate},
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
    memory_names=("cache_params", "use_cache"),
    reads_positions=False,
)
FALCON = ARCHITECTURE.derive("FalconMamba", FalconMambaConfig, lambda config: build(config, falcon_mixer))


def gguf_rows2(ours: str, kernel: int, heads: int, inner: int, groups: int, state: int) -> dict[str, str | Source]:
    """Return the key map rows of a Mamba 2 mixer at `ours`: numbers of heads are columns, the norm's weight groups."""
    channels, column, theirs = inner + 2 * groups * state, ((heads,), (heads, 1)), "blk.*.ssm_a"
    return {
        f"{ours}.into": "blk.*.ssm_in",
        f"{ours}.convolution.weight": Shaped("blk.*.ssm_conv1d.weight", (channels, kernel), (channels, kernel)),
        f"{ours}.convolution.bias": "blk.*.ssm_conv1d.bias",
        f"{ours}.step": "blk.*.ssm_dt.bias",
        f"{ours}.decay": Chained(theirs, Shaped(theirs, *column), gguf.Decay(theirs)),
        f"{ours}.skip": Shaped("blk.*.ssm_d", *column),
        f"{ours}.gate.weight": Shaped("blk.*.ssm_norm.weight", (inner,), (groups, inner // groups)),
        f"{ours}.out": "blk.*.ssm_out",
    }


def gguf_keys2(config: Mamba2Config) -> KeyMap:
    """Return the key map of llama.cpp's names for Mamba 2."""
    ours, heads = "layers.*.mixer.step", config.num_heads
    sizes = config.conv_kernel, heads, heads * config.head_dim, config.n_groups, config.state_size
    plain = gguf_keys(config)
    rows = {name: row for name, row in plain.rows.items() if name != f"{ours}.select"}
    return replace(plain, rows={**rows, **gguf_rows2(ours, *sizes)})


def gguf_sizes2(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes of a Mamba 2 mixer: kernel, channels, state, heads and groups."""
    return gguf.named(
        metadata, kernel="ssm.conv_kernel", inner="ssm.inner_size", state="ssm.state_size",
        heads="ssm.time_step_rank", groups="ssm.group_count",
    )  # fmt: skip


def gguf_config2(metadata: Mapping[str, Any]) -> dict[str, Any]:
    found = gguf.named(
        metadata, hidden_size="embedding_length", num_hidden_layers="block_count", conv_kernel="ssm.conv_kernel",
        state_size="ssm.state_size", num_heads="ssm.time_step_rank", n_groups="ssm.group_count",
        layer_norm_epsilon="attention.layer_norm_rms_epsilon", inner="ssm.inner_size",
    )  # fmt: skip
    inner = found.pop("inner")
    biased = gguf.has(metadata, "blk.0.ssm_in.bias")
    widths = {"head_dim": inner // found["num_heads"], "expand": inner / found["hidden_size"]}
    return {**found, **widths, "use_bias": biased}


MAMBA2 = ARCHITECTURE.derive(
    "Mamba2",
    Mamba2Config,
    lambda config: build(config, mixer2),
    keys=keys2,
    layouts={"gguf": gguf_keys2},
    foreign_config={"gguf": gguf_config2},
)
