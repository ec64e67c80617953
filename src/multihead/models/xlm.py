"""XLM (Lample and Conneau, 2019, arXiv:1901.07291): a BERT whose tokens also have a language. FlauBERT."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count, Size
from ..heads.head_types import HEAD_TYPES
from ..heads.heads import Classifier, Head, LanguageModel, Summary, summary
from ..kernels.ragged import SequenceLayout
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings, LearnedPositions, check_ids
from ..nn.feedforward import FeedForward
from ..nn.forward_context import ForwardContext
from ..nn.layer import Layer, Residual
from ..nn.masked_next import MaskedNext
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm, Linear
from .common import spans
from .common.architecture import Architecture

OLD_NAMES = {"n_words": "vocab_size", "pad_index": "pad_token_id", "eos_index": "eos_token_id"}


@dataclass(kw_only=True)
class XLMConfig(Config):
    model_type = "xlm"
    aliases: ClassVar = {
        "hidden_size": "emb_dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
        "n_words": "vocab_size",
    }

    vocab_size: Size = 30145
    emb_dim: Size = 2048
    n_layers: Count = 12
    n_heads: Size = 16
    dropout: float = 0.1
    attention_dropout: float = 0.1
    gelu_activation: bool = True
    sinusoidal_embeddings: bool = False  # only how the stored table was filled
    causal: bool = False
    asm: Literal[False] = False
    n_langs: Size = 1
    use_lang_emb: bool = True
    max_position_embeddings: Size = 512
    init_std: float = 0.02
    layer_norm_eps: float = 1e-12
    is_encoder: Literal[True] = True
    summary_type: Literal["first", "last", "mean"] = "first"
    summary_use_proj: bool = True
    summary_proj_to_labels: bool = True
    summary_activation: str | None = None
    summary_first_dropout: float = 0.1
    summary_last_dropout: float = 0.0
    start_n_top: Size = 5
    end_n_top: Size = 5
    mask_token_id: int | None = 0
    lang_id: int = 0
    pad_token_id: int | None = 2
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Rename a few entries to their current names."""
        old = {new: entries[name] for name, new in OLD_NAMES.items() if name in entries}
        return {**old, **{k: v for k, v in entries.items() if k not in OLD_NAMES}}


@dataclass(kw_only=True)
class FlaubertConfig(XLMConfig):
    model_type = "flaubert"
    inert = tuple(
        """
        amp attention_setup bptt langs clip_grad_norm embed_init_std encoder_only fp16 group_by_size lg_sampling_factor
        lgs max_batch_size max_vocab mlm_steps sample_alpha share_inout_emb tokens_per_batch word_blank
        word_dropout word_keep word_mask word_mask_keep_rand word_pred word_rand word_shuffle id2lang lang2id
        """.split()
    )

    pre_norm: bool = False
    layerdrop: float = 0.0


class LanguageEmbeddings(Embeddings):
    """Embeddings of tokens, positions, languages (`langs`) and token types, which are token vectors too."""

    def __init__(self, token: nn.Embedding, languages: nn.Embedding | None, **options: Any) -> None:
        super().__init__(token, worded=True, **options)
        self.languages = languages

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        langs = context.extra_inputs.get("langs")
        if langs is not None and self.languages is not None:
            check_ids(langs, self.languages.num_embeddings, "language", "table of languages")
            words = words + self.languages(langs)
        return super().forward(words, context)


def build(config: XLMConfig) -> Stack:
    width, eps = config.emb_dim, config.layer_norm_eps

    def step(module: nn.Module) -> Residual:
        place = "before" if getattr(config, "pre_norm", False) else "after"
        return Residual(module, dropout=config.dropout, **{place: LayerNorm(width, eps)})  # type: ignore[arg-type]

    def layer() -> Layer:
        attention = Attention(width, config.n_heads, causal=config.causal, dropout=config.attention_dropout)
        ffn = FeedForward(width, 4 * width, "gelu" if config.gelu_activation else "relu")
        return Layer(step(attention), step(ffn))

    embed = LanguageEmbeddings(
        Embedding(config.vocab_size, width),
        Embedding(config.n_langs, width) if config.n_langs > 1 and config.use_lang_emb else None,
        position=LearnedPositions(config.max_position_embeddings, width),
        norm=LayerNorm(width, eps),
        dropout=config.dropout,
    )
    stack = Stack(embed, [layer() for _ in range(config.n_layers)], drop=getattr(config, "layerdrop", 0.0))
    stack.masked_next = masked_next(config)
    return stack


