"""Names of classes and files in the pages about the code exist in the code."""

from __future__ import annotations

import re

import pytest

import multihead

from .pages import ROOT, name

SOURCE = ROOT / "src" / "multihead"
PAGES = [*(ROOT / "docs" / page for page in ("house.md", "add-a-family.md", "fast.md")), ROOT / "CONTRIBUTING.md"]
SOURCES = [path.read_text() for path in SOURCE.rglob("*.py")]
WORDS = {word for text in SOURCES for word in re.findall(r"\w+", text)}
DEFINITION = re.compile(r"^\s*(?:class|def|async def) (\w+)|^([A-Z]\w*)\b[^=\n]* = |^ +(\w+):", re.MULTILINE)
DEFINED = {word for text in SOURCES for words in DEFINITION.findall(text) for word in words}
FOREIGN = {"LambdaLR", "Exception", "True", "False", "None"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_classes_and_files_exist(page):
    for span in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        if re.fullmatch(r"[a-z_]+(/[a-z_0-9]+)*/([a-z_0-9]+\.py)?", span):
            assert any((root / span).exists() for root in (SOURCE, ROOT)), f"{name(page)} names the path {span}"
        elif found := re.fullmatch(r"([A-Z][a-z]\w*?)(\.\w+)*s?", span):
            known = {found[1], f"{found[1]}s"} & (DEFINED | FOREIGN) or hasattr(multihead, found[1])
            assert known, f"{name(page)} names the class {span}"


def test_new_names_of_the_glossary_exist():
    text = (ROOT / "docs" / "glossary.md").read_text()
    for row in re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", text, re.MULTILINE):
        for span in re.findall(r"`([^`]+)`", row[1]):
            if re.fullmatch(r"[\w/]+\.py", span):
                assert (SOURCE / span).exists(), f"the glossary names the file {span}"
            else:
                for word in re.findall(r"[A-Za-z_]\w+", span):
                    assert word in WORDS, f"the glossary names {word}"
