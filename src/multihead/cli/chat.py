"""`multihead chat`: a conversation with a language model, streamed as Markdown."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from ..consoles import screen
from ..errors import InvalidInput, MultiheadError, UnsupportedOption
from ..files import write_text
from .completion import complete_model
from .precision import load_options
from .precision import option as precision_option
from .run import parse_value

if TYPE_CHECKING:
    from ..pipelines.conversation import Conversation, Reply

HELP = """\
/help                    prints this list
/system TEXT             starts again with these instructions
/clear                   starts again
/undo                    removes the last exchange
/retry                   asks the last question again
/continue                goes on with the last answer
/set OPTION=VALUE        sets a field of GenerationConfig: temperature=0.8, max_new_tokens=200
/save FILE, /load FILE   writes or reads the conversation as JSON
/exit                    ends the conversation, as the end of input does

A line that ends with a backslash continues on the next one. Ctrl-C stops an answer, which stays as far as it is.

Only new tokens are read in each turn. Greedy answers avoid repeated runs of tokens, unless the model or you set an
option of repetition: /set dry_multiplier=0 for the model's own choice."""


@click.command(name="chat")
@click.option(
    "--model",
    "-m",
    shell_complete=complete_model,
    help="An instruction-tuned language model.",
)
@click.option("--system", help="Instructions before the conversation.")
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="Sets a field of GenerationConfig.")
@click.option(
    "--history", type=click.Choice(["drop", "summarize", "error"]), default="drop", show_default=True,
    help="What happens to the oldest turns when the conversation no longer fits. A notice says so.",
)  # fmt: skip
@click.option("--context-length", type=click.IntRange(min=2), help="Tokens that fit. Default: the model's.")
@precision_option
@click.option("--device", help='Such as "cuda".')
def command(
    model: str | None, system: str | None, settings: tuple[str, ...], history: str, context_length: int | None,
    precision: str, device: str | None,
) -> None:  # fmt: skip
    """Chats with a language model. /help in the conversation lists its commands.

    \b
    Examples:
      multihead chat
      multihead chat --system "Answer in one sentence." --set temperature=0.7 --set do_sample=true
      multihead chat -m ./checkpoint --set max_new_tokens=400 --history summarize
      echo "Why is the sky blue?" | multihead chat

    With piped input, errors go to standard error, and the exit status is 1 if no line was answered.
    """
    from ..pipelines.pipeline import pipeline

    console = screen()
    with screen(stderr=True).status("Loading the model"):
        pipe = pipeline("text-generation", model, device=device, **load_options(precision, device))
    chat = Chat(console, pipe, system, history, context_length)
    for setting in settings:
        chat.set(setting)
    if console.is_terminal:
        console.print(
            Text.assemble(
                (str(pipe.model.name_or_path).partition("#sha256=")[0], "bold"),
                f"  {pipe.precision}  ",
                ("/help", "cyan"),
            )
        )
    failed, log = False, chat.log
    while (line := read_line(console)) is not None:
        try:
            if not chat.handle(line):
                break
        except MultiheadError as error:
            failed = True
            log.print(Text.assemble((f"{type(error).__name__}: ", "red"), str(error)), soft_wrap=True)
    if failed and not chat.answers and not sys.stdin.isatty():
        sys.exit(1)


def read_line(console: Console) -> str | None:
    """Return what the user types; None at the end of input. A backslash at the end of a line joins the next one.

    Ctrl-C discards the line, and ends the conversation only where it comes twice in a row.
    """
    reader: Callable[[], str] = sys.stdin.readline
    if sys.stdin.isatty():
        from contextlib import suppress

        with suppress(ImportError):
            import readline  # noqa: F401  # keys and history for `input`
        reader = lambda: input("› ") + "\n"  # noqa: E731
    text, stopped = "", False
    while True:
        try:
            line = reader()
        except EOFError:
            line = ""
        except KeyboardInterrupt:
            if stopped or not sys.stdin.isatty():
                console.print()
                return None
            console.print("\nCtrl-C again, or /exit, ends the conversation.", style="dim")
            text, stopped = "", True
            continue
        if not line:
            if not text and sys.stdin.isatty():
                console.print()
            return text or None
        text += line.rstrip("\n")
        if not text.endswith("\\"):
            return text
        text = text[:-1] + "\n"


