"""Checkpoints of the reference, written to GGUF as llama.cpp's converters do, give the reference's numbers.

The writer knows the format's own table of names and the converters' rules; it shares nothing with what it tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import transformers
from safetensors.torch import load_file

from multihead import AutoModel, AutoModelForCausalLM
from multihead.errors import UnsupportedConfig
from multihead.modeling.gguf_export import READ_ONLY, save_gguf
from multihead.models.common.registry import FAMILIES
from tests.architecture.floors import ROOT

from .case import WORDS
from .cases.decoders import THREE_HEADS, of
from .cases.delta import EXPERTS as DELTA_EXPERTS
from .cases.delta import of as delta
from .cases.experts import EXPERTS, balanced
from .cases.experts import of as moe
from .cases.gpt import GPT
from .cases.hybrid import LFM2, LFM2_MOE, NEMOTRON, SSM, biased
from .cases.hybrid import granite as hybrid
from .cases.llama4 import LLAMA4
from .cases.moe import corrected
from .cases.rotary_encoders import modern
from .cases.state_space import H1, MAMBA2, SCALES, mamba
from .test_gguf import FILES, write

ENCODERS = {"gemma-embedding", "modern-bert"}
DELTA = {"qwen3next", "qwen35", "qwen35moe"}
MIXERS = {"mamba2", "falcon-h1", "granitehybrid", "nemotron_h", "nemotron_h_moe"}
MIXER_ENDS = ("A_log", "mixer.D", "mixer.norm.weight", "dt_bias")
SHIFTED = {"gemma-embedding", "nemotron", *DELTA}  # whose norms' weights are written around 1
Tensors = Iterator[tuple[str, torch.Tensor]]
MULTIPLIERS = {
    "embedding_multiplier": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.4, "logits_scaling": 2.5,
}  # fmt: skip
GLM_MOE = {
    "n_routed_experts": 6,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.7,
    **EXPERTS,
}
NEOX = {"hidden_size": 32, "num_attention_heads": 4}
GRANITE = {"num_local_experts": 4, "num_experts_per_tok": 2, **MULTIPLIERS}
PLAIN_ROPE = {"rope_theta": 10000.0, "rope_type": "default"}
USUAL = {**LLAMA4, "attention_chunk_size": 8192, "no_rope_layers": None, "num_hidden_layers": 5}
HYBRID = ["linear_attention", "full_attention", "linear_attention"]
GEMMA = {
    "head_dim": 256,
    "sliding_window": 4,
    "query_pre_attn_scalar": 256,
    "use_bidirectional_attention": True,
    "num_hidden_layers": 7,
}
CONFIGS: Mapping[str, tuple[str, Any]] = {  # name of a case -> architecture in the file, the reference's config
    "arcee": ("arcee", of("Arcee")),
    "bloom": ("bloom", of("Bloom", hidden_size=36, n_layer=3, n_head=6)),
    "cohere": ("command-r", of("Cohere", logit_scale=0.3)),
    "cohere2": ("cohere2", of("Cohere2", sliding_window=4, num_hidden_layers=5)),
    "ernie4_5": ("ernie4_5", of("Ernie4_5", head_dim=8)),
    "ernie4_5-biased": ("ernie4_5", of("Ernie4_5", head_dim=8, use_bias=True)),
    "ernie4_5-moe": ("ernie4_5-moe", moe("Ernie4_5_Moe", moe_num_experts=5, moe_k=2, moe_intermediate_size=24)),
    "exaone4": ("exaone4", of("Exaone4", sliding_window=4, sliding_window_pattern=3)),
    "exaone4-without-windows": ("exaone4", of("Exaone4", sliding_window=None, layer_types=["full_attention"] * 3)),
    "falcon-h1": ("falcon-h1", of("FalconH1", **H1, **SCALES, head_dim=8)),
    "gemma-embedding": ("gemma-embedding", of("Gemma3Text", **GEMMA)),
    "glm4": ("glm4", of("Glm4", head_dim=12, attention_bias=False)),
    "glm4-biased": ("glm4", of("Glm4", head_dim=12)),
    "glm4moe": ("glm4moe", moe("Glm4Moe", **GLM_MOE, head_dim=8, attention_bias=True, use_qk_norm=True)),
    "gptneox": ("gptneox", of("GPTNeoX", **NEOX)),
    "gptneox-serial": ("gptneox", of("GPTNeoX", **NEOX, use_parallel_residual=False)),
    "granite": ("granite", of("Granite", **MULTIPLIERS)),
    "granite-of-hybrids": ("granite", of("Granite", **MULTIPLIERS)),
    "granitemoe": ("granitemoe", moe("GraniteMoe", **GRANITE)),
    "granitemoe-shared": ("granitemoe", moe("GraniteMoeShared", shared_intermediate_size=24, **GRANITE)),
    "granitehybrid": ("granitehybrid", hybrid("Hybrid", **SSM, shared_intermediate_size=28, layer_types=HYBRID)),
    "granitehybrid-dense-rope": (
        "granitehybrid",
        hybrid(
            "Hybrid",
            **SSM,
            shared_intermediate_size=28,
            num_local_experts=0,
            layer_types=HYBRID,
            position_embedding_type="rope",
            mamba_conv_bias=False,
        ),
    ),
    "hunyuan-dense": ("hunyuan-dense", of("HunYuanDenseV1", head_dim=8)),
    "hunyuan-moe": ("hunyuan-moe", moe("HunYuanMoEV1", num_experts=5, moe_topk=2, head_dim=8)),
    "lfm2": ("lfm2", of("Lfm2", **LFM2, block_multiple_of=16)),
    "lfm2moe": ("lfm2moe", moe("Lfm2Moe", **LFM2_MOE)),
    "llama4": ("llama4", moe("Llama4Text", interleave_moe_layer_step=2, rope_parameters=PLAIN_ROPE, **USUAL)),
    "llama-biased": ("llama", of("Llama", attention_bias=True, mlp_bias=True)),
    "mpt": ("mpt", of("Mpt", d_model=36, n_layers=3, n_heads=4, max_seq_len=40)),
    "minimax-m2": (
        "minimax-m2",
        moe("MiniMaxM2", num_experts_per_tok=2, num_local_experts=5, head_dim=12, rotary_dim=6),
    ),
    "mamba2": ("mamba2", mamba("Mamba2", **MAMBA2)),
    "mixtral": ("llama", moe("Mixtral", num_local_experts=5)),
    "modern-bert": ("modern-bert", modern(num_hidden_layers=4)),
    "nemotron_h": (
        "nemotron_h",
        moe("NemotronH", **{**NEMOTRON, "layers_block_type": ["linear_attention", "mlp", "full_attention"]}),
    ),
    "nemotron_h_moe": (
        "nemotron_h_moe",
        moe(
            "NemotronH",
            **{**NEMOTRON, "layers_block_type": ["linear_attention", "moe", "full_attention", "moe"]},
            routed_scaling_factor=1.7,
            moe_latent_size=24,
        ),
    ),
    "nemotron": ("nemotron", of("Nemotron", hidden_size=48)),
    "olmo": ("olmo", of("Olmo", clip_qkv=0.5)),
    "olmoe": ("olmoe", moe("Olmoe", num_experts=5, num_experts_per_tok=2, rms_norm_eps=1e-5)),
    "phi2": ("phi2", of("Phi", **NEOX, num_key_value_heads=4)),
    "qwen2moe": ("qwen2moe", moe("Qwen2Moe", num_experts=5, shared_expert_intermediate_size=24, **EXPERTS)),
    "qwen3moe": ("qwen3moe", moe("Qwen3Moe", num_experts=5, head_dim=8, norm_topk_prob=True, **EXPERTS)),
    "qwen3next": ("qwen3next", delta("Qwen3Next", **DELTA_EXPERTS)),
    "qwen35": ("qwen35", delta("Qwen3_5Text")),
    "qwen35-other-order": (
        "qwen35",
        delta(
            "Qwen3_5Text", num_hidden_layers=3, layer_types=["full_attention", "linear_attention", "linear_attention"]
        ),
    ),
    "qwen35moe": ("qwen35moe", delta("Qwen3_5MoeText", **DELTA_EXPERTS)),
    "seed_oss": ("seed_oss", of("SeedOss", head_dim=8)),
    "smollm3": ("smollm3", of("SmolLM3", num_hidden_layers=5)),
    "starcoder": ("starcoder", of("GPTBigCode", **{**GPT, "n_positions": 64})),
    "stablelm": ("stablelm", of("StableLm", **THREE_HEADS, use_qkv_bias=True)),
    "stablelm-parallel": ("stablelm", of("StableLm", **THREE_HEADS, use_parallel_residual=True, qk_layernorm=True)),
}
PERMUTED = {
    "arcee",
    "granite",
    "granitehybrid",
    "granitemoe",
    "llama",
    "olmo",
    "smollm3",
}  # architectures of converters of Llama's kind


def permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head in pairs side by side, as Llama's converter writes them."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def one_by_one(stored: Mapping[str, torch.Tensor], kind: str, config: Any) -> Tensors:
    """Tensors of a checkpoint under the names that the format's table knows."""
    experts: dict[str, dict[int, torch.Tensor]] = {}
    norms: dict[str, list[torch.Tensor]] = {}
    heads = {"q": getattr(config, "num_attention_heads", 1), "k": getattr(config, "num_key_value_heads", 1)}
    for name, tensor in stored.items():
        name = name.removeprefix("transformer.") if kind == "bloom" else name
        name = name.replace("e_score_correction_bias", "e_score_correction.bias")
        name = re.sub(r"\.expert_bias$", ".expert_bias.bias", name)
        found = re.fullmatch(r"(.*)\.experts\.(\d+)\.(\w+)\.weight", name)
        stacked = re.fullmatch(r"(.*\.experts)\.(gate_up|down)_proj", name)
        if stacked is not None:  # of experts in the checkpoint too
            tensor = tensor.transpose(1, 2) if kind == "llama4" else tensor
            parts = tensor.chunk(2, 1) if stacked[2] == "gate_up" else [tensor]
            for part, value in zip(stacked[2].split("_"), parts, strict=True):
                yield f"{stacked[1]}.{part}_proj.weight", value
        elif ".linear_attn." in name:
            yield from of_delta(name, tensor, kind, config)
        elif found is not None:
            stem = found[1].replace("model.", "").replace("block_sparse_moe", "feed_forward")
            stem = stem if found[3] in ("w1", "w2", "w3") else found[1]
            experts.setdefault(f"{stem}.experts.{found[3]}.weight", {})[int(found[2])] = tensor
        elif name.endswith(("input_linear.weight", "output_linear.weight")):  # gates, then ups
            shared = "_shexp" if "shared_mlp" in name else "_exps"
            shared = shared if config.num_local_experts else ""
            parts = {"gate": 0, "up": 1} if "input" in name else {"down": 0}
            for part, place in parts.items():
                yield f"blk.{name.split('.')[2]}.ffn_{part}{shared}.weight", tensor.chunk(len(parts), -2)[place]
        elif "query_key_value" in name:  # by heads in the checkpoint, all queries first in the file
            parts = tensor.unflatten(0, (heads["q"], 3, -1)).unbind(1)
            yield name, torch.cat([part.flatten(0, 1) for part in parts])
        elif "conv.conv" in name or name.endswith("conv1d.weight"):
            yield name, tensor.squeeze(1)
        elif kind in MIXERS and (".mamba." in name or name.endswith(MIXER_ENDS)):
            yield from of_mixer(name, tensor, kind, config)
        elif name.endswith("shared_expert_gate.weight"):
            yield name, tensor[0]  # converters write a matrix of one row as a vector, or did
        elif kind in PERMUTED and (turned := re.search(r"\.([qk])_proj\.(weight|bias)$", name)):
            yield name, permuted(tensor, heads[turned[1]])
        elif found := re.fullmatch(r"(.*[qk]_layernorm)\.norms\.\d+\.weight", name):
            norms.setdefault(f"{found[1]}.weight", []).append(tensor)
        elif kind == "falcon-h1" and (scale := next((s for n, s in h1_scales(config).items() if n in name), None)):
            renamed = f"blk.{name.split('.')[2]}.ffn_norm.weight" if "pre_ff" in name else name
            yield renamed.replace("feed_forward", "mlp"), tensor * scale
        else:
            yield name, tensor + 1 if kind in SHIFTED and name.endswith("norm.weight") else tensor
    if kind == "glm4moe":  # a layer that drafts the word after next
        yield f"blk.{config.num_hidden_layers}.nextn.eh_proj.weight", torch.ones(2, 2)
    for name, rows in norms.items():
        yield name, torch.stack(rows)
    for name, parts in experts.items():
        name = name.replace("backbone.", "model.").replace("mixer.experts", "mlp.experts")
        yield name, torch.stack([parts[number] for number in range(len(parts))])


