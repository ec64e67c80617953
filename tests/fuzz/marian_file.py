"""A small translator in Marian's own binary, with int8 matrices and its model.yml."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.checkpoints import files

WORDS, WIDTH, INNER = 40, 16, 24
YML = (
    "type: transformer\ntransformer-decoder-autoreg: rnn\ndec-cell: ssru\ndim-emb: 16\nenc-depth: 1\ndec-depth: 1\n"
    "transformer-heads: 2\ntransformer-dim-ffn: 24\ntransformer-ffn-activation: relu\ntied-embeddings-all: true\n"
)


def write(path: Path) -> None:
    torch.manual_seed(2)
    tensors: dict[str, tuple[tuple[int, ...], int, bytes]] = {}

    def plain(name: str, *shape: int) -> None:
        tensors[name] = shape, 0x404, torch.randn(shape).numpy().tobytes()

    def coded(name: str, *shape: int) -> None:
        data, _ = files.intgemm(torch.randn(shape), transposed=name != "Wemb")
        tensors[name] = shape, 0x4101, data

    coded("Wemb", WORDS, WIDTH)
    for side, part in (("encoder", "self"), ("decoder", "context")):
        for letter in "qkvo":
            coded(f"{side}_l1_{part}_W{letter}", WIDTH, WIDTH)
            plain(f"{side}_l1_{part}_b{letter}", 1, WIDTH)
        for end, shape in {"1": (WIDTH, INNER), "2": (INNER, WIDTH)}.items():
            coded(f"{side}_l1_ffn_W{end}", *shape)
            plain(f"{side}_l1_ffn_b{end}", 1, shape[1])
        for name in (f"{part}_Wo", "ffn_ffn"):
            plain(f"{side}_l1_{name}_ln_scale", 1, WIDTH)
            plain(f"{side}_l1_{name}_ln_bias", 1, WIDTH)
    for name in ("Wf", "W"):
        coded(f"decoder_l1_rnn_{name}", WIDTH, WIDTH)
    plain("decoder_l1_rnn_bf", 1, WIDTH)
    plain("decoder_l1_rnn_ffn_ln_scale", 1, WIDTH)
    plain("decoder_l1_rnn_ffn_ln_bias", 1, WIDTH)
    plain("decoder_ff_logit_out_b", 1, WORDS)
    text = YML.encode() + b"\0"
    tensors["special:model.yml"] = (len(text),), 0x101, text
    files.marian(path, tensors)
