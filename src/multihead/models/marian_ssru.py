"""Marian's small translation models ("tiny11"): Marian whose decoder has an SSRU in place of self-attention.

The models of Firefox Translations and translateLocally; Kim et al. (2019, aclanthology.org/D19-5632), Bogoychev et al.
(2020, aclanthology.org/2020.ngt-1.26). Their decoder starts from a zero vector: here that is the row of a padding word
put after the vocabulary, which can never be chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Flat, Source, Transposed
from ..errors import UnsupportedConfig
from ..nn.recurrence import SSRU
from . import bart, marian
from .common.architecture import Architecture
from .marian import MarianConfig


@dataclass(kw_only=True)
class MarianSSRUConfig(MarianConfig):
    model_type = "marian_ssru"
    norm_eps = 1e-6

    activation_function: str = "relu"
    scale_embedding: bool = True
    share_encoder_decoder_embeddings: Literal[True] = True
    tie_word_embeddings: Literal[True] = True
    forced_eos_token_id: int | list[int] | None = None


def mixer(config: MarianSSRUConfig) -> nn.Module:
    return SSRU(config.d_model)


def keys(config: MarianSSRUConfig) -> KeyMap:
    """Return the key map of the Hugging Face format; the recurrence is `rnn`."""
    plain = marian.keys(config)
    rows = {k: v for k, v in plain.rows.items() if not k.startswith("decoder.layers.*.attention")}
    own = {"step.forget": "rnn.forget", "step.value": "rnn.value", "after": "rnn_layer_norm"}
    rows.update({f"decoder.layers.*.attention.{k}": f"decoder.layers.*.{v}" for k, v in own.items()})
    return KeyMap(rows, plain.prefix, ignored=plain.ignored)


@dataclass(frozen=True)
class WithPadding(Source):
    """A table stored without the padding token's row, which is appended with this value."""

    value: float = 0.0

    def read(self, *stored: Tensor) -> Tensor:
        rows = stored[0] if stored[0].shape[0] > 1 else stored[0].T.flatten()
        return torch.cat([rows, rows.new_full((1, *rows.shape[1:]), self.value)])

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        return ours[:-1] if ours.ndim == 2 else ours[None, :-1]


def marian_keys(config: MarianSSRUConfig) -> KeyMap:
    """Return the key map of Marian's binary; its matrices are (in, out), its layers count from 1."""
    rows: dict[str, str | Source] = {"encoder.embed.token.weight": WithPadding("Wemb")}

    def norm(ours: str, theirs: str) -> None:
        rows[f"{ours}.weight"], rows[f"{ours}.bias"] = Flat(f"{theirs}_ln_scale"), Flat(f"{theirs}_ln_bias")

    def linear(ours: str, matrix: str, bias: str) -> None:
        rows[f"{ours}.weight"], rows[f"{ours}.bias"] = Transposed(matrix), Flat(bias)

    attentions = [("encoder", "attention", "self"), ("decoder", "cross", "context")]
    for side, name, stored in attentions:
        for ours, letter in {"q": "q", "k": "k", "v": "v", "out": "o"}.items():
            base = f"{side}_l*_{stored}"
            linear(f"{side}.layers.*.{name}.step.{ours}", f"{base}_W{letter}", f"{base}_b{letter}")
        norm(f"{side}.layers.*.{name}.after", f"{side}_l*_{stored}_Wo")
        linear(f"{side}.layers.*.ffn.step.up", f"{side}_l*_ffn_W1", f"{side}_l*_ffn_b1")
        linear(f"{side}.layers.*.ffn.step.down", f"{side}_l*_ffn_W2", f"{side}_l*_ffn_b2")
        norm(f"{side}.layers.*.ffn.after", f"{side}_l*_ffn_ffn")
    linear("decoder.layers.*.attention.step.forget", "decoder_l*_rnn_Wf", "decoder_l*_rnn_bf")
    rows["decoder.layers.*.attention.step.value.weight"] = Transposed("decoder_l*_rnn_W")
    norm("decoder.layers.*.attention.after", "decoder_l*_rnn_ffn")
    rows["/bias"] = WithPadding("decoder_ff_logit_out_b", -torch.inf)
    ignored = (r"_QuantMultA$", r"^special:model\.yml$")
    return KeyMap(rows, ignored=ignored, first=1)


SUPPORTED = {  # entries of model.yml that would change the computation -> the value that is computed
    "type": "transformer",
    "transformer-decoder-autoreg": "rnn",
    "dec-cell": "ssru",
    "dec-cell-base-depth": "2",
    "tied-embeddings-all": "true",
    "transformer-preprocess": "",
    "transformer-postprocess": "dan",
    "transformer-postprocess-emb": "d",
    "transformer-postprocess-top": "",
    "transformer-ffn-depth": "2",
    "transformer-train-position-embeddings": "false",
    "transformer-no-projection": "false",
    "transformer-tied-layers": "[]",
    "transformer-pool": "false",
}


def marian_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config.json entries of a Marian binary's `model.yml`.

    Raises:
        UnsupportedConfig: an entry asks for what is not computed here.
    """
    wrong = {k: metadata[k] for k, v in SUPPORTED.items() if k in metadata and str(metadata[k]).lower().strip('"') != v}
    if wrong:
        listed = ", ".join(f"{k} = {v!r} (computed: {SUPPORTED[k]!r})" for k, v in wrong.items())
        raise UnsupportedConfig(f"This Marian model asks for what is not computed here: {listed}.")
    words, heads, inner = (int(metadata[k]) for k in ("vocab-size", "transformer-heads", "transformer-dim-ffn"))
    return {
        "vocab_size": words + 1,
        "pad_token_id": words,
        "decoder_start_token_id": words,
        "eos_token_id": 0,
        "d_model": int(metadata["dim-emb"]),
        "encoder_layers": int(metadata["enc-depth"]),
        "decoder_layers": int(metadata["dec-depth"]),
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": inner,
        "decoder_ffn_dim": inner,
        "activation_function": metadata.get("transformer-ffn-activation", "relu"),
    }


ARCHITECTURE = Architecture(
    "MarianSSRU",
    MarianSSRUConfig,
    partial(bart.build, style=marian.STYLE, mixer=mixer),
    keys,
    heads={"Model": None, "MTModel": bart.generate},
    layouts={"marian": marian_keys},
    foreign_config={"marian": marian_config},
    untied_configs=lambda config: (),
)
