"""EAGLE (Li et al., 2024, arXiv:2401.15077) and EAGLE-3 (2025, arXiv:2503.01840): heads that draft for another model.

Their config.json says that they are Llama. Files come from the authors (SafeAILab), from SpecForge and NVIDIA, and from
the speculators library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap, Rows
from ..errors import CorruptFile, UnsupportedConfig
from ..nn.empty import empty_weights
from ..nn.layer import Layer, Residual
from ..nn.token_predictor import FusedStatePredictor, TokenPredictor, WordAndStateLayer
from ..nn.weights import Embedding, Linear
from . import llama
from .common.patterns import rotary_of
from .llama import LlamaConfig

RENAMED = ((r"^model\.", ""), (r"^midlayer\.", "layers.0."))
IGNORED = (r"^[td]2[td]$", r"rotary_emb\.inv_freq$")
ATTENTION = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "o_proj"}
FFN = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}


@dataclass(frozen=True)
class Eagle:
    """A draft head and what it reads.

    Args:
        words: its own embeddings; None for the model's.
        layers: numbers of the model's layers whose inputs it reads; None for the usual three of them.
    """

    config: LlamaConfig
    predictor: TokenPredictor | FusedStatePredictor
    words: nn.Module | None
    layers: tuple[int, ...] | None


def is_eagle(entries: Mapping[str, Any]) -> bool:
    """Return whether the entries of a config.json are those of a draft head."""
    names = [*(entries.get("architectures") or ()), entries.get("speculators_model_type") or ""]
    return "draft_vocab_size" in entries or any("eagle" in str(name).lower() for name in names)


def load(entries: Mapping[str, Any], stored: Mapping[str, Tensor], source: str, **where: Any) -> Eagle:
    """Return the head of a config.json and its tensors.

    Args:
        where: dtype and device, as `KeyMap.load` takes them.

    Raises:
        UnsupportedConfig: an entry that is not computed. CheckpointMismatch: the tensors do not fit.
    """
    inner = entries.get("transformer_layer_config") or {}
    config = LlamaConfig.read({**entries, **inner})
    table = KeyMap({}, renamed=RENAMED)
    names = table.current_names(stored)
    module = nn.Module()
    with empty_weights():
        if "embed_tokens.weight" in names:
            module.words = Embedding(config.vocab_size, config.hidden_size)
        third = "layers.0.hidden_norm.weight" in names
        module.predictor = fused(config, entries, stored, names) if third else plain(config, names)
    rows = {"words": "embed_tokens", **(rows_of_fused() if third else rows_of_plain())}
    first = 1 if third else 0
    ignored = IGNORED if third else (*IGNORED, r"^lm_head\.")  # the first kind has the model's scores
    KeyMap(rows, renamed=RENAMED, ignored=ignored, first=first).load(module, stored, source=source, **where)
    layers = layers_of(entries, third and "fc.weight" in names)
    return Eagle(config, module.predictor.eval(), getattr(module, "words", None), layers)


def layers_of(entries: Mapping[str, Any], several: bool) -> tuple[int, ...] | None:
    """Return the numbers of the layers whose inputs are read; empty for the model's last states.

    The speculators library counts a layer's input, NVIDIA's files its output.
    """
    if not several:
        return ()
    given = entries.get("eagle_aux_hidden_state_layer_ids")
    after = (entries.get("eagle_config") or {}).get("eagle_aux_hidden_state_layer_ids")
    for name, numbers in (("eagle_aux_hidden_state_layer_ids", given), ("eagle_config", after)):
        if numbers and not (isinstance(numbers, list) and all(type(n) is int and n >= 0 for n in numbers)):
            raise UnsupportedConfig(f"{name}: {numbers!r} are no numbers of layers.")
    return tuple(given) if given else tuple(number + 1 for number in after) if after else None


def plain(config: LlamaConfig, names: Mapping[str, str]) -> TokenPredictor:
    """Build EAGLE's first form: a projection of embedding and state, and layers of which the first has no norm."""
    width, positions = config.hidden_size, rotary_of(config, config.head_width)
    layers = [llama.layer(config, llama.attention(config, positions), llama.feed_forward(config)) for _ in
              range(config.num_hidden_layers)]  # fmt: skip
    layers[0].attention.before = nn.Identity()
    join = Linear(2 * width, width, bias="fc.bias" in names)
    return TokenPredictor(nn.Identity(), nn.Identity(), join, layers, nn.Identity())


