"""Quantized checkpoints: each format gives the numbers that its own definition says, and contradictions are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from multihead import AutoConfig, AutoModelForCausalLM
from multihead.checkpoints.quantized.deferred_tensor import DeferredTensor
from multihead.checkpoints.quantized.format import open_format
from multihead.checkpoints.quantized.packing import unpack
from multihead.checkpoints.quantized.registry import FORMATS, quantization_entries, without_quantization
from multihead.checkpoints.quantized.stored_codes import StoredCodes
from multihead.checkpoints.quantized.tensors import QuantizedTensors
from multihead.errors import CorruptFile, MultiheadError, UnsupportedConfig
from multihead.kernels.quantization.base import format_of
from multihead.kernels.quantization.nf4 import VALUES
from multihead.modeling.model_config import describe_quantization
from tests.checkpoints.quantized import numbers, opened, pack, rounded

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "head_dim": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
IDS = torch.arange(1, 19).view(2, 9)


# FP8

FP8: dict[str, Any] = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 32]}


def fp8(weight: Tensor, block: tuple[int, int] = (32, 32)) -> tuple[Tensor, Tensor]:
    """Return codes (rows, columns), and scales of the blocks of a matrix."""
    scales = torch.zeros(-(-weight.shape[0] // block[0]), -(-weight.shape[1] // block[1]))
    codes = torch.zeros(weight.shape)
    for i, rows in enumerate(weight.float().split(block[0])):
        for j, part in enumerate(rows.split(block[1], 1)):
            scales[i, j] = part.abs().max() / 448
            codes[i * block[0] :][: len(part), j * block[1] :][:, : part.shape[1]] = part / scales[i, j]
    return codes.to(torch.float8_e4m3fn), scales


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("block", [(32, 32), (32, 48), (64, 96), (1, 96)], ids=str)
def test_fp8_gives_the_numbers_of_the_reference(block, dtype):
    codes, scales = fp8(torch.randn(64, 96), block)
    expected = Fp8Dequantize(None)._dequantize_one(codes, scales, dtype)
    entries = {**FP8, "weight_block_size": list(block)}
    assert torch.equal(opened(entries, {"weight": codes, "weight_scale_inv": scales}, dtype)["m.weight"], expected)
    if block[1] == 96:  # one scale for the matrix or for each row
        scale = scales.squeeze() if block[0] > 1 else scales
        entries, parts = {"quant_method": "fp8", "weight_block_size": None}, {"weight": codes, "weight_scale": scale}
        assert torch.equal(opened(entries, {**parts, "input_scale": scale}, dtype)["m.weight"], expected)


def test_fp8_blocks_at_the_edge_are_narrower():
    weight = torch.randn(80, 72)
    codes, scales = fp8(weight)
    found = opened(FP8, {"weight": codes, "weight_scale_inv": scales})["m.weight"]
    assert torch.equal(found[64:, 64:], codes.float()[64:, 64:] * scales[2, 2])
    assert (found - weight).abs().max() < weight.abs().max() / 16


def test_fp8_scales_may_be_powers_of_two_and_experts_narrower():
    codes, bytes_ = torch.randn(64, 64).to(torch.float8_e4m3fn), torch.randint(100, 140, (2, 2), dtype=torch.uint8)
    expected = Fp8Dequantize(None)._dequantize_one(codes, bytes_, torch.float32)
    for scales in (bytes_, bytes_.view(torch.float8_e8m0fnu)):
        found = opened({**FP8, "scale_fmt": "ue8m0"}, {"weight": codes, "scale": scales})
        assert torch.equal(found["m.weight"], expected)
    narrow = torch.randint(-128, 128, (64, 32), dtype=torch.int8)
    scales = torch.randint(100, 140, (64, 2), dtype=torch.uint8)
    expected = Fp8Dequantize(None)._dequantize_one(narrow, scales, torch.float32)
    found = opened({**FP8, "expert_dtype": "fp4"}, {"weight": narrow, "scale": scales})["m.weight"]
    assert torch.equal(found, expected)


# MXFP4


def mxfp4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return blocks and exponents of stacked matrices (experts, inputs, outputs)."""
    groups = weight.float().mT.unflatten(-1, (-1, 32))  # (experts, outputs, groups, 32)
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = torch.cat([values, -values])
    exponents = groups.abs().amax(-1).log2().floor() - 2
    codes = (groups / exponents.exp2()[..., None]).unsqueeze(-1).sub(values).abs().argmin(-1).to(torch.uint8)
    return (codes[..., ::2] | codes[..., 1::2] << 4).contiguous(), (exponents + 127).to(torch.uint8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_mxfp4_gives_the_numbers_of_the_reference(dtype):
    blocks, scales = mxfp4(torch.randn(3, 96, 40))
    expected = convert_moe_packed_tensors(blocks, scales, dtype=dtype)
    found = opened({"quant_method": "mxfp4"}, {"experts_blocks": blocks, "experts_scales": scales}, dtype)
    assert list(found) == ["m.experts"]
    assert torch.equal(found["m.experts"], expected)


# Whole models


def write(folder: Path, config: Any, quantize: Any, entries: dict[str, Any]) -> None:
    """Save a model of the reference, its tensors and config quantized."""
    transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    tensors: dict[str, Tensor] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        tensors |= quantize(name, tensor)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "quantization_config": entries}))


