"""Repositories of a hub, on loopback."""

from __future__ import annotations

import json

import pytest

from multihead.errors import (
    AccessDenied,
    CacheUnusable,
    CorruptFile,
    InvalidInput,
    ModelNotFound,
    NetworkUnavailable,
)
from multihead.hub import Want, resolve

BERT = {
    "README.md": "x",
    "config.json": '{"a": 1}',
    "generation_config.json": '{"b": 1}',
    "model.safetensors": b"weights" * 100,
    "pytorch_model.bin": b"pickle",
    "tf_model.h5": b"tf",
    "tokenizer.json": '{"c": 1}',
    "tokenizer_config.json": '{"d": 1}',
    "vocab.txt": "a\nb\n",
    "additional_chat_templates/tools.jinja": "t",
    "1_Pooling/config.json": '{"e": 1}',
    "onnx/model.onnx": b"onnx",
}
INDEX = json.dumps({"weight_map": {"x": "model-00001-of-00002.safetensors", "y": "model-00002-of-00002.safetensors"}})
SHARDED = {
    "config.json": "{}",
    "model.safetensors.index.json": INDEX,
    "model-00001-of-00002.safetensors": b"1",
    "model-00002-of-00002.safetensors": b"2",
    "model-00003-of-00002.safetensors": b"not in the index",
}
MODEL = [Want.CONFIG, Want.WEIGHTS]


