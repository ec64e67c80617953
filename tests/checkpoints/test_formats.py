"""Every format gives the tensors that were stored, and a damaged file is one clear error."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import gguf as reference
import numpy
import pytest
import torch
from gguf import quants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from multihead.checkpoints import gguf
from multihead.checkpoints import gguf_blocks as blocks
from multihead.checkpoints.folder import open_checkpoint, save_tensors
from multihead.errors import CorruptFile, ModelNotFound, MultiheadError, UnsafeFile, UnsupportedConfig
from multihead.kernels.quantization import block_tensor

from . import files

TENSORS = {
    "a.weight": torch.randn(3, 5),
    "b": torch.arange(4, dtype=torch.int64),
    "c": torch.randn(2, 2).bfloat16(),
    "d": torch.randn(()),
    "e": torch.zeros(0, 3),
}
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same(stored, expected):
    assert set(stored) == set(expected)
    for name, tensor in expected.items():
        assert stored[name].dtype == tensor.dtype
        assert torch.equal(stored[name], tensor), name


def attempt(path: Path) -> None:
    """Opens a file and reads all of it: tensors, or an error of our own tree."""
    said = None
    try:
        checkpoint = open_checkpoint(path)
        assert all(isinstance(tensor, torch.Tensor) for tensor in checkpoint.tensors.values())
        assert all(value is not None for value in checkpoint.metadata.values())
    except MultiheadError as error:
        said = str(error)
    assert said is None or path.name in said or path.parent.name in said


def test_safetensors_are_views_of_a_private_map(tmp_path):
    save_file(TENSORS, tmp_path / "model.safetensors")
    before = (tmp_path / "model.safetensors").read_bytes()
    checkpoint = open_checkpoint(tmp_path)
    same(checkpoint.tensors, TENSORS)
    assert checkpoint.tensors.shape("a.weight") == (3, 5)
    checkpoint.tensors["a.weight"].add_(1)
    assert (tmp_path / "model.safetensors").read_bytes() == before


GOOD = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    ("header", "data", "size"),
    [
        (GOOD, bytes(4), None),
        (GOOD, bytes(12), None),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8), None),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, bytes(8), None),
        ({**GOOD, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, bytes(12), None),
        ({"a": {"dtype": "F31", "shape": [2], "data_offsets": [0, 8]}}, bytes(8), None),
        ({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(8), None),
        (b"not json", bytes(8), None),
        (b"[1, 2]", bytes(8), None),
        (GOOD, bytes(8), 10**15),
        (GOOD, bytes(8), 5),
    ],
    ids=[
        "truncated",
        "too long",
        "lying shape",
        "backwards",
        "overlap",
        "dtype",
        "huge",
        "no json",
        "list",
        "length",
        "short",
    ],
)
def test_a_safetensors_header_that_lies_is_refused(tmp_path, header, data, size):
    path = files.safetensors(tmp_path / "model.safetensors", header, data, size=size)
    with pytest.raises(CorruptFile, match=r"model\.safetensors"):
        open_checkpoint(path)


@QUICK
@given(st.data())
def test_damaged_safetensors_never_crash(tmp_path, data):
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path)
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    for _ in range(data.draw(st.integers(0, 4))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw))
    attempt(path)


def shards(folder: Path, **changes: str) -> Path:
    save_file({"a.weight": TENSORS["a.weight"]}, folder / "one.safetensors")
    save_file({"b": TENSORS["b"]}, folder / "two.safetensors")
    table = {"a.weight": "one.safetensors", "b": "two.safetensors", **changes}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    return folder


def test_shards_are_read_by_their_index(tmp_path):
    same(open_checkpoint(shards(tmp_path)).tensors, {k: TENSORS[k] for k in ("a.weight", "b")})


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/../../x", "..\\x.safetensors", "c:\\x"])
def test_an_index_that_names_a_file_outside_its_folder_is_refused(tmp_path, name):
    with pytest.raises(UnsafeFile, match="outside"):
        open_checkpoint(shards(tmp_path, b=name))


def test_an_index_that_promises_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelNotFound, match="three"):
        open_checkpoint(shards(tmp_path, c="three.safetensors"))
    with pytest.raises(CorruptFile, match="'c'"):
        open_checkpoint(shards(tmp_path, c="one.safetensors"))
    for text in ("{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "["):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(CorruptFile, match="index"):
            open_checkpoint(tmp_path)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_torch_files_are_read_in_both_formats(tmp_path, new):
    torch.save(TENSORS, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=new)
    same(open_checkpoint(tmp_path).tensors, TENSORS)
    torch.save({"state_dict": TENSORS}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=new)
    same(open_checkpoint(tmp_path).tensors, TENSORS)


class Evil:
    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_pickle_that_wants_to_run_code_is_refused_and_runs_nothing(tmp_path, new):
    target = tmp_path / "owned"
    torch.save({"a": Evil(str(target))}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=new)
    with pytest.raises(UnsafeFile, match="run code"):
        open_checkpoint(tmp_path)
    assert not target.exists()


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_truncated_torch_file_is_refused(tmp_path, new):
    path = tmp_path / "pytorch_model.bin"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=new)
    raw = path.read_bytes()
    for share in (0, 0.1, 0.5, 0.9):
        path.write_bytes(raw[: int(len(raw) * share)])
        with pytest.raises(CorruptFile, match=r"pytorch_model\.bin"):
            dict(open_checkpoint(tmp_path).tensors)


def test_a_torch_file_of_something_else_is_refused(tmp_path):
    for thing in ([1, 2], {"a": 3}, {1: torch.zeros(2)}):
        torch.save(thing, tmp_path / "pytorch_model.bin")
        with pytest.raises(CorruptFile):
            open_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", blocks.BLOCK_TYPES)
@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "torch"])
def test_blocks_expand_to_what_the_gguf_package_says(kind, kernels, monkeypatch):
    if not kernels:
        monkeypatch.setattr(block_tensor.native, "library", lambda: None)
    number = reference.GGMLQuantizationType[kind]
    size, width = reference.GGML_QUANT_SIZES[number]
    random = numpy.random.default_rng(0).integers(0, 256, (64, width), dtype=numpy.uint8)
    halves = numpy.random.default_rng(1).normal(0, 0.1, (64, 2)).astype(numpy.float16).view(numpy.uint8)
    places = {
        "Q2_K": [80, 82],
        "Q3_K": [108],
        "Q6_K": [208],
        "Q4_1": [0, 2],
        "Q5_1": [0, 2],
        "Q4_K": [0, 2],
        "Q5_K": [0, 2],
        "TQ1_0": [52],
        "TQ2_0": [64],
        "MXFP4": [],
        "NVFP4": [],
        "IQ1_M": [],
    }
    if kind == "IQ1_M":
        random[:, 55] &= 0x3F  # the highest bits of a scale in four parts, which must be finite
    for number_, place in enumerate(places.get(kind, [0])):
        random[:, place : place + 2] = halves[:, 2 * number_ : 2 * number_ + 2]
    expected = torch.from_numpy(one_bit(random) if kind == "Q1_0" else quants.dequantize(random, number))
    got = block_tensor.BlockTensor(torch.from_numpy(random), blocks.BLOCK_TYPES[kind]).numbers()
    assert got.shape == (64, size)
    rounding = 2e-7 if kind in LEAST else 0  # of the product, which is added to a minimum in one step or in two
    torch.testing.assert_close(got, expected, rtol=rounding, atol=0)


LEAST = ("Q4_1", "Q5_1", "Q4_K", "Q5_K", "Q2_K")  # types with minima of their own


def one_bit(blocks: numpy.ndarray) -> numpy.ndarray:
    """What the package does not dequantize: one sign a weight."""
    scales = blocks[:, :2].copy().view(numpy.float16).astype(numpy.float32)
    return numpy.where(numpy.unpackbits(blocks[:, 2:], axis=1, bitorder="little"), scales, -scales)


def test_expanding_in_pieces_changes_nothing(monkeypatch):
    held = torch.randint(0, 256, (50, 40), dtype=torch.uint8)
    held[:, 1::20], held[:, 3::20] = 40, 40
    tensor = block_tensor.BlockTensor(held, blocks.BLOCK_TYPES["Q4_1"])
    monkeypatch.setattr(block_tensor.native, "library", lambda: None)
    whole, parts = tensor.numbers(), tensor.matrix()
    monkeypatch.setattr(block_tensor, "BYTES", 20 * 7)
    assert torch.equal(tensor.numbers(), whole)
    assert all(torch.equal(one, other) for one, other in zip(tensor.matrix(), parts, strict=True))


METADATA = {
    "general.architecture": (8, files.gguf_string("llama")),
    "a.bool": (7, b"\1"),
    "a.float": (6, struct.pack("<f", 0.5)),
    "a.list": (9, struct.pack("<IQ3i", 5, 3, 1, -2, 3)),
    "a.words": (9, struct.pack("<IQ", 8, 2) + files.gguf_string("né") + files.gguf_string("")),
    "a.big": (10, struct.pack("<Q", 2**40)),
}
MATRIX = torch.randn(4, 32)
GGUF_TENSORS = {
    "w": ((4, 32), 0, MATRIX.numpy().tobytes()),
    "h": ((2, 3), 1, torch.ones(2, 3).half().numpy().tobytes()),
    "q": ((2, 32), 8, bytes(68)),
    "b": ((3,), 30, bytes(6)),
}


def test_gguf_metadata_and_tensors_are_read(tmp_path):
    path = files.gguf(tmp_path / "model.gguf", METADATA, GGUF_TENSORS)
    checkpoint = open_checkpoint(tmp_path)
    values = {k: checkpoint.metadata[k] for k in METADATA}
    assert values["a.words"] == ["né", ""]
    assert (values["a.list"], values["a.bool"], values["a.float"], values["a.big"]) == ([1, -2, 3], True, 0.5, 2**40)
    assert torch.equal(checkpoint.tensors["w"], MATRIX)
    assert checkpoint.tensors["h"].dtype == torch.float16
    assert checkpoint.tensors["b"].dtype == torch.bfloat16
    assert checkpoint.tensors["q"].shape == checkpoint.tensors.shape("q") == (2, 32)
    assert checkpoint.tensors.raw("q")[0] == "Q8_0"
    assert reference.GGUFReader(path).tensors[0].name == "w"


@pytest.mark.parametrize(
    "change",
    [
        {"magic": b"GGML"},
        {"version": 7},
        {"tensors": {"w": ((4, 32), 0, MATRIX.numpy().tobytes()[:-200])}},
        {"tensors": {"w": ((2**40, 2**20), 0, b"")}},
        {"tensors": {"w": ((4, 31), 8, bytes(100))}},
        {"tensors": {"w": ((4,), 99, bytes(100))}},
        {"metadata": {"a": (99, b"")}},
        {"metadata": {"a": (8, struct.pack("<Q", 2**50))}},
        {"metadata": {"a": (9, struct.pack("<IQ", 8, 2**50))}},
        {"metadata": {"a": (9, struct.pack("<IQ", 4, 2**62))}},
        {"metadata": {"general.alignment": (4, struct.pack("<I", 0))}},
        {"metadata": {"a": (9, struct.pack("<IQ", 9, 1) * 9)}},
    ],
    ids=[
        "magic",
        "version",
        "truncated",
        "huge",
        "block",
        "type",
        "metadata type",
        "string",
        "strings",
        "numbers",
        "alignment",
        "nested",
    ],
)
def test_a_gguf_file_that_lies_is_refused_with_the_place(tmp_path, change):
    given_ = {"metadata": METADATA, "tensors": GGUF_TENSORS, **change}
    path = files.gguf(tmp_path / "model.gguf", given_.pop("metadata"), given_.pop("tensors"), **given_)
    with pytest.raises(CorruptFile, match=r"model\.gguf.*at byte"):
        open_checkpoint(path)


@pytest.mark.parametrize("age", [0, 10**12], ids=["at once", "with the times of the first"])
def test_a_gguf_file_that_has_changed_is_read_again(tmp_path, age):
    path, time = tmp_path / "model.gguf", 0
    for name in ("a.one", "a.two"):  # of the same size, in the same file
        files.gguf(path, {**METADATA, name: (8, files.gguf_string(name))}, GGUF_TENSORS)
        time = time or path.stat().st_mtime_ns - age
        os.utime(path, ns=(time, time))
        assert gguf.read(path).metadata[name] == name


def test_the_header_of_a_gguf_file_is_parsed_once(tmp_path, monkeypatch):
    path = files.gguf(tmp_path / "model.gguf", METADATA, GGUF_TENSORS)
    monkeypatch.setattr(gguf, "SETTLED", -(10**18))
    parsed, parse = [], gguf._read_header
    monkeypatch.setattr(gguf, "_read_header", lambda reader: parsed.append(reader) or parse(reader))
    assert gguf.read(path).tensors == gguf.read(path).tensors
    assert len(parsed) == 1
    files.gguf(path, {**METADATA, "a.text": (8, files.gguf_string("longer"))}, GGUF_TENSORS)
    assert gguf.read(path).metadata["a.text"] == "longer"


def test_a_block_type_that_is_not_read_is_refused_by_name(tmp_path):
    path = files.gguf(tmp_path / "model.gguf", {}, {"w": ((256,), 15, bytes(292))})
    with pytest.raises(UnsupportedConfig, match="Q8_K"):
        _ = open_checkpoint(path).tensors["w"]


@QUICK
@given(st.data())
def test_damaged_gguf_files_never_crash(tmp_path, data):
    path = files.gguf(tmp_path / "model.gguf", METADATA, GGUF_TENSORS)
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    for _ in range(data.draw(st.integers(0, 4))):
        if raw:
            raw[data.draw(st.integers(0, min(len(raw), 500) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw))
    attempt(path)


def marian_file(path: Path) -> tuple[Path, torch.Tensor, torch.Tensor]:
    embedding, matrix = torch.randn(7, 4), torch.randn(4, 6)
    stored_e, rounded_e = files.intgemm(embedding, transposed=False)
    stored_m, rounded_m = files.intgemm(matrix, transposed=True)
    tensors = {
        "Wemb": ((7, 4), 0x4101, stored_e),
        "encoder_l1_W": ((4, 6), 0x4101, stored_m),
        "bias": ((1, 6), 0x404, torch.arange(6.0).numpy().tobytes()),
        "special:model.yml": ((24,), 0x101, b"type: transformer\nx: ''\n\0"[:24]),
    }
    return files.marian(path, tensors), rounded_e, rounded_m


def test_marian_files_are_read_as_marian_multiplies(tmp_path):
    _, embedding, matrix = marian_file(tmp_path / "model.bin")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.layout == "marian"
    torch.testing.assert_close(checkpoint.tensors["Wemb"], embedding)
    torch.testing.assert_close(checkpoint.tensors["encoder_l1_W"], matrix)
    assert checkpoint.tensors["bias"].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert checkpoint.metadata["type"] == "transformer"
    assert checkpoint.metadata["vocab-size"] == 7


@QUICK
@given(st.data())
def test_damaged_marian_files_never_crash(tmp_path, data):
    path, _, _ = marian_file(tmp_path / "model.bin")
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    for _ in range(data.draw(st.integers(0, 4))):
        if raw:
            raw[data.draw(st.integers(0, min(len(raw), 400) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw))
    attempt(path)


def test_an_empty_file_and_a_missing_one_are_refused(tmp_path):
    for name in ("model.gguf", "model.safetensors", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(CorruptFile):
            open_checkpoint(tmp_path / name)
        with pytest.raises(ModelNotFound):
            open_checkpoint(tmp_path / f"other-{name}")
    assert gguf.TENSOR_TYPES[3].size == 20


@pytest.mark.parametrize("limit", [10**9, 40, 1])
def test_saved_tensors_read_back_equal_whole_or_in_shards(tmp_path, limit):
    names = [path.name for path in save_tensors(tmp_path, TENSORS, shard_bytes=limit)]
    same(open_checkpoint(tmp_path).tensors, TENSORS)
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    assert ("model.safetensors.index.json" in names) == (limit < 100)


def test_saving_over_an_earlier_checkpoint_leaves_nothing_stale(tmp_path):
    save_tensors(tmp_path, TENSORS, shard_bytes=40)
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    (tmp_path / "notes.bin").write_bytes(b"mine")
    mapped = dict(open_checkpoint(tmp_path).tensors)
    save_tensors(tmp_path, mapped)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "notes.bin"]
    same(open_checkpoint(tmp_path).tensors, TENSORS)
    same(mapped, TENSORS)


def test_a_failed_save_keeps_what_was_there(tmp_path, monkeypatch):
    save_tensors(tmp_path, TENSORS)

    def full(*args, **options):
        Path(args[1]).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(MultiheadError, match="No space left"):
        save_tensors(tmp_path, {"a": torch.ones(3)})
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    same(open_checkpoint(tmp_path).tensors, TENSORS)