class Chat:
    """Conversation on a console.

    Args:
        system: instructions that come first. history, context_length: of `Conversation`.

    Attributes:
        answers: number of answers of the model.
    """

    def __init__(
        self,
        console: Console,
        pipe: Any,
        system: str | None = None,
        history: str = "drop",
        context_length: int | None = None,
    ) -> None:
        self.console, self.log = console, console if console.is_terminal else screen(stderr=True)
        self.conversation = pipe.conversation(system=system, history=history, context_length=context_length)
        self.system, self.answers = system, 0

    def restart(self, system: str | None) -> None:
        """Start an empty conversation with these instructions."""
        self.system = system
        self.conversation.load([{"role": "system", "content": system}] if system else [])

    def handle(self, line: str) -> bool:
        """Answer a message or run a command. Returns whether the conversation continues."""
        if not line.strip():
            return True
        if not line.startswith("/"):
            self.show(lambda streamer: self.conversation.send(line, streamer))
            return True
        name, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        if name in ("exit", "quit", "bye"):
            return False
        actions: dict[str, Callable[[], None]] = {
            "help": lambda: self.console.print(HELP, style="dim"),
            "clear": lambda: self.restart(self.system),
            "system": lambda: self.restart(rest or None),
            "undo": self.conversation.undo,
            "retry": lambda: self.show(self.conversation.retry),
            "continue": lambda: self.show(self.conversation.proceed),
            "set": lambda: self.set(rest),
            "save": lambda: self.save(Path(rest)),
            "load": lambda: self.load(Path(rest)),
        }
        if name not in actions:
            raise UnsupportedOption(f"/{name} is no command; /help lists them.")
        if name in ("save", "load") and not rest:
            raise InvalidInput(f"/{name} needs the name of a file.")
        actions[name]()
        return True

    def show(self, ask: Callable[[Any], Reply]) -> None:
        """Print an answer while it is written, and what the user must know about it. Ctrl-C stops it.

        Args:
            ask: gets the streamer.
        """
        from .render.live_answer import LiveAnswer, no_echo  # imports torch

        live = LiveAnswer(self.console, self.conversation.pipe.tokenizer)
        start = time.perf_counter()
        try:
            with live, no_echo(), stop_on_interrupt(self.conversation):
                reply = ask(live.streamer)
        except KeyboardInterrupt:  # the second one
            self.log.print("Stopped. The question is taken back.", style="dim")
            return
        self.answers += 1
        for notice in self.notices(reply):
            self.log.print(notice, style="yellow", soft_wrap=True)
        if self.console.is_terminal:
            rate = reply.new_tokens / (time.perf_counter() - start)
            known = f"{reply.prompt_tokens:,} tokens before it, {reply.cached_tokens:,} of them from the cache"
            self.console.print(f"{reply.new_tokens:,} tokens, {rate:.0f}/s; {known}", style="dim")

    def notices(self, reply: Reply) -> list[str]:
        """Return what the user must know about an answer."""
        ends = {"length": "Cut at max_new_tokens; /continue goes on, /set max_new_tokens=N allows more.",
                "abort": "Stopped; /continue goes on."}  # fmt: skip
        return [*reply.notices, *([ends[reply.finish_reason]] if reply.finish_reason in ends else [])]

    def set(self, setting: str) -> None:
        """Set an option of the pipeline. Raises UnsupportedOption, InvalidInput."""
        name, _, value = setting.partition("=")
        self.conversation.set(**{name.strip(): parse_value(value.strip())})

    def save(self, path: Path) -> None:
        """Write the conversation as JSON. Raises InvalidInput if the file cannot be written."""
        messages = self.conversation.messages
        text = json.dumps(messages, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        try:
            write_text(path, text)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be written: {error.strerror or error}.") from error
        self.console.print(f"{len(messages)} messages in {path}", style="dim")

    def load(self, path: Path) -> None:
        """Read a saved conversation. Raises InvalidInput for any other file."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"), parse_constant=no_number)
            if not isinstance(found, list):
                raise InvalidInput(f"must be a list of messages, not {type(found).__name__}.")
            self.conversation.load(found)
        except RecursionError:
            raise InvalidInput(f"{path} is no conversation: it is nested too deeply.") from None
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path} is no conversation: {error}") from error


def no_number(name: str) -> None:
    """Refuse NaN and Infinity, which Python's reader takes and JSON does not have."""
    raise ValueError(f"{name} is no JSON")


@contextmanager
def stop_on_interrupt(conversation: Conversation) -> Iterator[None]:
    """Let Ctrl-C end the answer after its current token; a second one raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        conversation.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