def inside(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_only_what_is_wanted_is_fetched(hub):
    hub.add("org/bert", BERT)
    folder = resolve("org/bert", [Want.CONFIG])
    config = ["1_Pooling/config.json", "config.json", "generation_config.json"]
    tokenizer = ["additional_chat_templates/tools.jinja", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    assert inside(folder) == config
    assert inside(resolve("org/bert", [Want.TOKENIZER])) == sorted(config + tokenizer)
    resolve("org/bert")
    assert hub.downloads() == sorted(set(BERT) - {"README.md", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx"})


def test_a_tokenizer_comes_with_the_config_that_names_its_family(hub):
    hub.add("org/bert", BERT)
    assert "config.json" in inside(resolve("org/bert", [Want.TOKENIZER]))


def test_a_name_without_an_organization_is_a_repository_too(hub):
    hub.add("bert", BERT)
    assert (resolve("bert") / "model.safetensors").read_bytes() == BERT["model.safetensors"]


def test_a_second_call_fetches_nothing(hub):
    hub.add("org/bert", BERT)
    first = resolve("org/bert")
    hub.requests.clear()
    assert resolve("org/bert") == first
    assert len(hub.requests) == 1, "one question: what does main mean now?"


def test_shards_are_those_that_the_index_names(hub):
    hub.add("org/big", SHARDED)
    assert inside(resolve("org/big", MODEL)) == sorted(set(SHARDED) - {"model-00003-of-00002.safetensors"})


def test_pickles_are_taken_where_there_is_nothing_better(hub):
    hub.add("org/old", {"config.json": "{}", "pytorch_model.bin": b"p", "training_args.bin": b"t"})
    assert inside(resolve("org/old", MODEL)) == ["config.json", "pytorch_model.bin"]


def test_an_index_that_names_what_is_not_there_is_corrupt(hub):
    hub.add("org/a", {**SHARDED, "model.safetensors.index.json": '{"weight_map": {"x": "../../secret"}}'})
    with pytest.raises(CorruptFile, match="secret"):
        resolve("org/a", MODEL)
    hub.add("org/b", {**SHARDED, "model.safetensors.index.json": "{}"})
    with pytest.raises(CorruptFile, match="weight_map"):
        resolve("org/b", MODEL)
    hub.add("org/c", {**SHARDED, "model.safetensors.index.json": "not json"})
    with pytest.raises(CorruptFile, match="JSON"):
        resolve("org/c", MODEL)


def test_a_subfolder_is_applied(hub):
    hub.add("org/many", {f"{part}/{name}": data for part in ("a", "b") for name, data in BERT.items()})
    folder = resolve("org/many", [Want.CONFIG], subfolder="b")
    assert folder.name == "b"
    assert (folder / "config.json").is_file()
    assert not (folder.parent / "a").exists()
    with pytest.raises(ModelNotFound, match="subfolder 'c'"):
        resolve("org/many", subfolder="c")


def test_a_gguf_file_is_taken_alone_or_by_name(hub):
    hub.add("org/one", {"README.md": "", "only.gguf": b"1"})
    assert resolve("org/one", MODEL).name == "only.gguf"
    hub.add("org/two", {"config.json": "{}", "a.gguf": b"1", "b.gguf": b"2"})
    assert resolve("org/two", MODEL, gguf_file="b.gguf").read_bytes() == b"2"
    with pytest.raises(ModelNotFound, match=r"gguf_file.*a\.gguf, b\.gguf"):
        resolve("org/two", MODEL)
    with pytest.raises(ModelNotFound, match=r"c\.gguf.*a\.gguf"):
        resolve("org/two", MODEL, gguf_file="c.gguf")
    assert hub.downloads() == ["b.gguf", "only.gguf"]


@pytest.mark.parametrize(
    ("files", "want", "missing"),
    [
        ({"config.json": "{}", "tf_model.h5": b""}, Want.WEIGHTS, "tf_model.h5"),
        ({"model.safetensors": b""}, Want.CONFIG, "config.json"),
        ({"config.json": "{}"}, Want.TOKENIZER, "tokenizer.json"),
    ],
)
def test_a_kind_of_files_that_is_not_there_is_named(hub, files, want, missing):
    hub.add("org/part", files)
    with pytest.raises(ModelNotFound, match=missing):
        resolve("org/part", [want])


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub):
    old = hub.add("org/bert", {**BERT, "config.json": "old"})
    hub.add("org/bert", {**BERT, "config.json": "tagged"}, revision="v1")
    hub.add("org/bert", {**BERT, "config.json": "new"})
    hub.add("org/bert", {**BERT, "config.json": "pull"}, revision="refs/pr/1")
    for revision, text in ((None, "new"), ("main", "new"), ("v1", "tagged"), (old, "old"), ("refs/pr/1", "pull")):
        assert (resolve("org/bert", revision=revision) / "config.json").read_text() == text
    with pytest.raises(ModelNotFound, match="v3"):
        resolve("org/bert", revision="v3")


def test_all_files_are_of_one_commit_even_if_the_branch_moves_meanwhile(hub, monkeypatch):
    hub.add("org/bert", BERT)
    from multihead.hub import repository

    listing = repository._listing

    def moves(repo, request):
        answer = listing(repo, request)
        hub.add("org/bert", {**BERT, "config.json": "moved", "tokenizer.json": "moved"})
        return answer

    monkeypatch.setattr(repository, "_listing", moves)
    folder = resolve("org/bert")
    assert (folder / "config.json").read_text() == BERT["config.json"]
    assert (folder / "tokenizer.json").read_text() == BERT["tokenizer.json"]


def test_a_name_that_nobody_has_is_not_found(hub):
    with pytest.raises(ModelNotFound, match="org/nobody"):
        resolve("org/nobody")


@pytest.mark.parametrize("name", ["-x", "a--b", "x/..", "a" * 100, "org/na me", ".hidden"])
def test_a_name_that_no_hub_allows_asks_nobody(hub, name):
    with pytest.raises(ModelNotFound):
        resolve(name)
    assert hub.requests == []


def test_a_gated_repository_says_how_to_get_in(hub):
    hub.add("org/gated", BERT, gated=True, token="hf_right")
    with pytest.raises(AccessDenied, match="accept its terms"):
        resolve("org/gated", token=False)
    assert resolve("org/gated", [Want.CONFIG], token="hf_right").is_dir()


def test_a_private_repository_needs_the_right_token(hub, monkeypatch):
    hub.add("org/private", BERT, token="hf_right")
    with pytest.raises(ModelNotFound, match="private"):
        resolve("org/private", token="hf_wrong")
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert resolve("org/private", [Want.CONFIG]).is_dir()
    with pytest.raises(ModelNotFound):
        resolve("org/private", token=False, revision="main")


def test_a_refusal_without_a_reason_is_denied_access(hub):
    hub.add("org/bert", BERT)
    hub.down = 403
    with pytest.raises(AccessDenied, match="403"):
        resolve("org/bert")


def test_token_true_without_a_saved_token_says_so(hub):
    hub.add("org/bert", BERT)
    with pytest.raises(AccessDenied, match="log in"):
        resolve("org/bert", token=True)


def test_a_token_is_never_in_a_message(hub):
    with pytest.raises(ModelNotFound) as caught:
        resolve("org/nobody", token="hf_secret")
    assert "hf_secret" not in str(caught.value)


def test_a_file_that_is_listed_but_not_given_is_an_error(hub):
    hub.add("org/bert", BERT)
    hub.lies.add("model.safetensors")
    with pytest.raises(ModelNotFound, match=r"model\.safetensors"):
        resolve("org/bert")


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.add("org/bert", BERT)
    hub.cut.add("model.safetensors")
    assert (resolve("org/bert") / "model.safetensors").read_bytes() == BERT["model.safetensors"]
    assert hub.downloads().count("model.safetensors") == 2


def test_offline_without_a_copy_names_the_reason_and_the_way_out(hub, monkeypatch):
    hub.add("org/bert", BERT)
    with pytest.raises(NetworkUnavailable, match="local_files_only=True"):
        resolve("org/bert", local_files_only=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkUnavailable, match="HF_HUB_OFFLINE=1"):
        resolve("org/bert")
    assert hub.requests == []


def test_offline_uses_the_copy_and_asks_nobody(hub, monkeypatch):
    commit = hub.add("org/bert", BERT)
    hub.add("org/bert", BERT, revision="v1")
    online = resolve("org/bert", revision=commit)
    assert resolve("org/bert", revision="v1") != online
    hub.requests.clear()
    assert resolve("org/bert", revision=commit, local_files_only=True) == online
    monkeypatch.setenv("HF_HUB_OFFLINE", "yes")
    assert resolve("org/bert", revision="v1").is_dir()
    with pytest.raises(NetworkUnavailable, match="main"):
        resolve("org/bert")
    assert hub.requests == []


def test_offline_says_what_is_missing_of_a_copy(hub):
    hub.add("org/bert", BERT)
    resolve("org/bert", [Want.CONFIG])
    assert resolve("org/bert", [Want.CONFIG], local_files_only=True).is_dir()
    with pytest.raises(NetworkUnavailable, match="weights"):
        resolve("org/bert", MODEL, local_files_only=True)
    with pytest.raises(NetworkUnavailable, match="tokenizer"):
        resolve("org/bert", [Want.TOKENIZER], local_files_only=True)


def test_offline_misses_a_shard(hub):
    hub.add("org/big", SHARDED)
    folder = resolve("org/big", MODEL)
    assert resolve("org/big", MODEL, local_files_only=True) == folder
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(NetworkUnavailable, match="model-00002-of-00002"):
        resolve("org/big", MODEL, local_files_only=True)


def test_all_parts_of_a_gguf_model_are_fetched(hub):
    parts = {f"q/m-0000{n}-of-00003.gguf": bytes([n]) for n in (1, 2, 3)}
    hub.add("org/split", {**parts, "mmproj-F16.gguf": b"0", "q/half-00002-of-00002.gguf": b"9"})
    path = resolve("org/split", MODEL, gguf_file="q/m-00002-of-00003.gguf")
    assert path.read_bytes() == b"\2"
    assert hub.downloads() == list(parts)
    assert resolve("org/split", MODEL, gguf_file="q/m-00002-of-00003.gguf", local_files_only=True) == path
    with pytest.raises(ModelNotFound, match=r"a part of a split model, but not q/half-00001-of-00002\.gguf"):
        resolve("org/split", MODEL, gguf_file="q/half-00002-of-00002.gguf")
    hub.add("org/alone", {"m-00001-of-00002.gguf": b"1", "m-00002-of-00002.gguf": b"2", "mmproj-F16.gguf": b"0"})
    assert resolve("org/alone", MODEL).name == "m-00001-of-00002.gguf"
    assert hub.downloads() == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", *parts]


def test_offline_gives_the_gguf_file_and_the_subfolder_too(hub):
    hub.add("org/two", {"q/a.gguf": b"1", "q/b.gguf": b"2"})
    path = resolve("org/two", MODEL, subfolder="q", gguf_file="a.gguf")
    assert resolve("org/two", MODEL, subfolder="q", gguf_file="a.gguf", local_files_only=True) == path
    assert resolve("org/two", MODEL, subfolder="q", local_files_only=True) == path, "the only one that is cached"


def test_nobody_there_uses_a_whole_copy_and_warns(hub, monkeypatch):
    hub.add("org/bert", BERT)
    online = resolve("org/bert")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.warns(UserWarning, match=r"127\.0\.0\.1:9.*cached"):
        assert resolve("org/bert") == online
    with pytest.raises(NetworkUnavailable, match=r"127\.0\.0\.1:9.*local folder"):
        resolve("org/other")


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_is_down_counts_as_no_connection(hub, status):
    hub.add("org/bert", BERT)
    hub.down = status
    with pytest.raises(NetworkUnavailable, match=f"org/bert.*({status}|down)"):
        resolve("org/bert")


def test_an_interrupted_first_download_is_no_copy(hub, monkeypatch):
    hub.add("org/bert", BERT)
    hub.lies.add("model.safetensors")
    with pytest.raises(ModelNotFound):
        resolve("org/bert")
    with pytest.raises(NetworkUnavailable):
        resolve("org/bert", local_files_only=True)


def test_an_answer_that_is_no_hubs_is_no_connection(hub):
    hub.down = 200  # a page for logging in to a network, say
    with pytest.raises(NetworkUnavailable, match="org/bert"):
        resolve("org/bert")


@pytest.mark.parametrize("address", ["nonsense", "ftp://x", "http://[::1", "http://"])
def test_an_endpoint_that_is_no_address_says_so(monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises((InvalidInput, NetworkUnavailable), match=r"HF_ENDPOINT|org/bert"):
        resolve("org/bert")


def test_cache_dir_is_where_files_go(hub, tmp_path):
    hub.add("org/bert", BERT)
    folder = resolve("org/bert", cache_dir=tmp_path / "mine")
    assert folder.is_relative_to(tmp_path / "mine")
    assert resolve("org/bert", cache_dir=tmp_path / "mine", local_files_only=True) == folder


def test_a_cache_that_cannot_be_written_says_so(hub, tmp_path):
    hub.add("org/bert", BERT)
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheUnusable, match="cache_dir"):
        resolve("org/bert", cache_dir=tmp_path / "file")


def test_a_subfolder_stays_inside(hub):
    hub.add("org/bert", BERT)
    with pytest.raises(InvalidInput, match="relative"):
        resolve("org/bert", subfolder="../..")


def test_a_copy_that_the_hubs_own_library_made_is_used(hub, tmp_path):
    from huggingface_hub import hf_hub_download

    hub.add("org/bert", BERT)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        hf_hub_download("org/bert", name, endpoint=hub.endpoint, cache_dir=tmp_path)
    hub.requests.clear()
    folder = resolve("org/bert", cache_dir=tmp_path, local_files_only=True)
    assert (folder / "model.safetensors").read_bytes() == BERT["model.safetensors"]
    assert hub.requests == []
