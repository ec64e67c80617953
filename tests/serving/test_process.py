"""`multihead serve` as a process: its settings, its log, its signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner

from multihead.cli.serve import as_yaml, command, read_settings
from multihead.errors import AccessDenied, InvalidInput, MultiheadError, UnsupportedOption
from multihead.serving.settings import ServerSettings
from multihead.serving.settings_file import settings_from

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 5}


class Process:
    """`multihead serve` with a JSON log on stderr."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        line = [sys.executable, "-m", "multihead", "serve", *map(str, arguments), "--log-format", "json"]
        self.process = subprocess.Popen(
            line, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
        )
        self.log: list[dict[str, Any]] = []

    def read_until(self, part: str) -> dict[str, Any]:
        """Return the first line of the log from here on whose message has a text."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(json.loads(line))
            if part in self.log[-1]["message"]:
                return self.log[-1]
        raise AssertionError(f"no {part!r} in {self.log}")

    def wait(self) -> int:
        code = self.process.wait(60)
        assert self.process.stderr is not None
        self.log += [json.loads(line) for line in self.process.stderr]
        return code


@contextmanager
def process(*arguments: object, **environment: str) -> Iterator[Process]:
    server = Process(*arguments, **environment)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def until_ready(url: str) -> None:
    deadline = time.monotonic() + 120
    while httpx.get(f"{url}/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


class HalfRequest:
    """A request whose body has arrived by half, so that it runs until the test sends the rest."""

    def __init__(self, connection: socket.socket, body: dict[str, Any], key: str = "none") -> None:
        self.connection, text = connection, json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nx-api-key: {key}\r\nConnection: close\r\n"
        connection.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text[:5])
        self.rest = text[5:]

    def finish(self) -> bytes:
        self.connection.sendall(self.rest)
        found = b""
        while data := self.connection.recv(1 << 16):
            found += data
        return found


def test_sigterm_lets_requests_end(chat_model: Path) -> None:
    environment = {"MULTIHEAD_API_KEYS": "ann:user:secret-key"}
    with process(f"chat={chat_model}", "--port", 0, "--precision", "float32", **environment) as server:
        url = server.read_until("serving on")["url"]
        assert url.startswith("http://127.0.0.1:")
        assert not url.endswith(":0")
        until_ready(url)
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=60) as connection:
            half = HalfRequest(connection, CHAT, "secret-key")
            httpx.get(f"{url}/health")
            server.process.send_signal(signal.SIGTERM)
            assert server.read_until("draining")["message"].startswith("draining: 1 requests")
            refused = httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers={"x-api-key": "secret-key"})
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["connection"] == "close"
            assert httpx.get(f"{url}/ready").json() == {"status": "draining"}
            assert httpx.get(f"{url}/health").status_code == 200
            assert b"data: [DONE]" in half.finish(), "the running request has its whole answer"
        assert server.wait() == 0
        done = next(line for line in server.log if line.get("path") == "/v1/chat/completions" and line["status"] == 200)
        assert (done["key"], done["model"]) == ("ann", "chat")
        text = json.dumps(server.log)
        assert "secret-key" not in text, "no key in the log"
        assert "Hello" not in text, "no prompt in the log"


def test_a_second_signal_ends_at_once(chat_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with process(f"chat={chat_model}", "--uds", path, "--drain-timeout", 600) as server:
        server.read_until("serving on")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            HalfRequest(connection, CHAT)
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=60) as http:
                http.get("http://server/health")
            server.process.send_signal(signal.SIGTERM)
            server.read_until("draining: 1 requests")
            server.process.send_signal(signal.SIGTERM)
            assert server.wait() == 128 + signal.SIGTERM
        assert not path.exists()


def settings_of(text: str, tmp_path: Path, *models: str, **options: Any) -> ServerSettings:
    (tmp_path / "server.yaml").write_text(text)
    return read_settings(tmp_path / "server.yaml", models, "auto", None, options)


def test_options_win_over_the_config_file(tmp_path: Path) -> None:
    text = "port: 9000\nmax_body: 8MiB\nmodels:\n  - org/a\n  - {source: org/b, name: b, aliases: [c], preload: false}"
    found = settings_of(text, tmp_path, port=None, host="::1", allowed_hosts=())
    assert (found.port, found.host, found.max_body) == (9000, "::1", 8 << 20)
    assert [model.id for model in found.models] == ["org/a", "b"]
    assert found.models[1].aliases == ("c",)
    assert settings_of(text, tmp_path, port=1).port == 1
    assert [model.id for model in settings_of(text, tmp_path, "x=org/x").models] == ["x"]
    assert settings_of(as_yaml(found), tmp_path) == found


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("prot: 1", UnsupportedOption, "'prot'.*port"),
        ("port: text", InvalidInput, "port is 'text'.*whole number"),
        ("port: true", InvalidInput, "port is True"),
        ("port: 70000", InvalidInput, "port is 70000"),
        ("max_body: 3 apples", InvalidInput, "max_body.*8GiB"),
        ("max_queue: 0", InvalidInput, "max_queue is 0"),
        ("models: {a: b}", InvalidInput, "models must be a list"),
        ("models: [{name: a}]", InvalidInput, r"models\[0\] needs a source"),
        ("models: [{sorce: a}]", UnsupportedOption, r"models\[0\] has 'sorce'.*'source'"),
        ("models: [a, {source: b, aliasses: [c]}]", UnsupportedOption, r"models\[1\].*'aliasses'.*aliases"),
        ("models: [{source: b, adapters: [c]}]", InvalidInput, r"models\[0\]: adapters.*NAME: TEXT"),
        ("models: [a, {source: b, aliases: a}]", InvalidInput, "Two models are called 'a'"),
        ("log_format: xml", InvalidInput, "log_format"),
        ("certificate: a.pem", InvalidInput, "certificate_key"),
        ("root_path: llm/", InvalidInput, "root_path"),
    ],
)  # fmt: skip
def test_wrong_entries_are_named(text: str, kind: type[MultiheadError], message: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=message):
        settings_of(text, tmp_path).check()


def test_the_config_file_of_the_docs_is_right() -> None:
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    entries = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    settings = settings_from(entries).check()
    assert [model.id for model in settings.models] == ["HuggingFaceTB/SmolLM2-360M-Instruct", "chat", "org/llama"]
    assert settings.model_memory == 24 << 30


def test_print_config_writes_what_the_options_say(tmp_path: Path) -> None:
    found = CliRunner().invoke(command, ["a=org/a", "--max-body", "1MiB", "--no-page", "--print-config"])
    assert found.exit_code == 0, found.output
    (tmp_path / "c.yaml").write_text(found.output)
    again = read_settings(tmp_path / "c.yaml", (), "auto", None, {})
    assert (again.max_body, again.page, again.models[0].source) == (1 << 20, False, "org/a")


def test_the_first_model_is_loaded_once(chat_model: Path) -> None:
    with process(f"chat={chat_model}", f"more={chat_model}", "--port", "0") as server:
        url = server.read_until("serving on")["url"]
        until_ready(url)
        listed = httpx.get(f"{url}/metrics").text
        assert [line for line in listed.splitlines() if line.startswith("multihead:model_loads_total")] == [
            "multihead:model_loads_total 2.0"
        ]


def test_a_port_that_is_taken_ends_the_process_before_any_load(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(command, [f"chat={tmp_path}", "--port", str(port)])
    # an empty folder could not be loaded: its error would have come instead
    assert isinstance(result.exception, AccessDenied), result.output
    assert f"port {port}" in str(result.exception)


def test_a_first_model_that_cannot_be_loaded_ends_the_process(tmp_path: Path) -> None:
    with process(f"chat={tmp_path}", "--port", "0") as server:
        server.read_until("chat cannot be loaded")
        assert server.process.wait(60) == 1
