"""The pages of the documentation and their code blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCK = re.compile(r"^```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (?P<word>needs|fragment|from)(?:: (?P<value>[^>]+?))? -->\s*\Z")


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block of a page.

    Attributes:
        line: number of the block's first line of code in the page.
        mark: word of the HTML comment before the block: "needs", "fragment", "from" or "".
        value: what follows the mark's colon.
    """

    page: Path
    line: int
    language: str
    code: str
    mark: str
    value: str


@cache
def code_blocks(page: Path) -> list[CodeBlock]:
    """Return every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for found in BLOCK.finditer(text):
        mark = MARK.search(text[: found.start()])
        line = text.count("\n", 0, found.start("code")) + 1
        word, value = (mark["word"], mark["value"] or "") if mark else ("", "")
        blocks.append(CodeBlock(page, line, found["language"], found["code"], word, value))
    return blocks


def name(page: Path) -> str:
    """Return the path of a page inside the repository."""
    return str(page.relative_to(ROOT))
