"""Models that run on the codes of their GGUF file, and what loading one takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from multihead import AutoModelForCausalLM, AutoTokenizer
from multihead.checkpoints.gguf_blocks import BLOCK_TYPES
from multihead.errors import CorruptFile, ModelNotFound, UnsupportedOption
from multihead.kernels.cpu import native
from multihead.kernels.quantization.block_tensor import BlockTensor
from multihead.kernels.quantization.panels import interleave
from multihead.kernels.quantization.registry import TRAINING
from multihead.nn.own_names import own_modules
from multihead.nn.quantized_linear import quantize
from multihead.runtime.fused_linear_cpu import FusedLinear
from multihead.runtime.prepare import products
from tests import blocks

IDS = torch.arange(1, 25).view(2, 12)


def load(path: Path, precision: str | None = "gguf", **options: Any) -> Any:
    options = {"dtype": torch.float32} if precision else {}
    return AutoModelForCausalLM.from_pretrained(path, precision=precision, **options)


def scores(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits.float()


def apart(model: Any, path: Path) -> float:
    """The largest difference of scores to those of the expanded file, of the largest score."""
    expected = scores(load(path, None))
    return float((scores(model) - expected).abs().max() / expected.abs().max())


def kinds(model: Any) -> dict[str, str]:
    return {name: part.format.name for name, part in own_modules(model) if part in set(products(model))}


def weight(product: FusedLinear) -> torch.Tensor:
    return product.format.weight(product.packed)


@pytest.mark.parametrize(
    ("kind", "tied"), [*((kind, False) for kind in BLOCK_TYPES), *((kind, True) for kind in ("Q4_0", "Q8_0", "Q6_K"))]
)
def test_a_file_of_any_type_of_block_gives_nearly_the_scores_of_its_numbers(kind, tied, tmp_path):
    path = blocks.llama(tmp_path / "model.gguf", kind, tied=tied)
    model = load(path)
    assert set(kinds(model).values()) == {BLOCK_TYPES[kind].format}
    assert len(kinds(model)) == 2 * 4 + 1
    assert not any(isinstance(x, BlockTensor) for x in (*model.parameters(), *model.buffers()))
    assert (model.prepared, model.dtype) == ("gguf", torch.float32)
    assert apart(model, path) < 0.06  # what 8 bits of each state cost


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q8_0"])
def test_turned_and_joined_weights_are_those_of_the_file_to_the_bit(kind, tmp_path):
    path = blocks.llama(tmp_path / "model.gguf", kind)
    plain, made = load(path, None).backbone.layers[1], load(path).backbone.layers[1]
    step = plain.attention.step
    expected = torch.cat([step.q.weight, step.k.weight, step.v.weight])
    assert torch.equal(weight(made.attention.step.qkv), expected)
    step = plain.ffn.step
    expected = interleave(step.gate.weight, step.up.weight)
    assert torch.equal(weight(made.ffn.step.into), expected)


def test_each_product_has_the_kind_that_its_parts_need(tmp_path):
    others = {"attn_v": "Q6_K", "1.ffn_down": "Q5_K", "0.attn_output": "F16", "output": "Q8_0", "token_embd": "Q3_K"}
    path = blocks.llama(tmp_path / "model.gguf", "Q4_K", others)
    model = load(path)
    found = {name.removeprefix("backbone.layers."): kind for name, kind in kinds(model).items()}
    assert found == {
        "0.attention.step.qkv": "int8g", "0.attention.step.output": "bf16",
        "0.ffn.step.into": "int4", "0.ffn.step.output": "int4",
        "1.attention.step.qkv": "int8g", "1.attention.step.output": "int4",
        "1.ffn.step.into": "int4", "1.ffn.step.output": "int8g",
        "head.table": "int8g",
    }  # fmt: skip
    assert apart(model, path) < 0.05
    plain = load(path, None)
    assert torch.equal(model.backbone.embed.token.weight, plain.backbone.embed.token.weight)
    assert model.num_parameters() == plain.num_parameters()


def test_a_split_model_is_read_by_the_name_of_any_part_or_of_its_folder(tmp_path):
    expected = scores(load(blocks.llama(tmp_path / "model.gguf", "Q8_0"), None))
    folder = tmp_path / "parts"
    folder.mkdir()
    blocks.llama(folder / "model.gguf", "Q8_0", split=8)
    (folder / "mmproj-model-f16.gguf").write_bytes(b"of pictures")
    names = [f"model-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert sorted(path.name for path in folder.iterdir()) == ["mmproj-model-f16.gguf", *names]
    for place in (folder, folder / names[0], folder / names[2]):
        assert torch.equal(scores(load(place, None)), expected)
        assert AutoTokenizer.from_pretrained(place)("w0").input_ids == [0, 1]
    (folder / names[1]).rename(folder / "other.gguf")
    for place in (folder / names[0], folder / names[1]):
        with pytest.raises(ModelNotFound, match=names[1]):
            load(place, None)
    with pytest.raises(CorruptFile, match=r"part 1 of 3.*its name says 0 of 1"):
        load(folder / "other.gguf", None)
    for one, other in ((0, 1), (0, 2)):
        (folder / names[other]).write_bytes((folder / names[one]).read_bytes())
        with pytest.raises(CorruptFile, match=r"part 0 of 3.*its name says 1 of 3"):
            load(folder / names[0], None)


def test_what_was_kept_is_saved_and_mapped(tmp_path):
    path = blocks.llama(tmp_path / "model.gguf", "Q4_K", {"attn_v": "Q6_K", "attn_output": "F16"}, tied=True)
    model = load(path)
    model.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert again.prepared == "gguf"
    assert kinds(again) == kinds(model)
    assert torch.equal(scores(again), scores(model))
    with pytest.raises(UnsupportedOption, match="prepared in gguf"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "saved", precision="int4")


def test_a_saved_file_with_codes_of_something_else_is_refused(tmp_path):
    load(blocks.llama(tmp_path / "model.gguf", "Q4_0")).save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "prepared.safetensors"
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        told = file.metadata()
    save_file(tensors, path, {**told, "kinds": json.dumps({"backbone.norm": "int4"})})
    with pytest.raises(CorruptFile, match=r"backbone\.norm.*Prepare the model again"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "saved")


def test_int4_keeps_codes_of_four_bits_too(tmp_path):
    path = blocks.llama(tmp_path / "model.gguf", "Q4_1", {"output": "Q8_0"})
    assert torch.equal(scores(load(path, "int4")), scores(load(path)))


@pytest.mark.parametrize("option", TRAINING)
def test_bases_for_training_are_coded_from_the_numbers(option, tmp_path):
    path = blocks.llama(tmp_path / "model.gguf", "Q6_K", tied=True)
    model, expected = AutoModelForCausalLM.from_pretrained(path, **{option: True}), load(path, None)
    quantize(expected, TRAINING[option])
    assert not any(isinstance(x, BlockTensor) for x in model.parameters())
    assert torch.equal(scores(model), scores(expected))


def test_without_kernels_torch_computes_the_same(tmp_path, monkeypatch):
    path = blocks.llama(tmp_path / "model.gguf", "Q4_K", {"attn_v": "Q6_K", "attn_output": "F16"})
    expected = scores(load(path))
    monkeypatch.setattr(native, "library", lambda: None)
    assert (scores(load(path)) - expected).abs().max() <= 0.02 * expected.abs().max()


def test_where_there_are_no_codes_it_is_said_what_to_do(llama, tmp_path):
    with pytest.raises(UnsupportedOption, match="use bf16, int8 or int4"):
        load(llama)
    with pytest.raises(UnsupportedOption, match="quantized file"):
        load(blocks.llama(tmp_path / "plain.gguf", "F16"))
    expanded = load(blocks.llama(tmp_path / "model.gguf", "Q4_0"), None)
    with pytest.raises(UnsupportedOption, match="while that is loaded"):
        expanded.prepare("gguf")


PROGRAM = """
import resource, sys, torch
from multihead import AutoModelForCausalLM
from multihead.modeling import loading
from multihead.runtime import prepare
torch.set_num_threads(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
AutoModelForCausalLM.from_pretrained(sys.argv[1], precision=sys.argv[2])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the largest size is told in other units")
@pytest.mark.parametrize("precision", ["gguf", "int4"])
def test_loading_never_holds_the_whole_model_in_floats(precision, tmp_path):
    path = blocks.llama(tmp_path / "model.gguf", "Q4_K", layers=24, width=512, inner=2048, words=512)
    command = [sys.executable, "-c", PROGRAM, str(path), precision]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    stored = path.stat().st_size  # 54 MB; seven times as much in float32
    assert int(done.stdout) < 4.5 * stored  # the map of the file, what is packed, and some of it on the way
