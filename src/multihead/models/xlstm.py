"""xLSTM with matrix memories alone (xLSTM 7B, Beck et al., 2025, arXiv:2503.13427)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Source
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import MixerLayer, Residual
from ..nn.matrix_lstm import MatrixLSTM
from ..nn.norms import RMSNorm
from ..nn.stack import Stack
from . import llama
from .common.architecture import Architecture

SAME = (("embedding_dim", "hidden_size"), ("num_blocks", "num_hidden_layers"))  # two names of one size


@dataclass(kw_only=True)
class xLSTMConfig(Config):
    model_type = "xlstm"
    inert: ClassVar[tuple[str, ...]] = (
        *("chunkwise_kernel", "sequence_kernel", "step_kernel", "chunk_size", "max_inference_chunksize"),
        *("mode", "return_last_states", "autocast_kernel_dtype", "add_out_norm", "force_bos_token_insert"),
    )

    vocab_size: Size = 50304
    hidden_size: Size = 4096
    num_hidden_layers: Count = 32
    num_heads: Size = 8
    use_bias: Literal[False] = False
    norm_reduction_force_float32: Literal[True] = True
    norm_eps: float = 1e-6
    qk_dim_factor: float = 0.5
    v_dim_factor: float = 1.0
    eps: float = 1e-6
    inference_state_dtype: Literal["float32"] = "float32"
    ffn_proj_factor: float = 2.667
    ffn_round_up_to_multiple_of: Size = 64
    gate_soft_cap: float = 15.0
    output_logit_soft_cap: float = 30.0
    weight_mode: Literal["single"] = "single"  # the reference cannot make a fused model
    initializer_range: float = 0.02
    tie_word_embeddings: Literal[False] = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Merge two names of the width and of the number of layers."""
        entries = dict(entries)
        for other, usual in SAME:
            given = entries.pop(other, None)
            if given is not None and entries.setdefault(usual, given) != given:
                raise UnsupportedConfig(f"{other} = {given} is not {usual} = {entries[usual]}.")
        return entries

    def check(self) -> None:
        for name, size in (("qk_dim_factor", self.keys), ("v_dim_factor", self.values)):
            if size < 1 or size % self.num_heads:
                raise UnsupportedConfig(f"{name}: {size} channels cannot be shared by {self.num_heads} heads evenly.")

    @property
    def keys(self) -> int:
        return int(self.hidden_size * self.qk_dim_factor)

    @property
    def values(self) -> int:
        return int(self.hidden_size * self.v_dim_factor)

    @property
    def inner(self) -> int:
        """Width of the feed-forward, rounded up."""
        each = self.ffn_round_up_to_multiple_of
        return int((self.hidden_size * self.ffn_proj_factor + each - 1) // each * each)


def norm(config: xLSTMConfig) -> RMSNorm:
    return RMSNorm(config.hidden_size, config.norm_eps)


def build(config: xLSTMConfig) -> Stack:
    width = config.hidden_size

    def layer(_: int) -> MixerLayer:
        numbers = {"cap": config.gate_soft_cap, "norm_eps": config.norm_eps, "eps": config.eps}
        mixer = MatrixLSTM(width, config.num_heads, config.keys, config.values, **numbers)
        ffn = GatedFeedForward(width, config.inner, "silu")
        return MixerLayer(Residual(mixer, before=norm(config)), Residual(ffn, before=norm(config)))

    return llama.decoder(config, layer, norm)


def keys(config: xLSTMConfig) -> KeyMap:
    mixer, lstm = "layers.*.mixer.step", "blocks.*.mlstm_layer"
    rows: dict[str, str | Source] = {
        "embed.token": "embeddings",
        "layers.*.mixer.before": "blocks.*.norm_mlstm",
        "layers.*.ffn.before": "blocks.*.norm_ffn",
        "layers.*.ffn.step.down": "blocks.*.ffn.proj_down",
        **{f"layers.*.ffn.step.{n}": f"blocks.*.ffn.proj_{t}" for n, t in (("gate", "up_gate"), ("up", "up"))},
        **{f"{mixer}.{n}": f"{lstm}.{n}" for n in ("q", "k", "v")},
        **{f"{mixer}.{n}": f"{lstm}.{t}gate_preact" for n, t in (("enter", "i"), ("forget", "f"))},
        f"{mixer}.gate": f"{lstm}.ogate_preact",
        f"{mixer}.out": f"{lstm}.out_proj",
        f"{mixer}.norm.weight": Shaped(
            f"{lstm}.multihead_norm.weight", (config.num_heads, config.values // config.num_heads), (config.values,)
        ),
        "norm": "out_norm",
    }
    return KeyMap(rows, "backbone.")


def generate(config: xLSTMConfig, backbone: Stack) -> Head:
    return llama.generate(config, backbone, softcap=config.output_logit_soft_cap)


ARCHITECTURE = Architecture(
    "xLSTM",
    xLSTMConfig,
    build,
    keys,
    heads={"Model": None, "ForCausalLM": generate},
    memory_names=("cache_params", "use_cache"),
    reads_positions=False,
)
