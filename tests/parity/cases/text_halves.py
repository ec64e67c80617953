"""Language models of multimodal families that are families of their own."""

from __future__ import annotations

from ..case import Case
from .decoders import ALTERNATING
from .decoders import of as decoder
from .experts import of

TURNED = {"rope_theta": 300.0, "rope_type": "default"}

CASES = (
    Case("aria", of("AriaText", moe_num_experts=5, moe_topk=2, moe_num_shared_experts=2, hidden_act="gelu",
         attention_bias=True, mlp_bias=True), ("Model", "ForCausalLM")),
    Case("cohere-compass", decoder("CohereCompassText", layer_types=ALTERNATING, sliding_window=4, logit_scale=0.3,
         rope_parameters={"full_attention": None, "sliding_attention": TURNED}),
         ("TextModel", "ForCausalLM", "TextForSequenceClassification"), stem="CohereCompass"),
    Case("cohere-compass-mean", decoder("CohereCompassText", attention_bias=True, tie_word_embeddings=False,
         rope_parameters={"full_attention": TURNED}, pooling="mean"), ("ForCausalLM", "TextForSequenceClassification"),
         stem="CohereCompass"),
)  # fmt: skip
