"""Code blocks of the documentation run as they are printed; command lines name commands and options that exist."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from multihead import hub
from multihead.cli.main import cli
from multihead.errors import ModelNotFound, NetworkUnavailable
from multihead.pipelines import defaults

from .pages import PAGES, ROOT, CodeBlock, code_blocks, name

ENGLISH = [page for page in PAGES if not page.name.endswith(".zh-CN.md")]  # translations have the same code
PROGRAMS = {page: [b for b in code_blocks(page) if b.language == "python" and b.mark != "from"] for page in ENGLISH}
SHELLS = [block for page in ENGLISH for block in code_blocks(page) if block.language == "sh"]
QUOTES = [block for page in ENGLISH for block in code_blocks(page) if block.mark == "from"]
pytestmark = pytest.mark.filterwarnings("ignore")  # fresh heads, and defaults of the package index
WEIGHTS = (defaults.MINILM, defaults.SMOLLM2, defaults.ENGLISH_PORTUGUESE)


def pages(mark: str) -> list[Path]:
    """Return the pages that have a block with this mark."""
    return [page for page, blocks in PROGRAMS.items() if any(block.mark == mark for block in blocks)]


def run(blocks: list[CodeBlock], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run blocks one after the other in one module, as a reader types them."""
    module = ModuleType("snippets")
    monkeypatch.setitem(sys.modules, "snippets", module)
    for block in blocks:
        # Empty lines in front make tracebacks show the line of the page.
        exec(compile("\n" * (block.line - 1) + block.code, block.page, "exec"), vars(module))


@pytest.mark.parametrize("page", pages(""), ids=name)
def test_blocks_run_in_order(page, scratch, monkeypatch):
    run([block for block in PROGRAMS[page] if block.mark == ""], monkeypatch)


@pytest.mark.real
@pytest.mark.parametrize("page", pages("needs"), ids=name)
def test_blocks_run_with_real_weights(page, scratch, monkeypatch):
    for model in WEIGHTS:
        try:
            hub.resolve(model.name)
        except (NetworkUnavailable, ModelNotFound) as error:
            pytest.skip(f"real weights cannot be fetched here: {error}")
    run([block for block in PROGRAMS[page] if block.mark != "fragment"], monkeypatch)


@pytest.mark.parametrize("block", QUOTES, ids=lambda b: f"{name(b.page)}:{b.line}")
def test_quoted_source_is_in_its_file(block):
    source = (ROOT / block.value).read_text().splitlines()
    for line in block.code.splitlines():
        if line.strip() and line.strip() != "...":
            assert line in source, f"{block.value} has no line {line!r}"


def commands(block: CodeBlock) -> list[list[str]]:
    """Return the words of each command of a shell block, without comments."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [words for line in lines for part in re.split(r"&&|\|", line) if (words := shlex.split(part, comments=True))]


def check_command(words: list[str]) -> None:
    """Check that a `multihead` command, its options and its choices exist; raises click.UsageError."""
    context = click.Context(cli, info_name="multihead")
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        if words[0] in ("--version", "--help", "-h"):
            return
        subcommand = command.get_command(context, words[0])
        if subcommand is None:
            if command is not cli:  # a group that is also a command
                break
            raise click.UsageError(f"no command {words[0]}")
        command, words = subcommand, words[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    values, _, _ = command.make_parser(context).parse_args(list(words))
    for parameter in command.params:
        chosen = values.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and isinstance(chosen, (str, list)):
            for value in [chosen] if isinstance(chosen, str) else chosen:
                parameter.type.convert(value, parameter, context)


def check_script(words: list[str]) -> None:
    """Check that a Python program of this repository, a path or `-m` and a module, exists and knows the options."""
    path = ROOT / words[0]
    if words[0] == "-m":
        path, words = ROOT / words[1].replace(".", "/") / "__main__.py", words[1:]
    text = path.read_text()
    for option in (word for word in words[1:] if word.startswith("--")):
        assert f'"{option}"' in text, f"{words[0]} has no option {option}"


@pytest.mark.parametrize("block", SHELLS, ids=lambda b: f"{name(b.page)}:{b.line}")
def test_command_lines_are_known(block):
    for words in commands(block):
        if words[0] == "multihead":
            check_command(words[1:])
        elif words[0] == "python" and words[1 + (words[1] == "-m")].startswith("benchmarks"):
            check_script(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_the_text_are_known(page):
    text = page.read_text(encoding="utf-8")
    for span in re.findall(r"`((?:multihead|python (?:-m )?benchmarks[./])[^`]*)`", text):
        words = shlex.split(re.sub(r"\[[^]]*\]|\b[A-Z]{2,}\b", "", span).replace("`", ""))
        if words[0] == "python":
            check_script(words[1:])
        elif words[0] == "multihead" and len(words) > 1 and not words[1].isupper():
            check_command(words[1:])


def test_a_wrong_command_is_found():
    for words in (["walk"], ["run", "ner", "--colour", "red"], ["models", "verify", "--fast"]):
        with pytest.raises(click.UsageError):
            check_command(words)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{name(page)} links to {target}"
