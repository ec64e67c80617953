"""The build of the page, and its plain functions in Node where there is one."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from multihead.serving.app import build_app
from multihead.serving.page.build import HERE, PageSourceError, build_page, bundle
from multihead.serving.settings import ModelSettings, ServerSettings

MODEL = ModelSettings(source="/models/none", name="none", preload=False)
NODE = shutil.which("node")


def client(**settings: object) -> TestClient:
    return TestClient(build_app(ServerSettings(models=(MODEL,), **settings)), base_url="http://127.0.0.1:8000")  # type: ignore[arg-type]


def hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_page_is_one_small_file_under_a_policy_that_allows_nothing_else() -> None:
    found = client().get("/", headers={"Accept-Encoding": "gzip"})
    html = found.text
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert len(html.encode()) < 200_000
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", html)
    policy = found.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    script = re.search(r"<script>(.*)</script>", html, re.DOTALL)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert script is not None
    assert style is not None
    assert f"script-src {hash_of(script[1])}" in policy
    assert f"style-src {hash_of(style[1])}" in policy
    assert "style=" not in html.replace(script[1], "")


def test_the_page_is_sent_once_and_packed() -> None:
    http = client()
    whole = http.get("/", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in whole.headers
    packed = http.get("/", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == len(gzip.compress(whole.content, 9, mtime=0)) < 70_000
    assert packed.content == whole.content
    again = http.get("/", headers={"If-None-Match": whole.headers["etag"]})
    assert again.status_code == 304
    assert not again.content


def test_a_server_may_have_no_page() -> None:
    assert client(page=False).get("/").status_code == 404


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({"main.js": 'import { a } from "./none.js";\n'}, "missing"),
        ({"main.js": 'import { a } from "./a.js";\n', "a.js": 'import { b } from "./main.js";\n'}, "imports itself"),
        ({"main.js": 'import * as a from "./a.js";\n', "a.js": ""}, "does not read"),
        ({"main.js": "export default 1;\n"}, "does not read"),
    ],
)
def test_the_build_refuses_what_it_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: dict[str, str], said: str
) -> None:
    monkeypatch.setattr("multihead.serving.page.build.HERE", tmp_path)
    (tmp_path / "js").mkdir()
    for name, text in sources.items():
        (tmp_path / "js" / name).write_text(text)
    with pytest.raises(PageSourceError, match=said):
        bundle(tmp_path / "js" / "main.js")


MAKES_HTML = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function")


def test_no_source_makes_html_of_text() -> None:
    for path in (HERE / "js").rglob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", path.read_text()
        ), path
    assert build_page() is build_page()


@pytest.mark.skipif(NODE is None, reason="Node is not installed")
def test_functions_of_the_page() -> None:
    assert NODE is not None
    done = subprocess.run(
        [NODE, "--test", str(Path(__file__).with_name("page.test.mjs"))], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-4000:]
