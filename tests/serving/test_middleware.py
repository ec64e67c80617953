"""What every request passes before its route: ids, hosts, origins, keys, limits of bodies."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from multihead.serving.app import build_app
from multihead.serving.keys import KeyRing
from multihead.serving.settings import ModelSettings, ServerSettings

MODEL = ModelSettings(source="/models/none", name="none", preload=False)
PUBLIC = {"/health", "/ready"}
ODD_PATHS = [  # CVE-2026-48746: a path that the check of keys and the router read differently
    "//v1/models", "/%761/models", "/v1%2fmodels", "/v1/../v1/models", "/health/../v1/models", "/v1/models/",
    "/health/", "/health%2f..%2fv1/models", "/HEALTH", "/health;/v1/models", "/%2e%2e/health", "/nothing", "/health%00",
]  # fmt: skip


def client(**settings: object) -> TestClient:
    app = build_app(ServerSettings(models=(MODEL,), **settings))  # type: ignore[arg-type]
    return TestClient(app, base_url="http://127.0.0.1:8000")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    digest = hashlib.sha256(b"second").hexdigest()
    path.write_text(f"# people\nann:admin:first\n\nbob:user:sha256:{digest}\n")
    return path


def test_request_ids_are_taken_or_made() -> None:
    http = client()
    assert http.get("/health", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    for bad in ("a b", "x" * 200, 'a"b'):
        made = http.get("/health", headers={"x-request-id": bad}).headers["x-request-id"]
        assert made != bad
        assert len(made) == 32


def test_responses_carry_security_headers() -> None:
    headers = client().get("/nothing").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_every_path_but_the_public_ones_needs_a_key(keys: Path) -> None:
    http = client(keys_file=keys)
    for path in PUBLIC:
        assert http.get(path).status_code != 401
    for path in ["/v1/models", "/openapi.json", "/metrics", *ODD_PATHS]:
        found = http.get(path)
        assert found.status_code == 401, path
        assert found.json()["error"]["type"] == "authentication_error"
        assert found.headers["www-authenticate"] == "Bearer"
    assert http.post("/health").status_code == 401, "only GET is public"


def test_keys_come_in_three_headers(keys: Path) -> None:
    http = client(keys_file=keys)
    for headers in ({"authorization": "Bearer first"}, {"authorization": "bearer second"}, {"x-api-key": "second"},
                    {"api-key": "first"}):  # fmt: skip
        assert http.get("/v1/models", headers=headers).status_code == 200
    for headers in ({"authorization": "Basic first"}, {"authorization": "first"}, {"x-api-key": "firs"},
                    {"x-api-key": hashlib.sha256(b"second").hexdigest()}, {"x-api-key": "é"}):  # fmt: skip
        sent = {name: value.encode("latin-1") for name, value in headers.items()}
        assert http.get("/v1/models", headers=sent).status_code == 401


def test_keys_are_read_again_when_their_file_changes(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multihead.serving.keys.CHECK_SECONDS", -1.0)
    ring = KeyRing(keys, {})
    assert ring.find("first") is not None
    keys.write_text("cid:user:third\n")
    assert ring.find("first") is None
    assert ring.find("third") is not None
    keys.write_text("no key\n")
    assert ring.find("third") is not None, "a broken file changes nothing"
    keys.write_text("")
    assert ring.find("third") is None
    assert ring, "a file without keys locks everybody out"


def test_host_names_of_others_are_refused() -> None:
    http = client()
    for host in ("127.0.0.1:8000", "localhost:1", "[::1]:8000", "192.168.1.7"):
        assert http.get("/health", headers={"host": host}).status_code == 200
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "evil.example:80", "", "@"):
        found = http.get("/health", headers={"host": host})
        assert found.status_code == 403
        assert found.json()["error"]["code"] == "host_not_allowed"
    named = client(allowed_hosts=("llm.example", "*.wide.example"))
    assert named.get("/health", headers={"host": "llm.example:443"}).status_code == 200
    assert named.get("/health", headers={"host": "a.wide.example"}).status_code == 200
    assert named.get("/health", headers={"host": "notwide.example"}).status_code == 403


def test_pages_of_other_sites_are_refused() -> None:
    http = client()
    for origin in ("http://127.0.0.1:8000", "https://127.0.0.1:8000"):
        assert http.get("/health", headers={"origin": origin}).status_code == 200
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9", "file://", "http://127.0.0.1:8000.evil", "["):
        found = http.post("/v1/models", headers={"origin": origin})
        assert found.status_code == 403, origin
        assert "access-control-allow-origin" not in found.headers


def test_cors_is_for_allowed_origins() -> None:
    http = client(allowed_origins=("https://app.example",))
    asked = {"origin": "https://app.example", "access-control-request-method": "POST",
             "access-control-request-headers": "authorization"}  # fmt: skip
    found = http.options("/v1/chat/completions", headers=asked)
    assert found.status_code == 204
    assert found.headers["access-control-allow-origin"] == "https://app.example"
    assert found.headers["access-control-allow-headers"] == "authorization"
    assert http.get("/health", headers={"origin": "https://app.example"}).headers["vary"] == "Origin"
    assert http.get("/health", headers={"origin": "https://other.example"}).status_code == 403
