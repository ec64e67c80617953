"""Attacks of the kinds that other servers have had, each against a running server."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from multihead import AutoModelForCausalLM, LoraConfig
from multihead.serving.middleware.auth import PUBLIC
from multihead.serving.settings import ModelSettings, ServerSettings
from tests.serving.conftest import RunningServer, running

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "a"}], "max_tokens": 3}
USER, ADMIN = {"x-api-key": "user-secret"}, {"x-api-key": "admin-secret"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("security")


@pytest.fixture(scope="module")
def secured(chat_model: Path, folder: Path) -> Iterator[RunningServer]:
    """A server with keys of a user and an admin, a model with code in its folder, and a broken GGUF file."""
    shutil.copytree(chat_model, folder / "code")
    config = json.loads((folder / "code" / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    (folder / "code" / "config.json").write_text(json.dumps(config))
    (folder / "code" / "evil.py").write_text(f"open({str(folder / 'executed')!r}, 'w')\nclass Evil: pass\n")
    # a tensor whose data would begin far beyond the file
    name, data = b"token_embd.weight", b"GGUF" + struct.pack("<IQQ", 3, 1, 0)
    data += struct.pack("<Q", len(name)) + name + struct.pack("<IQQIQ", 2, 1 << 40, 1 << 20, 0, 1 << 60)
    (folder / "broken.gguf").write_bytes(data)
    (folder / "keys").write_text("ann:user:user-secret\nbob:admin:admin-secret\n")
    model = AutoModelForCausalLM.from_pretrained(chat_model)
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(folder / "adapters" / "mine")
    shutil.copytree(folder / "adapters" / "mine", folder / "outside")
    (folder / "adapters" / "link").symlink_to(folder / "outside")
    sources = {"chat": chat_model, "code": folder / "code", "broken": folder / "broken.gguf"}
    models = [
        ModelSettings(
            source=str(path), name=name, preload=name == "chat", precision="bfloat16" if name == "chat" else "int8"
        )
        for name, path in sources.items()
    ]
    settings = ServerSettings(
        models=tuple(models), keys_file=folder / "keys", adapter_sources=(str(folder / "adapters"), "friends/")
    )
    with running(settings) as server:
        yield server


def ask(server: RunningServer, **fields: Any) -> httpx.Response:
    return server.post("/v1/chat/completions", {**CHAT, **fields}, headers=USER)


def refused(answer: httpx.Response, param: str | None = None) -> None:
    """Check that an answer is an error of the client, which tells nothing of the inside."""
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    if param is not None:
        assert (error["param"] or "").startswith(param), error
    for word in ("Traceback", 'File "', "0x", "site-packages", "/tmp/"):
        assert word not in answer.text


def still_serves(server: RunningServer) -> None:
    assert ask(server).status_code == 200
    assert server.get("/ready").status_code == 200


def test_1_no_tensors_or_pickles_are_read_of_requests(secured: RunningServer) -> None:
    for field in ("prompt_embeds", "inputs_embeds", "multi_modal_data", "mm_processor_kwargs"):
        refused(ask(secured, **{field: "gASVAAAA"}), field)
        body = {"model": "chat", "prompt": "a", "max_tokens": 2, field: "gASVAAAA"}
        refused(secured.post("/v1/completions", body, headers=USER), field)


def test_2_no_code_of_a_checkpoint_runs(secured: RunningServer, folder: Path) -> None:
    answer = ask(secured, model="code")
    assert answer.status_code in (200, 503)
    assert not (folder / "executed").exists()


def test_3_templates_of_requests_are_off(secured: RunningServer) -> None:
    refused(ask(secured, chat_template="{{ 1 }}"), "chat_template")
    refused(ask(secured, chat_template_kwargs={"chat_template": "{{ 1 }}"}), "chat_template_kwargs")


TEMPLATES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ self.__init__.__globals__ }}",
    "{% for a in range(999999999) %}{{ a }}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 9999999999 }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% include '/etc/passwd' %}",
]  # fmt: skip


def test_3_templates_of_requests_are_in_a_sandbox(chat_model: Path) -> None:
    model = ModelSettings(source=str(chat_model), name="chat")
    with running(ServerSettings(models=(model,), request_templates=True)) as server:
        assert server.post("/v1/chat/completions", {**CHAT, "chat_template": "{{ messages[0].content }}"}).is_success
        for template in TEMPLATES:
            refused(server.post("/v1/chat/completions", {**CHAT, "chat_template": template}))
        assert server.post("/v1/chat/completions", CHAT).is_success


def test_4_broken_model_files_end_their_load_only(secured: RunningServer) -> None:
    answer = ask(secured, model="broken")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "model_not_loaded"
    assert "/" not in answer.json()["error"]["message"]
    still_serves(secured)


NUMBERS = ("max_tokens", "max_completion_tokens", "n", "top_k", "top_logprobs", "min_tokens", "seed", "temperature",
           "top_p", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "truncate_prompt_tokens",
           "prompt_logprobs")  # fmt: skip


@pytest.mark.parametrize("field", NUMBERS)
def test_5_numbers_have_bounds(secured: RunningServer, field: str) -> None:
    for value in ("1", [1], {}, True, 1e400 if field == "seed" else 10**40, -(10**40), "NaN"):
        body = json.dumps({**CHAT, field: value}).replace("Infinity", "1e999").encode()
        answer = secured.post("/v1/chat/completions", body, headers=USER)
        assert answer.status_code == 400, (field, value, answer.text)
        refused(answer)
    for value in (-1, 0, 2**31, 2**63, 2**64, 0.5, -0.5):
        answer = ask(secured, **{field: value})
        assert answer.status_code in (200, 400), (field, value, answer.text)


def test_6_costly_requests_do_not_stop_others(secured: RunningServer) -> None:
    attacks: list[Any] = [
        {"chat_template_kwargs": {"tokenize": True}}, {"chat_template_kwargs": {"add_generation_prompt": "x"}},
        {"structured_outputs": {"regex": "(a+)+" * 500}}, {"structured_outputs": {"regex": "(a{1,9999}){1,9999}"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": deep_schema(300)}}},
        {"stop": ["a"] * 100_000}, {"messages": [{"role": "user", "content": ""}] * 2_000},
        {"messages": [{"role": "user", "content": "a " * 50_000}]}, {"messages": [{}] * 100_000},
        {"logit_bias": {str(i): 1 for i in range(100_000)}}, {"bad_words": ["a b c"] * 100_000}, {"n": 10**6},
    ]  # fmt: skip
    done, beats = threading.Event(), []

    def beat() -> None:
        while not done.wait(0.05):
            beats.append(secured.get("/health").status_code)

    watcher = threading.Thread(target=beat)
    watcher.start()
    try:
        for attack in attacks:
            answer = ask(secured, **attack)
            assert answer.status_code < 500, (str(attack)[:80], answer.text)
    finally:
        done.set()
        watcher.join()
    assert set(beats) == {200}
    packed = gzip.compress(b" " * 4_000_000)
    answer = secured.post("/v1/chat/completions", packed, headers={**USER, "content-encoding": "gzip"})
    assert answer.status_code == 415
    still_serves(secured)


def deep_schema(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


MANY = {"type": "object", "properties": {f"p{number}": {"type": "null"} for number in range(2001)}}
HALF = {"type": "object", "properties": {f"p{number}": {"type": "null"} for number in range(1500)}}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("response_format", {"type": "json_schema", "json_schema": {"name": "n", "schema": MANY}}),
        ("response_format", {"type": "json_object", "schema": {"anyOf": [HALF, {"items": HALF}]}}),
        ("tools", [{"type": "function", "function": {"name": name, "parameters": HALF}} for name in "ab"]),
        ("structured_outputs", {"choice": [str(number) for number in range(10_001)]}),
        ("structured_outputs", {"regex": "a" * 70_000}),
        ("guided_grammar", 'start: "a"' + ' | "b"' * 12_000),
    ],
    ids=["object", "objects", "tools", "choice", "regex", "grammar"],
)  # fmt: skip
def test_6_forms_that_take_long_to_compile_are_refused(secured: RunningServer, field: str, value: object) -> None:
    """A schema of 8,000 properties took 20 seconds, and no client that went away ended them."""
    answer = ask(secured, **{field: value})
    refused(answer)
    assert answer.json()["error"]["param"].startswith(field)
    assert answer.elapsed.total_seconds() < 5


def test_7_no_address_is_fetched_and_no_file_read(secured: RunningServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/image.png"
        for url in (address, "file:///etc/passwd", "data:image/png;base64,AAAA"):
            part = {"type": "image_url", "image_url": {"url": url}}
            refused(ask(secured, messages=[{"role": "user", "content": [part]}]))
            refused(ask(secured, messages=[{"role": "user", "content": [{"type": "input_file", "file_url": url}]}]))
        refused(ask(secured, model=address))
        refused(ask(secured, model="../../etc/passwd"))
        with pytest.raises(TimeoutError):
            listener.accept()


def test_8_every_route_needs_a_key(secured: RunningServer) -> None:
    with httpx.Client(base_url=secured.url) as http:
        for route in secured.app.routes:
            path = route.path.replace("{name:path}", "chat").replace("{model:path}", "chat")
            for method in route.methods:
                public = path in PUBLIC and method in ("GET", "HEAD")
                assert (http.request(method, path).status_code != 401) == public, (method, path)


def test_8_users_are_no_admins(secured: RunningServer) -> None:
    body = {"model": "chat", "lora_name": "x", "lora_path": "x"}
    for path in ("/admin/models/load", "/admin/models/unload", "/admin/models/chat/reload", "/v1/load_lora_adapter",
                 "/v1/unload_lora_adapter"):  # fmt: skip
        assert secured.post(path, body, headers=USER).status_code == 403
    assert secured.get("/admin/models", headers=USER).status_code == 403
    assert secured.get("/admin/models", headers=ADMIN).status_code == 200


def test_8_adapters_come_from_allowed_places(secured: RunningServer, folder: Path) -> None:
    def load(path: object) -> httpx.Response:
        return secured.post("/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": str(path)}, headers=ADMIN)

    adapters = folder / "adapters"
    for path in (folder / "outside", adapters / ".." / "outside", adapters / "link", "/etc", "strangers/adapter",
                 "friends/a/b", "friends", f"{adapters}-other"):  # fmt: skip
        assert load(path).status_code == 403, path
    assert load(adapters / "none").status_code == 400
    assert load(adapters / "mine").text == "Success: LoRA adapter 'mine' added successfully."
    assert load(adapters / "mine").status_code == 400, "the name is taken"
    listed = {model["id"]: model for model in secured.get("/v1/models", headers=USER).json()["data"]}
    assert listed["mine"]["parent"] == "chat"
    assert str(folder) not in json.dumps(listed)
    assert ask(secured, model="mine").json()["model"] == "mine"
    assert secured.post("/admin/models/chat/reload", {}, headers=ADMIN).status_code == 200
    assert ask(secured, model="mine").status_code == 200, "a model that is loaded again has its adapters"
    gone = secured.post("/v1/unload_lora_adapter", {"lora_name": "mine"}, headers=ADMIN)
    assert gone.text == "Success: LoRA adapter 'mine' removed successfully."
    assert ask(secured, model="mine").status_code == 404
    prepared = {"lora_name": "mine", "lora_path": str(adapters / "mine"), "base_model_name": "code"}  # in int8
    refused(secured.post("/v1/load_lora_adapter", prepared, headers=ADMIN), "base_model_name")
    still_serves(secured)


def test_adapters_survive_what_happens_to_their_base(secured: RunningServer, folder: Path) -> None:
    source = shutil.copytree(folder / "adapters" / "mine", folder / "adapters" / "passing")

    def load(path: Path) -> int:
        body = {"lora_name": "passing", "lora_path": str(path)}
        return secured.post("/v1/load_lora_adapter", body, headers=ADMIN).status_code

    def reload(_: object = None) -> int:
        return secured.post("/admin/models/chat/reload", {}, headers=ADMIN).status_code

    with ThreadPoolExecutor(8) as threads:
        reloads = [threads.submit(reload) for _ in range(2)]
        found = list(threads.map(load, [source] * 4))
        assert [each.result() for each in reloads] == [200, 200]
    assert sorted(found) == [200, 400, 400, 400], "one of those who give the name at once has it"
    assert ask(secured, model="passing").status_code == 200, "also when the base is loaded again meanwhile"
    shutil.rmtree(source)
    assert reload() == 200, "a base does not need an adapter that an admin has added"
    assert ask(secured, model="passing").status_code == 404
    still_serves(secured)


def test_9_keys_share_no_cached_prefixes(secured: RunningServer) -> None:
    text = "a long prompt that two people send " * 8

    def cached(headers: dict[str, str]) -> int:
        body = {**CHAT, "messages": [{"role": "user", "content": text}]}
        usage = secured.post("/v1/chat/completions", body, headers=headers).json()["usage"]
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    assert cached(USER) == 0
    assert cached(USER) > 0, "the same key finds its own prefix"
    assert cached(ADMIN) == 0, "another key does not"
