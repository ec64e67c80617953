"""Faults of clients and of the server: what is hit fails alone, everything else is answered as when alone."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import random
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from multihead.serving.logs import JsonFormatter
from multihead.serving.models import registry
from multihead.serving.settings import ModelSettings, ServerSettings
from tests.serving.conftest import RunningServer, running
from tests.serving.test_connections import serving, talk

KEY = {"x-api-key": "secret"}
TEXTS = ["a short text", "another one, which is longer", "x " * 8, "ü 漢字", "1 2 3"]


@pytest.fixture(scope="module")
def server(chat_model: Path, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    models = [ModelSettings(source=str(path), name=name, precision="float32")
              for name, path in {"chat": chat_model, "bert": bert}.items()]  # fmt: skip
    keys = tmp_path_factory.mktemp("faults") / "keys"
    keys.write_text("bob:admin:secret\n")
    with running(ServerSettings(models=tuple(models), max_running=8, max_queue=400, keys_file=keys)) as server:
        yield server


def request(number: int) -> tuple[str, dict[str, Any]]:
    text = TEXTS[number % len(TEXTS)]
    if number % 3 == 0:
        return "/v1/embeddings", {"model": "bert", "input": text}
    body = {"model": "chat", "messages": [{"role": "user", "content": text}], "max_tokens": 12, "temperature": 0}
    return "/v1/chat/completions", {**body, "stream": number % 3 == 1}


def essence(path: str, text: str) -> Any:
    """Return what must be equal of an answer."""
    if "data: " in text:
        chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    data = json.loads(text)
    if path == "/v1/embeddings":
        return data["data"][0]["embedding"]
    return data["choices"][0]["message"]["content"]


def same(one: Any, other: Any) -> bool:
    """Return True for equal texts, and for vectors that differ by rounding."""
    if isinstance(one, list):
        return all(abs(x - y) < 1e-4 for x, y in zip(one, other, strict=True))
    return bool(one == other)


def alone(server: RunningServer) -> list[Any]:
    """Return the answer of each kind of request when nothing else runs."""
    kinds = 3 * len(TEXTS)
    return [essence(path, server.post(path, body, headers=KEY).text) for path, body in map(request, range(kinds))]


async def many(server: RunningServer, count: int, leave: float, chance: random.Random) -> list[tuple[int, Any]]:
    """Send requests at once, of which a share goes away in the middle; return the answers of the others."""
    limits = httpx.Limits(max_connections=count)

    async def one(http: httpx.AsyncClient, number: int, seconds: float | None) -> tuple[int, Any] | None:
        path, body = request(number)
        try:
            answer = await asyncio.wait_for(http.post(path, json=body), seconds)
        except asyncio.TimeoutError:
            return None
        assert answer.status_code == 200, answer.text
        return number, essence(path, answer.text)

    async with httpx.AsyncClient(base_url=server.url, headers=KEY, timeout=120, limits=limits) as http:
        seconds = [chance.uniform(0, 0.5) if chance.random() < leave else None for _ in range(count)]
        found = await asyncio.gather(*(one(http, number, seconds[number]) for number in range(count)))
    return [each for each in found if each is not None]


def until(done: Any) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_disconnects_change_no_other_answer(server: RunningServer) -> None:
    expected = alone(server)
    found = asyncio.run(many(server, 150, 0.5, random.Random(0)))
    assert len(found) >= 50
    for number, answer in found:
        assert same(answer, expected[number % len(expected)]), number
    until(lambda: not server.state.running)
    engine = server.state.models.loaded["chat"].engine
    until(lambda: not engine.busy)
    assert server.state.models.loaded["chat"].users == 0


def test_reload_under_load_loses_no_request(server: RunningServer) -> None:
    expected = alone(server)

    async def both() -> list[tuple[int, Any]]:
        load = asyncio.create_task(many(server, 60, 0, random.Random(1)))
        async with httpx.AsyncClient(base_url=server.url, headers=KEY, timeout=120) as http:
            for _ in range(3):
                assert (await http.post("/admin/models/chat/reload")).status_code == 200
        return await load

    found = asyncio.run(both())
    assert len(found) == 60
    for number, answer in found:
        assert same(answer, expected[number % len(expected)]), number
    until(lambda: not server.state.models.retired)


def test_a_dead_engine_is_told_and_replaced(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone(server)
    monkeypatch.setattr(registry, "TEND_SECONDS", 0.05)
    model = server.state.models.loaded["chat"]

    def fail() -> None:
        raise MemoryError("no memory for 0x7f00")

    model.engine._engine.step = fail
    path, body = request(2)
    answer = server.post(path, body, headers=KEY)
    assert answer.status_code in (500, 503)
    assert "0x7f00" not in answer.text
    until(lambda: server.state.models.loaded["chat"] is not model)
    until(lambda: server.get("/ready").status_code == 200)
    assert all(map(same, alone(server), expected))


def test_a_pass_that_does_not_end_is_told(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = type(server.state.models.loaded["chat"])
    monkeypatch.setattr(model, "stalled", property(lambda self: 1e6))
    assert server.get("/health").status_code == 503
    assert server.get("/ready").json() == {"status": "stalled"}
    assert server.get("/v2/health/live").json() == {"live": False}
    monkeypatch.undo()
    assert server.get("/health").status_code == 200


def test_clients_that_are_killed_leave_nothing(server: RunningServer) -> None:
    url = httpx.URL(server.url)
    path, body = request(1)
    text = json.dumps({**body, "max_tokens": 400}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nx-api-key: secret\r\nContent-Length: {len(text)}\r\n\r\n".encode()
    )
    for end in (len(text), len(text) // 2, 0):
        connection = socket.create_connection(("127.0.0.1", url.port or 0))
        connection.sendall(head + text[:end])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()  # with a reset, as the kernel ends the sockets of a killed process
    until(lambda: not server.state.running)
    until(lambda: not server.state.models.loaded["chat"].engine.busy)


def test_clients_that_read_nothing_are_cut_off() -> None:
    with serving(write_timeout=0.5) as server:
        address = server.socket.getsockname()
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(address)
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
            until(lambda: server.server_state.connections)
            until(lambda: not server.server_state.connections)
        until(lambda: not server.state.running)
        assert talk(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").startswith(
            b"HTTP/1.1 200"
        )


def test_connections_have_a_limit() -> None:
    with serving(max_connections=5) as server:
        address = server.socket.getsockname()
        held = [socket.create_connection(address) for _ in range(5)]
        until(lambda: len(server.server_state.connections) == 5)
        with socket.create_connection(address, timeout=30) as one_more:
            assert one_more.recv(1) == b"", "closed at once"
        for connection in held:
            connection.close()
        until(lambda: not server.server_state.connections)
        assert httpx.get(f"{server.url}/health").status_code == 200


def test_a_full_disk_of_the_log_ends_no_request(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    access = logging.getLogger("multihead.access")
    monkeypatch.setattr(access, "level", logging.INFO)
    # Nothing stays in a buffer, which closing would write again, outside of the handler.
    with io.TextIOWrapper(open("/dev/full", "wb", buffering=0), write_through=True) as full:
        handler = logging.StreamHandler(full)
        handler.setFormatter(JsonFormatter())
        access.addHandler(handler)
        try:
            path, body = request(0)
            assert server.post(path, body, headers=KEY).status_code == 200
        finally:
            access.removeHandler(handler)
