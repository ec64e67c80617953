"""BERT and RoBERTa with norms before each step: Megatron BERT (Shoeybi et al., 2019, arXiv:1909.08053).

XLM-RoBERTa XL (Goyal et al., 2021, arXiv:2105.00572), RoBERTa-PreLayerNorm (Ott et al., 2019, arXiv:1904.01038).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.feedforward import FeedForward
from ..nn.layer import CrossLayer, Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import LayerNorm
from . import bert, roberta


@dataclass(kw_only=True)
class MegatronBertConfig(bert.BertConfig):
    model_type = "megatron-bert"

    vocab_size: Size = 29056
    hidden_size: Size = 1024
    num_hidden_layers: Count = 24
    num_attention_heads: Size = 16
    intermediate_size: Size = 4096


@dataclass(kw_only=True)
class XLMRobertaXLConfig(roberta.RobertaConfig):
    model_type = "xlm-roberta-xl"

    vocab_size: Size = 250880
    hidden_size: Size = 2560
    num_hidden_layers: Count = 36
    num_attention_heads: Size = 32
    intermediate_size: Size = 10240
    max_position_embeddings: Size = 514
    type_vocab_size: Size = 1
    layer_norm_eps: float = 1e-5


@dataclass(kw_only=True)
class RobertaPreLayerNormConfig(roberta.RobertaConfig):
    model_type = "roberta-prelayernorm"


def layer(config: Any) -> Layer:
    """Build a pre-norm layer; a decoder's may have cross-attention."""
    width, heads, dropout = config.hidden_size, config.num_attention_heads, config.attention_probs_dropout_prob

    def step(module: nn.Module) -> Residual:
        return Residual(module, before=LayerNorm(width, config.layer_norm_eps), dropout=config.hidden_dropout_prob)

    own = step(Attention(width, heads, causal=config.is_decoder, dropout=dropout))
    last = step(FeedForward(width, config.intermediate_size, config.hidden_act))
    if not config.add_cross_attention:
        return Layer(own, last)
    return CrossLayer(own, step(CrossAttention(width, heads, dropout=dropout)), last)


def encoder(config: Any, **embeddings: Any) -> Stack:
    """Build the layers with a norm after the last; `embeddings` are options of `bert.embeddings`."""
    layers = [layer(config) for _ in range(config.num_hidden_layers)]
    return Stack(bert.embeddings(config, **embeddings), layers, LayerNorm(config.hidden_size, config.layer_norm_eps))


def build(config: MegatronBertConfig) -> Stack:
    return encoder(config, normed=False)


def build_xl(config: XLMRobertaXLConfig) -> Stack:
    return encoder(config, normed=False, padding=config.pad_token_id or 0)


def build_roberta(config: RobertaPreLayerNormConfig) -> Stack:
    return encoder(config, padding=config.pad_token_id or 0)


def key_map(config: Any, prefix: str, norms: tuple[str, str, str], predictions: str) -> KeyMap:
    """Build a key map.

    Args:
        norms: stored names of an attention's norm, of a feed-forward's and of the last.
    """
    own, ffn, last = norms
    rows = {ours: theirs for ours, theirs in bert.LAYER_ROWS.items() if not ours.endswith(".after")}
    renamed = {
        "layers.*.attention.before": f"encoder.layer.*.attention.{own}",
        "layers.*.cross.before": f"encoder.layer.*.crossattention.{own}",
        "layers.*.ffn.before": f"encoder.layer.*.{ffn}",
        "norm": last,
    }
    ignored = (r"embeddings\.position_ids$", *bert.copies(config, predictions))
    aliases = bert.aliases(config, predictions)
    return KeyMap({**bert.EMBEDDING_ROWS, **rows, **renamed}, prefix, ignored=ignored, aliases=aliases)


def keys(config: MegatronBertConfig) -> KeyMap:
    return key_map(config, "bert.", ("ln", "ln", "encoder.ln"), "cls.predictions")


def xl_keys(config: XLMRobertaXLConfig) -> KeyMap:
    return key_map(config, "roberta.", ("self_attn_layer_norm", "LayerNorm", "encoder.LayerNorm"), "lm_head")


def roberta_keys(config: RobertaPreLayerNormConfig) -> KeyMap:
    norms = ("LayerNorm", "intermediate.LayerNorm", "LayerNorm")
    return key_map(config, "roberta_prelayernorm.", norms, "lm_head")


BERT_HEADS = {("ForCausalLM" if end == "LMHeadModel" else end): make for end, make in bert.ARCHITECTURE.heads.items()}
ARCHITECTURE = bert.ARCHITECTURE.derive("MegatronBert", MegatronBertConfig, build, keys=keys, heads=BERT_HEADS)
XLM_ROBERTA_XL = roberta.ARCHITECTURE.derive("XLMRobertaXL", XLMRobertaXLConfig, build_xl, keys=xl_keys)
ROBERTA = roberta.ARCHITECTURE.derive(
    "RobertaPreLayerNorm", RobertaPreLayerNormConfig, build_roberta, keys=roberta_keys
)
