"""Build of the page: style sheets and ES modules become one HTML file that needs no network.

A module becomes a function that runs once and returns what it exports. Only two forms are read, at the beginning of a
line: `import { a, b as c } from "./file.js";` and `export` before a function, class or const. Indentation and lines of
comments are left out, so that a template literal must end on its line.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...errors import MultiheadError

HERE = Path(__file__).parent
ENTRY = HERE / "js" / "main.js"
IMPORT = re.compile(r'^import\s*\{([^}]*)\}\s*from\s*"(\.[^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?function\*? (\w+)|class (\w+)|const (\w+))", re.MULTILINE)
COMMENT = re.compile(r"^[ \t]*(?:/\*(?:[^*]|\*(?!/))*\*/|//.*)[ \t]*$", re.MULTILINE)  # that has lines of its own
SPACE = re.compile(r"\s*([{};,])\s*|(?<=:)\s+")  # of a style sheet, that says nothing
LEFT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


class PageSourceError(MultiheadError):
    """A source of the page has a form that the build does not read."""


@dataclass(frozen=True)
class Page:
    """The page as bytes, and its headers.

    Args:
        policy: value of Content-Security-Policy. It names the one script and the one style sheet by their hashes.
    """

    html: bytes
    policy: str

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.html).hexdigest()[:32]}"'


@lru_cache(maxsize=1)
def build_page() -> Page:
    """Return the page. Raises PageSourceError."""
    sheets = "\n".join(path.read_text(encoding="utf-8") for path in sorted((HERE / "css").glob("*.css")))
    style = SPACE.sub(lambda found: found[1] or "", shrink(sheets))
    script = shrink(bundle(ENTRY))
    for name, text, end in (("style", style, "</style"), ("script", script, "</script")):
        if end in text.lower():
            raise PageSourceError(f"The {name} of the page has {end!r} in it, which would end it.")
    template = (HERE / "index.html").read_text(encoding="utf-8")
    html = template.replace("{{style}}", style).replace("{{script}}", script)
    return Page(html.encode(), content_policy(style, script))


def shrink(source: str) -> str:
    """Return a source without lines of comments and without indentation."""
    return re.sub(r"\s*\n\s*", "\n", COMMENT.sub("", source)).strip()


def content_policy(style: str, script: str) -> str:
    """Return a policy under which only this script and this style run, and only this server is asked."""
    return "; ".join((
        "default-src 'none'", f"script-src '{digest(script)}'", f"style-src '{digest(style)}'", "connect-src 'self'",
        "img-src data: blob:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    ))  # fmt: skip


def digest(text: str) -> str:
    """Return the hash of a text as Content-Security-Policy writes it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def bundle(entry: Path) -> str:
    """Return a module and all that it imports as one script. Raises PageSourceError."""
    parts: dict[Path, str] = {}
    add_module(entry.resolve(), parts, ())
    return "\n".join(('"use strict";', *parts.values()))


def add_module(path: Path, parts: dict[Path, str], above: tuple[Path, ...]) -> None:
    """Add a module behind those that it imports."""
    if path in parts:
        return
    if path in above:
        raise PageSourceError(f"{path.name} imports itself through {above[-1].name}.")
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PageSourceError(
            f"{path.name}, which {above[-1].name if above else 'the page'} imports, is missing."
        ) from error
    for _, name in IMPORT.findall(source):
        add_module((path.parent / name).resolve(), parts, (*above, path))
    names: list[str] = []

    def take(found: re.Match[str]) -> str:
        names.append(next(filter(None, found.groups())))
        return ""

    def bind(found: re.Match[str]) -> str:
        return f"const {{{found[1].replace(' as ', ': ')}}} = {variable((path.parent / found[2]).resolve())};\n"

    body = EXPORT.sub(take, IMPORT.sub(bind, source))
    if left := LEFT.search(body):
        raise PageSourceError(f"{path.name}: the build of the page does not read {left[0]!r}.")
    parts[path] = f"const {variable(path)} = (() => {{\n{body}return {{ {', '.join(names)} }};\n}})();"


def variable(path: Path) -> str:
    """Return the name of the variable that holds the exports of a module."""
    return "module_" + re.sub(r"\W", "_", str(path.relative_to(HERE.resolve() / "js").with_suffix("")))
