"""Encoders whose words have more than an order: places, paths, glyphs, languages; and more of BERT's relatives."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from ..case import WORDS, Case
from .bert_kin import NAMES
from .more_encoders import ALL, of, roberta
from .rotary_encoders import of as rotary

SMALL = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
EQUAL = (8, 8, 8)  # lengths, where the reference lets padding into its numbers


def boxes(inputs: dict[str, torch.Tensor], end: str) -> dict[str, Any]:
    first = torch.randint(0, 20, (*inputs["input_ids"].shape, 2))
    return {"bbox": torch.cat([first, first + torch.randint(0, 20, first.shape)], -1)}


def paths(inputs: dict[str, torch.Tensor], end: str) -> dict[str, Any]:
    shape = (*inputs["input_ids"].shape, 4)
    return {"xpath_tags_seq": torch.randint(0, 12, shape), "xpath_subs_seq": torch.randint(0, 9, shape)}


def glyphs(inputs: dict[str, torch.Tensor], end: str) -> dict[str, Any]:
    shape = inputs["input_ids"].shape
    return {"input_shape_ids": torch.randint(0, 30, shape), "input_pronunciation_ids": torch.randint(0, 20, shape)}


def glyph(**changes: Any) -> Any:
    sizes = {"pronunciation_embed_dim": 14, "pronunciation_vocab_size": 20, "shape_embed_dim": 10,
             "shape_vocab_size": 30}  # fmt: skip
    return of("RoCBert", **{**sizes, **changes})


def landmarks(**changes: Any) -> Any:
    return of("Nystromformer", **{"conv_kernel_size": 5, **changes})


def flaubert(**changes: Any) -> Any:
    sizes = {"vocab_size": WORDS, "emb_dim": 36, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 40}
    return lambda: transformers.FlaubertConfig(**{**sizes, "pad_token_id": 0, "num_labels": 3, **changes})


def entities(inputs: dict[str, torch.Tensor], end: str) -> dict[str, Any]:
    count = len(inputs["input_ids"])
    places = torch.tensor([[1, 2, -1], [3, -1, -1]]).expand(count, 2, 3).clone()
    given = {"entity_ids": torch.randint(1, 30, (count, 2)), "entity_position_ids": places,
             "entity_token_type_ids": torch.randint(0, 2, (count, 2)),
             "entity_attention_mask": torch.ones(count, 2, dtype=torch.long)}  # fmt: skip
    if end == "ForEntitySpanClassification":
        given |= {"entity_start_positions": places[..., 0], "entity_end_positions": places.amax(-1)}
    return given


ENTITIES = ("ForEntityClassification", "ForEntityPairClassification", "ForEntitySpanClassification")
DEPTH = {"max_depth": 4, "max_xpath_tag_unit_embeddings": 12, "max_xpath_subs_unit_embeddings": 9, "tag_pad_id": 11,
         "subs_pad_id": 8, "xpath_unit_hidden_size": 6}  # fmt: skip
INTEGERS = ("_integer", "scaling_factor", "x_min", "x_max", "shift")
CASES = (
    Case("luke", roberta("Luke", pad_token_id=1, entity_vocab_size=30, entity_emb_size=20),
         ("Model", *ENTITIES[:2], "ForMultipleChoice", *SMALL[1:]), absolute=True, segments=2, extra=entities,
         attentions=False, left_out=("entity_hidden_states",)),
    # The words at an entity's ends are columns of the padded batch.
    Case("luke-spans", roberta("Luke", pad_token_id=1, entity_vocab_size=30, entity_emb_size=20), ENTITIES[2:],
         absolute=True, segments=2, extra=entities, attentions=False, left_out=("entity_hidden_states",),
         lengths=EQUAL),
    Case("luke-words", roberta("Luke", pad_token_id=1, entity_vocab_size=30, entity_emb_size=20), ("ForMaskedLM",),
         absolute=True, segments=2, extra=entities, attentions=False, left_out=("entity_hidden_states",)),
    Case("luke-plain-attention", roberta("Luke", pad_token_id=1, entity_vocab_size=30, entity_emb_size=36,
         use_entity_aware_attention=False), ("Model",), absolute=True, segments=2, extra=entities, attentions=False,
         left_out=("entity_hidden_states",)),
    Case("layoutlm", of("LayoutLM", max_2d_position_embeddings=50), ("ForMaskedLM", *SMALL), absolute=True, segments=2,
         extra=boxes),
    Case("lilt", roberta("Lilt", pad_token_id=1, max_2d_position_embeddings=50, channel_shrink_ratio=3), SMALL,
         absolute=True, segments=2, extra=boxes),
    Case("markuplm", roberta("MarkupLM", pad_token_id=1, **DEPTH), SMALL, absolute=True, segments=2, extra=paths,
         unused=("xpath_unitseq2_embeddings",)),
    Case("roc-bert", glyph(), ALL, absolute=True, segments=2, extra=glyphs),
    Case("roc-bert-pretraining", glyph(), ("ForPreTraining",), absolute=True, segments=2, extra=glyphs, loss=False),
    Case("roc-bert-means", glyph(concat_input=False, shape_embed_dim=36, pronunciation_embed_dim=36), ("Model",),
         absolute=True, segments=2, extra=glyphs),
    Case("roc-bert-sounds", glyph(enable_shape=False), ("Model",), absolute=True, segments=2),
    Case("roc-bert-decoder", glyph(is_decoder=True), ("ForCausalLM",), absolute=True),
    Case("ibert", roberta("IBert", pad_token_id=1), ALL, absolute=True, segments=2, unused=INTEGERS),
    Case("nystromformer", landmarks(), ALL, absolute=True, segments=2, lengths=EQUAL),
    Case("ultrabert", rotary("Ultrabert", num_hidden_layers=4, sliding_window=2, prediction_head_size=20,
         classifier_pooling="mean", num_key_value_heads=2, **NAMES),
         ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")),
    Case("ultrabert-first-token", rotary("Ultrabert", sliding_window=3, **NAMES),
         ("ForMaskedLM", "ForSequenceClassification"), absolute=True),
    Case("esmc", rotary("Esmc", **NAMES), ("Model", "ForMaskedLM", "ForTokenClassification")),
    Case("esmc-first-token", rotary("Esmc", **NAMES), ("ForSequenceClassification",), absolute=True),
    Case("flaubert", flaubert(), ("Model", "WithLMHeadModel", "ForSequenceClassification", "ForTokenClassification",
         "ForQuestionAnsweringSimple", "ForMultipleChoice"), absolute=True),
)  # fmt: skip
