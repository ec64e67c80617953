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
from .precision import loading
from .precision import option as precision_option
from .run import parse_value

HELP = """\
/help                this list
/system TEXT         begins anew with these instructions
/clear               begins anew
/undo                takes the last exchange back
/retry               asks the last question again
/set OPTION=VALUE    a field of GenerationConfig, such as temperature=0.8 or max_new_tokens=200
/save FILE, /load FILE   the conversation as JSON
/exit                or the end of input

A line that ends with a backslash goes on in the next one. Ctrl-C stops an answer."""


@click.command(name="chat")
@click.option("--model", "-m", shell_complete=complete_model, help="An instruction-tuned language model.")
@click.option("--system", help="Instructions that come before the conversation.")
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="Fields of GenerationConfig.")
@precision_option
@click.option("--device", help='Such as "cuda".')
def command(
    model: str | None, system: str | None, settings: tuple[str, ...], precision: str, device: str | None
) -> None:
    """Talks with a language model; /help in the conversation lists what else it understands.

    \b
    Examples:
      multihead chat
      multihead chat --system "Answer in one sentence." --set temperature=0.7 --set do_sample=true
      multihead chat -m ./checkpoint --set max_new_tokens=400
      echo "Why is the sky blue?" | multihead chat

    Piped, what is wrong with a line goes to stderr, and the exit status is 1 where none was answered.
    """
    from ..pipelines.pipeline import pipeline

    console = screen()
    with screen(stderr=True).status("Loading the model"):
        pipe = pipeline("text-generation", model, device=device, **loading(precision, device))
    talk = Talk(console, pipe, system)
    for setting in settings:
        talk.set(setting)
    if console.is_terminal:
        console.print(
            Text.assemble(
                (str(pipe.model.name_or_path).partition("#sha256=")[0], "bold"),
                f"  {pipe.precision}  ",
                ("/help", "cyan"),
            )
        )
    failed, told = False, console if console.is_terminal else screen(stderr=True)
    while (line := asked(console)) is not None:
        try:
            if not talk.take(line):
                break
        except MultiheadError as error:
            failed = True
            told.print(Text.assemble((f"{type(error).__name__}: ", "red"), str(error)), soft_wrap=True)
    if failed and not talk.answers and not sys.stdin.isatty():
        sys.exit(1)


def asked(console: Console) -> str | None:
    """What the person types; None at the end of input."""
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


class Talk:
    """A conversation.

    Args:
        pipe: a text-generation pipeline. system: instructions that come first.

    Attributes:
        answers: how many the model gave.
    """

    def __init__(self, console: Console, pipe: Any, system: str | None = None) -> None:
        self.console, self.pipe, self.options = console, pipe, dict[str, Any]()
        self.messages: list[dict[str, Any]] = []
        self.answers = 0
        self.begin(system)

    def begin(self, system: str | None) -> None:
        self.system = system
        self.messages = [{"role": "system", "content": system}] if system else []

    def take(self, line: str) -> bool:
        """Does what a line says; whether the conversation goes on."""
        if not line.strip():
            return True
        if not line.startswith("/"):
            self.say(line)
            return True
        name, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        if name in ("exit", "quit", "bye"):
            return False
        actions: dict[str, Callable[[], None]] = {
            "help": lambda: self.console.print(HELP, style="dim"),
            "clear": lambda: self.begin(self.system),
            "system": lambda: self.begin(rest or None),
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

    def say(self, text: str) -> None:
        """Sends a message and shows the answer as it comes."""
        self.messages.append({"role": "user", "content": text})
        try:
            answer = self.answer()
        except BaseException:
            self.messages.pop()
            raise
        self.messages.append({"role": "assistant", "content": answer})
        self.answers += 1

    def answer(self) -> str:
        """The model's next message; what there is of it, when it is stopped."""
        shown = Shown(self.console, self.pipe.tokenizer)
        began = time.perf_counter()
        with shown:
            try:
                self.pipe([*self.messages], streamer=shown.streamer, continue_final_message=False, **self.options)
            except KeyboardInterrupt:
                shown.streamer.text += " …"
        seconds = time.perf_counter() - began
        if self.console.is_terminal:
            rate = f"{shown.streamer.tokens} tokens, {shown.streamer.tokens / seconds:.0f}/s"
            self.console.print(rate, style="dim")
        return shown.streamer.text.strip()

    def exchange(self, purpose: str) -> int:
        """Where the last question begins. Raises InvalidInput where none was asked and answered."""
        roles = [message["role"] for message in self.messages]
        if "user" not in roles or roles[-1] != "assistant":
            raise InvalidInput(f"There is nothing to {purpose}.")
        return len(roles) - 1 - roles[::-1].index("user")

    def undo(self) -> None:
        del self.messages[self.exchange("take back") :]

    def retry(self) -> None:
        begin = self.exchange("ask again")
        question = self.messages[begin]["content"]
        del self.messages[begin:]
        self.say(question)

    def set(self, setting: str) -> None:
        name, _, value = setting.partition("=")
        changed = {**self.options, name.strip(): parse_value(value.strip())}
        self.pipe.resolve_options(**changed)
        self.pipe.config(self.pipe.resolve_options(**changed))
        self.options = changed

    def save(self, path: Path) -> None:
        """Writes the conversation. Raises InvalidInput for a place that cannot be written."""
        whole = json.dumps(self.messages, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        try:
            write_text(path, whole)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be written: {error.strerror or error}.") from error
        self.console.print(f"{len(self.messages)} messages in {path}", style="dim")

    def load(self, path: Path) -> None:
        """Goes on with a saved conversation. Raises InvalidInput for a file that is none."""
        from ..pipelines.text_generation import check_messages

        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, list):
                raise InvalidInput(f"must be a list of messages, not {type(found).__name__}.")
            self.messages = [dict(message) for message in check_messages(found)]
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path} is no conversation: {error}") from error


class Shown:
    """An answer on the console while it is written: Markdown on a terminal, else the text alone."""

    def __init__(self, console: Console, tokenizer: Any) -> None:
        from .render.streamed_text import Written

        self.console, self.streamer = console, Written(tokenizer, self.show)
        self.live = Live(console=console, refresh_per_second=12, vertical_overflow="visible")

    def show(self, text: str) -> None:
        """Adds a new piece of text."""
        if self.console.is_terminal:
            self.live.update(Markdown(self.streamer.text, hyperlinks=False))
        else:
            self.console.file.write(visible(text))
            self.console.file.flush()

    def __enter__(self) -> Shown:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()
        else:
            self.console.file.write("\n")