def in_fp8(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if tensor.ndim != 2 or any(part in name for part in ("embed", "lm_head", "gate.weight")):
        return {name: tensor}
    codes, scales = fp8(tensor)
    return {name: codes, f"{name}_scale_inv": scales}


def in_mxfp4(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if not name.endswith(("gate_up_proj", "down_proj")):
        return {name: tensor}
    blocks, scales = mxfp4(tensor)
    return {f"{name}_blocks": blocks, f"{name}_scales": scales}


MODELS: dict[str, Any] = {
    "qwen3": lambda: (transformers.Qwen3Config(**SIZES), in_fp8, {**FP8, "modules_to_not_convert": ["lm_head"]}),
    "qwen3_moe": lambda: (
        transformers.Qwen3MoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32),
        in_fp8,
        {**FP8, "modules_to_not_convert": ["lm_head", *(f"model.layers.{i}.mlp.gate" for i in range(2))]},
    ),
    "gpt_oss": lambda: (
        transformers.GptOssConfig(**{**SIZES, "intermediate_size": 64}, num_local_experts=4, num_experts_per_tok=2),
        in_mxfp4,
        {
            "quant_method": "mxfp4",
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"],
        },
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", MODELS)
def test_a_whole_model_computes_what_the_reference_does(kind, tmp_path):
    write(tmp_path, *MODELS[kind]())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).float().eval()
    ours = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert ours.dtype is torch.bfloat16  # as config.json says
    with torch.no_grad():
        expected = theirs(IDS).logits
        assert (ours.float()(IDS).logits - expected).abs().max() < 1e-5 * expected.abs().max()
    said = describe_quantization(tmp_path)
    assert said is not None
    assert re.match(r"\d+ weights in (FP8, 8|MXFP4, 4) bits", said)
    ours.save_pretrained(tmp_path / "saved")  # numbers, and a config that says so
    assert "quantization_config" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    assert AutoConfig.from_pretrained(tmp_path).to_dict().keys() == ours.config.to_dict().keys()
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    pairs = zip(again.parameters(), ours.parameters(), strict=True)
    assert all(torch.equal(one, other.to(one.dtype)) for one, other in pairs)


# Integers


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_codes_lie_bit_after_bit(bits):
    codes = torch.randint(0, 2**bits, (3, 64))
    assert torch.equal(unpack(pack(codes, bits), bits, 1, 64).long(), codes)
    assert torch.equal(unpack(pack(codes, bits).T, bits, 0, 50).long(), codes[:, :50].T)


@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("order", [False, True], ids=["in order", "act-order"])
@pytest.mark.parametrize(("bits", "symmetric"), [(4, True), (4, False), (8, True), (8, False), (3, False), (2, False)])
def test_gptq_gives_the_numbers_of_its_layout(bits, symmetric, order, version):
    weight, size = torch.randn(64, 96), 32
    codes, scales, zeros = rounded(weight, bits, size, symmetric)
    index = torch.arange(96) // size
    index = index[torch.randperm(96)] if order else index
    stored = zeros if version == "gptq_v2" else zeros - 1 & 2**bits - 1
    parts = {"qweight": pack(codes, bits).T.contiguous(), "qzeros": pack(stored.T, bits), "scales": scales.T}
    entries = {"quant_method": "gptq", "bits": bits, "group_size": size, "desc_act": order, "sym": symmetric}
    found = opened({**entries, "checkpoint_format": version}, {**parts, "g_idx": index.int()})
    expected = numbers(codes, scales, zeros, index)
    assert list(found) == ["m.weight"]
    assert torch.equal(found["m.weight"], expected)
    found.deferred = True
    stored = found["m.weight"]
    assert isinstance(stored, DeferredTensor)
    assert torch.equal(stored.numbers(), expected)
    format = "int4" if bits <= 4 else "int8g"
    assert stored.narrowest == (format if not order else "int8g")
    kept = stored.kept(format)  # the codes stay where groups lie in order, and fit
    assert (kept is not None) is (not order and not (bits == 8 and not symmetric))
    if kept is not None:
        got = format_of(format).weight(format_of(format).pack(kept, (64, 96)))
        # a minimum that is no multiple of its scale is rounded to half precision
        assert torch.equal(got, expected) if symmetric else (got - expected).abs().max() < expected.abs().max() * 2**-10


@pytest.mark.parametrize("size", [32, -1])
def test_awq_gives_the_numbers_of_its_layout(size):
    columns = 96
    codes, scales, zeros = rounded(torch.randn(64, columns), 4, columns if size == -1 else size, False)
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # output of each four bits of an integer

    def packed(x: Tensor) -> Tensor:
        return pack(x.unflatten(-1, (-1, 8))[..., order].flatten(-2), 4)

    parts = {"qweight": packed(codes.T), "qzeros": packed(zeros.T), "scales": scales.T.contiguous()}
    entries = {"quant_method": "awq", "bits": 4, "group_size": size, "version": "gemm", "zero_point": True}
    expected = numbers(codes, scales, zeros, torch.arange(columns) // (columns if size == -1 else size))
    assert torch.equal(opened(entries, parts)["m.weight"], expected)


def tensors_config(weights: dict[str, Any], kind: str = "pack-quantized") -> dict[str, Any]:
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {"quant_method": "compressed-tensors", "format": kind, "config_groups": groups, "ignore": ["lm_head"]}


@pytest.mark.parametrize(("bits", "symmetric"), [(4, True), (4, False), (8, True), (3, False)])
def test_compressed_tensors_gives_the_numbers_of_packed_integers(bits, symmetric):
    codes, scales, zeros = rounded(torch.randn(64, 96), bits, 32, symmetric)
    parts = {"weight_packed": pack(codes, bits), "weight_scale": scales, "weight_shape": torch.tensor([64, 96])}
    if not symmetric:
        parts["weight_zero_point"] = pack(zeros.T, bits).T.contiguous()
    entries = tensors_config({"num_bits": bits, "strategy": "group", "group_size": 32, "symmetric": symmetric})
    expected = numbers(codes, scales, zeros, torch.arange(96) // 32)
    assert torch.equal(opened(entries, parts)["m.weight"], expected)


@pytest.mark.parametrize("strategy", ["channel", "tensor", "block"])
@pytest.mark.parametrize("kind", ["int", "float"])
def test_compressed_tensors_gives_the_numbers_of_eight_bits(kind, strategy):
    shape = {"channel": (64, 1), "tensor": (1,), "block": (2, 3)}[strategy]
    scales, codes = torch.rand(shape), torch.randn(64, 96) * 30
    codes = codes.to(torch.float8_e4m3fn) if kind == "float" else codes.clamp(-128, 127).to(torch.int8)
    settings = {"num_bits": 8, "type": kind, "strategy": strategy, "block_structure": [32, 32]}
    found = opened(tensors_config(settings, f"{kind}-quantized"), {"weight": codes, "weight_scale": scales})
    wide = scales.repeat_interleave(32, 0).repeat_interleave(32, 1) if strategy == "block" else scales
    assert torch.equal(found["m.weight"], codes.float() * wide)


@pytest.mark.parametrize("zeros", [(1, 2), (2, 1), (1, 1, 2)], ids=str)
def test_zeros_of_another_shape_than_the_scales_are_refused(zeros):
    weights = {"num_bits": 4, "symmetric": False, "strategy": "group", "group_size": 32}
    parts = {"weight_packed": torch.zeros(8, 8, dtype=torch.int32), "weight_shape": torch.tensor([8, 64]),
             "weight_scale": torch.ones(8, 2)}  # fmt: skip
    good = {**parts, "weight_zero_point": torch.zeros(1, 2, dtype=torch.int32)}
    assert opened(tensors_config(weights), good)["m.weight"].shape == (8, 64)
    kind = torch.int8 if zeros == (1, 2) else torch.int32  # bytes are not packed
    with pytest.raises(CorruptFile, match="zeros"):
        _ = opened(tensors_config(weights), {**parts, "weight_zero_point": torch.zeros(zeros, dtype=kind)})["m.weight"]


def test_groups_of_a_config_choose_their_modules():
    entries = tensors_config({"num_bits": 8, "strategy": "channel"}, "mixed-precision")
    entries["config_groups"]["narrow"] = {
        "targets": ["re:.*narrow"],
        "weights": {"num_bits": 4, "strategy": "channel", "symmetric": True},
    }
    stored = {}
    for name, bits in (("wide", 8), ("narrow", 4)):
        codes, scales, _ = rounded(torch.randn(8, 32), bits, 32, True)
        stored |= {f"{name}.weight_packed": pack(codes, bits), f"{name}.weight_scale": scales}
        stored[f"{name}.weight_shape"] = torch.tensor([8, 32])
    found = QuantizedTensors(stored, open_format(entries), "a file")
    assert {name: tensor.shape for name, tensor in found.items()} == {"wide.weight": (8, 32), "narrow.weight": (8, 32)}


# bitsandbytes


@pytest.mark.parametrize(
    ("twice", "storage"),
    [(False, "uint8"), (True, "uint8"), (False, "bfloat16")],
    ids=["plain", "double", "in bfloat16"],
)
def test_nf4_gives_the_numbers_of_its_layout(twice, storage):
    codes = torch.randint(0, 16, (40 * 50,))
    count, size = 40 * 50, 64
    scales = torch.rand(-(-count // size))
    state = {"quant_type": "nf4", "blocksize": size, "dtype": "float16", "shape": [40, 50]}
    parts = {"absmax": scales}
    if twice:
        table, largest = torch.linspace(-1, 1, 256), torch.rand(1)
        parts = {"absmax": torch.randint(0, 256, scales.shape, dtype=torch.uint8), "nested_absmax": largest}
        parts["nested_quant_map"] = table
        scales = table[parts["absmax"].long()] * largest + 0.25
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.25}
    parts |= {"quant_map": torch.tensor(VALUES)}
    parts["quant_state.bitsandbytes__nf4"] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    stored = {f"weight.{part}": x for part, x in parts.items()}
    stored["weight"] = (codes[::2] << 4 | codes[1::2]).to(torch.uint8).view(getattr(torch, storage))[:, None]
    entries = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "quant_method": "bitsandbytes"}
    expected = torch.tensor(VALUES)[codes] * scales.repeat_interleave(size)[:count]
    found = opened({**entries, "bnb_4bit_quant_storage": storage}, stored)
    assert torch.equal(found["m.weight"], expected.view(40, 50))
    for changed in ({"weight": stored["weight"].float()}, {"weight.quant_map": stored["weight.quant_map"].int()}):
        with pytest.raises(CorruptFile, match=r"m\.weight"):
            _ = opened({**entries, "bnb_4bit_quant_storage": storage}, {**stored, **changed})["m.weight"]


def test_eight_bits_of_bitsandbytes_are_rows():
    codes, largest = torch.randint(-127, 128, (8, 32), dtype=torch.int8), torch.rand(8)
    stored = {"weight": codes, "SCB": largest, "weight_format": torch.zeros((), dtype=torch.uint8)}
    found = opened({"quant_method": "bitsandbytes", "load_in_8bit": True}, stored)["m.weight"]
    assert torch.equal(found, codes.float() * (largest / 127)[:, None])


# Whole models keep codes


def in_gptq(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if tensor.ndim != 2 or "embed" in name or "lm_head" in name:
        return {name: tensor}
    codes, scales, zeros = rounded(tensor.float(), 4, 32, True)
    parts = {"qweight": pack(codes, 4).T.contiguous(), "qzeros": pack(zeros.T - 1, 4), "scales": scales.T.contiguous()}
    return {name.replace("weight", part): x for part, x in parts.items()}


GPTQ: dict[str, Any] = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True}
CODED: dict[str, Any] = {**MODELS, "gptq": lambda: (transformers.LlamaConfig(**SIZES), in_gptq, GPTQ)}


def test_int4_keeps_the_codes_of_a_file(tmp_path):
    write(tmp_path, *CODED["gptq"]())
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    step = AutoModelForCausalLM.from_pretrained(tmp_path, precision="int4").backbone.layers[1].attention.step
    own = plain.backbone.layers[1].attention.step
    expected = torch.cat([own.q.weight, own.k.weight, own.v.weight])
    assert torch.equal(step.qkv.format.weight(step.qkv.packed), expected)


class Expanded:
    """Counts the bytes of weights that are numbers at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.largest, fill = 0, StoredCodes.fill

        def counted(codes: StoredCodes, target: Tensor, *places: int) -> None:
            storage = target.untyped_storage()
            self.alive = {at: held for at, held in self.alive.items() if not held[0].expired()}
            self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
            self.largest = max(self.largest, sum(size for _, size in self.alive.values()))
            fill(codes, target, *places)

        monkeypatch.setattr(StoredCodes, "fill", counted)


@pytest.mark.parametrize("options", [{"precision": "int8"}, {"precision": "int4"}, {"precision": "bf16"},
                                     {"precision": "gguf"}, {"load_in_4bit": True}], ids=str)  # fmt: skip
@pytest.mark.parametrize("kind", CODED)
def test_only_one_matrix_is_numbers_at_once(kind, options, tmp_path, monkeypatch):
    if options == {"load_in_4bit": True} and kind == "gpt_oss":
        pytest.skip("its experts are no linear layers, and become numbers")
    write(tmp_path, *CODED[kind]())
    counts = Expanded(monkeypatch)
    AutoModelForCausalLM.from_pretrained(tmp_path, **options)
    inner = {"qwen3_moe": 64, "gpt_oss": 128}.get(kind, 96)  # rows of the largest matrix
    assert counts.largest <= 64 * inner * 4
    if (kind, options.get("precision")) in (("gptq", "int4"), ("gptq", "gguf"), ("gpt_oss", "gguf")):
        assert counts.largest == 0  # the codes of the file went to the kernels


# Refusals


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"quant_method": "gptq", "bits": 5}, "bits is 5"),
        ({"quant_method": "gptq"}, "bits"),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "marlin"),
        ({"quant_method": "awq", "bits": 4, "version": "marlin"}, "marlin"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, "weight_block_size"),
        ({"quant_method": "fp8", "activation_scheme": "none"}, "activation_scheme"),
        ({"quant_method": "fp8", "modules_to_not_convert": "lm_head"}, "lm_head"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["("]}, "patterns"),
        ({"quant_method": "compressed-tensors", "format": "marlin-24"}, "marlin-24"),
        ({"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"a": 4}}, "types"),
        (tensors_config({"num_bits": 4, "type": "float", "strategy": "channel"}), "4 bits"),
        ({"quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf3"}, "nf3"),
    ],
    ids=str,
)
def test_settings_that_are_not_read_are_refused_by_name(entries, said):
    with pytest.raises(UnsupportedConfig, match=said):
        open_format(entries)


CODES, SCALES = fp8(torch.ones(64, 64))
GPTQ_4 = {"quant_method": "gptq", "bits": 4, "group_size": 32}


@pytest.mark.parametrize(
    ("entries", "parts"),
    [
        (FP8, {"weight_scale_inv": SCALES}),
        (FP8, {"weight": CODES, "weight_scale_inv": SCALES[:1]}),
        (FP8, {"weight": torch.ones(64, 64), "weight_scale_inv": SCALES}),
        ({**FP8, "modules_to_not_convert": ["m"]}, {"weight": CODES, "weight_scale_inv": SCALES}),
        (FP8, {"weight": torch.ones(64, 64)}),
        ({"quant_method": "mxfp4"}, {"w_blocks": torch.zeros(1, 2, 3, 16, dtype=torch.uint8)}),
        ({"quant_method": "gptq", "bits": 4, "desc_act": True}, in_gptq("weight", torch.ones(8, 64))),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, in_gptq("weight", torch.ones(8, 64))),
        ({"quant_method": "gptq", "bits": 4}, {"qweight": torch.zeros(8, 8)}),
        ({**GPTQ_4, "dynamic": {"-:m$": {}}}, in_gptq("weight", torch.ones(8, 64))),
        (GPTQ_4, {**(gptq := in_gptq("weight", torch.ones(8, 64))), "scales": gptq["scales"].to(torch.uint8)}),
        (FP8, {"weight": CODES, "weight_scale_inv": SCALES.int()}),
        (tensors_config({"num_bits": 8, "strategy": "channel"}), {"weight_scale": torch.ones(8, 1)}),
        ({"quant_method": "bitsandbytes"}, {"weight": torch.zeros(8, 1), "weight.absmax": torch.zeros(1)}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_tensors_that_contradict_the_config_are_refused(entries, parts):
    with pytest.raises((CorruptFile, UnsupportedConfig), match=r"m\.|a file"):
        _ = opened(entries, parts)["m.weight" if entries["quant_method"] != "mxfp4" else "m.w"]


def test_another_format_is_refused_by_name(tmp_path):
    write(tmp_path, transformers.LlamaConfig(**SIZES), lambda name, x: {name: x}, {"quant_method": "vptq"})
    with pytest.raises(MultiheadError, match="vptq"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_entries_of_a_config_are_found_inside_a_multimodal_one():
    inner = {"model_type": "a", "quantization_config": {"quant_method": "fp8"}}
    assert quantization_entries({"text_config": inner}) == {"quant_method": "fp8"}
    assert without_quantization({"x": 1, "text_config": inner}) == {"x": 1, "text_config": {"model_type": "a"}}
    other = {"quantization_config": {"quant_method": "vptq"}}
    assert without_quantization(other) == other
    assert quantization_entries({"quantization_config": {"load_in_8bit": True}})["quant_method"] in FORMATS
