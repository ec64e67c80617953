"""Nothing that a model, a file or a server says moves a cursor, names a window or hides text on a terminal."""

from __future__ import annotations

import io
import json
import os
import pickle
import pty
import subprocess
import sys
import unicodedata
from contextlib import suppress
from threading import Thread

import click
import pytest
from rich.live import Live
from rich.markdown import Markdown
from rich.panel import Panel
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

import multihead
from multihead import errors
from multihead.cli import main
from multihead.cli.render import output_file as results
from multihead.cli.render.live_answer import LastLines, LiveAnswer, finished_paragraphs
from multihead.consoles import Screen, screen
from multihead.pipelines.answers import Failure
from multihead.terminal import json_visible, mask_secrets, safe_message, visible

EVIL = "\x1b]0;title\x07\x1b]52;c;aGk=\x1b\\\x1b[2J\x9b31m\x7f\u202ehidden\u2069\r[/red][bold]"
BAD = [c for c in EVIL if unicodedata.category(c) in ("Cc", "Cf")]


def clean(text, allowed=""):
    """Whether none of the evil is in a text; sequences of the console's own may be."""
    return not any(c in text for c in BAD if c not in allowed) and "\x1b]" not in text and "\x1b[2J" not in text


def test_every_control_character_is_written_out_and_nothing_else_is():
    for code in [*range(0x3000), 0xD800, 0xDFFF, 0xFEFF, 0x1F600]:
        c = chr(code)
        unsafe = unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") and c not in "\t\n"
        unsafe = unsafe or unicodedata.bidirectional(c) in (
            "LRE",
            "RLE",
            "PDF",
            "LRO",
            "RLO",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )
        unsafe = unsafe or c in "\u061c\u200e\u200f"
        assert (visible(c) != c) == unsafe, hex(code)
        visible(c).encode()
    assert visible(EVIL).startswith(r"\x1b]0;title\x07\x1b]52;c;aGk=\x1b\\x1b[2J\x9b31m\x7f\u202ehidden\u2069\x0d")
    assert "".join(map(visible, EVIL)) == visible(EVIL), "pieces may be cut anywhere"