def h1_scales(config: Any) -> dict[str, float]:
    """What Falcon-H1's weights are multiplied by in a file."""
    into, gate_down = config.attention_in_multiplier, config.mlp_multipliers
    return {
        "q_proj": into, "k_proj": into * config.key_multiplier, "v_proj": into,
        "o_proj": config.attention_out_multiplier, "gate_proj": gate_down[0], "down_proj": gate_down[1],
        "lm_head": config.lm_head_multiplier, "embed_tokens": config.embedding_multiplier, "up_proj": 1.0,
        "pre_ff": 1.0,
    }  # fmt: skip


def of_delta(name: str, tensor: torch.Tensor, kind: str, config: Any) -> Tensors:
    """A tensor of a Gated DeltaNet; Qwen3.5's begin with the first value head of each key head."""
    groups, each = config.linear_num_key_heads, config.linear_num_value_heads // config.linear_num_key_heads
    keys, values = config.linear_key_head_dim, config.linear_value_head_dim

    def in_turns(x: torch.Tensor, axis: int = 0) -> torch.Tensor:
        if kind == "qwen3next":
            return x
        heads = x.movedim(axis, 0).unflatten(0, (groups, each, -1))
        return heads.swapaxes(0, 1).flatten(0, 2).movedim(0, axis)

    layer = f"blk.{name.split('.')[2]}"
    if name.endswith("in_proj_qkvz.weight"):
        parts = tensor.unflatten(0, (groups, -1)).split((keys, keys, each * values, each * values), 1)
        yield f"{layer}.attn_qkv.weight", torch.cat([part.flatten(0, 1) for part in parts[:3]])
        yield f"{layer}.attn_gate.weight", parts[3].flatten(0, 1)
    elif "in_proj_qkv" in name or "conv1d" in name:
        rest = tensor.squeeze(1)
        yield name, torch.cat([rest[: 2 * groups * keys], in_turns(rest[2 * groups * keys :])])
    elif name.endswith("A_log"):
        yield name, in_turns(-tensor.exp())
    elif name.endswith("dt_bias"):
        yield name.replace("dt_bias", "dt_proj.bias"), in_turns(tensor)
    elif name.endswith("out_proj.weight"):
        yield name, in_turns(tensor, 1)
    else:
        yield name, tensor if name.endswith(("norm.weight", "in_proj_ba.weight")) else in_turns(tensor)


