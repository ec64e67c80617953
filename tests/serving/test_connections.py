"""Sockets: limits below HTTP, TLS, unix sockets, prefixes of proxies. Servers run in threads of the test."""

from __future__ import annotations

import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from multihead.errors import AccessDenied, InvalidInput, ModelNotFound, UnsupportedOption
from multihead.serving.server import Server, create, run
from multihead.serving.settings import ModelSettings, ServerSettings
from multihead.serving.sockets import check_public

MODEL = ModelSettings(source="/models/none", name="none", preload=False)
LIMITS = {"header_timeout": 0.5, "body_timeout": 0.5, "write_timeout": 1.0, "max_body": 100_000, "max_headers": 10_000}


def settings(**more: Any) -> ServerSettings:
    return ServerSettings(models=(MODEL,), **{"port": 0, **more})


@contextmanager
def serving(**more: Any) -> Iterator[Server]:
    server = create(settings(**more))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def limited() -> Iterator[Server]:
    with serving(**LIMITS) as server:
        yield server


def talk(server: Server, *parts: bytes) -> bytes:
    """Send bytes and return everything until the server closes."""
    address = server.socket.getsockname()
    with socket.create_connection(address[:2], timeout=30) as connection:
        found = b""
        try:
            for part in parts:
                connection.sendall(part)
            while data := connection.recv(1 << 16):
                found += data
        except ConnectionError:
            pass
        return found


def test_headers_that_never_end_are_refused(limited: Server) -> None:
    assert talk(limited).startswith(b"HTTP/1.1 408"), "a connection that says nothing"
    assert talk(limited, b"GET /health HTTP/1.1\r\nHost: localhost\r\nx: ").startswith(b"HTTP/1.1 408")
    assert talk(limited, b"GET /health HTTP/1.1\r\nx: " + b"a" * 20_000).startswith(b"HTTP/1.1 431")
    many = b"GET /health HTTP/1.1\r\n" + b"".join(b"x%d: 1\r\n" % i for i in range(3000))
    assert talk(limited, many).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (b"Content-Length: 100001", b"", 413),
        (b"Content-Length: 99999999999999999999999", b"", 400),  # refused by the parser of HTTP
        (b"Content-Length: -1", b"", 400),
        (b"Content-Length: 5", b"", 408),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n", 408),
        (b"Transfer-Encoding: chunked", b"20000\r\n" + b"a" * 0x20000 + b"\r\n0\r\n\r\n", 413),
        (b"Content-Encoding: gzip\r\nContent-Length: 2", b"{}", 415),
        (b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"{}", 400),  # request smuggling
    ],
)  # fmt: skip
def test_bodies_have_limits(limited: Server, head: bytes, body: bytes, status: int) -> None:
    request = b"POST /admin/models/load HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % head
    if b"chunked" in head or b"Length: 5" in head:  # only a path that reads the body finds out
        request = request.replace(b"/admin/models/load", b"/v1/chat/completions")
    found = talk(limited, request, body)
    assert found.startswith(b"HTTP/1.1 %d " % status), found
    assert found.count(b"HTTP/1.1") == 1, "the connection is closed, not read on"


def test_a_prefix_of_a_proxy_hides_no_path(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ann:user:secret\n")
    with serving(root_path="/llm", keys_file=keys) as server:
        base = server.url.removesuffix("/llm")
        assert httpx.get(f"{base}/health").status_code == 200, "the proxy has stripped /llm"
        for path in ("/v1/models", "/llm/health", "/llm/v1/models", "//v1/models", "/llm//health", "/../health"):
            asked = b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode()
            assert talk(server, asked).startswith(b"HTTP/1.1 401"), path
        assert httpx.get(f"{base}/v1/models", headers={"api-key": "secret"}).status_code == 200


def test_unix_sockets_are_for_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # left by a server that was killed
    with serving(uds=path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as http:
            assert http.get("http://any.name/health").status_code == 200
        with pytest.raises(InvalidInput, match="Another server"):
            create(settings(uds=path))
    (tmp_path / "file").write_text("data")
    with pytest.raises(InvalidInput, match="not a socket"):
        create(settings(uds=tmp_path / "file"))
    with pytest.raises(InvalidInput, match="octal"):
        create(settings(uds=tmp_path / "t", uds_mode="rw"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]  # fmt: skip
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    return folder


def test_tls_may_ask_for_certificates_of_clients(certificates: Path) -> None:
    certificate, key = certificates / "cert.pem", certificates / "key.pem"
    trusting = ssl.create_default_context(cafile=str(certificate))
    known = ssl.create_default_context(cafile=str(certificate))
    known.load_cert_chain(certificate, key)
    with serving(certificate=certificate, certificate_key=key, client_ca=certificate) as server:
        assert server.url.startswith("https://127.0.0.1:")
        assert httpx.get(f"{server.url}/health", verify=known).status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/health", verify=trusting)
    with pytest.raises(InvalidInput, match="cannot be used"):
        create(settings(certificate=key, certificate_key=key))


def test_public_addresses_need_keys(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.org"):
        with pytest.raises(UnsupportedOption, match="--allow-public"):
            check_public(settings(host=host), has_keys=False)
        check_public(settings(host=host), has_keys=True)
        check_public(settings(host=host, allow_public=True), has_keys=False)
    for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1"):
        check_public(settings(host=host), has_keys=False)


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AccessDenied, match=f"port {port}"):
            create(settings(port=port))


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="nothing"):
        run(ServerSettings(models=(ModelSettings(source=str(tmp_path / "nothing")),), port=0))
