"""BioGPT (Luo et al., 2022, arXiv:2210.10341): XGLM's layers with learned positions, trained on biomedical texts."""

from __future__ import annotations

from dataclasses import dataclass

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count, Size
from ..heads.heads import Classifier, Head, LanguageModel
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.stack import Stack
from ..nn.weights import LayerNorm, Linear
from . import llama, xglm
from .common.architecture import Architecture


@dataclass(kw_only=True)
class BioGptConfig(Config):
    model_type = "biogpt"
    inert = ("layer_norm_eps",)  # norms have 1e-5, whatever it says

    vocab_size: Size = 42384
    hidden_size: Size = 1024
    num_hidden_layers: Count = 24
    num_attention_heads: Size = 16
    intermediate_size: Size = 4096
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    activation_dropout: float = 0.0
    classifier_dropout: float | None = None
    layerdrop: float = 0.0
    max_position_embeddings: Size = 1024
    initializer_range: float = 0.02
    scale_embedding: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2


def build(config: BioGptConfig) -> Stack:
    width = config.hidden_size
    embed = Embeddings(
        xglm.words(config.vocab_size, width, config.scale_embedding),
        position=LearnedPositions(config.max_position_embeddings + 2, width, offset=2),
        dropout=config.hidden_dropout_prob,
    )
    sizes = width, config.num_attention_heads, config.intermediate_size, config.hidden_act
    rates = config.hidden_dropout_prob, config.attention_probs_dropout_prob, config.activation_dropout
    layers = [xglm.layer(*sizes, *rates) for _ in range(config.num_hidden_layers)]
    return Stack(embed, layers, LayerNorm(width), drop=config.layerdrop)


def keys(config: BioGptConfig) -> KeyMap:
    copies = (r"^output_projection\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(xglm.ROWS, "biogpt.", ignored=copies)


def generate(config: BioGptConfig, backbone: Stack) -> Head:
    if config.tie_word_embeddings:
        return Head(LanguageModel(backbone.embed.token))
    return Head(
        LanguageModel(Linear(config.hidden_size, config.vocab_size, bias=False)), {"table": "/output_projection"}
    )


def classify_tokens(config: BioGptConfig, backbone: Stack) -> Head:
    given = config.classifier_dropout
    dropout = config.hidden_dropout_prob if given is None else given
    return Head(Classifier(config.hidden_size, config.num_labels, dropout=dropout), {"out": "/classifier"})


ARCHITECTURE = Architecture(
    "BioGpt",
    BioGptConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForCausalLM": generate,
        "ForTokenClassification": classify_tokens,
        "ForSequenceClassification": llama.classify_text,
    },
)
