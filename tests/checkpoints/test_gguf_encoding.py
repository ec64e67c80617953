"""Blocks of GGUF that are written: what they lose, beside llama.cpp's own, and which tensor has which type."""

from __future__ import annotations

import gguf
import numpy
import pytest
import torch

from multihead.checkpoints.gguf import read
from multihead.checkpoints.gguf_blocks import GgufTensors
from multihead.checkpoints.gguf_encoding import ENCODERS, encode
from multihead.checkpoints.gguf_mixes import WRITTEN, ModelFacts, choose_types
from multihead.checkpoints.gguf_writing import write
from multihead.errors import InvalidInput

# what `ggml_quantize_chunk` of llama.cpp 0.25.3 loses of `weights()`: the root mean squared error in units of 0.02,
# without importances; and with them, weighted by them
LLAMA_CPP = {
    "Q4_0": (0.151159, 0.061734), "Q4_1": (0.129836, 0.046056), "Q5_0": (0.076338, 0.031033),
    "Q5_1": (0.062507, 0.022454), "Q8_0": (0.009561, 0.004321), "Q2_K": (0.488346, 0.153826),
    "Q3_K": (0.247948, 0.096844), "Q4_K": (0.119305, 0.047138), "Q5_K": (0.060603, 0.024600),
    "Q6_K": (0.030760, 0.012427),
}  # fmt: skip


def weights() -> tuple[numpy.ndarray, numpy.ndarray]:
    """Weights with long tails, and importances of their columns."""
    rng = numpy.random.default_rng(0)
    return (rng.laplace(size=(32, 1024)) * 0.02).astype(numpy.float32), (rng.random(1024) ** 4).astype(numpy.float32)


def decoded(kind: str, x: numpy.ndarray, importance: numpy.ndarray | None = None) -> numpy.ndarray:
    """The numbers that the format's own package reads from the blocks of `x`."""
    given = None if importance is None else torch.from_numpy(importance)
    blocks = torch.cat(list(encode(torch.from_numpy(x), kind, given))).numpy()
    return gguf.quants.dequantize(blocks.reshape(len(x), -1), gguf.GGMLQuantizationType[kind])


@pytest.mark.parametrize("kind", ENCODERS)
def test_blocks_lose_no_more_than_llama_cpps(kind):
    x, importance = weights()
    plain = numpy.sqrt(((decoded(kind, x) - x) ** 2).mean()) / 0.02
    weighed = numpy.sqrt((importance * (decoded(kind, x, importance) - x) ** 2).mean()) / 0.02
    limits = [limit * 1.001 for limit in LLAMA_CPP[kind]]
    assert plain <= limits[0]
    assert weighed <= limits[1]
    assert plain > limits[0] / 2  # the limit says something


@pytest.mark.parametrize("kind", ENCODERS)
def test_weights_of_all_kinds_come_back_near_themselves(kind):
    x = numpy.zeros((6, 256), numpy.float32)
    x[1], x[2], x[3], x[4, 7] = 0.5, -0.5, numpy.linspace(0.25, 1, 256), 3.0
    x[5] = numpy.linspace(-60000, 60000, 256)
    found = decoded(kind, x)
    assert numpy.isfinite(found).all()
    assert (found[0] == 0).all()
    bits = int(kind[1])
    steps = 2 * numpy.abs(x).max(-1, keepdims=True) / (2**bits - 1)
    assert (numpy.abs(found - x) <= 1.01 * steps).all()


def test_columns_that_no_input_reached_keep_their_place():
    x, importance = weights()
    importance[:512] = 0
    found = decoded("Q4_K", x, importance)
    assert numpy.abs(found - x)[:, :512].max() < 0.1
    assert numpy.abs(decoded("Q4_K", x, importance * 0) - x).max() < 0.1


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "not all finite"), (3e38, "too large for Q4_K")])
def test_weights_that_no_scale_holds_are_refused(value, message):
    with pytest.raises(InvalidInput, match=message):
        list(encode(torch.full((1, 256), value), "Q4_K"))


