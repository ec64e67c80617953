"""Nystromformer (Xiong et al., 2021, arXiv:2102.03902): attention through landmarks, with a convolution of values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..errors import UnsupportedConfig
from ..heads.heads import Classifier, Dense, Head, first
from ..nn.attention.nystrom import NystromAttention
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm
from . import bert
from .common.architecture import Architecture


@dataclass(kw_only=True)
class NystromformerConfig(bert.BertConfig):
    model_type = "nystromformer"

    vocab_size: Size = 30000
    hidden_act: str = "gelu_new"
    max_position_embeddings: Size = 510
    segment_means_seq_len: Size = 64
    num_landmarks: Size = 64
    conv_kernel_size: Size | None = 65
    inv_coeff_init_option: Literal[False] = False  # true fails in the reference
    layer_norm_eps: float = 1e-5
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def check(self) -> None:
        if self.segment_means_seq_len % self.num_landmarks:
            raise UnsupportedConfig(
                f"segment_means_seq_len = {self.segment_means_seq_len} is no multiple of num_landmarks."
            )
        if self.conv_kernel_size is not None and self.conv_kernel_size % 2 == 0:
            raise UnsupportedConfig(f"conv_kernel_size must be odd, not {self.conv_kernel_size}.")


def build(config: NystromformerConfig) -> Stack:
    width, heads = config.hidden_size, config.num_attention_heads
    exact = config.num_landmarks == config.segment_means_seq_len

    def attention() -> NystromAttention:
        return NystromAttention(
            width,
            heads,
            landmarks=None if exact else config.num_landmarks,
            length=config.segment_means_seq_len,
            kernel=config.conv_kernel_size,
            dropout=config.attention_probs_dropout_prob,
        )

    embed = Embeddings(
        Embedding(config.vocab_size, width),
        position=LearnedPositions(config.max_position_embeddings + 2, width, offset=2, by_row=True),
        segment=Embedding(config.type_vocab_size, width),
        norm=LayerNorm(width, config.layer_norm_eps),
        dropout=config.hidden_dropout_prob,
    )
    return Stack(embed, [bert.layer(config, mixer=attention()) for _ in range(config.num_hidden_layers)])


def keys(config: NystromformerConfig) -> KeyMap:
    rows = {
        **bert.EMBEDDING_ROWS,
        **bert.LAYER_ROWS,
        "layers.*.attention.step.conv": "encoder.layer.*.attention.self.conv",
    }
    ignored = (r"embeddings\.(position|token_type)_ids$", *bert.copies(config, "cls.predictions"))
    return KeyMap(rows, "nystromformer.", ignored=ignored, aliases=bert.aliases(config, "cls.predictions"))


def classify_text(config: NystromformerConfig, backbone: Stack) -> Head:
    dense = Dense(config.hidden_size, config.hidden_act)
    head = Classifier(config.hidden_size, config.num_labels, pool=first, dense=dense)
    return Head(head, {"dense.linear": "/classifier.dense", "out": "/classifier.out_proj"})


def choose(config: NystromformerConfig, backbone: Stack) -> Head:
    head = Classifier(config.hidden_size, 1, pool=first, dense=Dense(config.hidden_size, "relu"))
    return Head(head, {"dense.linear": "/pre_classifier", "out": "/classifier"})


HEADS: dict[str, Any] = {
    "Model": None,
    "ForMaskedLM": bert.word_head,
    "ForSequenceClassification": classify_text,
    "ForMultipleChoice": choose,
    "ForTokenClassification": bert.token_classifier,
    "ForQuestionAnswering": bert.answer,
}
ARCHITECTURE = Architecture("Nystromformer", NystromformerConfig, build, keys, heads=HEADS)
