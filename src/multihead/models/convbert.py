"""ConvBERT (Jiang et al., 2020, arXiv:2008.02496): ELECTRA with half of its heads convolving spans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Source
from ..config import Size
from ..errors import UnsupportedConfig
from ..heads.heads import Classifier, Dense, Head, first
from ..nn.layer import Layer
from ..nn.span_convolution import SpanAttention
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import bert, electra, roformer


@dataclass(kw_only=True)
class ConvBertConfig(bert.BertConfig):
    model_type = "convbert"
    inert = ("conv_type", "linear_groups")

    embedding_size: Size = 768
    head_ratio: Size = 2
    conv_kernel_size: Size = 9
    num_groups: Literal[1] = 1
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def check(self) -> None:
        if self.conv_kernel_size % 2 == 0:
            raise UnsupportedConfig(f"conv_kernel_size must be odd, not {self.conv_kernel_size}.")

    @property
    def heads(self) -> int:
        """Number of attention heads; as many are convolutions."""
        return max(self.num_attention_heads // self.head_ratio, 1)


def build(config: ConvBertConfig) -> Stack:
    width, narrow = config.hidden_size, config.embedding_size

    def layer() -> Layer:
        head_width, dropout = width // config.heads // 2, config.attention_probs_dropout_prob
        kernel = config.conv_kernel_size
        return bert.layer(config, SpanAttention(width, config.heads, kernel, head_width=head_width, dropout=dropout))

    embed = bert.embeddings(config, narrow, project=None if narrow == width else Linear(narrow, width))
    return Stack(embed, [layer() for _ in range(config.num_hidden_layers)])


def keys(config: ConvBertConfig) -> KeyMap:
    width, kernel = config.hidden_size, config.conv_kernel_size
    inner = config.heads * (width // config.heads // 2)
    stem, ours = "encoder.layer.*.attention.self", "layers.*.attention.step.span"
    rows: dict[str, str | Source] = {
        **bert.EMBEDDING_ROWS,
        **bert.LAYER_ROWS,
        "embed.project": "embeddings_project",
        f"{ours}.depthwise": Shaped(
            f"{stem}.key_conv_attn_layer.depthwise.weight", (width, kernel), (width, 1, kernel)
        ),
        f"{ours}.pointwise.weight": Shaped(
            f"{stem}.key_conv_attn_layer.pointwise.weight", (inner, width), (inner, width, 1)
        ),
        f"{ours}.pointwise.bias": Shaped(f"{stem}.key_conv_attn_layer.bias", (inner,), (inner, 1)),
        f"{ours}.kernels": f"{stem}.conv_kernel_layer",
        f"{ours}.values": f"{stem}.conv_out_layer",
    }
    copies = (r"^generator_lm_head\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "convbert.", ignored=(r"embeddings\.position_ids$", *copies), renamed=bert.OLD_NORMS)


def classify_text(config: ConvBertConfig, backbone: Stack) -> Head:
    dense = Dense(config.hidden_size, config.hidden_act)
    head = Classifier(config.hidden_size, config.num_labels, pool=first, dense=dense, dropout=bert.dropout_of(config))
    return Head(head, {"dense.linear": "/classifier.dense", "out": "/classifier.out_proj"})


ARCHITECTURE = bert.ARCHITECTURE.derive(
    "ConvBert",
    ConvBertConfig,
    build,
    keys=keys,
    heads={
        "Model": None,
        "ForMaskedLM": electra.word_head,
        "ForSequenceClassification": classify_text,
        "ForMultipleChoice": roformer.choose,
        "ForTokenClassification": bert.token_classifier,
        "ForQuestionAnswering": bert.answer,
    },
)
