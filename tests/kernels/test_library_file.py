"""A library file that is not whole is refused before it is loaded: half of one ends the process."""

from __future__ import annotations

import shutil
import sys

import pytest

from multihead.kernels.cpu import native
from multihead.native import build

pytestmark = pytest.mark.skipif(not native.LIBRARY.exists(), reason="the kernels are not built here")


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the library, with what its build notes of it."""
    library, notes = tmp_path / "kernels.so", tmp_path / "kernels.txt"
    shutil.copyfile(native.LIBRARY, library)
    notes.write_text("\n".join(["built by c++ for plain", *build.mark(library)]) + "\n")
    monkeypatch.setattr(native, "LIBRARY", library)
    monkeypatch.setattr(native, "REASON", notes)
    return library, notes


def test_a_whole_library_is_fine_with_and_without_its_mark(copied):
    assert native.damage() == ""
    assert native.built() == "built by c++ for plain"
    copied[1].write_text("built by c++ for plain\n")
    assert native.damage() == ""
    copied[1].unlink()
    assert native.damage() == ""
    assert native.built() == ""


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.999])
def test_a_part_of_a_library_is_refused_with_a_warning(copied, marked, share):
    library, notes = copied
    data = library.read_bytes()
    library.write_bytes(data[: int(len(data) * share)])
    if not marked:
        if sys.platform != "linux":
            pytest.skip("without a mark the length is known of ELF files alone")
        notes.write_text("built by c++ for plain\n")
    with pytest.warns(UserWarning, match="damaged"):
        found, why = native._opened.__wrapped__()
    assert found is None
    assert "doctor --build" in why


def test_a_flipped_byte_is_refused(copied):
    library, _ = copied
    data = bytearray(library.read_bytes())
    data[len(data) // 2] ^= 1
    library.write_bytes(bytes(data))
    assert "hash" in native.damage()


def test_a_library_that_was_never_built_has_no_mark(tmp_path):
    assert build.mark(tmp_path / "kernels.so") == []
