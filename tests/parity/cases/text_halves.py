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
    Case("deepseek-ocr2", of("DeepseekOcr2Text", n_routed_experts=6, n_shared_experts=2, num_experts_per_tok=2,
         moe_intermediate_size=24, mlp_layer_types=["dense", "sparse", "sparse"], topk_method="group_limited_greedy",
         n_group=3, topk_group=2, routed_scaling_factor=1.7, attention_bias=True, mlp_bias=True), ("TextModel",),
         stem="DeepseekOcr2"),
    Case("cohere-compass", decoder("CohereCompassText", layer_types=ALTERNATING, sliding_window=4, logit_scale=0.3,
         rope_parameters={"full_attention": None, "sliding_attention": TURNED}),
         ("TextModel", "ForCausalLM", "TextForSequenceClassification"), stem="CohereCompass"),
    Case("cohere-compass-mean", decoder("CohereCompassText", attention_bias=True, tie_word_embeddings=False,
         rope_parameters={"full_attention": TURNED}, pooling="mean"), ("ForCausalLM", "TextForSequenceClassification"),
         stem="CohereCompass"),
)  # fmt: skip
