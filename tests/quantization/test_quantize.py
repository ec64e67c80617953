"""`quantize`: files give the numbers that were rounded, in the layouts of the field, with a report that is true."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import gguf
import pytest
import torch
import transformers
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from multihead import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, quantize
from multihead.checkpoints.folder import open_checkpoint
from multihead.checkpoints.quantized.format import open_format
from multihead.checkpoints.quantized.packing import pack, unpack
from multihead.checkpoints.quantized.tensors import QuantizedTensors
from multihead.checkpoints.quantized.writers.base import FormatOptions, written_format
from multihead.checkpoints.quantized.writers.integers import IntegerGrid
from multihead.checkpoints.quantized.writers.mxfp4 import nearest
from multihead.checkpoints.shard_writer import ShardWriter
from multihead.cli.main import cli
from multihead.errors import InvalidInput, MultiheadError, UnsupportedConfig, UnsupportedOption
from multihead.modeling.model_config import describe_quantization
from multihead.nn.own_names import own_modules, own_parameters
from multihead.nn.weights import Linear
from multihead.quantization.activation_scales import scale_layer
from multihead.quantization.convert_codes import convert_codes
from multihead.quantization.error_correction import correct
from multihead.quantization.importances import importances
from multihead.quantization.passes import InputStatistics, stepped_passes
from multihead.quantization.quantize import measure

from .conftest import TEXT

LAYOUTS: list[tuple[str, dict[str, Any], float]] = [  # format, options, relative error of normal weights at most
    ("int4", {"group": 32}, 0.12),
    ("int4", {"group": 32, "symmetric": False}, 0.12),
    ("int4", {"group": -1, "bits": 3}, 0.35),
    ("int8", {}, 0.02),
    ("w8a8", {}, 0.02),
    ("gptq", {"group": 32}, 0.12),
    ("gptq", {"group": 32, "symmetric": False}, 0.13),
    ("gptq", {"group": -1, "bits": 8}, 0.02),
    ("awq", {"group": 32}, 0.12),
    ("fp8", {"group": 32}, 0.04),
    ("mxfp4", {}, 0.14),
    ("nf4", {}, 0.12),
]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("axis", [0, 1])
def test_codes_are_packed_as_they_are_read(bits, axis):
    codes = torch.randint(0, 2**bits, (34, 37), dtype=torch.uint8)
    words = pack(codes, bits, axis)
    assert torch.equal(unpack(words, bits, axis, codes.shape[axis]), codes)
    stream = sum(int(code) << bits * place for place, code in enumerate(codes[:, 0] if axis == 0 else codes[0]))
    first = (words[:, 0] if axis == 0 else words[0]).tolist()
    assert [word & 0xFFFFFFFF for word in first] == [stream >> 32 * i & 0xFFFFFFFF for i in range(len(first))]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(("name", "options", "most"), LAYOUTS, ids=str)
def test_a_reader_gets_the_numbers_that_were_rounded(name, options, most, dtype):
    format = written_format(name, FormatOptions(dtype=dtype, **options))
    weight = torch.randn(64, 96)
    weight[3], weight[4, :32], weight[5] = 0, weight[4, :32].abs(), weight[5] * 1e-4
    codes = format.round(weight)
    parts = {format.stored_name("m.weight", part): x for part, x in format.pack(codes).items()}
    read = QuantizedTensors(parts, open_format(format.entries(["lm_head"])), "a file")
    read.dtype = torch.float32
    assert torch.equal(read["m.weight"], codes.numbers(torch.float32))
    assert (read["m.weight"] - weight).norm() < most * weight.norm()
    assert (read["m.weight"][3] == 0).all()


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize(("size", "bits", "symmetric"), [(32, 4, True), (48, 3, False), (-1, 4, True), (160, 2, False)])
def test_error_correction_lowers_the_error_of_outputs(size, bits, symmetric, act_order):
    torch.manual_seed(0)
    x = torch.randn(400, 40) @ torch.randn(40, 320) + torch.randn(400, 320)  # correlated, as hidden states are
    x = x * torch.rand(320).exp()
    x[:, 7] = 0  # an input that no token has
    weight, grid = torch.randn(24, 320), IntegerGrid(bits, size, symmetric, torch.float16)
    sums = x.T @ x
    codes = correct(weight, sums, grid, act_order=act_order)
    errors = [measure(weight, each.numbers(torch.float32), sums)[0] for each in (codes, grid.round(weight))]
    assert errors[0] < 0.7 * errors[1]
    direct = ((codes.numbers(torch.float32) - weight) @ x.T).square().sum()
    assert errors[0] == pytest.approx(float(direct), rel=1e-3)
    if act_order:
        assert codes.index is not None
        assert sorted(codes.index.bincount().tolist()) == sorted(
            len(g) for g in torch.arange(320).split(grid.size(320))
        )
        assert (codes.index[sums.diagonal().argmax()], codes.index[7]) == (0, 319 // grid.size(320))
        static = correct(weight, sums, grid, act_order=True, regroup=False)
        assert static.index is None
        assert torch.equal(static.scales, grid.round(weight).scales)
        assert measure(weight, static.numbers(torch.float32), sums)[0] < 0.7 * errors[1]


def test_independent_inputs_are_rounded_to_the_nearest():
    weight, grid = torch.randn(8, 64), IntegerGrid(4, 32, True, torch.float16)
    codes, plain = correct(weight, torch.eye(64) * 9, grid), grid.round(weight)
    assert torch.equal(codes.codes.whole, plain.codes.whole)
    assert torch.equal(codes.numbers(torch.float32), plain.numbers(torch.float32))
    assert torch.isfinite(correct(weight, torch.zeros(64, 64), grid).numbers(torch.float32)).all()


@pytest.mark.parametrize("kind", ["llama", "qwen3_moe", "whole"])
def test_scales_of_activations_change_no_output_and_lower_errors(kind, checkpoint):
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint(kind), dtype=torch.float32)
    texts = [torch.randint(2, 250, (48,)).tolist() for _ in range(8)]
    with torch.no_grad():
        for layer in model.backbone.layers:
            for part in (layer.attention, layer.ffn):
                part.before.weight[::13] *= 20  # few channels are large, as in trained models
        expected = model.run(texts).scores
        paths = {p: m for p, m in own_modules(model) if type(m) is Linear and ".layers." in p and "router" not in p}
        statistics, grid = InputStatistics(paths), IntegerGrid(4, 32, False, torch.float16)
        model.run(texts)
        statistics.close()

        def errors():
            found = [
                (m.weight.detach(), grid.round(m.weight.detach()).numbers(torch.float32), statistics.sums[p])
                for p, m in known
            ]
            return torch.tensor([measure(*each)[0] for each in found])

        known = [(path, module) for path, module in paths.items() if path in statistics.sums]
        before, weights = errors(), {path: module.weight.clone() for path, module in known}
        for number, layer in enumerate(model.backbone.layers):
            scale_layer(layer, f"backbone.layers.{number}", statistics, grid)
        scores = model.run(texts).scores
    assert (scores - expected).abs().max() < 1e-4 * expected.abs().max()
    after = errors()
    assert after.sum() < 0.7 * before.sum()
    assert (after <= before).all()
    scaled = {path.rpartition(".")[2] for path, module in known if not torch.equal(module.weight, weights[path])}
    assert scaled >= {"q", "k", "v", "gate", "up", "down", *(["out"] if kind == "whole" else [])}


def test_numbers_of_four_bits_are_the_nearest():
    x = torch.linspace(-7, 7, 561)
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = torch.cat([values, -values])
    distances = (x[:, None] - values).abs()
    found = nearest(x) / 2
    assert torch.equal((x - found).abs(), distances.min(1).values)
    assert nearest(torch.tensor([0.25, 0.75, -1.25, 1.75, 2.5, 3.5, -5.0])).tolist() == [0, 2, -2, 4, 4, 8, -8]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("kind", "name"), [("llama", "fp8"), ("qwen3_moe", "fp8"), ("gpt_oss", "mxfp4")])
def test_the_reference_computes_what_a_file_says(kind, name, checkpoint, tmp_path):
    report = quantize(checkpoint(kind), tmp_path, name, group_size=32, calibration=[TEXT], samples=2, length=32)
    if kind == "gpt_oss":
        assert {m.name.rpartition(".")[2] for m in report.matrices} == {"gate_up_proj", "down_proj"}
        assert report.bits_per_weight == 4.25
        assert all(0.05 < m.error < 0.14 for m in report.matrices)
    ids = torch.arange(1, 19).view(2, 9)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).float().eval()
    with torch.no_grad():
        expected = theirs(ids).logits
        found = AutoModelForCausalLM.from_pretrained(tmp_path).float()(ids).logits
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


FAMILIES = [
    ("llama", "int4", {"group_size": 32}),
    ("tied", "nf4", {}),
    ("qwen3_moe", "int4", {"group_size": 32}),
    ("gpt_neox", "int8", {}),
    ("qwen3_moe", "gptq", {"group_size": 32}),
    ("llama", "awq", {"group_size": 32}),
    ("llama", "mxfp4", {}),
    ("qwen3_moe", "fp8", {"group_size": 32}),
    ("llama", "gptq", {"group_size": 32, "act_order": True}),
    ("llama", "int4", {"group_size": 32, "act_order": True, "symmetric": False}),
]


@pytest.mark.parametrize(("kind", "name", "options"), FAMILIES, ids=str)
def test_a_family_is_quantized_and_read_back(kind, name, options, checkpoint, tmp_path):
    source = checkpoint(kind)
    options = {"calibration": [TEXT], "samples": 4, "length": 32, **options}
    report = quantize(
        source, tmp_path / "q", name, evaluate=[TEXT], evaluate_windows=4, max_shard_size=90_000, **options
    )
    before, after = (AutoModelForCausalLM.from_pretrained(x) for x in (source, tmp_path / "q"))
    changed = {path for path, x in own_parameters(before) if not torch.equal(x, after.get_parameter(path))}
    linears = {
        f"{path}.weight"
        for path, module in own_modules(before)
        if type(module) is Linear and ".layers." in path and not path.endswith("router")
    }
    # AWQ divides norms by the scales of what reads them
    norms = {f"backbone.layers.{i}.{part}.before.weight" for i in (0, 1) for part in ("attention", "ffn")}
    assert linears == changed - norms
    assert bool(changed & norms) is (name == "awq")
    found = report.comparison
    assert found is not None
    assert found.kind == "causal"
    assert found.tokens == 4 * 31
    assert 0 < found.divergence < 1
    assert 0 < found.states_error < 0.5
    assert math.isfinite(found.perplexity_before)
    said = json.loads((tmp_path / "q" / "quantization_report.json").read_text())
    assert said["comparison"]["perplexity_after"] == found.perplexity_after
    assert [layer["layer"] for layer in said["layers"]] == ["backbone.layers.0", "backbone.layers.1"]
    assert all(0 < m.error < 0.2 for m in report.matrices if m.tokens or "experts" not in m.name)
    if kind != "qwen3_moe":
        assert {m.tokens for m in report.matrices} == {4 * 32}
    assert report.bytes_after == sum(x.nbytes for x in open_checkpoint(tmp_path / "q").tensors.values())
    described = describe_quantization(tmp_path / "q")
    assert described is not None
    assert described.startswith(f"{len(report.matrices)} weights in ")
    config = json.loads((tmp_path / "q" / "config.json").read_text())["quantization_config"]
    skipped = config.get(
        "ignore",
        config.get("llm_int8_skip_modules", list(config.get("dynamic", config.get("modules_to_not_convert", ())))),
    )
    assert {"gpt_neox": "embed_out"}.get(kind, "lm_head") in {
        name.removeprefix("-:^").removesuffix("$") for name in skipped
    }
    assert not any("experts" in each for each in skipped)
    if name == "gptq":
        index = open_checkpoint(tmp_path / "q").tensors["model.layers.0.self_attn.q_proj.g_idx"]
        assert bool(index.diff().min() < 0) is config["desc_act"]
    assert "perplexity (causal, 124 held-out tokens)" in (tmp_path / "q" / "README.md").read_text()


def test_an_encoder_has_masked_perplexity_and_may_keep_parts(checkpoint, tmp_path):
    report = quantize(
        checkpoint("bert"), tmp_path / "q", "nf4", exclude=[r"layer\.0\.", "intermediate"], evaluate=[TEXT], length=32
    )
    assert {m.name for m in report.matrices} == {
        *(f"bert.encoder.layer.1.attention.self.{part}.weight" for part in ("query", "key", "value")),
        *(f"bert.encoder.layer.1.{part}.dense.weight" for part in ("attention.output", "output")),
    }
    assert report.comparison is not None
    assert report.comparison.kind == "masked"
    assert report.calibration_tokens == 0
    assert {m.tokens for m in report.matrices} == {0}
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "q").dtype is torch.bfloat16
    assert {"bert.encoder.layer.0.intermediate.dense", "cls.predictions.decoder"} <= set(report.left)


def test_source_and_target_of_an_encoder_decoder_calibrate(checkpoint, tmp_path):
    report = quantize(checkpoint("t5"), tmp_path / "q", "int8", calibration=[TEXT], samples=2, length=16)
    assert {m.tokens for m in report.matrices} == {32}
    assert {m.layer.partition(".layers")[0] for m in report.matrices} == {"backbone.encoder", "backbone.decoder"}


@pytest.mark.parametrize(
    ("kind", "name", "options", "error", "said"),
    [
        ("gpt2", "int4", {}, UnsupportedConfig, r"transformer\.h\.0\.attn\.c_attn"),
        ("gpt_oss", "nf4", {}, UnsupportedConfig, r"experts\.gate_up_proj"),
        ("llama", "int4", {}, UnsupportedConfig, r"q_proj\.weight has 64 inputs, no multiple of 128.*--group-size"),
        ("llama", "int5", {}, UnsupportedOption, "int4, int8"),
        ("llama", "nf4", {"bits": 3}, UnsupportedOption, "bits = 3"),
        ("llama", "int4", {"group_size": 7}, UnsupportedOption, "group = 7"),
        ("llama", "int8", {"exclude": ["("]}, InvalidInput, "regular expression"),
        ("llama", "int8", {"exclude": ["nowhere"]}, InvalidInput, "found in no stored name"),
        ("llama", "int8", {"exclude": ["layers"]}, UnsupportedConfig, "no matrices"),
        ("llama", "gptq", {"group_size": 32}, UnsupportedOption, "--calibration"),
        ("llama", "int4", {"group_size": 32, "act_order": True}, UnsupportedOption, "--calibration"),
        ("llama", "int8", {"calibration": ["a"]}, InvalidInput, "too few"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(kind, name, options, error, said, checkpoint, tmp_path):
    with pytest.raises(error, match=said):
        quantize(checkpoint(kind), tmp_path / "q", name, **options)
    assert not (tmp_path / "q" / "config.json").exists()


def test_the_source_is_never_the_target(checkpoint):
    with pytest.raises(InvalidInput, match="Name another folder"):
        quantize(checkpoint("llama"), checkpoint("llama"), "int8")


def test_shards_are_what_the_library_of_the_format_reads(tmp_path):
    tensors = {
        "a": torch.randn(5, 7), "b": torch.randint(0, 9, (3,), dtype=torch.uint8), "c": torch.randn(2, 3).bfloat16(),
        "d": torch.randn(4, 4).to(torch.float8_e4m3fn), "e": torch.tensor(3), "f": torch.zeros(0, 2),
        "g": torch.randn(50),
    }  # fmt: skip
    for limit in (10**9, 150):
        folder = tmp_path / str(limit)
        folder.mkdir()
        writer = ShardWriter(folder, limit)
        for name, x in tensors.items():
            writer.add(name, x)
        writer.close()
        found = {name: x for path in folder.glob("*.safetensors") for name, x in load_file(path).items()}
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[n].float(), x.float()) and found[n].dtype == x.dtype for n, x in tensors.items())
        assert open_checkpoint(folder).tensors.keys() == tensors.keys()
        assert not list(folder.glob("*.part"))


def test_passes_stop_twice_at_each_layer_and_end_with_their_errors():
    layers = {"one": torch.nn.Linear(2, 2), "two": torch.nn.Linear(2, 2)}
    seen: list[str] = []

    def run():
        x = layers["two"](layers["one"](torch.ones(1, 2)))
        seen.append("end")
        if broken:
            raise InvalidInput("broken")
        return x

    for broken in (False, True):
        with stepped_passes([run, run], layers) as passes:
            for stop in ("one", "one", "two", "two"):
                for each in passes:
                    each.resume()
                assert [each.at for each in passes] == [stop, stop]
            if broken:
                with pytest.raises(InvalidInput, match="broken"):
                    passes[0].resume()
            else:
                for each in passes:
                    each.resume()
                assert [each.at for each in passes] == [None, None]
    assert seen == ["end"] * 3  # the last pass was ended before its end
    assert "forward" not in vars(layers["one"])


def test_the_command_prints_and_writes_the_report(checkpoint, tmp_path):
    (tmp_path / "texts.txt").write_text(TEXT)
    save_file({"x": torch.zeros(1)}, tmp_path / "kept.safetensors")
    words = ["quantize", str(checkpoint("llama")), str(tmp_path / "q"), "--format", "int4", "--group-size", "32",
             "--calibration", str(tmp_path / "texts.txt"), "--samples", "2", "--length", "32",
             "--evaluate", str(tmp_path / "texts.txt"), "--evaluate-windows", "2"]  # fmt: skip
    shown = CliRunner().invoke(cli, words, catch_exceptions=False).output
    assert re.search(r"perplexity \(causal, 62 tokens\)", shown)
    assert re.search(r"layers\.1 .* 7 .* 4\.5", shown)
    again = CliRunner().invoke(cli, words)
    assert isinstance(again.exception, InvalidInput)
    found = json.loads(CliRunner().invoke(cli, [*words, "--overwrite", "--json"], catch_exceptions=False).stdout)
    assert found["comparison"]["tokens"] == 62
    wrong = CliRunner().invoke(cli, [*words[:2], str(tmp_path / "x.gguf"), "--format", "gguf:Q9_9"])
    assert isinstance(wrong.exception, MultiheadError)


def test_importances_are_the_mean_squared_inputs_and_weigh_the_error(checkpoint, tmp_path):
    folder = checkpoint("llama")
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        AutoTokenizer.from_pretrained(folder),
    )
    found = importances(model, tokenizer, [TEXT], samples=1, length=32)
    assert len(found) == 14
    assert set(found) >= {"blk.0.attn_q.weight", "blk.1.ffn_down.weight"}
    theirs, seen = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), {}
    for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj"):
        layer = theirs.get_submodule(f"model.layers.1.{name}")
        layer.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0].square().mean((0, 1))}))
    theirs(**tokenizer(TEXT, return_tensors="pt", truncation=True, max_length=32))
    for name, ours in (
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.down_proj", "ffn_down"),
    ):
        torch.testing.assert_close(found[f"blk.1.{ours}.weight"], seen[name], rtol=1e-3, atol=1e-6)

    writer = gguf.GGUFWriter(tmp_path / "imatrix.gguf", "x")
    writer.add_string("general.type", "imatrix")
    for name, means in found.items():
        writer.add_tensor(f"{name}.in_sum2", (means * 3)[None].numpy())
        writer.add_tensor(f"{name}.counts", torch.full((1, 1), 3.0).numpy())
    for step in ("write_header_to_file", "write_kv_data_to_file", "write_tensors_to_file", "close"):
        getattr(writer, step)()
    again = importances(model, tokenizer, tmp_path / "imatrix.gguf")
    assert again.keys() == found.keys()
    assert all(torch.allclose(again[name], found[name]) for name in found)

    (tmp_path / "texts.txt").write_text(TEXT)
    words = ["quantize", str(folder), "--format", "gguf:Q4_0"]
    options = {
        "plain": [], "texts": ["--calibration", str(tmp_path / "texts.txt"), "--samples", "1", "--length", "32"],
        "matrix": ["--calibration", str(tmp_path / "imatrix.gguf")],
    }  # fmt: skip
    errors = {}
    for name, own in options.items():
        path = tmp_path / f"{name}.gguf"
        CliRunner().invoke(cli, [words[0], words[1], str(path), *words[2:], *own], catch_exceptions=False)
        read = {x.name: torch.from_numpy(gguf.dequantize(x.data, x.tensor_type)) for x in gguf.GGUFReader(path).tensors}
        change = read["blk.1.ffn_down.weight"] - theirs.get_parameter("model.layers.1.mlp.down_proj.weight")
        errors[name] = float((change.square() * found["blk.1.ffn_down.weight"]).sum())
    assert errors["texts"] == pytest.approx(errors["matrix"], rel=0.05)
    assert errors["texts"] < 0.98 * errors["plain"]


def test_importances_that_a_file_cannot_use_are_refused(checkpoint, tmp_path):
    words = ["quantize", str(checkpoint("llama")), str(tmp_path / "x.gguf"), "--calibration", str(tmp_path / "t.txt")]
    (tmp_path / "t.txt").write_text(TEXT)
    assert isinstance(CliRunner().invoke(cli, [*words, "--format", "gguf:Q8_0"]).exception, UnsupportedOption)
    CliRunner().invoke(cli, [*words[:3], "--format", "gguf:Q8_0"], catch_exceptions=False)
    with pytest.raises(InvalidInput, match="no importance matrix"):
        importances(AutoModelForCausalLM.from_pretrained(words[1]), AutoTokenizer.from_pretrained(words[1]), words[2])


@pytest.mark.parametrize(
    ("kind", "first", "options", "second"),
    [
        ("llama", "gptq", {"group_size": 32}, "int4"),
        ("llama", "gptq", {"group_size": 32, "symmetric": False}, "awq"),
        ("llama", "awq", {"group_size": 32}, "int4"),
        ("qwen3_moe", "int8", {}, "gptq"),
        ("llama", "int4", {"group_size": 32}, "gptq"),
        ("llama", "gptq", {"group_size": 32, "act_order": True}, "gptq"),
    ],
    ids=str,
)
def test_codes_are_kept_in_another_format(kind, first, options, second, checkpoint, tmp_path):
    dtype = "float16"  # of gptq's scales
    quantize(checkpoint(kind), tmp_path / "a", first, calibration=[TEXT], samples=2, length=32, dtype=dtype, **options)
    words = ["convert", str(tmp_path / "a"), str(tmp_path / "b"), "--format", second]
    CliRunner().invoke(cli, words, catch_exceptions=False)
    pair = [AutoModelForCausalLM.from_pretrained(tmp_path / x, dtype=torch.float32) for x in "ab"]
    assert all(torch.equal(x, pair[1].get_parameter(name)) for name, x in own_parameters(pair[0]))
    said = describe_quantization(tmp_path / "b")
    assert said is not None
    assert {"int4": "compressed-tensors", "awq": "AWQ", "gptq": "GPTQ"}[second] in said


@pytest.mark.parametrize(
    ("first", "options", "second", "said"),
    [
        ("gptq", {"group_size": 32, "act_order": True}, "int4", "act-order"),
        ("int8", {}, "awq", "bits = 8"),
        ("nf4", {}, "int4", "a table of numbers"),
        ("gptq", {"group_size": 32}, "nf4", "nf4"),
    ],
    ids=str,
)
def test_codes_that_another_format_lacks_are_refused(first, options, second, said, checkpoint, tmp_path):
    quantize(checkpoint("llama"), tmp_path / "a", first, calibration=[TEXT], samples=2, length=32, **options)
    with pytest.raises(UnsupportedConfig, match=said):
        convert_codes(tmp_path / "a", tmp_path / "b", second)
    with pytest.raises(UnsupportedConfig, match="no quantized weights"):
        convert_codes(checkpoint("llama"), tmp_path / "b", second)


def test_inspect_names_what_each_layer_keeps(checkpoint, tmp_path):
    quantize(checkpoint("llama"), tmp_path / "q", "int4", group_size=32, exclude=[r"layers\.1\..*down_proj"])
    shown = CliRunner().invoke(cli, ["inspect", str(tmp_path / "q")], catch_exceptions=False).output
    assert re.search(r"storage, \d+\.\d\d bits a weight", shown)
    assert re.search(r"model\.layers\.0 .* 4\.5\d .*compressed-tensors 100%, bfloat16 0%", shown)
    assert re.search(r"model\.layers\.1 .*compressed-tensors 80%", shown)
    assert re.search(r"in no layer .* 16\.00 .*bfloat16 100%", shown)
