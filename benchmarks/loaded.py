"""Models as they are loaded, with nothing asked for, beside the reference: new tokens a second of one text on a CPU.

python benchmarks/loaded.py [--runs 3] [--only GPT-2 ...] [--json results.json]

Random weights, written once by the reference and read by both; texts never end by themselves, so that both make as many
tokens. Both are in one process and take turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers

import multihead
from peers import record

NEW = 48
PROMPT = torch.arange(5, 29)[None]
MARIAN = {
    "vocab_size": 58_101, "d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 8,
    "decoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048, "pad_token_id": 58_100,
    "eos_token_id": 0, "decoder_start_token_id": 58_100, "max_position_embeddings": 512, "forced_eos_token_id": None,
}  # fmt: skip
BART = {
    "encoder_layers": 6, "decoder_layers": 6, "d_model": 768, "encoder_attention_heads": 12,
    "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "forced_eos_token_id": None,
    "forced_bos_token_id": None,
}  # fmt: skip
T5 = {"d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8, "decoder_start_token_id": 0}
EXPERTS = {
    "vocab_size": 32_000, "hidden_size": 512, "num_hidden_layers": 16, "num_experts": 32, "num_experts_per_tok": 4,
    "moe_intermediate_size": 384, "intermediate_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 4,
    "head_dim": 64, "eos_token_id": None, "bos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
HYBRID = {
    "vocab_size": 32_000, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 128, "linear_num_key_heads": 8,
    "linear_num_value_heads": 16, "linear_key_head_dim": 64, "linear_value_head_dim": 64, "eos_token_id": None,
    "bos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
CORRECTED = {
    "vocab_size": 32_000, "hidden_size": 512, "num_hidden_layers": 16, "n_routed_experts": 32, "n_shared_experts": 1,
    "num_experts_per_tok": 4, "first_k_dense_replace": 1, "moe_intermediate_size": 384, "intermediate_size": 1024,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "use_qk_norm": True, "eos_token_id": None,
    "bos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
SINKS = {
    "vocab_size": 32_000, "hidden_size": 512, "num_hidden_layers": 16, "num_local_experts": 32,
    "num_experts_per_tok": 4, "intermediate_size": 384, "num_attention_heads": 8, "num_key_value_heads": 4,
    "head_dim": 64, "sliding_window": 128, "eos_token_id": None, "bos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
GEMMA3 = {
    "vocab_size": 32_000, "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "sliding_window": 512, "eos_token_id": None,
    "bos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
MAMBA = "linear_attention"
GRANITE4 = {
    "vocab_size": 32_000, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "num_key_value_heads": 4, "shared_intermediate_size": 1536, "num_local_experts": 0, "mamba_n_heads": 24,
    "mamba_d_head": 64, "mamba_d_state": 128, "attention_multiplier": 0.015, "tie_word_embeddings": True,
    "layer_types": [*[MAMBA] * 3, "full_attention", *[MAMBA] * 5, "full_attention", *[MAMBA] * 2],
    "eos_token_id": None, "bos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
CONVOLUTIONS = {
    "vocab_size": 32_000, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 12,
    "num_attention_heads": 16, "num_key_value_heads": 8, "full_attn_idxs": [2, 5, 8, 10], "eos_token_id": None,
    "bos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
CASES: dict[str, tuple[Any, int, dict[str, Any]]] = {  # config, beams, options of ours alone
    "GPT-2": (transformers.GPT2Config(eos_token_id=None, bos_token_id=None), 1, {}),
    "T5 small": (transformers.T5Config(**T5), 1, {}),
    "T5 small, beam 4": (transformers.T5Config(**T5), 4, {}),
    "Marian base, beam 4": (transformers.MarianConfig(**MARIAN), 4, {}),
    "BART base, beam 4": (transformers.BartConfig(**BART), 4, {}),
    "Gemma 3, 18 layers of 640": (transformers.Gemma3TextConfig(**GEMMA3), 1, {}),
    "Granite 4, Mamba 2 and attention": (transformers.GraniteMoeHybridConfig(**GRANITE4), 1, {}),
    "Granite 4, int8": (transformers.GraniteMoeHybridConfig(**GRANITE4), 1, {"precision": "int8"}),
    "LFM2": (transformers.Lfm2Config(**CONVOLUTIONS), 1, {}),
    "LFM2, int8": (transformers.Lfm2Config(**CONVOLUTIONS), 1, {"precision": "int8"}),
    "Qwen3-MoE, 32 experts": (transformers.Qwen3MoeConfig(**EXPERTS), 1, {}),
    "Qwen3.5, 12 layers": (transformers.Qwen3_5TextConfig(**HYBRID), 1, {}),
    "Qwen3.5, 12 layers, bfloat16": (transformers.Qwen3_5TextConfig(**HYBRID, dtype="bfloat16"), 1, {}),
    "Qwen3.5, 12 layers, int8": (transformers.Qwen3_5TextConfig(**HYBRID), 1, {"precision": "int8"}),
    "Qwen3-MoE, 32 experts, int8": (transformers.Qwen3MoeConfig(**EXPERTS), 1, {"precision": "int8"}),
    "GLM-4.5, 32 experts": (transformers.Glm4MoeConfig(**CORRECTED), 1, {}),
    "GPT-OSS, 32 experts": (transformers.GptOssConfig(**SINKS), 1, {}),
    "GPT-OSS, 32 experts, int8": (transformers.GptOssConfig(**SINKS), 1, {"precision": "int8"}),
    "GLM-4.5, 32 experts, int8": (transformers.Glm4MoeConfig(**CORRECTED), 1, {"precision": "int8"}),
}


def pair(config: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """Ours and the reference's model with the same weights."""
    kind = "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"
    torch.manual_seed(0)
    reference = getattr(transformers, kind).from_config(config, dtype=config.dtype or torch.float32).eval()
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        return getattr(multihead, kind).from_pretrained(folder, **options), reference


def speed(model: Any, beams: int) -> float:
    began = time.perf_counter()
    model.generate(PROMPT, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, num_beams=beams)
    return NEW / (time.perf_counter() - began)


def measured(title: str, runs: int, models: dict[str, Callable[[], float]]) -> dict[str, Any]:
    for one in models.values():
        one()  # what is made once is made before
    found: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(runs):
        for name, one in models.items():
            found[name].append(one())
    median = {name: statistics.median(values) for name, values in found.items()}
    ratio = median["multihead"] / median["reference"]
    print(f"{title:32}{median['multihead']:8.1f}{median['reference']:8.1f} {ratio:6.2f} x", flush=True)
    return {"title": title, "runs": found, "median": median, "ratio": ratio}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--only", nargs="*", help="parts of titles")
    options.add_argument("--json", help="write the results here")
    chosen = options.parse_args()
    transformers.logging.set_verbosity_error()
    print(f"{'new tokens a second':32}{'ours':>8}{'theirs':>8}")
    results = []
    for title, (config, beams, own) in CASES.items():
        if chosen.only and not any(part in title for part in chosen.only):
            continue
        ours, theirs = pair(config, own)
        models = {"multihead": lambda m=ours, b=beams: speed(m, b), "reference": lambda m=theirs, b=beams: speed(m, b)}
        results.append(measured(title, chosen.runs, models))
    record(results, chosen.json)


if __name__ == "__main__":
    main()
