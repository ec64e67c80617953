"""Sockets of a server: address and port, or a unix socket with its permissions; TLS."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import stat
from pathlib import Path

from ..errors import AccessDenied, InvalidInput, UnsupportedOption
from .settings import ServerSettings

BACKLOG = 2048


def listen(settings: ServerSettings) -> socket.socket:
    """Return the socket of a server, bound and listening. Raises InvalidInput or AccessDenied if it cannot be had."""
    if settings.uds is not None:
        return listen_unix(settings.uds, settings.uds_mode)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise InvalidInput(f"The address {settings.host!r} is not known: {error.strerror}.") from error
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise AccessDenied(
            f"The server cannot listen on {settings.host} port {settings.port}: {error.strerror}. "
            "Choose another with --port; 0 takes a free one."
        ) from error
    return found


def listen_unix(path: Path, mode: str) -> socket.socket:
    """Return a unix socket that listens. A socket that a dead server has left is replaced."""
    try:
        permissions = int(mode, 8)
    except ValueError:
        permissions = -1
    if not 0 <= permissions <= 0o777:
        raise InvalidInput(f"uds_mode is {mode!r}; it must be octal digits such as 660.")
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise InvalidInput(f"{path} is a file, not a socket; name another path.")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise InvalidInput(f"Another server listens on {path}.")
        path.unlink()
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~permissions)  # a chmod after bind would leave a moment for others
    try:
        found.bind(str(path))
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise AccessDenied(f"The server cannot listen on {path}: {error.strerror or error}.") from error
    finally:
        os.umask(before)
    return found


def url(settings: ServerSettings, found: socket.socket) -> str:
    """Return the address of a socket for people, with the port that it really has."""
    if settings.uds is not None:
        return f"unix:{settings.uds}"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    scheme = "https" if settings.certificate is not None else "http"
    return f"{scheme}://{host}:{found.getsockname()[1]}{settings.root_path}"


def check_public(settings: ServerSettings, has_keys: bool) -> None:
    """Raise UnsupportedOption for a server that anyone on the network could use."""
    if settings.uds is not None or has_keys or settings.allow_public or settings.client_ca is not None:
        return
    if not is_local(settings.host):
        raise UnsupportedOption(
            f"{settings.host} can be reached from other machines, and there are no API keys. Name a file of keys "
            "(--keys-file), set MULTIHEAD_API_KEY, or say --allow-public."
        )


def is_local(host: str) -> bool:
    """Return True if an address or a name is of this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls(settings: ServerSettings) -> ssl.SSLContext | None:
    """Return the TLS context of a server; None without a certificate. Raises InvalidInput for files of a wrong kind."""
    if settings.certificate is None or settings.certificate_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, settings)
    if settings.client_ca is not None:
        try:
            context.load_verify_locations(settings.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(f"client_ca: {settings.client_ca} has no certificates: {error}.") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_certificate(context: ssl.SSLContext, settings: ServerSettings) -> None:
    """Read the certificate and its key, for new connections. Raises InvalidInput."""
    assert settings.certificate is not None
    try:
        # no prompt for a passphrase: nobody may be there to answer
        context.load_cert_chain(settings.certificate, settings.certificate_key, password=lambda: b"")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise InvalidInput(
            f"The TLS certificate {settings.certificate} and key {settings.certificate_key} cannot be used: {error}."
        ) from error
