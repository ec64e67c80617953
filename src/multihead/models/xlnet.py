"""XLNet (Yang et al., 2019, arXiv:1906.08237): distances instead of positions, any order of prediction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Source
from ..config import Config, Count, Size
from ..errors import InvalidInput
from ..heads.head_types import HeadType, words
from ..heads.heads import Classifier, Head, LanguageModel, summary
from ..heads.outputs import ScoresOutput
from ..kernels.ragged import SequenceLayout
from ..nn.attention.relative import RelativeContent, TwoStreamAttention
from ..nn.attention.two_stream import TwoStream, TwoStreamLayer
from ..nn.cache.layer_cache import KVLayerCache
from ..nn.embeddings import Embeddings
from ..nn.feedforward import FeedForward
from ..nn.layer import Residual
from ..nn.masked_next import REREAD, MaskedNext
from ..nn.ragged import Layout
from ..nn.weights import Embedding, LayerNorm, Linear
from .common import spans
from .common.architecture import Architecture

# A long text before a short prompt, by Aman Rusia (github.com/rusiaaman/XLNet-gen), with the reference's line breaks.
PREFIX = """
    In 1991, the remains of Russian Tsar Nicholas II and his family (except for Alexei and Maria) are discovered. The
    voice of Nicholas's young son, Tsarevich Alexei Nikolaevich, narrates the remainder of the story. 1883 Western
    Siberia, a young Grigori Rasputin is asked by his father and a group of men to perform magic. Rasputin has a vision
    and denounces one of the men as a horse thief. Although his father initially slaps him for making such an
    accusation, Rasputin watches as the man is chased outside and beaten. Twenty years later, Rasputin sees a vision of
    the Virgin Mary, prompting him to become a priest. Rasputin quickly becomes famous, with people, even a bishop,
    begging for his blessing. <eod> </s> <eos>
    """


@dataclass(kw_only=True)
class XLNetConfig(Config):
    model_type = "xlnet"
    aliases: ClassVar = {
        "hidden_size": "d_model",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
        "n_token": "vocab_size",
    }

    vocab_size: Size = 32000
    d_model: Size = 1024
    n_layer: Count = 24
    n_head: Size = 16
    d_inner: Size = 4096
    d_head: Size | None = None
    ff_activation: str = "gelu"
    attn_type: Literal["bi", "uni"] = "bi"
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    dropout: float = 0.1
    mem_len: int | None = 512
    reuse_len: int | None = None
    use_mems_eval: bool = True
    bi_data: Literal[False] = False
    clamp_len: int = -1
    same_length: Literal[False] = False
    summary_type: Literal["first", "last", "mean"] = "last"
    summary_use_proj: bool = True
    summary_proj_to_labels: Literal[False] = False
    summary_activation: str | None = "tanh"
    summary_first_dropout: float = 0.0
    summary_last_dropout: float = 0.1
    start_n_top: Size = 5
    end_n_top: Size = 5
    pad_token_id: int | None = 5
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2


def build(config: XLNetConfig) -> TwoStream:
    width, heads, eps = config.d_model, config.n_head, config.layer_norm_eps
    head_width = config.d_head or width // heads
    clamp = config.clamp_len if config.clamp_len > 0 else None

    def layer() -> TwoStreamLayer:
        scale = head_width**-0.5
        attention = TwoStreamAttention(
            width,
            heads,
            head_width=head_width,
            bias=False,
            positions=RelativeContent(width, heads, head_width, scale=scale, clamp=clamp),
            causal=config.attn_type == "uni",
            dropout=config.dropout,
            limit=config.mem_len or None,
            share=config.reuse_len or None,
        )
        ffn = FeedForward(width, config.d_inner, config.ff_activation, dropout=config.dropout)
        return TwoStreamLayer(
            Residual(attention, after=LayerNorm(width, eps), dropout=config.dropout),
            Residual(ffn, after=LayerNorm(width, eps), dropout=config.dropout),
        )

    embed = Embeddings(Embedding(config.vocab_size, width), dropout=config.dropout)
    layers = [layer() for _ in range(config.n_layer)]
    stack = TwoStream(embed, layers, width, config.dropout, config.use_mems_eval)
    stack.masked_next = masked_next(config)
    return stack


def masked_next(config: XLNetConfig) -> MaskedNext:
    """Return the target behind a text: no token sees it, and the query stream predicts it."""
    limit = max(config.mem_len - REREAD, 0) if config.mem_len else None  # the memory is cut before its last tokens go

    def inputs(runs: SequenceLayout, device: torch.device) -> dict[str, Any]:
        lasts = [torch.arange(length, device=device) == length - 1 for length in runs.lengths]  # (length,) each
        hidden, targets = [last.expand(len(last), -1) for last in lasts], [last[None] for last in lasts]
        return {"perm_mask": hidden, "target_mapping": targets, "memory_limit": limit}

    return MaskedNext(
        0, inputs, alone=True, memory=partial(KVLayerCache, joint=True) if config.use_mems_eval else None,
        refusal="reuse_len keeps a part of each pass's memory alone" if config.reuse_len else "",
    )  # fmt: skip


def keys(config: XLNetConfig) -> KeyMap:
    width, heads = config.d_model, config.n_head
    inner, theirs = heads * (config.d_head or width // heads), "layer.*.rel_attn"
    each = inner // heads
    ours = "layers.*.attention.step"
    rows: dict[str, str | Source] = {
        "embed.token": "word_embedding",
        "mask": Shaped("mask_emb", (width,), (1, 1, width)),
        f"{ours}.out.weight": Shaped(f"{theirs}.o", (width, inner), (width, heads, each)),
        f"{ours}.positions.word_bias": f"{theirs}.r_w_bias",
        f"{ours}.positions.distance_bias": f"{theirs}.r_r_bias",
        f"{ours}.positions.segment_bias": f"{theirs}.r_s_bias",
        f"{ours}.positions.segments": f"{theirs}.seg_embed",
        "layers.*.attention.after": f"{theirs}.layer_norm",
        "layers.*.ffn.step.up": "layer.*.ff.layer_1",
        "layers.*.ffn.step.down": "layer.*.ff.layer_2",
        "layers.*.ffn.after": "layer.*.ff.layer_norm",
    }
    for name, own in (("q", "q"), ("k", "k"), ("v", "v"), ("r", "positions.distances")):
        source = Shaped(f"{theirs}.{name}", (inner, width), (width, heads, each), (1, 2, 0))
        rows[f"{ours}.{own}.weight"] = source
    copies = (r"^lm_loss\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "transformer.", ignored=copies)


def word_head(config: XLNetConfig, backbone: TwoStream) -> Head:
    tied = config.tie_word_embeddings
    table = backbone.embed.token if tied else Linear(config.d_model, config.vocab_size, bias=False)
    head = LanguageModel(table, bias=config.vocab_size)
    rows = {"bias": "/lm_loss.bias"}
    return Head(head, rows if tied else {**rows, "table": "/lm_loss"})


def classifier(config: XLNetConfig, labels: int) -> Head:
    width = config.d_model
    rows = {"pool.linear": "/sequence_summary.summary", "out": "/logits_proj"}
    return Head(Classifier(width, labels, pool=summary(config)), rows)


def classify_tokens(config: XLNetConfig, backbone: TwoStream) -> Head:
    return Head(Classifier(config.d_model, config.num_labels), {"out": "/classifier"})


def answer(config: XLNetConfig, backbone: TwoStream) -> Head:
    return Head(Classifier(config.d_model, 2), {"out": "/qa_outputs"})


def orders(given: Tensor, layout: Layout) -> list[Tensor]:
    """Return for each sequence (length, length), True where the row's token does not see the column's."""
    if tuple(given.shape) != (layout.shape[0], layout.shape[1], layout.shape[1]):
        raise InvalidInput(f"perm_mask needs shape (batch, length, length), not {list(given.shape)}.")
    columns = [layout.columns(text).to(given.device) for text in range(layout.shape[0])]
    return [given[text][own][:, own] > 0 for text, own in enumerate(columns)]


def targets(given: Tensor, layout: Layout) -> list[Tensor]:
    """Return for each sequence (targets, length), 1 at each target's position."""
    if given.ndim != 3 or (given.shape[0], given.shape[2]) != layout.shape:
        raise InvalidInput(f"target_mapping needs shape (batch, targets, length), not {list(given.shape)}.")
    return [given[text][:, layout.columns(text).to(given.device)].to(torch.float32) for text in range(layout.shape[0])]


ARCHITECTURE = Architecture(
    "XLNet",
    XLNetConfig,
    build,
    keys,
    heads={
        "Model": None,
        "LMHeadModel": word_head,
        "ForSequenceClassification": lambda config, backbone: classifier(config, config.num_labels),
        "ForMultipleChoice": lambda config, backbone: classifier(config, 1),
        "ForTokenClassification": classify_tokens,
        "ForQuestionAnsweringSimple": answer,
        "ForQuestionAnswering": spans.searcher(""),
    },
    head_types={
        "LMHeadModel": HeadType("AutoModelForCausalLM", ScoresOutput, words),
        "ForQuestionAnswering": spans.HEAD_TYPE,
    },
    inputs={"perm_mask": orders, "target_mapping": targets},
    memory_names=("mems", "use_mems"),
    prefix=PREFIX,
    reads_positions=False,
)
