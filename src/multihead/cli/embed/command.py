"""`multihead embed`: the options and the run."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ...consoles import screen
from ...errors import InvalidInput, MultiheadError, UnsupportedOption, read_errors
from ..encoders import embedding_options, encoder_options, load_encoder, start_metadata
from ..run import is_piped
from ..text_rows import TextRow, live_windows, read_rows, sentence

if TYPE_CHECKING:
    from rich.console import Console

    from ...pipelines.answers import Metadata
    from ...retrieval.embedding import Embedded, EmbeddingOptions
    from ...sentences.encoder import SentenceEncoder
    from ..embedding_parts import Parts

QUANTIZED = ("int8", "uint8", "binary", "ubinary")
ENDINGS = (".npy", ".parquet", ".jsonl")


@click.command(name="embed")
@click.argument("texts", nargs=-1)
@click.option(
    "--file", "path", type=click.Path(path_type=Path),
    help="Embeds the rows of a file: .txt, .csv, .tsv, .jsonl, .json, .parquet.",
)  # fmt: skip
@click.option("--column", metavar="NAME", help="The column of texts.")
@click.option("--id", "id_column", metavar="NAME", help="The column of ids. Default: the row's number from 0.")
@click.option(
    "--output", type=click.Path(path_type=Path),
    help="Writes .npy (with NAME.ids.jsonl and NAME.errors.jsonl), .parquet or .jsonl. After a stop, the same command "
    "continues it.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replaces an existing output file.")
@encoder_options
@click.option("--normalize", is_flag=True, help="Divides each embedding by its length.")
@click.option(
    "--quantize", type=click.Choice(QUANTIZED),
    help="One byte a number (int8, uint8; with NAME.ranges.npy) or its sign (binary, ubinary: eight in a byte).",
)  # fmt: skip
@click.option(
    "--ranges", "ranges_path", type=click.Path(path_type=Path),
    help="A NAME.ranges.npy of other embeddings, with which these are to be compared.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Stops at the first row that has no embedding.")
def command(texts: tuple[str, ...], path: Path | None, column: str | None, id_column: str | None, output: Path | None,
            overwrite: bool, model: str | None, prompt: str | None, prompt_name: str | None, truncate_dim: int | None,
            no_truncation: bool, precision: str, device: str | None, normalize: bool, quantize: str | None,
            ranges_path: Path | None, strict: bool) -> None:  # fmt: skip
    """Embeds TEXTS, a file, or standard input (-).

    Each text, row or line has one vector. Without --output, each embedding is a JSON line {"row", "id", "embedding"}. A
    row without an embedding (an empty text, a text of unknown characters, one that is too long with --no-truncation) is
    named on standard error. The exit status is that of `multihead run`.

    \b
    Examples:
      multihead embed "How do planes fly?"
      multihead embed --file docs.csv --column body --id key --output vectors.parquet
      multihead embed --file docs.jsonl --output vectors.npy --normalize --quantize int8
      cat questions.txt | multihead embed - -m intfloat/e5-small-v2 --prompt "query: " --output questions.npy
    """
    check_output(output, overwrite, quantize, ranges_path)
    rows = iter(read_rows(texts, path, column, id_column))
    live = is_piped(texts, path)
    if not live:  # an error of the first row or of the file comes before a model is loaded
        first = list(islice(rows, 1))
        if not first:
            raise InvalidInput("There are no rows to embed." if path is None else f"{path} has no rows to embed.")
        rows = chain(first, rows)
    ranges = read_ranges(ranges_path)
    record = {
        "file": str(path) if path else None,
        "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        "column": column, "id": id_column, "model": model, "prompt": prompt, "prompt_name": prompt_name,
        "truncate_dim": truncate_dim, "truncation": not no_truncation, "precision": precision, "device": device,
        "normalize": normalize,
    }  # fmt: skip
    with ExitStack() as stack:
        parts, side = None, dict[str, Path]()
        if output is not None:
            from ..embedding_parts import Parts
            from .outputs import check_outputs, side_files

            side = side_files(output, quantize, ranges is not None)
            check_outputs([output, *side.values()], overwrite, [path, ranges_path, 0 if live else None])
            parts = Parts(output, record, overwrite=overwrite)
            stack.callback(parts.close)
            try:
                parts.skip(rows)
            except InvalidInput:
                if not overwrite or live:  # standard input cannot be read twice
                    raise
                parts.begin_again()
                rows = iter(read_rows(texts, path, column, id_column))
        encoder, note = load_encoder(model, precision, device)
        options = embedding_options(encoder, prompt, prompt_name, truncate_dim, no_truncation, normalize)
        run = Run(encoder, options, parts, side, strict, quantize or "float32", ranges)
        run.start(rows, live, start_metadata(encoder, "embed", note))


def check_output(output: Path | None, overwrite: bool, quantize: str | None, ranges_path: Path | None) -> None:
    """Raise UnsupportedOption for options without effect, InvalidInput for an unknown ending."""
    ranged = quantize in ("int8", "uint8")
    if output is None and overwrite:
        raise UnsupportedOption("--overwrite has no effect without --output.")
    if ranges_path is not None and not ranged:
        raise UnsupportedOption("--ranges has no effect without --quantize int8 or uint8.")
    if output is None and ranged and ranges_path is None:
        raise UnsupportedOption(f"--quantize {quantize} needs the ranges of all embeddings: give --output or --ranges.")
    if output is not None and output.suffix not in ENDINGS:
        raise InvalidInput(f"--output {output}: the name must end in {', '.join(ENDINGS)}.")
    if output is not None and output.suffix == ".parquet":
        from ...data_files import import_parquet

        import_parquet(output)


def read_ranges(path: Path | None) -> Any:
    """Return the ranges of a file, if any. Raises InvalidInput."""
    if path is None:
        return None
    with read_errors(path, InvalidInput, "Name a .ranges.npy that this command wrote."):
        return np.load(path, allow_pickle=False)


@dataclass(frozen=True)
class Run:
    """Run of an encoder over rows.

    Args:
        parts: of the output; None prints. side: files that are written beside it.
        strict: stop at the first row without an embedding.
        quantize: precision of the embeddings. ranges: of int8 and uint8, if they come from a file.
    """

    encoder: SentenceEncoder
    options: EmbeddingOptions
    parts: Parts | None
    side: Mapping[str, Path]
    strict: bool
    quantize: str
    ranges: Any

    def start(self, rows: Iterable[TextRow], live: bool, metadata: Metadata) -> None:
        """Embed all rows and print or write them."""
        from ...retrieval.embedding import windows
        from ...training.signals import Signals
        from ..render.status import row_counter, summary

        log = screen(stderr=True)
        first = self.parts.rows if self.parts else 0
        if first:
            log.print(f"{first} rows are embedded already; going on after them.", style="dim", soft_wrap=True)
        parts = live_windows(rows) if live and self.parts is None else windows(rows, lambda row: row.text)
        failed = cut = 0
        quiet = not log.is_terminal or (self.parts is None and screen().is_terminal)
        with Signals(at_once=True) as signals, row_counter(log, "embed", first, quiet) as advance:
            try:
                for window in parts:
                    found = self.embed(window)
                    failed, cut = failed + self.report(window, found, log), cut + len(found.cut)
                    metadata.add_tokens(found.tokens)
                    for _ in window:
                        advance()
                    metadata.inputs += len(found.numbers)
                    signals.check()
            except (KeyboardInterrupt, SystemExit):
                if self.parts:
                    log.print(f"\nStopped. {self.parts.rows} rows are embedded. The same command continues.")
                raise
            written = self.finish(log)
        if cut:
            limit = self.encoder.max_seq_length
            log.print(f"{cut} texts have more than {limit} tokens; the rest of them was not read.", style="yellow")
        summary(log, metadata, failed, written)
        if not metadata.inputs and not first:
            sys.exit(1)

    def embed(self, window: list[TextRow]) -> Embedded:
        """Return the embeddings of a window. Raises the first error if the run is strict."""
        from ...retrieval.embedding import embed_texts

        found = embed_texts(self.encoder, [row.text for row in window], self.options)
        if self.strict and found.errors:
            place, error = next(iter(found.errors.items()))
            kind: Any = type(error) if isinstance(error, MultiheadError) else InvalidInput
            raise kind(f"Row {window[place].number} {sentence(error)}")
        return found

    def report(self, window: list[TextRow], found: Embedded, log: Console) -> int:
        """Print or write the rows of a window. Returns the number of failures."""
        from ..embedding_parts import Part, part_rows
        from .outputs import json_lines, quantizer

        if self.parts is not None:
            part = self.parts.write(window, found)
        else:
            part = Part(part_rows(window, found), found.vectors, "")
            for line in json_lines(part, quantizer([part], self.quantize, self.ranges)[0]):
                print(line, flush=True)
        for row in part.rows:
            if "error" in row:
                log.print(row["error"], style="red", soft_wrap=True)
        return len(found.errors)

    def finish(self, log: Console) -> Path | None:
        """Write the output of all parts. Returns its path."""
        from .outputs import write_output

        if self.parts is None:
            return None
        files = write_output(self.parts, self.side, self.quantize, self.ranges)
        self.parts.remove()
        if len(files) > 1:
            log.print(f"Beside {files[0]}: {', '.join(file.name for file in files[1:])}", style="dim", soft_wrap=True)
        return files[0]
