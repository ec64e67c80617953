"""Load on an HTTP server: the same client for every peer, on sockets, with times of every token.

Chats are streams of OpenAI's /v1/chat/completions or /v1/completions, embeddings are calls of /v1/embeddings.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Answer:
    """One streamed answer.

    Args:
        begin: seconds of the clock at the request. times: of each event that has text. tokens: as the server counts
            them. text: all of it. error: instead of a whole answer.
    """

    begin: float
    times: list[float] = field(default_factory=list)
    tokens: int = 0
    text: str = ""
    end: float = 0.0
    error: str = ""


class HttpFailed(Exception):
    """A server answered with an error, or not at all."""


class Connection:
    """A kept connection to a server."""

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def request(self, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, dict[str, str]]:
        """Send a request; return the status and the headers of its response.

        A kept connection that the server has closed meanwhile is opened again. Raises HttpFailed.
        """
        kept = self.reader is not None
        try:
            return await self._request(path, body)
        except (ConnectionError, IndexError) as error:
            self.close()
            if not kept:
                raise HttpFailed(f"{path}: the server closed the connection") from error
        return await self._request(path, body)

    async def _request(self, path: str, body: Mapping[str, Any] | None) -> tuple[int, dict[str, str]]:
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=1 << 24)
        assert self.writer is not None
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        self.writer.write(head.encode() + data)
        await self.writer.drain()
        status = int((await self.reader.readline()).split()[1])
        headers = {}
        while line := (await self.reader.readline()).decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers

    async def chunks(self, headers: Mapping[str, str]) -> Any:
        """Yield the parts of a body as they come."""
        assert self.reader is not None
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(await self.reader.readline(), 16):
                yield await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        elif "content-length" in headers:
            yield await self.reader.readexactly(int(headers["content-length"]))
        else:
            while part := await self.reader.read(1 << 16):
                yield part
            self.close()
        if headers.get("connection", "").lower() == "close":
            self.close()

    async def json(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON answer to a request. Raises HttpFailed."""
        status, headers = await self.request(path, body)
        data = b"".join([part async for part in self.chunks(headers)])
        if status != 200:
            raise HttpFailed(f"{path}: {status} {data[:300]!r}")
        return json.loads(data)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def stream_chat(connection: Connection, body: Mapping[str, Any]) -> Answer:
    """Send a chat and read its stream of events."""
    answer = Answer(time.perf_counter())
    status, headers = await connection.request("/v1/chat/completions", body)
    rest = b""
    async for part in connection.chunks(headers):
        now = time.perf_counter()
        rest += part
        if status != 200:
            continue
        *events, rest = rest.replace(b"\r\n", b"\n").split(b"\n\n")
        for event in events:
            read_event(event, now, answer)
    answer.end = time.perf_counter()
    if status != 200:
        answer.error = f"{status} {rest[:300]!r}"
    answer.tokens = answer.tokens or len(answer.times)
    return answer


def read_event(event: bytes, now: float, answer: Answer) -> None:
    """Add an event of a stream to an answer."""
    if not event.startswith(b"data: ") or event == b"data: [DONE]":
        return
    data = json.loads(event[6:])
    if "error" in data:
        answer.error = str(data["error"])[:300]
    for choice in data.get("choices", ()):
        if text := choice.get("delta", {}).get("content") or choice.get("text"):
            answer.times.append(now)
            answer.text += text
    if usage := data.get("usage"):
        answer.tokens = usage["completion_tokens"]


@dataclass(frozen=True)
class LoadResult:
    """Times of a load.

    Args:
        seconds: from the first request to the last end. tokens: of all answers.
        first: median seconds to the first token. between: median seconds between tokens. failures: answers with errors.
    """

    seconds: float
    tokens: int
    first: float
    between: float
    failures: int

    @property
    def rate(self) -> float:
        """Tokens a second of all answers together."""
        return self.tokens / self.seconds

    def __str__(self) -> str:
        return (
            f"{self.rate:8.1f} tokens/s  first {self.first:6.3f} s  between {self.between * 1000:6.1f} ms  "
            f"failures {self.failures}"
        )


async def run_chats(base: str, bodies: Sequence[Mapping[str, Any]], concurrency: int) -> LoadResult:
    """Send chats, `concurrency` at a time, each client the next one when its last is answered."""
    waiting = list(reversed(bodies))
    answers: list[Answer] = []

    async def client() -> None:
        connection = Connection(base)
        while waiting:
            answers.append(await stream_chat(connection, waiting.pop()))
        connection.close()

    await asyncio.gather(*(client() for _ in range(concurrency)))
    begin, end = min(a.begin for a in answers), max(a.end for a in answers)
    whole = [a for a in answers if not a.error and a.times]
    gaps = [(a.times[-1] - a.times[0]) / max(a.tokens - 1, 1) for a in whole]
    return LoadResult(
        end - begin, sum(a.tokens for a in whole), statistics.median([a.times[0] - a.begin for a in whole] or [0.0]),
        statistics.median(gaps or [0.0]), len(answers) - len(whole),
    )  # fmt: skip


async def run_whole_chats(base: str, bodies: Sequence[Mapping[str, Any]], concurrency: int) -> int:
    """Send chats that are answered whole, `concurrency` at a time; return the number of tokens.

    The client has next to nothing to read, so that what it costs itself is told apart.
    """
    waiting, tokens = list(reversed(bodies)), 0

    async def client() -> None:
        nonlocal tokens
        connection = Connection(base)
        while waiting:
            body = {**waiting.pop(), "stream": False}
            body.pop("stream_options", None)
            answer = await connection.json("/v1/chat/completions", body)  # before the sum, which others add to
            tokens += answer["usage"]["completion_tokens"]
        connection.close()

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return tokens


async def run_embeddings(base: str, model: str, batches: Sequence[Sequence[str]], concurrency: int) -> float:
    """Embed batches of texts; return texts a second."""
    waiting = list(reversed(batches))
    begin = time.perf_counter()

    async def client() -> None:
        connection = Connection(base)
        while waiting:
            texts = waiting.pop()
            found = await connection.json("/v1/embeddings", {"model": model, "input": list(texts)})
            assert len(found["data"]) == len(texts), found
        connection.close()

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return sum(map(len, batches)) / (time.perf_counter() - begin)
