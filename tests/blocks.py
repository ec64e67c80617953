"""GGUF files of random blocks: a small Llama whose matrices are of any type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy
import torch

HALVES = {
    "Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,), "TQ1_0": (52,), "TQ2_0": (64,),
    **dict.fromkeys(("Q4_1", "Q5_1", "Q4_K", "Q5_K"), (0, 2)), **dict.fromkeys(("IQ1_M", "MXFP4", "NVFP4"), ()),
}  # fmt: skip
SPREAD = {  # of a type's codes times its scales of groups, so that numbers of all types are about as large
    "Q4_0": 4.6, "Q4_1": 8.8, "Q5_0": 9.2, "Q5_1": 18.0, "Q8_0": 74.0, "Q2_K": 15.0, "Q3_K": 43.0, "Q4_K": 330.0,
    "Q5_K": 670.0, "Q6_K": 1400.0, "Q1_0": 1.0, "TQ1_0": 0.8, "TQ2_0": 1.2, "IQ1_S": 7.0, "IQ1_M": 7.0,
    "IQ2_XXS": 54.0, "IQ2_XS": 54.0, "IQ2_S": 54.0, "IQ3_XXS": 170.0, "IQ3_S": 170.0, "IQ4_NL": 66.0, "IQ4_XS": 1200.0,
    "MXFP4": 5.9, "NVFP4": 5.9,
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
    if kind == "IQ1_M":  # the highest bits of four numbers are those of one in half precision
        parts = found[:, 48:].view(numpy.uint16)
        half = int(numpy.float16(0.75 * scale).view(numpy.uint16))
        parts[:] = parts & 0xFFF | [(half >> n & 15) << 12 for n in (0, 4, 8, 12)]
    if kind == "MXFP4":  # a power of two
        found[:, 0] = draw.integers(-1, 1, len(found)) + round(128 + numpy.log2(scale))
    if kind == "NVFP4":  # four of exponent, three bits of mantissa
        found[:, :4] = draw.integers(0, 8, (len(found), 4)) + 8 * round(7 + numpy.log2(scale))
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
    split: int = 0,
) -> Path:
    """Writes a Llama of four heads whose matrices are of a type, those of `others` (ends of names) of their own.

    Args:
        split: tensors of a part; 0 for one file.
    """
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=split)
    head = width // 4
    for name, value in {
        "context_length": 64, "embedding_length": width, "block_count": layers, "feed_forward_length": inner,
        "attention.head_count": 4, "attention.head_count_kv": 2, "vocab_size": words,
    }.items():  # fmt: skip
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["w", "0", *(f"w{number}" for number in range(words - 2))])
    writer.add_token_merges(["w 0"])
    writer.add_tokenizer_pre("gpt-2")
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
