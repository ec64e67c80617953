"""`multihead chat`: a conversation with a language model, streamed as Markdown."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from ..consoles import screen
from ..errors import InvalidInput, MultiheadError, UnsupportedOption
from ..files import write_text
from ..terminal import visible
from .completion import complete_model
from .precision import load_options
from .precision import option as precision_option
from .run import parse_value

HELP = """\
/help                    prints this list
/system TEXT             starts again with these instructions
/clear                   starts again
/undo                    removes the last exchange
/retry                   asks the last question again
/set OPTION=VALUE        sets a field of GenerationConfig: temperature=0.8, max_new_tokens=200
/save FILE, /load FILE   writes or reads the conversation as JSON
/exit                    ends the conversation, as the end of input does

A line that ends with a backslash continues on the next one. Ctrl-C stops an answer."""


@click.command(name="chat")
@click.option(
    "--model",
    "-m",
    shell_complete=complete_model,
    help="An instruction-tuned language model.",
)
@click.option("--system", help="Instructions before the conversation.")
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="Sets a field of GenerationConfig.")
@precision_option
@click.option("--device", help='Such as "cuda".')
def command(
    model: str | None, system: str | None, settings: tuple[str, ...], precision: str, device: str | None
) -> None:
    """Chats with a language model. /help in the conversation lists its commands.

    \b
    Examples:
      multihead chat
      multihead chat --system "Answer in one sentence." --set temperature=0.7 --set do_sample=true
      multihead chat -m ./checkpoint --set max_new_tokens=400
      echo "Why is the sky blue?" | multihead chat

    With piped input, errors go to standard error, and the exit status is 1 if no line was answered.
    """
    from ..pipelines.pipeline import pipeline

    console = screen()
    with screen(stderr=True).status("Loading the model"):
        pipe = pipeline("text-generation", model, device=device, **load_options(precision, device))
    chat = Chat(console, pipe, system)
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
    failed, log = False, console if console.is_terminal else screen(stderr=True)
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
    """Return what the user types; None at the end of input. A backslash at the end of a line joins the next one."""
    reader: Callable[[], str] = sys.stdin.readline
    if sys.stdin.isatty():
        from contextlib import suppress

        with suppress(ImportError):
            import readline  # noqa: F401  # keys and history for `input`
        reader = lambda: input("› ") + "\n"  # noqa: E731
    text = ""
    try:
        while True:
            line = reader()
            if not line:
                return text or None
            text += line.rstrip("\n")
            if not text.endswith("\\"):
                return text
            text = text[:-1] + "\n"
    except (EOFError, KeyboardInterrupt):
        console.print()
        return None


class Chat:
    """Conversation with a text-generation pipeline.

    Args:
        system: instructions that come first.

    Attributes:
        answers: number of answers of the model.
    """

    def __init__(self, console: Console, pipe: Any, system: str | None = None) -> None:
        self.console, self.pipe, self.options = console, pipe, dict[str, Any]()
        self.messages: list[dict[str, Any]] = []
        self.answers = 0
        self.restart(system)

    def restart(self, system: str | None) -> None:
        """Start an empty conversation with these instructions."""
        self.system = system
        self.messages = [{"role": "system", "content": system}] if system else []

    def handle(self, line: str) -> bool:
        """Answer a message or run a command. Returns whether the conversation continues."""
        if not line.strip():
            return True
        if not line.startswith("/"):
            self.send(line)
            return True
        name, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        if name in ("exit", "quit", "bye"):
            return False
        actions: dict[str, Callable[[], None]] = {
            "help": lambda: self.console.print(HELP, style="dim"),
            "clear": lambda: self.restart(self.system),
            "system": lambda: self.restart(rest or None),
            "undo": self.undo,
            "retry": self.retry,
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

    def send(self, text: str) -> None:
        """Send a message and print the answer as it is generated."""
        self.messages.append({"role": "user", "content": text})
        try:
            answer = self.answer()
        except BaseException:
            self.messages.pop()
            raise
        self.messages.append({"role": "assistant", "content": answer})
        self.answers += 1

    def answer(self) -> str:
        """Return the model's next message; the part so far if it is interrupted."""
        live = LiveAnswer(self.console, self.pipe.tokenizer)
        start = time.perf_counter()
        with live:
            try:
                self.pipe([*self.messages], streamer=live.streamer, continue_final_message=False, **self.options)
            except KeyboardInterrupt:
                live.streamer.text += " …"
        seconds = time.perf_counter() - start
        if self.console.is_terminal:
            rate = f"{live.streamer.tokens} tokens, {live.streamer.tokens / seconds:.0f}/s"
            self.console.print(rate, style="dim")
        return live.streamer.text.strip()

    def last_question(self, purpose: str) -> int:
        """Return the index of the last question. Raises InvalidInput if none was answered."""
        roles = [message["role"] for message in self.messages]
        if "user" not in roles or roles[-1] != "assistant":
            raise InvalidInput(f"There is nothing to {purpose}.")
        return len(roles) - 1 - roles[::-1].index("user")

    def undo(self) -> None:
        """Remove the last exchange."""
        del self.messages[self.last_question("take back") :]

    def retry(self) -> None:
        """Ask the last question again."""
        index = self.last_question("ask again")
        question = self.messages[index]["content"]
        del self.messages[index:]
        self.send(question)

    def set(self, setting: str) -> None:
        """Set an option of the pipeline. Raises UnsupportedOption, InvalidInput."""
        name, _, value = setting.partition("=")
        changed = {**self.options, name.strip(): parse_value(value.strip())}
        self.pipe.resolve_options(**changed)
        self.pipe.config(self.pipe.resolve_options(**changed))
        self.options = changed

    def save(self, path: Path) -> None:
        """Write the conversation as JSON. Raises InvalidInput if the file cannot be written."""
        text = json.dumps(self.messages, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        try:
            write_text(path, text)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be written: {error.strerror or error}.") from error
        self.console.print(f"{len(self.messages)} messages in {path}", style="dim")

    def load(self, path: Path) -> None:
        """Read a saved conversation. Raises InvalidInput for any other file."""
        from ..pipelines.text_generation import check_messages

        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, list):
                raise InvalidInput(f"must be a list of messages, not {type(found).__name__}.")
            self.messages = [dict(message) for message in check_messages(found)]
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path} is no conversation: {error}") from error


class LiveAnswer:
    """Answer on the console while it is generated: Markdown on a terminal, else plain text."""

    def __init__(self, console: Console, tokenizer: Any) -> None:
        from .render.streamed_text import CountingStreamer

        self.console, self.streamer = console, CountingStreamer(tokenizer, self.show)
        self.live = Live(console=console, refresh_per_second=12, vertical_overflow="visible")

    def show(self, text: str) -> None:
        """Add a new piece of text."""
        if self.console.is_terminal:
            self.live.update(Markdown(self.streamer.text, hyperlinks=False))
        else:
            self.console.file.write(visible(text))
            self.console.file.flush()

    def __enter__(self) -> LiveAnswer:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()
        else:
            self.console.file.write("\n")
