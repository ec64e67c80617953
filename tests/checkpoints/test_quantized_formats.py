"""Formats of quantized checkpoints in layouts that are written here: numbers, kept codes, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.integrations.bitnet import pack_weights

from multihead import AutoModelForCausalLM
from multihead.checkpoints.key_map import chunks
from multihead.checkpoints.quantized.deferred_tensor import DeferredTensor
from multihead.checkpoints.quantized.format import open_format
from multihead.checkpoints.quantized.registry import FORMATS, quantization_entries
from multihead.checkpoints.quantized.stored_codes import StoredCodes
from multihead.errors import CorruptFile, MultiheadError, UnsupportedConfig
from multihead.kernels.quantization.base import format_of
from multihead.kernels.quantization.coded_tensor import matrices, transposed
from multihead.modeling.model_config import describe_quantization
from tests.checkpoints.quantized import numbers, opened, pack, rounded

ROWS, COLUMNS = 64, 96
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
Case = tuple[dict[str, Any], dict[str, Tensor], Tensor]  # entries of the config, stored tensors, numbers


def spread(scales: Tensor, size: int) -> Tensor:
    return scales.float().repeat_interleave(size, 1)


def nibbles(codes: Tensor) -> Tensor:
    """Pack codes of 4 bits, the first in the low half."""
    return (codes[:, ::2] | codes[:, 1::2] << 4).to(torch.uint8)


def config_groups(weights: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "quant_method": "compressed-tensors",
        "format": "mixed-precision",
        "config_groups": {"a": {"targets": ["Linear"], "weights": weights, **more}},
    }


def nvfp4(size: int = 16) -> tuple[dict[str, Tensor], Tensor]:
    """Return parts of NVFP4 without the scale of all, and numbers without it."""
    codes = torch.randint(0, 16, (ROWS, COLUMNS))
    scales = (torch.rand(ROWS, COLUMNS // size) * 200 + 1).to(torch.float8_e4m3fn)
    return {"codes": nibbles(codes), "scale": scales}, E2M1[codes] * spread(scales, size)


def tensors_nvfp4() -> Case:
    parts, found = nvfp4()
    whole = torch.tensor([512.0])  # a power of two, so that the order of products does not matter
    entries = config_groups(
        {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}, format="nvfp4-pack-quantized"
    )
    stored = {"weight_packed": parts["codes"], "weight_scale": parts["scale"], "weight_global_scale": whole}
    return entries, {**stored, "input_global_scale": whole}, found / whole


def modelopt_nvfp4() -> Case:
    parts, found = nvfp4()
    whole = torch.tensor(1 / 512)
    stored = {"weight": parts["codes"], "weight_scale": parts["scale"], "weight_scale_2": whole, "input_scale": whole}
    return {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head*"]}, stored, found * whole


def tensors_mxfp4() -> Case:
    codes, exponents = torch.randint(0, 16, (ROWS, COLUMNS)), torch.randint(118, 126, (ROWS, 3), dtype=torch.uint8)
    entries = config_groups({"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32})
    scales = (exponents.float() - 127).exp2()
    return entries, {"weight_packed": nibbles(codes), "weight_scale": exponents}, E2M1[codes] * spread(scales, 32)


def mxfp8() -> tuple[Tensor, Tensor, Tensor]:
    codes = torch.randn(ROWS, COLUMNS).to(torch.float8_e4m3fn)
    exponents = torch.randint(110, 130, (ROWS, 3), dtype=torch.uint8)
    return codes, exponents, codes.float() * spread((exponents.float() - 127).exp2(), 32)


def tensors_mxfp8() -> Case:
    codes, exponents, found = mxfp8()
    entries = config_groups({"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32})
    return {**entries, "format": "mxfp8-quantized"}, {"weight": codes, "weight_scale": exponents}, found


def modelopt_mxfp8() -> Case:
    codes, exponents, found = mxfp8()
    entries = {"quant_algo": "MIXED_PRECISION", "quantized_layers": {"m": {"quant_algo": "MXFP8", "group_size": 32}}}
    return {**entries, "quant_method": "modelopt"}, {"weight": codes, "weight_scale": exponents}, found


def modelopt_fp8() -> Case:
    codes, scale = torch.randn(ROWS, COLUMNS).to(torch.float8_e4m3fn), torch.tensor(0.037)
    parts = {"weight": codes, "weight_scale": scale, "input_scale": scale}
    return {"quant_method": "modelopt", "quant_algo": "FP8"}, parts, codes.float() * scale


def fbgemm() -> Case:
    codes, scales = torch.randn(ROWS, COLUMNS).to(torch.float8_e4m3fn), torch.rand(ROWS, 1)
    entries = {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head"]}
    return entries, {"weight": codes, "weight_scale": scales}, codes.float() * scales


def integers(bits: int, symmetric: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    codes, scales, zeros = rounded(torch.randn(ROWS, COLUMNS), bits, 32, symmetric)
    return codes, scales, zeros, numbers(codes, scales, zeros, torch.arange(COLUMNS) // 32)


def awq_gemv() -> Case:
    codes, scales, zeros, found = integers(4, False)
    filled = torch.zeros(ROWS, 32, dtype=torch.half)
    filled[:, :3] = scales
    wide = torch.zeros(ROWS, 32, dtype=torch.long)
    wide[:, :3] = zeros
    parts = {"qweight": pack(codes, 4), "qzeros": pack(wide, 4), "scales": filled}
    return {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemv"}, parts, found


def auto_round(packing: str, bits: int) -> Case:
    codes, scales, zeros, found = integers(bits, packing != "auto_round:auto_gptq")
    less = int(packing == "auto_round:auto_gptq")
    zeros = zeros - less & 2**bits - 1
    parts = {"qweight": pack(codes, bits).T.contiguous(), "qzeros": pack(zeros.T, bits), "scales": scales.T}
    if packing == "auto_round:auto_awq":
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        words = (pack(x.T.unflatten(-1, (-1, 8))[..., order].flatten(-2), 4) for x in (codes, zeros))
        parts = {**parts, **dict(zip(("qweight", "qzeros"), words, strict=True))}
    entries = {"quant_method": "auto-round", "bits": 4, "group_size": 32, "sym": True, "packing_format": packing}
    own = {"m": {"bits": bits}, "lm_head": {"bits": 16}}
    return {**entries, "extra_config": own if bits != 4 else {"lm_head": {"bits": 16}}}, parts, found


def bitnet(kind: str) -> Case:
    codes, scale = torch.randint(-1, 2, (ROWS, COLUMNS)).float(), torch.tensor([0.25])
    entries = {"quant_method": "bitnet", "linear_class": kind, "modules_to_not_convert": ["lm_head"]}
    parts = {"weight": pack_weights(codes.clone()), "weight_scale": scale}
    return entries, parts, codes / scale if kind == "bitlinear" else codes * scale


def hqq(bits: int, axis: int) -> Case:
    size = 32
    weight = torch.randn(ROWS, COLUMNS)
    groups = weight.view(-1, size) if axis == 1 else weight.view(size, -1)
    low, high = groups.amin(axis, keepdim=True), groups.amax(axis, keepdim=True)
    scales = (high - low) / (2**bits - 1)
    zeros = -low / scales
    codes = (groups / scales + zeros).round().clamp(0, 2**bits - 1)
    found = ((codes - zeros) * scales).view(ROWS, COLUMNS)
    count = 10 if bits == 3 else 8 // bits
    filled = torch.cat([codes, torch.zeros(-len(codes) % count, codes.shape[1])]).long()
    packed = torch.zeros(len(filled) // count, codes.shape[1], dtype=torch.long)
    for part in filled.chunk(count):
        packed = packed << bits | part
    parts = {"W_q": packed.to(torch.int32 if bits == 3 else torch.uint8), "scale": scales, "zero": zeros}
    parts |= {"shape": torch.tensor([ROWS, COLUMNS]), "nbits": torch.tensor(bits), "axis": torch.tensor(axis)}
    parts |= {"group_size": torch.tensor(size), "packing": torch.zeros(3, dtype=torch.uint8)}
    settings = {"weight_quant_params": {"nbits": bits, "group_size": size, "axis": axis}}
    return {"quant_method": "hqq", "quant_config": settings, "skip_modules": ["lm_head"]}, parts, found


def torchao(kind: str) -> Case:
    group = COLUMNS if kind != "IntxWeightOnlyConfig" else 32
    scales = torch.rand(ROWS, COLUMNS // group)
    if kind == "Float8WeightOnlyConfig":
        codes = torch.randn(ROWS, COLUMNS).to(torch.float8_e4m3fn)
    else:
        codes = torch.randint(-100, 100, (ROWS, COLUMNS), dtype=torch.int8)
    parts, zeros = {"_weight_qdata": codes, "_weight_scale": scales}, torch.zeros_like(scales)
    if group == 32:
        zeros = torch.randint(-8, 8, scales.shape, dtype=torch.int8)
        parts["_weight_zero_point"] = zeros
    entries = {"quant_method": "torchao", "quant_type": {"default": {"_type": kind, "_data": {}}}}
    return entries, parts, (codes.float() - spread(zeros, group)) * spread(scales, group)


def aqlm(count: int, bits: int, outputs: int, inputs: int) -> Case:
    shape = ROWS // outputs, COLUMNS // inputs, count
    places = torch.randint(0, 2**bits, shape)
    books = torch.randn(count, 2**bits, outputs, inputs).half()
    scales = torch.rand(shape[0], 1, 1, 1).half()
    found = torch.zeros(ROWS, COLUMNS)
    for i in range(shape[0]):
        for j in range(shape[1]):
            block = sum((books[k, places[i, j, k]].float() for k in range(count)), torch.zeros(outputs, inputs))
            found[i * outputs :, j * inputs :][:outputs, :inputs] = block * scales[i].float().view(())
    signed = torch.where(places < 2 ** (bits - 1), places, places - 2**bits)
    entries = {"quant_method": "aqlm", "num_codebooks": count, "nbits_per_codebook": bits, "out_group_size": outputs,
               "in_group_size": inputs, "linear_weights_not_to_quantize": ["lm_head.weight"]}  # fmt: skip
    parts = {"codes": signed.to(torch.int8 if bits <= 8 else torch.int16), "codebooks": books, "scales": scales}
    return entries, parts, found


def quark(kind: str) -> Case:
    settings: dict[str, Any] = {"dtype": kind, "qscheme": "per_channel"}
    entries = {"quant_method": "quark", "global_quant_config": {"weight": settings}, "exclude": ["lm_head"]}
    scales = torch.rand(ROWS, 1)
    if kind == "fp4":
        settings.update(qscheme="per_group", group_size=32)
        _, parts, found = tensors_mxfp4()
        return entries, {"weight": parts["weight_packed"], "weight_scale": parts["weight_scale"]}, found
    if kind == "int4":
        settings.update(qscheme="per_group", group_size=32)
        codes, scales = torch.randint(-8, 8, (ROWS, COLUMNS)), torch.rand(ROWS, 3).half()
        words = pack((codes & 15).T.unflatten(-1, (-1, 8))[..., [0, 2, 4, 6, 1, 3, 5, 7]].flatten(-2), 4)
        return entries, {"weight": words, "weight_scale": scales.T.contiguous()}, codes * spread(scales, 32)
    codes = torch.randn(ROWS, COLUMNS) * 30
    codes = codes.to(torch.int8 if kind == "int8" else torch.float8_e4m3fn)
    return entries, {"weight": codes, "weight_scale": scales.squeeze()}, codes.float() * scales


CASES: dict[str, tuple[Callable[[], Case], str | None]] = {  # and the format of the kernels that keeps the codes
    "compressed-tensors nvfp4": (tensors_nvfp4, None),
    "compressed-tensors mxfp4": (tensors_mxfp4, "int8g"),
    "compressed-tensors mxfp8": (tensors_mxfp8, None),
    "modelopt nvfp4": (modelopt_nvfp4, None),
    "modelopt mxfp8": (modelopt_mxfp8, None),
    "modelopt fp8": (modelopt_fp8, None),
    "fbgemm_fp8": (fbgemm, None),
    "aqlm": (lambda: aqlm(1, 16, 1, 8), None),
    "aqlm two codebooks": (lambda: aqlm(2, 8, 1, 8), None),
    "aqlm groups of outputs": (lambda: aqlm(3, 6, 2, 4), None),
    "awq gemv": (awq_gemv, "int4"),
    "auto-round gptq": (lambda: auto_round("auto_round:auto_gptq", 4), "int4"),
    "auto-round own bits": (lambda: auto_round("auto_round:auto_gptq", 8), None),
    "auto-round gptqmodel": (lambda: auto_round("auto_round:gptqmodel", 4), "int4"),
    "auto-round awq": (lambda: auto_round("auto_round:auto_awq", 4), "int4"),
    "bitnet": (lambda: bitnet("bitlinear"), "int4"),
    "bitnet offline": (lambda: bitnet("autobitlinear"), "int4"),
    "torchao int8": (lambda: torchao("Int8WeightOnlyConfig"), "int8"),
    "torchao groups": (lambda: torchao("IntxWeightOnlyConfig"), "int8g"),
    "torchao float8": (lambda: torchao("Float8WeightOnlyConfig"), None),
    "quark fp8": (lambda: quark("fp8_e4m3"), None),
    "quark int8": (lambda: quark("int8"), "int8"),
    "quark int4": (lambda: quark("int4"), "int4"),
    "quark fp4": (lambda: quark("fp4"), "int8g"),
    **{f"hqq {bits} bits": (lambda bits=bits: hqq(bits, 1), "int4") for bits in (1, 2, 3, 4)},
    "hqq 8 bits": (lambda: hqq(8, 1), None),
    **{f"hqq columns {bits} bits": (lambda bits=bits: hqq(bits, 0), None) for bits in (3, 4)},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_format_gives_the_numbers_of_its_layout_and_keeps_codes(name):
    torch.manual_seed(len(name))
    make, keeps = CASES[name]
    entries, parts, expected = make()
    found = opened(entries, parts)
    assert list(found) == ["m.weight"]
    assert torch.equal(found["m.weight"], expected)
    found.deferred = True
    stored = found["m.weight"]
    assert isinstance(stored, DeferredTensor)
    part = stored.moved(lambda x: x[8:40].flip(0))
    assert torch.equal(part.numbers(torch.bfloat16), expected[8:40].flip(0).bfloat16())
    assert torch.equal(torch.cat(list(part.row_slices(7))), expected[8:40].flip(0))
    kept = {name: codes for name in ("int4", "int8g", "int8") if (codes := part.kept(name)) is not None}
    assert (keeps in kept) if keeps else not kept
    for format, codes in kept.items():
        got = format_of(format).weight(format_of(format).pack(codes, (32, COLUMNS)))
        # scales and minima in half precision
        assert (got - expected[8:40].flip(0)).abs().max() <= expected.abs().max() * 2**-9


SPARE = {"input_scale", "input_global_scale", "packing", "group_size", "_weight_zero_point"}  # read by no product


@pytest.mark.parametrize("name", CASES)
def test_stored_tensors_that_do_not_fit_are_refused(name):
    entries, parts, _ = CASES[name][0]()
    for part in parts.keys() - SPARE:
        wrong = [{other: x for other, x in parts.items() if other != part}]  # without it
        if "scale" not in part and parts[part].ndim == 2 and part != "zero":
            wrong.append({**parts, part: parts[part].double()})
        if "scale" in part and parts[part].numel() > 1:
            wrong.append({**parts, part: parts[part][:-1]})
        for each in wrong:
            with pytest.raises(MultiheadError, match=r"m\.weight|a file"):
                _ = opened(entries, each)["m.weight"]


def test_matrices_of_a_stack_are_decoded_one_by_one(monkeypatch):
    codes, scales = torch.randn(3, ROWS, COLUMNS).to(torch.float8_e4m3fn), torch.rand(3, 2, 3)
    parts = {"gate_up_proj": codes, "gate_up_proj_scale_inv": scales}
    found = opened({"quant_method": "fp8", "weight_block_size": [32, 32]}, parts)
    expected = codes.float() * scales.repeat_interleave(32, 1).repeat_interleave(32, 2)
    assert torch.equal(found["m.gate_up_proj"], expected)
    found.deferred, counts = True, []
    stack, rows = found["m.gate_up_proj"], StoredCodes.rows
    monkeypatch.setattr(StoredCodes, "rows", lambda *call: counts.append(call[2] - call[1]) or rows(*call))
    for number, matrix in enumerate(matrices(stack)):
        up = chunks(matrix, 2)[1]
        assert torch.equal(up.numbers(), expected[number, ROWS // 2 :])
        assert torch.equal(transposed(up).numbers(), expected[number, ROWS // 2 :].T)
    assert counts == [ROWS // 2] * 6
    assert torch.equal(stack.numbers(), expected)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"quant_method": "auto-round", "packing_format": "auto_round:llm_compressor"}, "packing_format"),
        ({"quant_method": "auto-round", "data_type": "mx_fp"}, "data_type"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "W4A8_AWQ"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "quantized_layers"),
        ({"quant_method": "bitnet", "quantization_mode": "online"}, "online"),
        ({"quant_method": "bitnet", "use_rms_norm": True}, "use_rms_norm"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig"}}}, "Int4"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "mx6"}}}, "mx6"),
        ({**config_groups({"num_bits": 8}), "transform_config": {"config_groups": {"a": {}}}}, "rotated"),
        (config_groups({"num_bits": 8}, format="marlin-24"), "marlin-24"),
    ],
    ids=str,
)
def test_settings_that_are_not_read_are_refused_by_name(entries, said):
    with pytest.raises(UnsupportedConfig, match=said):
        open_format(entries)


def test_a_config_that_contradicts_its_tensors_is_refused():
    _, parts, _ = modelopt_fp8()
    with pytest.raises(CorruptFile, match="NVFP4"):
        _ = opened({"quant_method": "modelopt", "quant_algo": "NVFP4"}, parts)["m.weight"]
    with pytest.raises(UnsupportedConfig, match="leaves its module"):
        opened({"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["*"]}, parts)
    with pytest.raises(CorruptFile, match="pre_quant_scale"):
        _ = opened({"quant_method": "modelopt", "quant_algo": "FP8"}, {**parts, "pre_quant_scale": torch.ones(96)})[
            "m.weight"
        ]
    entries, parts, _ = hqq(4, 1)
    with pytest.raises(CorruptFile, match=r"config\.json says 8"):
        _ = opened({**entries, "quant_config": {"weight_quant_params": {"nbits": 8}}}, parts)["m.weight"]


def test_bitnet_models_have_layers_of_their_own():
    entries = {"quant_method": "bitnet"}
    assert quantization_entries({"model_type": "bitnet", "quantization_config": entries}) is None
    assert quantization_entries({"model_type": "llama", "quantization_config": entries}) == entries
    assert set(FORMATS) >= {entries["quant_method"], "hqq", "quark"}


def test_settings_may_stand_beside_the_config(tmp_path: Path):
    sizes = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    expected = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    tensors = load_file(tmp_path / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        scale = tensors[name].abs().max() / 448
        tensors |= {name: (tensors[name] / scale).to(torch.float8_e4m3fn), f"{name}_scale": scale.clone()}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    settings = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(settings))
    assert describe_quantization(tmp_path) == "7 weights in Model Optimizer FP8"
    for name, got in AutoModelForCausalLM.from_pretrained(tmp_path).state_dict().items():
        assert (got - expected[name]).abs().max() <= expected[name].abs().max() / 16
