"""Longformer (Beltagy et al., 2020, arXiv:2004.05150): RoBERTa for long texts, few of whose tokens see everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..errors import InvalidInput, UnsupportedConfig
from ..heads.heads import Head
from ..nn.attention.sparse import GLOBAL, GlobalLocalAttention, default_global_mask, first_tokens
from ..nn.forward_context import ForwardContext
from ..nn.layer import Layer
from ..nn.ragged import positions_in_sequences
from ..nn.stack import Stack
from . import bert, roberta


@dataclass(kw_only=True)
class LongformerConfig(roberta.RobertaConfig):
    model_type = "longformer"
    inert = ("onnx_export",)

    vocab_size: Size = 30522
    attention_window: int | list[int] = 512
    sep_token_id: int | None = 2
    is_decoder: Literal[False] = False

    def check(self) -> None:
        super().check()
        if len(self.windows) != self.num_hidden_layers or any(w < 2 or w % 2 for w in self.windows):
            raise UnsupportedConfig(
                f"attention_window must be an even number above 0, or one for each of {self.num_hidden_layers} layers; "
                f"it is {self.attention_window}."
            )

    @property
    def windows(self) -> list[int]:
        one = self.attention_window
        return [one] * self.num_hidden_layers if isinstance(one, int) else one


def build(config: LongformerConfig) -> Stack:
    def layer(window: int) -> Layer:
        heads, dropout = config.num_attention_heads, config.attention_probs_dropout_prob
        return bert.layer(config, GlobalLocalAttention(config.hidden_size, heads, window=window, dropout=dropout))

    embed = bert.embeddings(config, padding=config.pad_token_id or 0)
    return Stack(embed, [layer(window) for window in config.windows])


def keys(config: LongformerConfig) -> KeyMap:
    names = {"q_global": "query_global", "k_global": "key_global", "v_global": "value_global"}
    own = {f"layers.*.attention.step.{o}": f"encoder.layer.*.attention.self.{t}" for o, t in names.items()}
    ignored = (r"embeddings\.position_ids$", *bert.copies(config, "lm_head"))
    rows = {**bert.EMBEDDING_ROWS, **bert.LAYER_ROWS, **own}
    return KeyMap(rows, "longformer.", ignored=ignored, renamed=bert.OLD_NORMS, aliases=bert.aliases(config, "lm_head"))


def around_separator(config: LongformerConfig, *, before: bool) -> Callable[[ForwardContext], Tensor]:
    """Return a rule for global tokens: the question's, or the choice's; a sequence has three separators."""

    def rule(context: ForwardContext) -> Tensor:
        if context.ids is None:
            raise InvalidInput(f"Without input_ids, say which tokens see everything: pass {GLOBAL}.")
        place = positions_in_sequences(context.runs, context.ids.device)
        ends = []
        for text, own in enumerate(context.ids.split(context.runs.lengths)):
            found = (own == config.sep_token_id).nonzero().flatten().tolist()
            if len(own) and len(found) != 3:
                raise InvalidInput(
                    f"Text {text} has {len(found)} separators ({config.sep_token_id}), not 3, so it is unknown which "
                    f"tokens are the question's; pass {GLOBAL}."
                )
            ends.append(found[0] if found else 0)
        end = torch.tensor(ends, device=place.device).repeat_interleave(
            torch.tensor(context.runs.lengths, device=place.device)
        )
        return place < end if before else place > end + 1

    return rule


def with_rule(make: Any, rule: Any) -> Any:
    """Wrap a head maker: tokens of `rule(config)` get global attention."""

    def head(config: LongformerConfig, backbone: Stack) -> Head:
        backbone.adjust = default_global_mask(rule(config))
        return make(config, backbone)

    return head


HEADS = {end: make for end, make in roberta.HEADS.items() if end != "ForCausalLM"}
ARCHITECTURE = replace(
    roberta.ARCHITECTURE,
    name="Longformer",
    config=LongformerConfig,
    build=build,
    keys=keys,
    heads={
        **HEADS,
        "ForSequenceClassification": with_rule(roberta.classify_text, lambda config: first_tokens),
        "ForMultipleChoice": with_rule(
            HEADS["ForMultipleChoice"], lambda config: around_separator(config, before=False)
        ),
        "ForQuestionAnswering": with_rule(bert.answer, lambda config: around_separator(config, before=True)),
    },
    inputs={GLOBAL: lambda given, layout: layout.pack_tokens(given)},
)
