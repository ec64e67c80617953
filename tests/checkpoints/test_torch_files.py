"""Files of torch.save: the numbers that torch itself reads, or a refusal; whatever they hold, nothing runs or grows."""

from __future__ import annotations

import io
import pickle
import random
import struct
import tracemalloc
import warnings
import zipfile
from collections import OrderedDict

import pytest
import torch

from multihead.checkpoints.torch_files import read
from multihead.errors import CorruptFile, MultiheadError, UnsafeFile

BOTH = pytest.mark.parametrize("new", [True, False], ids=["zip", "older"])


def state():
    """Tensors of many types, shared, cut out of others, turned, empty and without axes."""
    torch.manual_seed(0)
    table = torch.randn(6, 5)
    made = OrderedDict(
        words=table, tied=table, rows=table[2:4], column=table[:, 1], turned=table.T, one=torch.tensor(3.5),
        none=torch.empty(0, 4), half=torch.randn(3).half(), bf16=torch.randn(3).bfloat16(),
        flags=torch.tensor([True, False]), whole=torch.arange(7), bytes=torch.arange(4, dtype=torch.uint8),
        wide=torch.randn(2, 2).double(), parameter=torch.nn.Parameter(torch.randn(2, 3)),
    )  # fmt: skip
    made._metadata = {"": {"version": 1}}
    return made


def saved(path, what, new=True, **options):
    torch.save(what, path, _use_new_zipfile_serialization=new, **options)
    return path


@BOTH
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_are_those_that_torch_reads(tmp_path, new, protocol):
    path = saved(tmp_path / "a.bin", state(), new, pickle_protocol=protocol)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted, found = torch.load(path, weights_only=protocol == 2), read(path)
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert (found[name].dtype, found[name].stride()) == (tensor.dtype, tensor.stride())
        assert torch.equal(found[name], tensor), name
    assert found["words"].data_ptr() == found["tied"].data_ptr()
    assert found["rows"].data_ptr() == found["words"][2].data_ptr()


def test_types_that_only_tensors_tell_and_tensors_with_attributes_are_read(tmp_path):
    marked = torch.randn(3)
    marked.note = "mine"
    made = {"a": torch.arange(5).to(torch.uint16), "b": torch.randn(4).to(torch.float8_e4m3fn), "c": marked}
    found = read(saved(tmp_path / "a.bin", made))
    assert all(torch.equal(found[name].view(torch.uint8), made[name].view(torch.uint8)) for name in made)


def test_entries_beside_tensors_are_named_and_left_out(tmp_path):
    extra = {"epoch": 3, "names": {"a"}, "size": torch.Size([2]), "kind": torch.float32, "raw": b"\xff\x00",
             "on": torch.device("cpu"), "more": bytearray(b"abc"), "b": [{"c": 1.5, "t": (None, True)}]}  # fmt: skip
    with pytest.warns(UserWarning, match="left out: epoch, names, size, kind, raw"):
        assert list(read(saved(tmp_path / "a.bin", {"w": torch.ones(2), **extra}))) == ["w"]


def test_writing_into_a_tensor_leaves_the_file_as_it_is(tmp_path):
    path = saved(tmp_path / "a.bin", {"w": torch.ones(2000)})
    before = path.read_bytes()
    read(path)["w"].zero_()
    assert path.read_bytes() == before


def repacked(path, method=zipfile.ZIP_STORED, change=lambda name, data: data, twice=False):
    """The same archive, written anew with other records."""
    parts = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as out:
        warnings.simplefilter("ignore")
        for name in parts.namelist():
            for _ in range(1 + twice):
                out.writestr(name, change(name, parts.read(name)))
    return path


def test_an_archive_that_was_packed_again_has_the_same_numbers(tmp_path):
    found = read(repacked(saved(tmp_path / "a.bin", state())))  # not aligned any more
    assert all(torch.equal(found[name], tensor) for name, tensor in state().items())


def only_data(change):
    return lambda name, data: change(data) if "/data/" in name else data


def order(name, data):
    return b"big" if name.endswith("/byteorder") else data


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": zipfile.ZIP_DEFLATED}, "is compressed"),
        ({"change": only_data(lambda data: data[: len(data) // 2])}, "has 60 bytes, not 120"),
        ({"change": only_data(lambda data: data + b"\0" * 4)}, "has 124 bytes, not 120"),
        ({"change": only_data(lambda data: b"")}, "has 0 bytes"),
        ({"change": order}, "another order of bytes"),
        ({"twice": True}, "several files of one name"),
    ],
)
def test_records_that_are_not_as_the_pickle_says_are_refused(tmp_path, options, said):
    path = repacked(saved(tmp_path / "a.bin", {"w": torch.randn(6, 5)}), **options)
    with pytest.raises(CorruptFile, match=said):
        read(path)


def centrals(raw):
    """Where the entries of an archive's table begin."""
    at = raw.index(b"PK\x01\x02", zipfile.ZipFile(io.BytesIO(raw)).start_dir)
    while raw[at : at + 4] == b"PK\x01\x02":
        yield at
        at += 46 + sum(struct.unpack_from("<HHH", raw, at + 28))


@pytest.mark.parametrize(("place", "more"), [(42, 64), (42, -64), (42, 8), (20, 4), (24, 4), (24, -4), (10, 8), (8, 1)])
def test_an_archive_whose_table_was_changed_is_refused(tmp_path, place, more):
    path = saved(tmp_path / "a.bin", {"w": torch.randn(64), "v": torch.randn(64)})
    raw = path.read_bytes()
    for at in centrals(raw):
        name = raw[at + 46 :][: struct.unpack_from("<H", raw, at + 28)[0]]
        if not name.endswith((b"/data/0", b"/data/1")):
            continue
        changed = bytearray(raw)
        width = "<I" if place >= 20 else "<H"
        struct.pack_into(width, changed, at + place, struct.unpack_from(width, raw, at + place)[0] + more)
        path.write_bytes(changed)
        with pytest.raises(CorruptFile):
            read(path)


@BOTH
def test_tensors_without_numbers_are_refused(tmp_path, new):
    made = {"w": torch.ones(2), "x": torch.empty(3, device="meta")}
    with pytest.raises(CorruptFile, match="meta device"):
        read(saved(tmp_path / "a.bin", made, new))


@pytest.mark.parametrize(
    "tensor", [torch.eye(2).to_sparse(), torch.quantize_per_tensor(torch.ones(2), 1, 0, torch.qint8)]
)
def test_tensors_of_a_kind_that_is_not_read_are_refused(tmp_path, tensor):
    with pytest.raises(CorruptFile, match="of a kind that is not read"):
        read(saved(tmp_path / "a.bin", {"w": tensor}))


def test_a_program_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "a.bin"))
    with pytest.raises(UnsafeFile, match="TorchScript"):
        read(tmp_path / "a.bin")