def drawn():
    table = Table(title=EVIL, caption=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    table.add_row(Text(EVIL, style="red"))
    tree = Tree(EVIL)
    tree.add(Text(EVIL))
    return {"text": Text(EVIL), "string": EVIL, "table": table, "panel": Panel(EVIL, title=Text(EVIL)), "tree": tree,
            "markdown": Markdown(f"# {EVIL}\n\n{EVIL} `{EVIL}`\n\n```py\n{EVIL}\n```\n[{EVIL}](http://x/{EVIL})",
                                 hyperlinks=False)}  # fmt: skip


@pytest.mark.parametrize("kind", ["text", "string", "table", "panel", "tree", "markdown"])
@pytest.mark.parametrize("terminal", [True, False])
def test_whatever_is_drawn_is_text(kind, terminal):
    out = Screen(file=io.StringIO(), force_terminal=terminal, markup=False, highlight=False, width=200)
    out.print(drawn()[kind])
    out.print(drawn()[kind], style="dim", soft_wrap=True)
    told = out.file.getvalue()
    assert clean(told, "\x1b\r")
    assert "hidden" in told
    assert "[/red]" in told or kind == "markdown"


def test_what_moves_while_it_is_drawn_is_text_too():
    out = Screen(file=io.StringIO(), force_terminal=True, markup=False, width=200)
    with Live(Text(EVIL), console=out, auto_refresh=False) as live:
        live.update(Markdown(EVIL, hyperlinks=False), refresh=True)
    with Progress(TextColumn("{task.description}", markup=False), console=out, auto_refresh=False) as bar:
        bar.add_task(EVIL)
        bar.refresh()
    assert clean(out.file.getvalue(), "\x1b\r")


@pytest.mark.parametrize("terminal", [True, False])
def test_an_answer_that_comes_in_pieces_is_text(terminal):
    out = Screen(file=io.StringIO(), force_terminal=terminal, markup=False, width=200)
    said = LiveAnswer(out, None)
    with said:
        for c in EVIL:  # a sequence cut into its characters
            said.streamer.text += c
            said.show(c)
    assert clean(out.file.getvalue(), "\x1b\r" if terminal else "")
    assert "hidden" in out.file.getvalue()


def test_an_answer_longer_than_the_screen_is_printed_once():
    out = Screen(file=io.StringIO(), force_terminal=True, markup=False, width=60, height=8)
    text = "\n\n".join(f"{n}. line {n} of the answer" for n in range(30)) + "\n\n```\n" + "code\n" * 20 + "```"
    said = LiveAnswer(out, None)
    with said:
        for begin in range(0, len(text), 7):
            said.streamer.text += text[begin : begin + 7]
            said.show(text[begin : begin + 7])
            said.live.refresh()
    shown = out.file.getvalue()
    assert said.printed > 0
    for n in range(29):  # a finished paragraph is never drawn again after the next one has begun
        last = shown.rindex(f"line {n} of the answer")
        assert last < shown.rindex(f"line {n + 1} of the answer")
        assert shown.rindex(f"line {n} of the answer") < shown.index(f"line {min(n + 2, 29)} of the answer") or n > 27


@pytest.mark.parametrize(
    ("text", "finished"),
    [("one", ""), ("one\n\n", ""), ("one\n\ntwo", "one\n\n"), ("a\n\nb\n\nc", "a\n\nb\n\n"), ("1. a\n\n   more", ""),
     ("a\n\n```\nx\n\ny", "a\n\n"), ("```\nx\n\ny\n```\n\nz", "```\nx\n\ny\n```\n\n")],
)  # fmt: skip
def test_paragraphs_are_finished_at_empty_lines_outside_of_code(text, finished):
    assert text[: finished_paragraphs(text)] == finished


def test_what_is_drawn_again_fits_the_screen():
    out = Screen(file=io.StringIO(), force_terminal=True, markup=False, width=60, height=5)
    assert list(out.render_lines(LastLines("\n".join("abcdefgh")), pad=False))[-1][0].text == "h"
    assert len(out.render_lines(LastLines("\n".join("abcdefgh")), pad=False)) == 4


def test_a_screen_has_no_markup():
    out = screen()
    with out.capture() as said:
        out.print("out[/b] [red]x[/red] :smile:")
    assert said.get() == "out[/b] [red]x[/red] :smile:\n"


def test_lines_of_json_hold_no_such_character_and_the_same_value():
    text = EVIL + "\u2028\udc80é😀"
    line = results.output_row(3, text, [{"label": text}])
    assert clean(line)
    line.encode()
    assert json.loads(line) == {"row": 3, "input": text, "output": [{"label": text}]}
    assert "é😀" in line
    failed = results.output_row(0, text, Failure(0, errors.InvalidInput(text)))
    assert clean(failed)
    assert json.loads(json_visible(json.dumps(text, ensure_ascii=False))) == text


@pytest.mark.parametrize("kind", [errors.MultiheadError, errors.ModelNotFound, errors.MemoryFull, errors.CorruptFile])
def test_errors_are_text_and_stay_what_they_are(kind):
    error = kind(EVIL)
    assert clean(str(error))
    assert clean(repr(error))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    lists = errors.CheckpointMismatch(EVIL, missing=[EVIL], misshapen={EVIL: ((1,), (2,))}, advice=EVIL)
    assert clean(str(lists))
    assert "\n" in str(lists)
    with pytest.warns(UserWarning, match="hidden") as said:
        errors.warn(EVIL)
    assert clean(str(said[0].message))


@pytest.mark.parametrize("error", [
    errors.InvalidInput(EVIL), OSError(2, EVIL, EVIL), click.UsageError(EVIL), click.BadParameter(EVIL),
])  # fmt: skip
def test_what_ends_a_command_is_said_as_text(monkeypatch, capsys, error):
    def fails(**_):
        raise error

    monkeypatch.setattr(main, "cli", fails)
    with pytest.raises(SystemExit):
        main.main()
    told = capsys.readouterr().err
    assert clean(told.replace("\r\n", "\n"))
    assert "hidden" in told


def test_warnings_and_crashes_are_text(capsys):
    main.show_warning(EVIL)
    try:
        raise RuntimeError(EVIL)
    except RuntimeError as error:
        main.show_crash(type(error), error, error.__traceback__)
    told = capsys.readouterr().err
    assert clean(told)
    assert "RuntimeError" in told


SECRETS = [
    "https://me:pass%40word@host/simple", "http://me:p@ss:word@127.0.0.1:8080/x?y", "socks5://me:password@proxy:1080",
    "https://hf_abcdefghijkl@huggingface.co/org/name", "hf_abcdefghijkl", "git+https://token-word@github.com/a/b",
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_passwords_and_tokens_are_left_out_of_messages(secret):
    said = str(errors.NetworkUnavailable(f"It cannot be fetched from {secret}, ('{secret}')."))
    assert "***" in said
    for word in ("pass", "word@", "abcdefg", "token-word", "ss:word"):
        assert word not in said
    assert (
        safe_message("mail me@host or http://host/a@b, C:/x and a:b@c")
        == "mail me@host or http://host/a@b, C:/x and a:b@c"
    )


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "HF_ENDPOINT"])
def test_passwords_of_settings_are_left_out_however_they_are_quoted(monkeypatch, name):
    monkeypatch.setenv(name, "me:secret@proxy:3128")
    assert mask_secrets("Unknown scheme for proxy URL URL('me:secret@proxy:3128')") == (
        "Unknown scheme for proxy URL URL('***@proxy:3128')"
    )
    monkeypatch.setenv("HF_TOKEN", "own-token-value")
    assert "own-token" not in mask_secrets("Bearer own-token-value")