def masked_next(config: XLMConfig) -> MaskedNext:
    """Return the mask token of a text's end, in the language that the config names."""
    mask, refusal = config.mask_token_id, ""
    if mask is None or not 0 <= mask < config.vocab_size or mask == config.pad_token_id:
        refusal = f"mask_token_id = {mask} is no word that can stand for the next one"

    def languages(runs: SequenceLayout, device: torch.device) -> dict[str, Tensor]:
        return {"langs": torch.full((sum(runs.lengths),), config.lang_id, device=device)}

    return MaskedNext(mask or 0, languages, refusal=refusal)


def keys(config: XLMConfig) -> KeyMap:
    attention = {"q": "q_lin", "k": "k_lin", "v": "v_lin", "out": "out_lin"}
    place = "before" if getattr(config, "pre_norm", False) else "after"
    rows = {
        "embed.token": "embeddings",
        "embed.position.table": "position_embeddings",
        "embed.languages": "lang_embeddings",
        "embed.norm": "layer_norm_emb",
        **{f"layers.*.attention.step.{ours}": f"attentions.*.{theirs}" for ours, theirs in attention.items()},
        f"layers.*.attention.{place}": "layer_norm1.*",
        "layers.*.ffn.step.up": "ffns.*.lin1",
        "layers.*.ffn.step.down": "ffns.*.lin2",
        f"layers.*.ffn.{place}": "layer_norm2.*",
    }
    copies = (r"^pred_layer\.proj\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "transformer.", ignored=(r"(^|\.)position_ids$", *copies))


def word_head(config: XLMConfig, backbone: Stack) -> Head:
    tied = config.tie_word_embeddings
    table: nn.Module = backbone.embed.token if tied else Linear(config.emb_dim, config.vocab_size, bias=False)
    rows = {"bias": "/pred_layer.proj.bias"}
    rows = rows if tied else {**rows, "table": "/pred_layer.proj"}
    return Head(LanguageModel(table, bias=config.vocab_size), rows)


def classify_text(config: XLMConfig, backbone: Stack) -> Head:
    return Head(summary(config), {"linear": "/sequence_summary.summary"})


def choose(config: XLMConfig, backbone: Stack) -> Head:
    pool: Summary = summary(config)
    rows = {"pool.linear": "/sequence_summary.summary", "out": "/logits_proj"}
    return Head(Classifier(config.num_labels, 1, pool=pool), rows)


def classify_tokens(config: XLMConfig, backbone: Stack) -> Head:
    return Head(Classifier(config.emb_dim, config.num_labels, dropout=config.dropout), {"out": "/classifier"})


def answer(config: XLMConfig, backbone: Stack) -> Head:
    return Head(Classifier(config.emb_dim, 2), {"out": "/qa_outputs"})


ARCHITECTURE = Architecture(
    "XLM",
    XLMConfig,
    build,
    keys,
    heads={
        "Model": None,
        "WithLMHeadModel": word_head,
        "ForSequenceClassification": classify_text,
        "ForMultipleChoice": choose,
        "ForTokenClassification": classify_tokens,
        "ForQuestionAnsweringSimple": answer,
        "ForQuestionAnswering": spans.searcher("qa_outputs."),
    },
    head_types={
        "ForQuestionAnswering": spans.HEAD_TYPE,
        "WithLMHeadModel": replace(HEAD_TYPES["WithLMHeadModel"], writes=True),
    },
    inputs={"langs": lambda given, layout: layout.pack_tokens(given)},
)
FLAUBERT = replace(ARCHITECTURE, name="Flaubert", config=FlaubertConfig)