def shapes(layers: int, experts: int = 0) -> dict[str, tuple[int, ...]]:
    """Tensors of a Llama of so many layers."""
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (1000, 256), "output_norm.weight": (256,)}
    stack = (experts,) if experts else ()
    for layer in range(layers):
        stem = f"blk.{layer}"
        found |= {f"{stem}.attn_{n}.weight": (256, 256) for n in ("q", "k", "v", "output")}
        found |= {f"{stem}.ffn_{n}{'_exps' * bool(experts)}.weight": (*stack, 256, 256) for n in ("up", "down")}
        found |= {f"{stem}.attn_norm.weight": (256,), f"{stem}.ffn_gate_inp.weight": (8, 256)}
    return found


# the layers of `shapes(16)` in which a tensor has another type than the file's, by the rules of llama.cpp
RULES = {
    "Q4_K_M": {"attn_v": ("Q6_K", {0, 1, 4, 7, 10, 13, 14, 15}), "ffn_down": ("Q6_K", {0, 1, 4, 7, 10, 13, 14, 15})},
    "Q4_K_S": {"attn_v": ("Q5_K", {0, 1, 2, 3}), "ffn_down": ("Q5_K", {0, 1})},
    "Q5_K_M": {"attn_v": ("Q6_K", {0, 1, 4, 7, 10, 13, 14, 15}), "ffn_down": ("Q6_K", {0, 1, 4, 7, 10, 13, 14, 15})},
    "Q3_K_S": {},
    "Q3_K_L": {n: ("Q5_K", set(range(16))) for n in ("attn_v", "ffn_down", "attn_output")},
    "Q2_K": {n: ("Q3_K", set(range(16))) for n in ("attn_v", "ffn_down", "attn_output")},
    "Q6_K": {},
}


@pytest.mark.parametrize("kind", RULES)
def test_sensitive_tensors_get_more_bits(kind):
    found = choose_types(shapes(16), kind, ModelFacts("llama", 16, 1, 0))
    assert found["token_embd.weight"] == "Q6_K"  # the output embeddings, too
    assert found["output_norm.weight"] == found["blk.3.ffn_gate_inp.weight"] == "F32"
    for name in ("attn_q", "attn_v", "attn_output", "ffn_up", "ffn_down"):
        more, layers = RULES[kind].get(name, ("", set()))
        for layer in range(16):
            wanted = more if layer in layers else WRITTEN[kind].base
            assert found[f"blk.{layer}.{name}.weight"] == wanted, (name, layer)


def test_rows_that_blocks_do_not_fill_and_eight_experts_have_types_of_their_own():
    found = choose_types({**shapes(4, 8), "blk.0.attn_q.weight": (256, 96), "blk.1.attn_q.weight": (256, 50)}, "Q4_K_M",
                         ModelFacts("llama", 4, 4, 8))  # fmt: skip
    assert found["blk.0.attn_q.weight"] == "Q5_0"
    assert found["blk.1.attn_q.weight"] == "F16"
    assert found["blk.2.attn_v.weight"] == found["blk.2.attn_k.weight"] == "Q8_0"
    assert found["blk.0.attn_output.weight"] == "Q5_K"
    split = choose_types(
        {"output.weight": (9, 256), "token_embd.weight": (9, 256)}, "Q4_0", ModelFacts("llama", 1, 1, 0)
    )
    assert split == {"output.weight": "Q6_K", "token_embd.weight": "Q4_0"}


def test_a_stack_of_experts_is_written_with_the_importances_of_each(tmp_path):
    x, importance = weights()
    stack, each = torch.from_numpy(x).view(2, 16, 1024), torch.from_numpy(numpy.stack([importance, importance[::-1]]))
    metadata = {"general.architecture": "llama", "llama.block_count": 1}
    write(tmp_path / "a.gguf", metadata, {"a.weight": stack}, "Q2_K", {"a.weight": each})
    found = GgufTensors(read(tmp_path / "a.gguf"))["a.weight"].numpy()
    for place in range(2):
        assert numpy.array_equal(found[place], decoded("Q2_K", stack[place].numpy(), each[place].numpy().copy()))
    for wrong, message in (({"b.weight": each}, "does not have"), ({"a.weight": each[0, :9]}, "the tensor is"),
                           ({"a.weight": -each}, "at least zero")):  # fmt: skip
        with pytest.raises(InvalidInput, match=message):
            write(tmp_path / "b.gguf", metadata, {"a.weight": stack}, "Q2_K", wrong)
    assert not list(tmp_path.glob("b.gguf*"))
