"""What a hub gives is what it lists, stays in the cache, and comes in time; what was cached can be compared again."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import subprocess
import sys
import time
import tracemalloc

import pytest
from click.testing import CliRunner

from multihead.cli.main import cli
from multihead.errors import CorruptFile, ModelNotFound, MultiheadError, NetworkUnavailable, UnsafeFile
from multihead.hub import Want, guard, resolve
from multihead.hub.cache_root import cache_root
from multihead.hub.cached import list_cached, verify

FILES = {"config.json": "{}", "model.safetensors": b"w" * 5000, "tokenizer.json": '{"a": 1}'}
NAMES = ["config.json", "model.safetensors", "tokenizer.json"]


def storage():
    return cache_root(None) / "models--org--name"


def flipped(data):
    data = bytearray(data.encode() if isinstance(data, str) else data)
    data[len(data) // 2] ^= 4
    return bytes(data)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("plain", [False, True], ids=["listed", "by-etag"])
def test_a_file_of_the_right_size_with_other_bytes_is_refused_and_not_kept(hub, name, plain):
    hub.add("org/name", FILES)
    hub.plain = plain
    hub.spoilt[name] = flipped(FILES[name])
    with pytest.raises(CorruptFile, match=rf"{name} came with the hash"):
        resolve("org/name")
    assert not any(path.name == name for path in storage().rglob("*"))
    assert not any(p.is_file() and p.read_bytes() == hub.spoilt[name] for p in storage().rglob("*"))
    with pytest.raises(MultiheadError):
        resolve("org/name", local_files_only=True)
    hub.spoilt.clear()
    assert (resolve("org/name") / name).stat().st_size == len(FILES[name])


def test_a_damaged_file_of_another_commit_is_not_taken_over(hub):
    hub.add("org/name", FILES)
    folder = resolve("org/name")
    blob = (folder / "model.safetensors").resolve()
    blob.write_bytes(flipped(FILES["model.safetensors"]))
    hub.add("org/name", {**FILES, "more.json": "{}"})  # the same weights in a new commit
    with pytest.raises(CorruptFile, match=r"model\.safetensors came with the hash"):
        resolve("org/name")
    assert (resolve("org/name") / "model.safetensors").read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize("tag", [hashlib.sha1(b"{}").hexdigest(), "abc-123", "d41d8cd98f00b204e9800998ecf8427e"])
def test_tags_of_mirrors_are_taken(hub, tag):
    hub.add("org/name", FILES)
    hub.plain, hub.tags["config.json"] = True, tag
    assert (resolve("org/name") / "config.json").read_text() == "{}"


@pytest.mark.parametrize(
    "tag", ["../../../../outside", "..", "/etc/outside", "a/b", "a\\..\\b", "x\x00y", "x" * 300, "%2e%2e/x"]
)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_tag_that_leaves_the_cache_is_refused_before_it_names_a_file(hub, tmp_path, tag, name):
    hub.add("org/name", FILES)
    hub.tags[name] = tag
    with pytest.raises((UnsafeFile, NetworkUnavailable)):
        resolve("org/name")
    assert not any("outside" in path.name for path in tmp_path.rglob("*"))
    assert all(path.is_relative_to(cache_root(None)) for path in tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    "name", ["../../outside.safetensors", "/etc/outside.json", "a/../../b.json", "x\x1b.gguf", "a\\b.json"]
)
def test_a_listed_name_that_leaves_its_folder_is_refused(hub, name):
    hub.add("org/name", {**FILES, name: "{}"})
    with pytest.raises(UnsafeFile, match=r"lists .*Do not trust it"):
        resolve("org/name")


@pytest.mark.parametrize("text", ["../../../../outside", "main", "", "0" * 39, "0" * 41, "/", "0" * 10**6, "\x00" * 40])
def test_a_ref_that_is_no_commit_is_not_followed(hub, tmp_path, text):
    hub.add("org/name", FILES)
    folder = resolve("org/name")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").write_text("{}")
    ref = storage() / "refs" / "main"
    ref.write_text(os.path.relpath(outside, storage() / "snapshots") if "outside" in text else text)
    with pytest.raises(MultiheadError, match=r"refs.main holds no commit"):
        resolve("org/name", [Want.CONFIG], local_files_only=True)
    assert resolve("org/name") == folder, "with the network on it is written anew"
    assert ref.read_text() == folder.name


def test_a_server_that_gives_a_byte_now_and_then_is_left(hub, monkeypatch):
    monkeypatch.setattr(guard, "PATIENCE", 0.5)
    hub.add("org/name", FILES)
    hub.pause = 0.05
    began = time.monotonic()
    with pytest.raises(NetworkUnavailable, match="gave nothing for"):
        resolve("org/name")
    assert time.monotonic() - began < 60
    hub.pause = 0
    assert resolve("org/name").is_dir()


def test_a_listing_that_unpacks_to_very_much_is_not_unpacked(hub, monkeypatch):
    monkeypatch.setattr(guard, "LISTING", 1 << 21)
    hub.add("org/name", FILES)
    hub.packed = gzip.compress(b"[" + b" " * (1 << 25) + b"]", 9)
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFile, match="larger than any of its kind"):
            resolve("org/name")
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    hub.packed = gzip.compress(b'{"id": "org/name", "sha": "%s", "siblings": []}' % (b"0" * 40))
    with pytest.raises(ModelNotFound):
        resolve("org/name")


def test_waiting_for_other_things_than_a_server_is_not_counted(monkeypatch):
    monkeypatch.setattr(guard, "PATIENCE", 0.05)
    pace = guard.Pace()
    pace.begin_request()
    pace.end_response()
    time.sleep(0.1)  # at a lock, say
    pace.begin_request()
    pace.count_bytes(guard.CRAWL)
    time.sleep(0.1)
    with pytest.raises(TimeoutError):
        pace.count_bytes(1)
    pace.begin_request()


def test_what_a_program_asks_of_the_hub_by_itself_is_left_alone(hub, monkeypatch):
    from huggingface_hub import utils

    hub.add("org/name", FILES)
    resolve("org/name")
    monkeypatch.setattr(guard, "PATIENCE", -1.0)
    hub.tags["config.json"] = "../x"
    answer = utils.get_session().get(f"{hub.endpoint}/org/name/resolve/main/config.json")
    assert answer.text == "{}"
    assert "gzip" in answer.request.headers["Accept-Encoding"]


def test_a_lock_that_is_waited_for_is_said_and_the_log_is_as_it_was(hub):
    hub.add("org/name", FILES)
    log = logging.getLogger("huggingface_hub.utils._fixes")
    before = log.level, list(log.handlers)
    with guard.guarded():
        with pytest.warns(UserWarning, match=r"Another process fetches the same file; waiting for it \(/x\.lock"):
            log.info("Still waiting to acquire lock on %s (elapsed: 10.0 seconds)", "/x.lock")
        log.info("other")
    assert (log.level, list(log.handlers)) == before


def test_words_of_a_server_are_text(hub):
    hub.add("org/name", FILES)
    resolve("org/name")
    record = logging.LogRecord("huggingface_hub", 30, "x", 1, "bad %s", ("\x1b]0;t\x07 http://me:word@host/",), None)
    for handler in logging.getLogger("huggingface_hub").handlers:
        handler.filter(record)
    assert record.getMessage() == r"bad \x1b]0;t\x07 http://***@host/"


@pytest.mark.parametrize("name", NAMES)
def test_verify_finds_what_changed_on_the_disk(hub, name):
    hub.add("org/name", FILES)
    folder = resolve("org/name")
    assert [(model.name, model.wrong, model.unknown) for model in verify()] == [("org/name", (), ())]
    blob = (folder / name).resolve()
    blob.write_bytes(flipped(FILES[name]))
    (model,) = verify(["org/name"])
    assert [path.rpartition("/")[2] for path in model.wrong] == [name]
    with pytest.raises(ModelNotFound, match="not in the cache"):
        list(verify(["org/nam"]))


def test_verify_passes_over_no_damaged_cache(hub):
    hub.add("org/name", FILES)
    folder = resolve("org/name")
    (storage() / "refs" / "main").write_text("0" * 40)
    assert [(model.name, model.wrong) for model in verify()] == [("org/name", ())]
    (folder / "config.json").resolve().unlink()
    (model,) = verify()
    assert model.wrong == (f"{folder.name}/config.json (its content is gone)",)
    assert [model.name for model in list_cached()] == ["org/name"]


def test_verify_as_a_command(hub):
    hub.add("org/name", FILES)
    hub.add("org/other", FILES)
    folder = resolve("org/name")
    resolve("org/other")
    whole = CliRunner().invoke(cli, ["models", "verify"])
    assert whole.exit_code == 0
    assert whole.output.split() == ["whole", "org/name", "whole", "org/other"]
    (folder / "model.safetensors").resolve().write_bytes(b"x" * 5000)
    found = CliRunner().invoke(cli, ["models", "verify", "org/name"])
    assert found.exit_code == 1
    assert "damaged  org/name" in found.output
    assert f"{folder.name}/model.safetensors" in found.output
    assert len(list_cached()) == 2


def test_passwords_of_the_endpoint_are_in_no_message(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint.replace("://", "://me:secret-word@"))
    for name in ("org/absent", "org/name"):
        with pytest.raises(MultiheadError) as error:
            resolve(name, revision="no")
        assert "secret-word" not in str(error.value)
    monkeypatch.setenv("HF_ENDPOINT", "http://me:secret-word@127.0.0.1:9")
    with pytest.raises(NetworkUnavailable) as error:
        resolve("org/name")
    assert "secret-word" not in str(error.value)


def test_a_resolved_model_needs_no_library_of_the_hub(hub):
    hub.add("org/name", FILES)
    resolve("org/name")
    code = "import sys; from multihead.hub import resolve; resolve('org/name', local_files_only=True);"
    code += "print([m for m in ('huggingface_hub', 'logging') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert "huggingface_hub" not in run.stdout