class Calls:
    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


@BOTH
@pytest.mark.parametrize(
    "call", [(print, "x"), (getattr, 1, "ones"), (torch.load, "x"), (eval, "1"), (map, print, [1])]
)
def test_names_of_functions_are_refused_before_anything_is_called(tmp_path, capsys, new, call):
    with pytest.raises(UnsafeFile, match="wants to run code, which is refused: it asks for") as told:
        read(saved(tmp_path / "a.bin", {"w": torch.ones(2), "x": Calls(*call)}, new))
    assert "weights_only" not in str(told.value)
    assert capsys.readouterr().out == ""


def archived(path, pickled):
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a/data.pkl", pickled)
    return path


def deep(depth):
    value = ()
    for _ in range(depth):
        value = (value, value)
    return {value: 1} if depth < 5 else Calls(OrderedDict, [(value, 1)])


def chain(depth, end):
    """A pickle of pairs of pairs, which `end` makes something of."""
    return b"\x80\x02)" + b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(depth)) + end


@pytest.mark.parametrize("pickled", [
    pickle.dumps({"x": Calls(bytearray, 10**9)}, 2),
    b"\x80\x02]r\xff\xff\xff\x0f.",  # a memo with place for 268 million
    b"\x80\x05\x96" + struct.pack("<Q", 10**10) + b".",  # a byte array of 10 GB
    b"\x80\x04\x8d" + struct.pack("<Q", 10**10) + b".",
    chain(60, b"}q\xff0q\xfe}h\xfeK\x01s."),  # a key whose hash takes 2^60 steps
    chain(60, b"q\xfd0cbuiltins\nset\n](h\xfde\x85R."),
    b"\x80\x02cbuiltins\ncomplex\nU\x011\x85R.",
    b"\x80\x02" + b"(" * 1000 + b".",
    b"\x80\x02ctorch\nSize\ncbuiltins\nset\n\x85R.",
], ids=range(9))  # fmt: skip
def test_small_files_that_ask_for_much_memory_or_time_are_refused(tmp_path, pickled):
    path = archived(tmp_path / "a.bin", pickled)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFile) as told:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert "weights_only" not in str(told.value)


@pytest.mark.parametrize(("shape", "strides", "offset"), [
    ((100,), (1,), 0), ((2,), (10,), 0), ((2,), (1,), 9), ((2,), (-1,), 1), ((2,), (1,), -1), ((2,), (1, 1), 0),
    ((2**40,), (0,), 0), ((1 << 63,), (1,), 0), (("2",), (1,), 0),
])  # fmt: skip
def test_a_tensor_beyond_its_record_is_refused(tmp_path, shape, strides, offset):
    buffer = io.BytesIO()

    class Pickler(pickle._Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "0", "cpu", 10) if value == "numbers" else None

        def save_global(self, value, name=None):
            kinds = {torch.FloatStorage: b"ctorch\nFloatStorage\n"}
            self.write(kinds[value]) if value in kinds else super().save_global(value, name)

        dispatch = {**pickle._Pickler.dispatch, type: save_global}

    rebuilt = Calls(torch._utils._rebuild_tensor_v2, "numbers", offset, shape, strides, False, OrderedDict())
    Pickler(buffer, 2).dump({"w": rebuilt})
    path = archived(tmp_path / "a.bin", buffer.getvalue())
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("a/data/0", bytes(40))
    if (shape, strides) == ((2**40,), (0,)):  # one number many times, as expanded tensors are
        assert read(path)["w"].shape == shape
        return
    with pytest.raises(CorruptFile):
        read(path)


@BOTH
def test_damaged_files_give_the_same_names_or_one_of_our_errors(tmp_path, new):
    path = saved(tmp_path / "a.bin", state(), new)
    raw, names = path.read_bytes(), set(state())
    draw, said = random.Random(3), list[str]()
    places = [n for n, byte in enumerate(raw) if byte]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(400):
            changed = bytearray(raw)
            for _ in range(draw.choice((1, 1, 3))):
                changed[draw.choice(places)] = draw.choice((0, 1, 46, 128, 255, draw.randrange(256)))
            path.write_bytes(changed[: draw.choice((len(raw), len(raw), draw.randrange(len(raw))))])
            try:
                found = read(path)
            except MultiheadError as error:
                said.append(str(error))
            else:
                assert len(found) <= len(names)
                assert all(torch.isnan(tensor.double()).sum() >= 0 for tensor in found.values())
    assert len(said) > 50
    assert all("a.bin" in line and "weights_only" not in line for line in said)