PROGRAM = """
import sys, warnings
from multihead.cli.main import cli
for words in eval(sys.argv[1]):
    try:
        cli(words, standalone_mode=False)
    except SystemExit:  # no row was answered
        pass
    except Exception as error:
        print(type(error).__name__, error)
"""


def drain(controller, told):
    """Reads a terminal until nobody writes to it."""
    with suppress(OSError):  # the other end is closed
        while part := os.read(controller, 65536):
            told += part


def on_terminal(commands):
    """What reaches a real terminal of some commands, in one process."""
    end, other = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "150"}
    program = [sys.executable, "-c", PROGRAM, repr(commands)]
    process = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=other, stderr=other, env=environment)
    os.close(other)
    told = bytearray()
    drain(end, told)
    process.wait()
    os.close(end)
    return told.decode().replace("\r\n", "\n")


def test_labels_rows_and_file_names_reach_a_terminal_as_text(tmp_path, bert):
    folder = tmp_path / "labels"
    model = multihead.AutoModelForSequenceClassification.from_pretrained(
        bert, num_labels=2, id2label={0: EVIL, 1: EVIL + "2"}, label2id={EVIL: 0, EVIL + "2": 1}
    )
    model.save_pretrained(folder)
    multihead.AutoTokenizer.from_pretrained(bert).save_pretrained(folder)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": EVIL}) + "\n" + json.dumps({"text": 3}) + "\n")
    named = tmp_path / ("x" + EVIL.replace("/", "") + ".jsonl")
    named.write_text(json.dumps({"other" + EVIL: "a", "b": "c"}))
    run = ["run", "text-classification", "-m", str(folder)]
    told = on_terminal([
        [*run, "hello", "--set", "top_k=2"], [*run, "--file", str(rows)], [*run, "--file", str(rows), "--json"],
        [*run, "--file", str(named)], ["inspect", str(folder)], ["inspect", f"./no{EVIL}"],
    ])  # fmt: skip
    assert told.count("hidden") >= 4
    assert clean(told, "\x1b\r")


SHELL = """
import sys
from multihead import consoles
from multihead.cli.main import main
from multihead.pipelines.progress import with_progress
if sys.argv[1] == "bar":
    for row in with_progress(iter(["row 0", "row 1"]), 2, True, "work"):
        print(row)
else:
    main()
"""


@pytest.mark.parametrize("what", ["bar", "run"])
def test_what_is_piped_away_while_a_bar_is_drawn_arrives_whole(bert, what):
    """As a person pipes it: standard error is the terminal, standard output is not."""
    controller, terminal = pty.openpty()
    words = ["bar"] if what == "bar" else ["run", "feature-extraction", "-m", str(bert), "row 0", "row 1"]
    with subprocess.Popen(
        [sys.executable, "-c", SHELL, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "40"},
    ) as process:  # fmt: skip
        os.close(terminal)
        drawn = bytearray()
        reader = Thread(target=drain, args=(controller, drawn))
        reader.start()
        lines = process.stdout.read().decode().splitlines()
    reader.join()
    os.close(controller)
    assert [line if what == "bar" else json.loads(line)["input"] for line in lines] == ["row 0", "row 1"]
    assert b"row 0" not in drawn
    assert (b"work" if what == "bar" else b"feature-extraction") in drawn


def test_lines_of_json_on_a_terminal_are_not_broken(bert):
    controller, terminal = pty.openpty()
    text = "the fox " * 4
    words = ["run", "feature-extraction", "-m", str(bert), text, "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", SHELL, *words], stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "40"},
    ) as process:  # fmt: skip
        os.close(terminal)
        told = bytearray()
        drain(controller, told)
        assert process.wait() == 0
    os.close(controller)
    lines = [line for line in told.decode().splitlines() if line.startswith("{")]
    assert [json.loads(line)["input"] for line in lines] == [text]
