"""Files of source packages, which no wheel holds: fetched once from the package index, and kept."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import urllib.request
from pathlib import Path

import pytest

from multihead.hub.storage import wheel_root

LLAMA_CPP = (  # its vocabularies with the ids that its tests expect, and chat templates of published models
    "llama-cpp-python",
    "llama_cpp_python-0.3.36.tar.gz",
    "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
    "vendor/llama.cpp/models",
    "vendor/llama.cpp/models/templates",
)
INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
JSON = "application/vnd.pypi.simple.v1+json"


def unpacked(project: str, archive: str, sha256: str, *folders: str) -> Path:
    """Folders of a source package, beside each other; skips, with the reason, where the index cannot be reached."""
    kept = wheel_root(None).parent / "source-packages" / archive.removesuffix(".tar.gz")
    if not kept.is_dir():
        try:
            data = fetched(project, archive)
        except (OSError, ValueError) as error:  # an index may not speak JSON
            pytest.skip(f"{archive} is not to be had here: {error}")
        assert hashlib.sha256(data).hexdigest() == sha256
        scratch = kept.with_name(f".{kept.name}.{os.getpid()}")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar.getmembers():
                home = Path(member.name).parent.as_posix()
                folder = next((folder for folder in folders if home.endswith(folder)), None)
                if folder is not None and member.isfile():
                    path = scratch / Path(folder).name / Path(member.name).name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(tar.extractfile(member).read())
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
