"""GGUF files of random blocks: a small Llama whose matrices are of any type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy
import torch

HALVES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,)} | dict.fromkeys(("Q4_1", "Q5_1", "Q4_K", "Q5_K"), (0, 2))
SPREAD = {  # of a type's codes times its scales of groups, so that numbers of all types are about as large
    "Q4_0": 4.6, "Q4_1": 8.8, "Q5_0": 9.2, "Q5_1": 18.0, "Q8_0": 74.0, "Q2_K": 15.0, "Q3_K": 43.0, "Q4_K": 330.0,
    "Q5_K": 670.0, "Q6_K": 1400.0,
}  # fmt: skip
MINIMA = {"Q4_1": -8, "Q5_1": -16, "Q2_K": 1.5, "Q4_K": 7.5, "Q5_K": 15.5}  # over the scale: numbers lie around zero
PLAIN = {"F32": numpy.float32, "F16": numpy.float16}


def blocks(kind: str, rows: int, columns: int, seed: int = 0, size: float = 0.1) -> numpy.ndarray:
    """(rows, bytes): random codes, whose scales make numbers of about this size."""
    numbers, width = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    draw = numpy.random.default_rng(seed)
    found = draw.integers(0, 256, (rows * columns // numbers, width), dtype=numpy.uint8)
    scale = size / SPREAD[kind]
    for number, place in enumerate(HALVES.get(kind, (0,))):
        halves = draw.uniform(0.5, 1, len(found)) * scale * (MINIMA[kind] if number else 1)
        found[:, place : place + 2] = halves.astype(numpy.float16).view(numpy.uint8).reshape(-1, 2)
    return found.reshape(rows, -1)


def llama(
    path: Path,
    kind: str,
    others: Mapping[str, str] | None = None,
    *,
    tied: bool = False,
    layers: int = 2,
    width: int = 256,
    inner: int = 512,
    words: int = 96,
) -> Path:
    """Writes a Llama of four heads whose matrices are of a type, those of `others` (ends of names) of their own."""
    writer = gguf.GGUFWriter(path, "llama")
    head = width // 4
    for name, value in {
        "context_length": 64, "embedding_length": width, "block_count": layers, "feed_forward_length": inner,
        "attention.head_count": 4, "attention.head_count_kv": 2, "vocab_size": words,
    }.items():  # fmt: skip
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"w{number}" for number in range(words)])
    writer.add_token_merges([])
    shapes = {"token_embd": (words, width), **({} if tied else {"output": (words, width)})}
    for layer in range(layers):
        each = {
            "attn_q": (width, width), "attn_k": (2 * head, width), "attn_v": (2 * head, width),
            "attn_output": (width, width), "ffn_gate": (inner, width), "ffn_up": (inner, width),
            "ffn_down": (width, inner),
        }  # fmt: skip
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in each.items()}
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", numpy.ones(width, numpy.float32))
    writer.add_tensor("output_norm.weight", numpy.ones(width, numpy.float32))
    for seed, (name, shape) in enumerate(shapes.items()):
        own = next((k for end, k in (others or {}).items() if f".{name}".endswith(f".{end}")), kind)
        if own in PLAIN:
            value = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).mul(0.1).numpy()
            writer.add_tensor(f"{name}.weight", value.astype(PLAIN[own]))
        else:
            value = blocks(own, *shape, seed)
            writer.add_tensor(f"{name}.weight", value, raw_dtype=gguf.GGMLQuantizationType[own])
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    return path
