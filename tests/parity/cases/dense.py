"""Dense decoders: Llama's relatives with other norms, activations, windows and scales."""

from __future__ import annotations

from typing import Any

from ..case import Case
from .decoders import ALL, ENDS, FEW, of

CLASSES = ("Model", "ForCausalLM", "ForSequenceClassification")
LATENT = {
    "kv_lora_rank": 10,
    "q_lora_rank": 14,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 5,
    "num_key_value_heads": 6,
}
MUP = {"embedding_multiplier": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.4, "logits_scaling": 2.5}
SLIDES = ["full_attention", "sliding_attention", "sliding_attention"]


def whole(model: Any, end: str) -> None:
    """Keep xIELU's parameters in float32: the reference makes them in bfloat16 beside float32 weights."""
    model.float()


def unpadded(model: Any, end: str) -> None:
    """Clear the row of padding, which the reference does when it loads Youtu."""
    model.get_input_embeddings().weight[0] = 0


# Hunyuan's norms after the rotation have weights, so that its scores depend on absolute positions.
CASES = (
    Case("seed_oss", of("SeedOss", head_dim=8), ALL),
    Case("seed_oss-out-bias", of("SeedOss", head_dim=8, attention_out_bias=True, mlp_bias=True), ("ForCausalLM",)),
    Case("exaone4", of("Exaone4", sliding_window=4, sliding_window_pattern=3), ALL),
    Case("exaone4-without-windows", of("Exaone4", sliding_window=None, layer_types=["full_attention"] * 3),
         ("ForCausalLM",)),
    Case("ernie4_5", of("Ernie4_5", head_dim=8), FEW),
    Case("ernie4_5-biased", of("Ernie4_5", head_dim=6, use_bias=True, tie_word_embeddings=False), ("ForCausalLM",)),
    Case("hunyuan_v1_dense", of("HunYuanDenseV1", head_dim=8), CLASSES, absolute=True),
    Case("hunyuan_v1_dense-alpha", of("HunYuanDenseV1", head_dim=8, attention_bias=True,
         rope_parameters={"rope_type": "dynamic", "alpha": 50.0, "factor": 1.0, "rope_theta": 100.0}),
         ("ForCausalLM",), absolute=True),
    Case("nemotron", of("Nemotron", head_dim=8), ALL),
    Case("nemotron-biased", of("Nemotron", head_dim=12, attention_bias=True, mlp_bias=True), ("ForCausalLM",)),
    Case("arcee", of("Arcee"), ALL),
    Case("apertus", of("Apertus"), ("Model", "ForCausalLM", "ForTokenClassification"), altered=whole),
    Case("helium", of("Helium", head_dim=6), ENDS),
    Case("cwm", of("Cwm", sliding_window=4, layer_types=SLIDES, head_dim=8), FEW),
    Case("hyperclovax", of("HyperCLOVAX", **MUP), FEW),
    Case("hyperclovax-without-norms", of("HyperCLOVAX", use_post_norm=False), ("ForCausalLM",)),
    Case("internlm3", of("InternLM3", head_dim=8), FEW, alike="Llama"),
    Case("internlm3-biased", of("InternLM3", head_dim=8, qkv_bias=True, bias=True), ("ForCausalLM",), alike="Llama"),
    Case("iquestcoder", of("IQuestCoder", head_dim=8), FEW, alike="Llama"),
    Case("persimmon", of("Persimmon", num_key_value_heads=None, hidden_size=48), ENDS),
    Case("persimmon-without-norms", of("Persimmon", num_key_value_heads=None, hidden_size=48, qk_layernorm=False),
         ("ForCausalLM",)),
    Case("nanochat", of("NanoChat"), FEW),
    Case("jais2", of("Jais2"), FEW),
    Case("bitnet", of("BitNet"), FEW),
    Case("bitnet-tied-biased", of("BitNet", tie_word_embeddings=True, attention_bias=True), ("ForCausalLM",)),
    Case("youtu", of("Youtu", **LATENT), FEW, altered=unpadded),
    Case("youtu-whole-queries", of("Youtu", **{**LATENT, "q_lora_rank": None}, rope_interleave=False,
         attention_bias=True, tie_word_embeddings=False), ("ForCausalLM",), altered=unpadded),
    Case("minicpm3", of("MiniCPM3", **LATENT), CLASSES),
    Case("diffllama", of("DiffLlama", hidden_size=48, num_attention_heads=4), ALL),
    Case("diffllama-biased-wide-heads", of("DiffLlama", head_dim=6, attention_bias=True), ("ForCausalLM",)),
    Case("vaultgemma", of("VaultGemma", head_dim=8, sliding_window=4, query_pre_attn_scalar=10), FEW),
)  # fmt: skip