def of_mixer(name: str, tensor: torch.Tensor, kind: str, config: Any) -> Tensors:
    """A tensor of Mamba 2: decays themselves, a column of heads, groups of the norm's weight."""
    if kind == "falcon-h1" and name.endswith("in_proj.weight"):
        state = config.mamba_n_groups * config.mamba_d_state
        sizes = config.mamba_d_ssm, config.mamba_d_ssm, state, state, config.mamba_n_heads
        parts = zip(tensor.split(sizes), config.ssm_multipliers, strict=True)
        yield name, torch.cat([part * scale for part, scale in parts]) * config.ssm_in_multiplier
    elif kind == "falcon-h1" and name.endswith("out_proj.weight"):
        yield name, tensor * config.ssm_out_multiplier
    elif name.endswith(("A_log", ".D")):
        yield name, (-torch.exp(tensor) if name.endswith("A_log") else tensor)[:, None]
    elif name.endswith("norm.weight"):
        yield name, tensor.reshape(getattr(config, "n_groups", None) or config.mamba_n_groups, -1)
    else:
        yield name.replace("dt_bias", "dt_proj.bias"), tensor


def base(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the converters of all decoders write of a config."""
    names = {
        "max_position_embeddings": "context_length", "hidden_size": "embedding_length",
        "num_hidden_layers": "block_count", "intermediate_size": "feed_forward_length",
        "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon", "layer_norm_eps": "attention.layer_norm_epsilon",
        "num_local_experts": "expert_count", "num_experts": "expert_count", "num_experts_per_tok": "expert_used_count",
    }  # fmt: skip
    found = {theirs: config[ours] for ours, theirs in names.items() if config.get(ours) is not None}
    if config.get("head_dim") is not None:
        found |= {"attention.key_length": config["head_dim"], "attention.value_length": config["head_dim"]}
    rope = config.get("rope_parameters") or {}
    found["rope.freq_base"] = rope.get("full_attention", rope).get("rope_theta")
    if "sliding_attention" in rope:
        found["rope.freq_base_swa"] = rope["sliding_attention"]["rope_theta"]
    return found


def of_llama(config: Mapping[str, Any]) -> dict[str, Any]:
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return {"vocab_size": config["vocab_size"], "rope.dimension_count": width}


def of_granite(config: Mapping[str, Any]) -> dict[str, Any]:
    scales = {
        "attention.scale": "attention_multiplier", "embedding_scale": "embedding_multiplier",
        "residual_scale": "residual_multiplier", "logit_scale": "logits_scaling",
    }  # fmt: skip
    shared = {"expert_shared_feed_forward_length": config.get("shared_intermediate_size")}
    return {**of_llama(config), **{theirs: config[ours] for theirs, ours in scales.items()}, **shared}


def of_experts(config: Mapping[str, Any]) -> dict[str, Any]:
    names = {"moe_intermediate_size": "expert", "shared_expert_intermediate_size": "expert_shared"}
    return {f"{theirs}_feed_forward_length": config.get(ours) for ours, theirs in names.items()}


def of_cohere(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"logit_scale": config["logit_scale"], "rope.scaling.type": "none"}


def of_half(config: Mapping[str, Any]) -> dict[str, Any]:
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return {"rope.dimension_count": int(width * config["rope_parameters"]["partial_rotary_factor"])}


def of_windows(config: Mapping[str, Any]) -> dict[str, Any]:
    if config["sliding_window"] is None:
        return {}
    slides = [kind == "sliding_attention" for kind in config["layer_types"]]
    return {"attention.sliding_window": config["sliding_window"], "attention.sliding_window_pattern": slides}


def of_convolutions(config: Mapping[str, Any]) -> dict[str, Any]:
    inner, step = int(2 * config["intermediate_size"] / 3), 16
    heads = [config["num_key_value_heads"] if kind != "conv" else 0 for kind in config["layer_types"]]
    return {
        "attention.head_count_kv": heads, "attention.layer_norm_rms_epsilon": config["norm_eps"],
        "shortconv.l_cache": config["conv_L_cache"], "vocab_size": config["vocab_size"],
        "feed_forward_length": step * ((inner + step - 1) // step),
    }  # fmt: skip


def of_gpt(config: Mapping[str, Any]) -> dict[str, Any]:
    width = config.get("n_embd") or config["hidden_size"]
    return {
        "context_length": config.get("n_positions", 40), "embedding_length": width, "feed_forward_length": 4 * width,
        "block_count": config["n_layer"], "attention.head_count": config["n_head"],
        "attention.head_count_kv": 1, "attention.layer_norm_epsilon": config["layer_norm_epsilon"],
    }  # fmt: skip


def of_delta_net(config: Mapping[str, Any]) -> dict[str, Any]:
    heads = config["linear_num_value_heads"]
    usual = [i % 4 != 3 for i in range(config["num_hidden_layers"])]
    kinds = [kind == "linear_attention" for kind in config["layer_types"]]
    return {
        **of_experts(config), **of_half(config), "ssm.conv_kernel": config["linear_conv_kernel_dim"],
        "ssm.state_size": config["linear_key_head_dim"], "ssm.group_count": config["linear_num_key_heads"],
        "ssm.time_step_rank": heads, "ssm.inner_size": config["linear_value_head_dim"] * heads,
        "full_attention_interval": 4, "attention.recurrent_layers": None if kinds == usual else kinds,
        "rope.dimension_sections": [11, 11, 10, 0] if "mrope_section" in config["rope_parameters"] else None,
    }  # fmt: skip


def of_hybrid(config: Mapping[str, Any]) -> dict[str, Any]:
    """What converters of decoders with Mamba 2 layers write, given kinds of layers."""
    kinds = config.get("layers_block_type") or config.get("layer_types") or []

    def size(*names: str) -> int:
        return next(config[name] for name in names if config.get(name))

    heads = size("mamba_n_heads", "mamba_num_heads")
    width = size("mamba_d_head", "mamba_head_dim")
    keys = [config["num_key_value_heads"] if kind == "full_attention" else 0 for kind in kinds]
    return {
        "vocab_size": config["vocab_size"], "ssm.conv_kernel": size("mamba_d_conv", "conv_kernel"),
        "ssm.state_size": size("mamba_d_state", "ssm_state_size"), "ssm.time_step_rank": heads,
        "ssm.group_count": size("mamba_n_groups", "n_groups"), "ssm.inner_size": heads * width,
        "attention.head_count_kv": keys or config["num_key_value_heads"],
    }  # fmt: skip


def of_granite_hybrid(config: Mapping[str, Any]) -> dict[str, Any]:
    dense = {"expert_count": 0, "expert_used_count": 0, "expert_shared_feed_forward_length": None}
    dense["feed_forward_length"] = config["shared_intermediate_size"]
    turned = config["position_embedding_type"] == "rope"
    own = {} if config["num_local_experts"] else dense
    return {**of_granite(config), **of_hybrid(config), "rope.scaling.finetuned": turned, **own}


def of_nemotron_h(config: Mapping[str, Any]) -> dict[str, Any]:
    kinds, experts = config["layers_block_type"], "moe" in config["layers_block_type"]
    inner = config["moe_intermediate_size" if experts else "intermediate_size"]
    own = {
        "expert_count": config["n_routed_experts"], "expert_feed_forward_length": config["moe_intermediate_size"],
        "expert_shared_feed_forward_length": config["moe_shared_expert_intermediate_size"], "expert_shared_count": 1,
        "expert_weights_norm": config["norm_topk_prob"], "expert_weights_scale": config["routed_scaling_factor"],
        "expert_group_count": config["n_group"], "moe_latent_size": config["moe_latent_size"],
    }  # fmt: skip
    return {
        **of_hybrid(config), "attention.layer_norm_rms_epsilon": config["layer_norm_epsilon"],
        "block_count": len(kinds),
        "feed_forward_length": [inner if kind in ("mlp", "moe") else 0 for kind in kinds],
        **(own if experts else {"expert_count": None, "expert_used_count": None}),
    }  # fmt: skip


def of_state_space(config: Mapping[str, Any]) -> dict[str, Any]:
    inner = config["num_heads"] * config["head_dim"]
    return {
        "context_length": 2**20, "feed_forward_length": 0, "attention.head_count": 0,
        "ssm.conv_kernel": config["conv_kernel"], "ssm.inner_size": inner, "ssm.state_size": config["state_size"],
        "ssm.time_step_rank": config["num_heads"], "ssm.group_count": config["n_groups"],
        "attention.layer_norm_rms_epsilon": config["layer_norm_epsilon"], "attention.key_length": None,
        "attention.value_length": None,
    }  # fmt: skip


def of_modern_bert(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "attention.causal": False, "attention.sliding_window": config["local_attention"],
        "attention.sliding_window_pattern": 3, "rope.scaling.type": "none", "vocab_size": config["vocab_size"],
        "attention.layer_norm_epsilon": config["norm_eps"], "pooling_type": 2,
    }  # fmt: skip


MORE: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    **dict.fromkeys(("arcee", "llama", "smollm3"), of_llama),
    **dict.fromkeys(("granite", "granitemoe"), of_granite),
    **dict.fromkeys(("qwen2moe", "qwen3moe"), of_experts),
    "command-r": of_cohere,
    "cohere2": lambda c: {
        **of_cohere(c), "attention.sliding_window": c["sliding_window"], "vocab_size": c["vocab_size"],
        "rope.dimension_count": c["hidden_size"] // c["num_attention_heads"],
    },
    "gemma-embedding": lambda c: {"attention.sliding_window": GEMMA["sliding_window"], "pooling_type": 1},
    "ernie4_5-moe": lambda c: {
        **of_experts(c), "expert_count": c["moe_num_experts"], "expert_used_count": c["moe_k"],
        "interleave_moe_layer_step": c["moe_layer_interval"], "leading_dense_block_count": c["moe_layer_start_index"],
        "expert_shared_count": c["moe_num_shared_experts"],
    },
    "hunyuan-moe": lambda c: {
        "expert_count": c["num_experts"], "expert_used_count": c["moe_topk"], "expert_shared_count": 1,
        "expert_shared_feed_forward_length": c["intermediate_size"],
    },
    "mamba2": of_state_space,
    "llama4": lambda c: {
        "expert_feed_forward_length": c["intermediate_size"], "feed_forward_length": c["intermediate_size_mlp"],
        "interleave_moe_layer_step": c["interleave_moe_layer_step"], "vocab_size": c["vocab_size"],
        "rope.dimension_count": c["head_dim"],
    },
    "falcon-h1": of_hybrid,
    "granitehybrid": of_granite_hybrid,
    **dict.fromkeys(("nemotron_h", "nemotron_h_moe"), of_nemotron_h),
    "mpt": lambda c: {
        "context_length": c["max_seq_len"], "attention.max_alibi_bias": 8.0, "attention.layer_norm_epsilon": 1e-5,
        "feed_forward_length": 4 * c["d_model"], "embedding_length": c["d_model"], "block_count": c["n_layers"],
        "attention.head_count": c["n_heads"],
    },
    "bloom": of_gpt,
    "starcoder": of_gpt,
    **dict.fromkeys(("qwen3next", "qwen35", "qwen35moe"), of_delta_net),
    "exaone4": of_windows,
    "glm4moe": lambda c: {
        **of_half(c), **of_experts(c), "expert_count": c["n_routed_experts"], "block_count": c["num_hidden_layers"] + 1,
        "nextn_predict_layers": 1,
        "expert_shared_count": c["n_shared_experts"], "leading_dense_block_count": c["first_k_dense_replace"],
        "expert_gating_func": 2, "expert_weights_scale": c["routed_scaling_factor"],
        "expert_weights_norm": c["norm_topk_prob"], "expert_group_count": 1, "expert_group_used_count": 1,
    },
    "gptneox": lambda c: {**of_half(c), "use_parallel_residual": c["use_parallel_residual"]},
    "minimax-m2": lambda c: {
        "expert_gating_func": 2, "expert_feed_forward_length": c["intermediate_size"], "rope.dimension_count": 6,
    },
    "lfm2": of_convolutions,
    "lfm2moe": lambda c: {
        **of_convolutions(c), **of_experts(c), "leading_dense_block_count": c["num_dense_layers"],
        "expert_gating_func": 2, "feed_forward_length": c["intermediate_size"],
    },
    "modern-bert": of_modern_bert,
    "phi2": of_half,
    "glm4": of_half,
    "nemotron": lambda c: {**of_half(c), "attention.layer_norm_epsilon": c["norm_eps"], "rope.scaling.type": "none"},
    "stablelm": lambda c: {**of_half(c), "use_parallel_residual": c["use_parallel_residual"]},
    "olmo": lambda c: {"attention.layer_norm_epsilon": 1e-5, "attention.clamp_kqv": c["clip_qkv"]},
}  # fmt: skip


def convert(folder: Path, kind: str, config: Any, **more: Any) -> Path:
    """Writes a folder's checkpoint as a GGUF file of an architecture, with more settings."""
    number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    tensors = {}
    for name, tensor in one_by_one(load_file(folder / "model.safetensors"), kind, config):
        found = name if name.startswith("blk.") else names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert found is not None, name
        tensors[found] = tensor.contiguous()
    plain = config.to_dict()
    plain |= {"head_dim": None} if kind.startswith("granite") else {}  # as their converter drops it
    told = {**base(plain), **(MORE[kind](plain) if kind in MORE else {}), **more}
    path = folder / "model.gguf"
    write(path, kind, {f"{kind}.{name}": value for name, value in told.items() if value is not None}, tensors)
    return path


def test_every_architecture_is_read_in_a_test():
    known = {kind for entry in FAMILIES.values() for layout, kind in entry.layouts if layout == "gguf"}
    assert known == {*FILES, *(kind for kind, _ in CONFIGS.values())}
    page = (ROOT / "docs" / "gguf.md").read_text()
    listed = page.partition("<!-- architectures -->")[2].partition("<!-- end -->")[0]
    assert set(re.findall(r"`([^`]+)`", listed)) == known


@pytest.mark.parametrize("name", CONFIGS)
def test_a_converted_checkpoint_gives_the_references_numbers(name, tmp_path):
    kind, make = CONFIGS[name]
    config = make()
    torch.manual_seed(0)
    auto = transformers.AutoModel if kind in ENCODERS else transformers.AutoModelForCausalLM
    reference = auto.from_config(config).eval()
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    balanced(reference, "")
    biased(reference, "")
    corrected(reference, "")
    reference.save_pretrained(tmp_path)
    more = {"ssm.conv_kernel": 4, "rope.scaling.finetuned": True} if name.endswith("of-hybrids") else {}
    path = convert(tmp_path, kind, config, **more)
    ours = (AutoModel if kind in ENCODERS else AutoModelForCausalLM).from_pretrained(path)
    ids = torch.randint(1, WORDS - 1, (2, 9))
    with torch.no_grad():
        expected, found = reference(ids)[0], ours(ids)[0]
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    if kind in READ_ONLY:
        with pytest.raises(UnsupportedConfig, match="is not written as GGUF"):
            save_gguf(ours, None, tmp_path / "again.gguf", "F32")
    if more:
        path = convert(tmp_path, kind, config, **{"rope.scaling.finetuned": False})
        with pytest.raises(UnsupportedConfig, match="without rotary positions"):
            AutoModelForCausalLM.from_pretrained(path)
