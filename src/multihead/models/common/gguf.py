"""Names of tensors and of config entries that GGUF files of decoders share (ggml-org/ggml, docs/gguf.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...checkpoints.key_map import KeyMap
from ...checkpoints.tensor_sources import Interleaved, Slice, Source
from ...errors import UnsupportedConfig
from .experts import PARTS

ENTRIES: Mapping[str, str] = {  # config.json's name -> the file's, after the architecture's own
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "layer_norm_eps": "attention.layer_norm_epsilon",
    "max_position_embeddings": "context_length",
    "sliding_window": "attention.sliding_window",
    "vocab_size": "vocab_size",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}


SIGMOID = 2  # as a number of `expert_gating_func`


@dataclass(frozen=True)
class Shifted(Source):
    """A norm's weight that a file stores as the factor; ours is the factor minus 1 (Gemma)."""

    def read(self, *stored: Tensor) -> Tensor:
        return stored[0] - 1

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        return ours + 1


@dataclass(frozen=True)
class Decay(Source):
    """The decay of a state space, which a file stores as A; ours is the logarithm of -A."""

    def read(self, *stored: Tensor) -> Tensor:
        return torch.log(-stored[0])

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        return -torch.exp(ours)


@dataclass(frozen=True)
class Row(Source):
    """A matrix of one row, which some files store as a vector."""

    def read(self, *stored: Tensor) -> Tensor:
        return stored[0][None] if stored[0].ndim == 1 else stored[0]

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        return ours


def named(metadata: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """Return config.json entries of the settings that a file has: `logits_scaling="logit_scale"`."""
    kind = metadata["general.architecture"]
    return {ours: metadata[f"{kind}.{theirs}"] for ours, theirs in names.items() if f"{kind}.{theirs}" in metadata}


def tensor_names(metadata: Mapping[str, Any]) -> Collection[str]:
    """Return the names of a file's tensors, as far as its metadata comes with them (`Settings`)."""
    known: Collection[str] = getattr(metadata, "tensors", ())
    return known


def has(metadata: Mapping[str, Any], *names: str) -> bool:
    """True if a file has all these tensors, as far as its metadata comes with their names."""
    return all(name in tensor_names(metadata) for name in names)


def rotary_factor(metadata: Mapping[str, Any], width: int) -> dict[str, Any]:
    """Return the part of each head of this width that is turned, where a file tells it."""
    found = named(metadata, turned="rope.dimension_count")
    return {"partial_rotary_factor": found["turned"] / width} if found else {}


def refuse_softmax(metadata: Mapping[str, Any]) -> None:
    """Raise UnsupportedConfig for a router that is no sigmoid, in a family whose routers are."""
    kind = metadata["general.architecture"]
    found = metadata.get(f"{kind}.expert_gating_func", SIGMOID)
    if found != SIGMOID:
        raise UnsupportedConfig(f"{kind}.expert_gating_func is {found!r}; {SIGMOID} (sigmoid) is computed here.")


def entries(metadata: Mapping[str, Any], names: Iterable[str], **renamed: str) -> dict[str, Any]:
    """Return the config.json entries of these names that a file's metadata has, and its rotary settings.

    Args:
        renamed: a family's own names of ENTRIES' (`n_embd="hidden_size"`).

    Raises:
        UnsupportedConfig: a scaling of rotary positions that is not computed here.
    """
    kind = metadata["general.architecture"]
    wanted = {**{name: ENTRIES[name] for name in names}, **{own: ENTRIES[name] for own, name in renamed.items()}}
    found = {
        ours: same_for_all(metadata[f"{kind}.{theirs}"])
        for ours, theirs in wanted.items()
        if f"{kind}.{theirs}" in metadata
    }
    if found.get("sliding_window") == 0:
        found["sliding_window"] = None  # as converters write of models that see all
    return {**found, **rope_entries(metadata)}


def same_for_all(value: Any) -> Any:
    """Return the number that a list repeats for every layer; any other value as it is."""
    alike = isinstance(value, list) and value and all(item == value[0] for item in value)
    return value[0] if alike else value


def rope_entries(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `rope_theta` and `rope_scaling` that a file has."""

    def entry(name: str) -> Any:
        return metadata.get(f"{metadata['general.architecture']}.rope.{name}")

    found: dict[str, Any] = {} if entry("freq_base") is None else {"rope_theta": entry("freq_base")}
    kind, factor = entry("scaling.type"), entry("scaling.factor") or entry("scale_linear")
    if kind is None and factor not in (None, 0, 1):
        kind = "linear"  # as llama.cpp takes it
    if kind in (None, "none"):
        return found
    if kind == "longrope":  # its factors are tensors
        return {**found, "rope_scaling": {"rope_type": kind}}
    if kind not in ("linear", "yarn"):
        raise UnsupportedConfig(f"rope.scaling.type {kind!r} is not computed for GGUF files; linear and yarn are.")
    scaling = {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = entry("scaling.original_context_length")
        scaling |= {name: entry(f"scaling.yarn_{name}") for name in ("beta_fast", "beta_slow")}
    return {**found, "rope_scaling": {k: v for k, v in scaling.items() if v is not None}}


def expert_keys(ours: str, count: int) -> dict[str, str | Source]:
    """Return the key map rows of routed experts at `ours`, whose weights are stacked, and of their router."""
    each: dict[str, str | Source] = {
        f"{ours}.experts.*.{part}": Slice(f"blk.*.ffn_{part}_exps", count) for part in PARTS
    }
    return {**each, f"{ours}.router": "blk.*.ffn_gate_inp"}


def shared_keys(ours: str) -> dict[str, str | Source]:
    """Return the key map rows of an expert at `ours` that every token passes."""
    return {f"{ours}.{part}": f"blk.*.ffn_{part}_shexp" for part in PARTS}


def llama_keys(
    config: Any,
    more: Mapping[str, str | Source] | None = None,
    without: tuple[str, ...] = (),
    *,
    turned: bool = False,
    norms: type[Source] = Source,
) -> KeyMap:
    """Build the key map of llama.cpp's names for Llama-like decoders.

    Args:
        more: a relative's own rows. without: rows that it lacks.
        turned: query and key rows are interleaved, as in Llama's own files. norms: how these are stored.
    """
    heads = {"q": config.num_attention_heads, "k": getattr(config, "num_key_value_heads", None)}
    rows: dict[str, str | Source] = {
        "embed.token": "token_embd",
        "layers.*.attention.step.q": "blk.*.attn_q",
        "layers.*.attention.step.k": "blk.*.attn_k",
        "layers.*.attention.step.v": "blk.*.attn_v",
        "layers.*.attention.step.out": "blk.*.attn_output",
        "layers.*.attention.before": norms("blk.*.attn_norm"),
        "layers.*.ffn.step.gate": "blk.*.ffn_gate",
        "layers.*.ffn.step.up": "blk.*.ffn_up",
        "layers.*.ffn.step.down": "blk.*.ffn_down",
        "layers.*.ffn.before": norms("blk.*.ffn_norm"),
        "norm": norms("output_norm"),
        "/table": "output",
    }
    if turned:
        for name, count in heads.items():
            count = count or config.num_attention_heads
            rows[f"layers.*.attention.step.{name}"] = Interleaved(f"blk.*.attn_{name}", count)
    rows = {ours: theirs for ours, theirs in {**rows, **(more or {})}.items() if ours not in without}
    copies = (r"^output\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, ignored=(r"^rope_(freqs|factors_long|factors_short)\.weight$", *copies))
