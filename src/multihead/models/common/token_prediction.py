"""Multi-token prediction of the families whose checkpoints have it: which tensors it has, and its layers.

Its layers are those of the family, built from a config with as many layers. `nn.token_predictor` puts them together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from typing import Any

from torch import Tensor, nn

from ...checkpoints.key_map import KeyMap
from ...checkpoints.selected_tensors import SelectedTensors
from ...errors import UnsupportedOption
from ...nn.empty import empty_weights
from ...nn.token_predictor import TokenPredictor
from ...nn.weights import Linear
from .patterns import FULL, LINEAR, SLIDING
from .registry import architecture

PARTS: Mapping[str, str] = {  # names of the parts beside the layers -> those of `PredictorWeights`
    "enorm": "word_norms", "hnorm": "state_norms", "eh_proj": "joins", "shared_head.norm": "outs",
    "final_layernorm": "outs", "pre_fc_norm_embedding": "word_norms", "pre_fc_norm_hidden": "state_norms",
    "fc": "joins", "mtp_emb_norm": "word_norms", "mtp_hidden_norm": "state_norms", "mtp_linear_proj": "joins",
}  # fmt: skip
COPIES = ("shared_head.head.", "embed_tokens.", "rotary_emb.")  # what a predictor shares with the model


@dataclass(frozen=True)
class StoredPredictors:
    """How the files of a family hold its predictors.

    Args:
        pattern: of a tensor's name; its groups are `number`, which the tensors that all predictors share do not have,
            `part`, where a part's name comes before the number, and `rest`.
        after: numbers go on after the model's last layer. kind: of attention, for families with several.
        normed: whether a norm comes last. renamed: (pattern, replacement) pairs of a layer's names.
    """

    pattern: str
    after: bool = False
    kind: str = FULL
    normed: bool = True
    renamed: tuple[tuple[str, str], ...] = ()

    def find(self, names: Iterable[str], config: Any) -> list[tuple[int | None, str, str]]:
        """Return (number or None, name within a predictor, stored name) of each tensor."""
        first, found = config.num_hidden_layers if self.after else 0, []
        for name in names:
            match = re.match(self.pattern, name)
            if match is None:
                continue
            groups = match.groupdict()
            number = None if groups["number"] is None else int(groups["number"]) - first
            if number is not None and number < 0:
                continue
            rest = ".".join(part for part in (groups.get("part"), groups["rest"]) if part not in (None, "mtp_block"))
            for pattern, new in self.renamed:
                rest = re.sub(pattern, new, rest)
            if not rest.startswith(COPIES):
                found.append((number, rest, name))
        return found


AFTER = StoredPredictors(r"^(?:model\.)?(?:language_model\.)?layers\.(?P<number>\d+)\.(?P<rest>.+)$", after=True)
SHARED = StoredPredictors(r"^mtp\.(?:layers\.(?P<number>\d+)\.)?(?P<rest>.+)$")  # one projection for all
STORED: Mapping[str, StoredPredictors] = {  # by model_type
    **dict.fromkeys(("deepseek_v3", "deepseek_v32", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "hy_v3"), AFTER),
    **dict.fromkeys(("bailing_hybrid", "kimi_k2", "solar_open"), AFTER),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "exaone_moe", "nemotron_h"), SHARED),
    "mellum": replace(SHARED, kind=SLIDING),
    "ernie4_5_moe": StoredPredictors(r"^model\.(?P<part>mtp_\w+)\.(?P<number>\d+)\.(?P<rest>.+)$", normed=False),
    "mimo_v2_flash": StoredPredictors(
        r"^model\.mtp\.layers\.(?P<number>\d+)\.(?P<rest>.+)$",
        kind=SLIDING,
        renamed=((r"^pre_mlp_layernorm\.", "post_attention_layernorm."),),
    ),
}


class PredictorWeights(nn.Module):
    """The parameters of all predictors, under the paths of a family's key map.

    Args:
        stack: with the layers of all predictors, in their order. count: of predictors.
    """

    def __init__(self, stack: Any, count: int, normed: bool) -> None:
        super().__init__()
        width = stack.embed.token.embedding_dim
        self.layers = stack.layers
        self.word_norms, self.state_norms = (
            nn.ModuleList(deepcopy(stack.norm) for _ in range(count)) for _ in range(2)
        )
        self.joins = nn.ModuleList(Linear(2 * width, width, bias=False) for _ in range(count))
        self.outs = nn.ModuleList(deepcopy(stack.norm) if normed else nn.Identity() for _ in range(count))

    def predictors(self) -> list[TokenPredictor]:
        """Return a module for each predictor."""
        each = len(self.layers) // len(self.joins)
        parts = zip(self.word_norms, self.state_norms, self.joins, self.outs, strict=True)
        return [
            TokenPredictor(word, state, join, self.layers[i * each : (i + 1) * each], out)
            for i, (word, state, join, out) in enumerate(parts)
        ]


@dataclass(frozen=True)
class Found:
    """The tensors of a checkpoint's predictors.

    Args:
        numbered: (number, name within a predictor's layer, stored name). parts: (part, stored name) of each predictor.
    """

    numbered: list[tuple[int, str, str]] = field(default_factory=list)
    parts: list[tuple[int | None, str, str]] = field(default_factory=list)

    @property
    def layers(self) -> int:
        return max((number for number, *_ in self.numbered), default=-1) + 1


def load_predictors(config: Any, stored: Mapping[str, Tensor], source: str, **where: Any) -> list[TokenPredictor]:
    """Return the predictors of a checkpoint, of depth 1 first.

    Args:
        where: dtype and device, as `KeyMap.load` takes them.

    Raises:
        UnsupportedOption: a family or a checkpoint without any. CheckpointMismatch: the tensors do not fit.
    """
    known = STORED.get(config.model_type)
    if known is None:
        raise UnsupportedOption(f"use_mtp: no layers that predict further tokens are known of {config.model_type}.")
    found = collect(known.find(stored, config))
    if not found.numbered or not any(part == "joins" for _, part, _ in found.parts):
        raise UnsupportedOption(f"use_mtp: {source} holds no layers that predict further tokens.")
    kinds = (config.extra.get("mtp_layers_block_type") or [FULL, "moe"]) if config.model_type == "nemotron_h" else None
    count = found.layers // (len(kinds) if kinds else 1)
    own = config.changed(**changes(config, known, found, kinds))
    family = architecture(config.model_type)
    with empty_weights():
        weights = PredictorWeights(family.build(own), count, known.normed)
    keys = family.keys(own)
    rows = {ours: theirs for ours, theirs in keys.rows.items() if ours.startswith("layers.")}
    rows |= {f"{part}.*": f"/{part}.*" for part in set(PARTS.values())}
    view = [(f"{keys.prefix}layers.{number}.{rest}", name, None) for number, rest, name in found.numbered]
    each = found.layers // count
    for number, part, name in found.parts:
        owners = range(count) if number is None else [number // each]  # shared by all
        view += [(f"{part}.{owner}.{name.rpartition('.')[2]}", name, None) for owner in owners]
    table: KeyMap = replace(keys, rows=rows, prefixes=(), ignored=(), computed=(), aliases=())
    table.load(weights, SelectedTensors(stored, view), source=source, **where)
    return [predictor.eval() for predictor in weights.predictors()]


def collect(tensors: Iterable[tuple[int | None, str, str]]) -> Found:
    """Sort the tensors of predictors into those of layers and those of other parts."""
    found = Found()
    for number, rest, name in tensors:
        stem = rest.rpartition(".")[0]
        if stem in PARTS or (number is None and stem == "norm"):
            found.parts.append((number, PARTS.get(stem, "outs"), name))
        elif number is not None:
            found.numbered.append((number, rest, name))
    return found


def changes(config: Any, known: StoredPredictors, found: Found, kinds: list[str] | None) -> dict[str, Any]:
    """Return the entries in which the config of the predictors' layers differs from the model's."""
    count, first, names = found.layers, config.num_hidden_layers, {f.name for f in fields(config)}
    sparse = any(".experts." in f".{rest}" for _, rest, _ in found.numbered)
    kind = LINEAR if config.extra.get("mtp_use_kda") else known.kind
    out: dict[str, Any] = {
        "mlp_layer_types": ["sparse" if sparse else "dense"] * count,
        "layer_types": config.extra.get("mtp_layer_types") or [kind] * count,
        "mlp_only_layers": [] if sparse else list(range(count)),
        "indexer_types": ["full"] * count,
        "moe_layer_start_index": 0 if sparse else count,
        "moe_layer_end_index": count - 1,
    }
    for name in ("expert_swiglu_limit_list", "share_expert_swiglu_limit_list"):
        out[name] = (getattr(config, name, None) or [])[first:] or None
    out = {name: value for name, value in out.items() if name in names}
    if "mlp_layer_types" not in out and "first_k_dense_replace" in names:
        out["first_k_dense_replace"] = 0 if sparse else count
    if kinds is not None:
        out["layers_block_type"] = list(kinds) * (count // len(kinds))
    return {**out, "num_hidden_layers": count}