def fused(
    config: LlamaConfig, entries: Mapping[str, Any], stored: Mapping[str, Tensor], names: Mapping[str, str]
) -> FusedStatePredictor:
    """Build EAGLE-3."""
    width, positions, bias = config.hidden_size, rotary_of(config, config.head_width), config.attention_bias
    for name in ("use_input_layernorm_in_first_layer", "use_last_layernorm"):
        if (entries.get("eagle_config") or {}).get(name) is False:
            raise UnsupportedConfig(f"eagle_config: {name} = False is not computed here.")
    out = Linear(config.num_attention_heads * config.head_width, width, bias=bias)
    queries, keys = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    heads = {"q": queries, "k": keys, "v": keys}
    projections = {n: Linear(2 * width, count * config.head_width, bias=bias) for n, count in heads.items()}
    attention = llama.attention(config, positions, projections={**projections, "out": out})
    ffn = Residual(llama.feed_forward(config), before=llama.norm(config))
    first = WordAndStateLayer(
        llama.norm(config), llama.norm(config), attention, ffn, bool(entries.get("norm_before_residual", False))
    )
    later: list[Layer] = [
        llama.layer(config, llama.attention(config, positions), llama.feed_forward(config))
        for _ in range(config.num_hidden_layers - 1)
    ]
    if "fc.weight" in names:
        fuse: nn.Module = Linear(stored[names["fc.weight"]].shape[1], width, bias="fc.bias" in names)
    else:
        fuse = nn.Identity()
    count = entries.get("draft_vocab_size") or config.vocab_size
    if "d2t" not in names and count != config.vocab_size:
        raise CorruptFile(f"The head scores {count} of {config.vocab_size} tokens, and holds no d2t that names them.")
    targets = targets_of(stored[names["d2t"]], count, config.vocab_size) if "d2t" in names else None
    table = Linear(width, count, bias=False)
    return FusedStatePredictor(fuse, first, later, llama.norm(config), table, targets)


def targets_of(shifts: Tensor, count: int, vocabulary: int) -> Tensor:
    """Return the model's token of each draft token, (draft vocabulary,).

    Args:
        shifts: (draft vocabulary,), how far on it is in the model's vocabulary.
    """
    if shifts.shape != (count,):
        raise CorruptFile(f"d2t has the shape {tuple(shifts.shape)}, and draft_vocab_size is {count}.")
    targets = torch.arange(count, device="cpu") + shifts.cpu().long()  # (draft vocabulary,)
    if not 0 <= int(targets.min()) <= int(targets.max()) < vocabulary or len(targets.unique()) < count:
        raise CorruptFile(f"d2t names tokens twice, or outside the vocabulary of {vocabulary}.")
    return targets


def rows_of_plain() -> Rows:
    return {"predictor.join": "fc", **layer_rows("predictor.layers.*", "layers.*")}


def rows_of_fused() -> Rows:
    first, stored = "predictor.first", "layers.0"
    return {
        "predictor.fuse": "fc",
        f"{first}.word_norm": f"{stored}.input_layernorm",
        f"{first}.state_norm": f"{stored}.hidden_norm",
        **{f"{first}.attention.{ours}": f"{stored}.self_attn.{theirs}" for ours, theirs in ATTENTION.items()},
        **{f"{first}.ffn.step.{ours}": f"{stored}.mlp.{theirs}" for ours, theirs in FFN.items()},
        f"{first}.ffn.before": f"{stored}.post_attention_layernorm",
        **layer_rows("predictor.layers.*", "layers.*"),
        "predictor.norm": "norm",
        "predictor.table": "lm_head",
    }


def layer_rows(ours: str, theirs: str) -> Rows:
    return {
        f"{ours}.attention.before": f"{theirs}.input_layernorm",
        **{f"{ours}.attention.step.{own}": f"{theirs}.self_attn.{other}" for own, other in ATTENTION.items()},
        **{f"{ours}.ffn.step.{own}": f"{theirs}.mlp.{other}" for own, other in FFN.items()},
        f"{ours}.ffn.before": f"{theirs}.post_attention_layernorm",
    }
