"""A model hub on the loopback interface: what huggingface_hub asks of the real one, and no more.

Uploads are by the protocol for large files of before Xet: a test sets `huggingface_hub.constants.HF_HUB_DISABLE_XET`.

with HubServer() as hub:
    hub.add("org/name", {"config.json": "{}", "model.safetensors": b"..."})
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

Content = bytes | str | Path
LARGE = (".safetensors", ".bin", ".gguf")  # kept apart by the hub, and known by their sha256
API = re.compile(
    r"/api/models/(?P<repo>[^/]+(/[^/]+)?)(/(?P<what>revision|tree)/(?P<revision>[^/]+)(/(?P<path>.*))?)?$"
)
FILE = re.compile(r"/(?P<repo>[^/]+(/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")
REPO = r"(?P<repo>[^/]+/[^/]+)"
CREATE = re.compile(r"/api/repos/create$")
CARD = re.compile(r"/api/validate-yaml$")
BRANCH = re.compile(rf"/api/models/{REPO}/branch/(?P<branch>.+)$")
SORT = re.compile(rf"/api/models/{REPO}/preupload/(?P<revision>[^/]+)$")
COMMIT = re.compile(rf"/api/models/{REPO}/commit/(?P<revision>[^/]+)$")
BATCH = re.compile(rf"/{REPO}\.git/info/lfs/objects/batch$")
STORE = re.compile(r"/lfs/(?P<oid>[0-9a-f]{64})$")


@dataclass
class Repository:
    """What the server knows of one repository."""

    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    token: str | None = None  # who may see a private repository, or read a gated one
    private: bool = False  # as `create_repo` asked
    messages: list[str] = field(default_factory=list)  # of the commits that were uploaded

    def commit(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.branches.get(revision)


class HubServer:
    """Serves repositories while it is entered.

    Args:
        folder: its subfolders `org/name` are repositories with one branch, main; None for no such folder.

    Attributes:
        endpoint: the address, for HF_ENDPOINT.
        requests: every request so far, as "METHOD /path".
        down: a status (503, say) that answers everything, or None.
        cut: paths of files whose next answer breaks off halfway; each is forgotten once it was.
        lies: paths of files that are listed, but answered with 404.
        spoilt: paths of files -> other bytes that are given for them. tags: paths -> another ETag.
        plain: no hashes are listed. packed: gzip that is given for every listing.
        pause: seconds before each byte.
        writers: tokens -> the names of their owners, who may make repositories and write them.
        objects: large files that were uploaded, by their sha256.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.down: int | None = None
        self.cut: set[str] = set()
        self.lies: set[str] = set()
        self.spoilt: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.plain = False
        self.packed: bytes | None = None
        self.pause = 0.0
        self.writers: dict[str, str] = {}
        self.objects: dict[str, bytes] = {}
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.http.hub = self  # type: ignore[attr-defined]
        self.http.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.http.server_port}"
        for path in sorted(folder.glob("*/*")) if folder else ():
            files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
            self.add(f"{path.parent.name}/{path.name}", files)

    def add(
        self,
        repo: str,
        files: Mapping[str, Content],
        *,
        revision: str = "main",
        gated: bool = False,
        token: str | None = None,
    ) -> str:
        """Makes a commit of these files the head of a branch and returns its name.

        A token without `gated` makes the repository private.
        """
        known = self.repositories.setdefault(repo, Repository())
        known.gated, known.token = gated, token
        parts = [repo, str(len(known.commits)), *sorted(files)]
        commit = hashlib.sha1("\n".join(parts).encode()).hexdigest()
        known.commits[commit] = dict(files)
        known.branches[revision] = commit
        return commit

    def downloads(self) -> list[str]:
        """The files that were fetched, in the order of their names."""
        found = [FILE.search(request.split()[1]) for request in self.requests if request.startswith("GET ")]
        return sorted(match["path"] for match in found if match)

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.shutdown()
        self.http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def do_GET(self) -> None:
        self.hub = self.server.hub  # type: ignore[attr-defined]
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {unquote(url.path)}")
        if self.hub.down is not None:
            return self.say(self.hub.down, b"down")
        for pattern, answer in ((API, self.listing), (FILE, self.file)):
            if found := pattern.match(url.path):
                parts = {name: unquote(text) for name, text in found.groupdict().items() if text}
                return answer(parts, parse_qs(url.query))
        return self.refuse(404, "EntryNotFound", "no such page")

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the tests read `requests`."""

    def do_POST(self) -> None:
        self.hub = self.server.hub  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {unquote(url.path)}")
        if self.hub.down is not None:
            return self.say(self.hub.down, b"down")
        if self.command == "PUT" and (found := STORE.match(url.path)):
            self.hub.objects[found["oid"]] = body
            return self.say(200, b"")
        owner = self.hub.writers.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        answers = (
            (CREATE, self.create), (CARD, self.check_card), (BRANCH, self.branch), (SORT, self.sort),
            (COMMIT, self.commit), (BATCH, self.batch),
        )  # fmt: skip
        for pattern, answer in answers:
            if found := pattern.match(url.path):
                parts = {name: unquote(text) for name, text in found.groupdict().items()}
                if owner is None:
                    return self.refuse(401, "", "Invalid username or password.")
                if "repo" in parts and parts["repo"].partition("/")[0] != owner:
                    return self.refuse(403, "", "You don't have the rights")
                if "repo" in parts and parts["repo"] not in self.hub.repositories:
                    return self.refuse(404, "RepoNotFound", "Repository not found")
                return answer(parts, body, owner)
        return self.refuse(404, "EntryNotFound", "no such page")

    do_PUT = do_POST

    def create(self, parts: dict[str, str], body: bytes, owner: str) -> None:
        asked = json.loads(body)
        organization, name = asked.get("organization") or owner, asked["name"]
        if organization != owner:
            return self.refuse(403, "", f"You don't have the rights to create a model under {organization}")
        repo = f"{organization}/{name}"
        url = json.dumps({"url": f"{self.hub.endpoint}/{repo}"}).encode()
        if repo in self.hub.repositories:
            return self.say(409, url)
        self.hub.add(repo, {})
        self.hub.repositories[repo].private = asked.get("visibility") == "private" or bool(asked.get("private"))
        return self.say(200, url)

    def check_card(self, parts: dict[str, str], body: bytes, owner: str) -> None:
        """Refuse a card whose front matter has no library, as the hub refuses what it cannot read."""
        good = "library_name" in json.loads(body)["content"]
        found = {"errors": [] if good else [{"message": "no library_name"}], "warnings": []}
        self.say(200 if good else 400, json.dumps(found).encode())

    def branch(self, parts: dict[str, str], body: bytes, owner: str) -> None:
        known = self.hub.repositories[parts["repo"]]
        if parts["branch"] in known.branches:
            return self.refuse(409, "", "Reference already exists")
        known.branches[parts["branch"]] = known.branches["main"]
        return self.say(201, b"{}")

    def sort(self, parts: dict[str, str], body: bytes, owner: str) -> None:
        """Say which files are large."""
        files = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
             "shouldIgnore": False}
            for file in json.loads(body)["files"]
        ]  # fmt: skip
        self.say(200, json.dumps({"files": files}).encode())

    def batch(self, parts: dict[str, str], body: bytes, owner: str) -> None:
        """Say where large files are put."""
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{one['oid']}", "header": {}}}}
            for one in json.loads(body)["objects"]
        ]
        self.say(200, json.dumps({"transfer": "basic", "objects": objects}).encode())

    def commit(self, parts: dict[str, str], body: bytes, owner: str) -> None:
        known, revision = self.hub.repositories[parts["repo"]], parts["revision"]
        if revision not in known.branches:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = dict(known.commits[known.branches[revision]])
        for line in map(json.loads, body.splitlines()):
            kind, value = line["key"], line["value"]
            if kind == "header":
                known.messages.append(value["summary"])
            elif kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        asked = "create_pr=1" in self.path
        branch = f"refs/pr/{len(known.branches)}" if asked else revision
        oid = self.hub.add(parts["repo"], files, revision=branch, gated=known.gated, token=known.token)
        url = f"{self.hub.endpoint}/{parts['repo']}"
        answer = {"commitUrl": f"{url}/commit/{oid}", "commitOid": oid, "pullRequestUrl": f"{url}/discussions/1"}
        return self.say(200, json.dumps(answer).encode())

    def known(self, parts: dict[str, str]) -> tuple[Repository, str] | None:
        """The repository and the commit asked for; None once the request is refused."""
        repository = self.hub.repositories.get(parts["repo"])
        allowed = repository and self.headers.get("Authorization") in (f"Bearer {repository.token}", None)
        mine = repository and self.headers.get("Authorization") == f"Bearer {repository.token}"
        if repository is None or (repository.token and not repository.gated and not mine):
            self.refuse(404 if allowed else 401, "RepoNotFound", "Repository not found")
            return None
        commit = repository.commit(parts.get("revision", "main"))
        if commit is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {parts['revision']}")
            return None
        if repository.gated and not mine and "what" not in parts and self.path.count("/resolve/"):
            self.refuse(403, "GatedRepo", f"Access to model {parts['repo']} is restricted.")
            return None
        return repository, commit

    def listing(self, parts: dict[str, str], query: dict[str, list[str]]) -> None:
        if (known := self.known(parts)) is None:
            return None
        repository, commit = known
        if self.hub.packed is not None:
            return self.say(200, self.hub.packed, {"Content-Type": "application/json", "Content-Encoding": "gzip"})
        files = repository.commits[commit]
        if parts.get("what") == "tree":
            rows = [
                {"type": "file", "path": path, "size": len(_bytes(files[path])), "oid": _etag(files[path])}
                for path in sorted(files)
            ]
            return self.say(200, json.dumps(rows).encode(), {"Content-Type": "application/json"})
        info = {
            "id": parts["repo"],
            "modelId": parts["repo"],
            "sha": commit,
            "private": False,
            "gated": "manual" if repository.gated else False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [self.sibling(path, files[path], "blobs" in query) for path in sorted(files)],
        }
        return self.say(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def sibling(self, path: str, content: Content, blobs: bool) -> dict[str, object]:
        """A file as the hub lists it: with hashes where they are asked for, sha256 for weights."""
        told: dict[str, object] = {"rfilename": path}
        if blobs and not self.hub.plain:
            told |= {"blobId": _etag(content), "size": len(_bytes(content))}
            if path.endswith(LARGE):
                told["lfs"] = {"sha256": _sha256(content), "size": len(_bytes(content)), "pointerSize": 130}
        return told

    def file(self, parts: dict[str, str], query: dict[str, list[str]]) -> None:
        if (known := self.known(parts)) is None:
            return None
        repository, commit = known
        path = parts["path"]
        if path not in repository.commits[commit] or path in self.hub.lies:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        data = _bytes(repository.commits[commit][path])
        tag = _sha256(data) if path.endswith(LARGE) else _etag(data)
        data = self.hub.spoilt.get(path, data)
        headers = {"ETag": f'"{self.hub.tags.get(path, tag)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        status, whole = 200, data
        if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            status, data = 206, data[int(found[1]) :]
            headers["Content-Range"] = f"bytes {found[1]}-{len(whole) - 1}/{len(whole)}"
        cut = self.command == "GET" and path in self.hub.cut
        self.hub.cut -= {path} if cut else set()
        return self.say(status, data, headers, half=cut)

    def refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.say(status, body, {"X-Error-Code": code, "X-Error-Message": message})

    def say(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, half: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.give(body[: len(body) // 2] if half else body)
        if half:
            self.close_connection = True

    def give(self, body: bytes) -> None:
        if not self.hub.pause:
            self.wfile.write(body)
            return
        for byte in body:
            time.sleep(self.hub.pause)
            try:
                self.wfile.write(bytes([byte]))
            except OSError:  # who asked is gone
                return


def _bytes(content: Content) -> bytes:
    if isinstance(content, Path):
        return content.read_bytes()
    return content.encode() if isinstance(content, str) else content


def _etag(content: Content) -> str:
    """git's hash of a file."""
    data = _bytes(content)
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha256(content: Content) -> str:
    return hashlib.sha256(_bytes(content)).hexdigest()
