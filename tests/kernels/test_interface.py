"""Python and C++ share structs through `native.h`; a library of another header is refused with the reason."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

import pytest

from multihead.kernels.cpu import native
from multihead.native import interface

TEXT = interface.HEADER.read_text()
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def header(tmp_path, text):
    path = tmp_path / "native.h"
    path.write_text(text)
    return path


def compiles(tmp_path, text, source):
    header(tmp_path, text)
    (tmp_path / "layout.cpp").write_text(source)
    done = subprocess.run([COMPILER, "-std=c++17", "-fsyntax-only", "layout.cpp"], cwd=tmp_path, capture_output=True)
    return done.returncode == 0


def test_fields_of_every_form_are_read(tmp_path):
    text = "struct A {\n    const void *x, *y;  // two\n    float f;\n};\nstruct B {\n    A a;\n    int64_t n[3];\n};\n"
    structs = interface.read(header(tmp_path, text)).structs
    assert structs["A"]._fields_ == [("x", ctypes.c_void_p), ("y", ctypes.c_void_p), ("f", ctypes.c_float)]
    assert ctypes.sizeof(structs["B"]) == ctypes.sizeof(structs["A"]) + 24


def test_a_field_that_the_header_lacks_is_refused():
    with pytest.raises(AttributeError, match="width_"):
        native.INTERFACE.structs["NormCall"](width_=1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("float eps, centre;", "float centre, eps;"),
        ("float eps, centre;", "float eps, centre, extra;"),
        ("float eps, centre;", "double eps, centre;"),
        (
            "EXPORT void mh_norm(const NormCall* n, int threads);",
            "EXPORT void mh_norm(const NormCall* n, int64_t threads);",
        ),
        ("#define REVISION ", "#define REVISION 1"),
    ],
)
def test_a_library_of_another_header_is_refused(tmp_path, monkeypatch, old, new):
    if native.library() is None:
        pytest.skip("the kernels are not built here")
    assert TEXT.count(old) == 1
    text = TEXT.replace(old, new)
    monkeypatch.setitem(interface.NUMBERS, "double", ctypes.c_double)
    monkeypatch.setattr(native, "INTERFACE", interface.read(header(tmp_path, text)))
    found, reason = native._opened.__wrapped__()
    assert found is None
    assert "another native.h" in reason
    assert "doctor --build" in reason


def test_a_library_without_a_mark_is_refused(tmp_path, monkeypatch):
    if native.library() is None:
        pytest.skip("the kernels are not built here")
    old = tmp_path / "kernels.so"
    old.write_bytes(native.LIBRARY.read_bytes().replace(interface.MARK.encode(), b"mh_abi_of_it"))
    monkeypatch.setattr(native, "LIBRARY", old)
    monkeypatch.setattr(native, "REASON", tmp_path / "kernels.txt")
    found, reason = native._opened.__wrapped__()
    assert found is None
    assert "another native.h" in reason


def test_comments_and_spaces_do_not_make_another_header(tmp_path):
    text = "// more\n" + TEXT.replace("    float eps, centre;", "    float eps,   centre; /* here */")
    assert interface.read(header(tmp_path, text)).mark == interface.read().mark


@pytest.mark.parametrize("text", ["struct A {\n    size_t n;\n};\n", "struct A {\n    float pass;\n};\n", None])
def test_a_header_that_cannot_be_read_is_a_reason(tmp_path, monkeypatch, text):
    path = tmp_path / "native.h" if text is None else header(tmp_path, text)
    with pytest.raises(interface.HeaderError) as raised:
        interface.read(path)
    monkeypatch.setattr(native, "HEADER_FAULT", str(raised.value))
    if native.LIBRARY.exists():
        assert native._opened.__wrapped__() == (None, str(raised.value))


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_the_compiler_lays_structs_out_as_ctypes_does(tmp_path, monkeypatch):
    assert compiles(tmp_path, TEXT, interface.proof())
    monkeypatch.setitem(interface.NUMBERS, "int64_t", ctypes.c_int32)
    assert not compiles(tmp_path, TEXT, interface.proof())
