"""Translated pages have the code and the structure of the English ones."""

from __future__ import annotations

import re

import pytest

from .pages import PAGES, code_blocks, name

TRANSLATIONS = [page for page in PAGES if page.name.endswith(".zh-CN.md")]


def original(page):
    return page.with_name(page.name.replace(".zh-CN", ""))


def prose(page):
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def shape(page):
    """Return the levels of the headings, and how many cells each row of a table has."""
    lines = prose(page).splitlines()
    rows = [len(re.split(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")]
    return [len(line) - len(line.lstrip("#")) for line in lines if line.startswith("#")], rows


@pytest.mark.parametrize("page", TRANSLATIONS, ids=name)
def test_code_blocks_equal_the_english_ones(page):
    blocks = [(block.language, block.mark, block.code) for block in code_blocks(page)]
    assert blocks == [(block.language, block.mark, block.code) for block in code_blocks(original(page))]


@pytest.mark.parametrize("page", TRANSLATIONS, ids=name)
def test_headings_and_tables_have_the_english_shape(page):
    assert shape(page) == shape(original(page))


@pytest.mark.parametrize("page", TRANSLATIONS, ids=name)
def test_numbers_of_the_tables_equal_the_english_ones(page):
    def numbers(text):
        rows = [line for line in text.splitlines() if line.startswith("|")]
        return [sorted(re.findall(r"\d+(?:\.\d+)?", row)) for row in rows]

    assert numbers(prose(page)) == numbers(prose(original(page)))


@pytest.mark.parametrize("page", TRANSLATIONS, ids=name)
def test_pages_link_to_each_other_in_their_first_lines(page):
    first = page.read_text(encoding="utf-8").splitlines()[:3]
    assert f"[English]({original(page).name})" in first
    assert f"[简体中文]({page.name})" in original(page).read_text(encoding="utf-8").splitlines()[:3]
