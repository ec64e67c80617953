"""`multihead cluster FILE`: groups of texts, named by their central text and their distinctive words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..consoles import screen
from ..errors import InvalidInput
from .dedupe import readable_rows, short
from .encoders import encoder_options, load_encoder
from .row_output import ENDINGS, check_row_output, row_values, write_rows
from .text_rows import TextRow, read_rows, sentence

if TYPE_CHECKING:
    from rich.console import Console

    from ..retrieval.clusters import Clusters

BAR_WIDTH = 24  # characters of a full bar
SHOWN = 20  # clusters on a terminal


@click.command(name="cluster")
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--column", metavar="NAME", help="The column of texts.")
@click.option("--id", "id_column", metavar="NAME", help="The column of ids. Default: the row's number.")
@click.option("-k", "k", type=click.IntRange(min=1), help="The number of clusters. Default: from 2 to 20, the number "
              "with the best silhouette.")  # fmt: skip
@click.option("--threshold", type=click.FloatRange(-1, 1), help="Cosine of a row to the center of its cluster.")
@click.option("--method", type=click.Choice(["kmeans", "agglomerative", "hdbscan", "communities"]),
              help="Default: kmeans, or communities with --threshold.")  # fmt: skip
@click.option("--min-size", type=click.IntRange(min=2), default=5, show_default=True,
              help="Least rows of a cluster, for hdbscan and communities.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of kmeans.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Writes all rows with their cluster: .jsonl, .csv, .tsv."
)
@click.option(
    "--label", default="cluster", show_default=True, metavar="NAME", help="The column of clusters in --output."
)
@click.option("--overwrite", is_flag=True, help="Replaces an existing file.")
@encoder_options
@click.option("--json", "as_json", is_flag=True, help="Prints JSON on a terminal too.")
def command(path: Path, column: str | None, id_column: str | None, k: int | None, threshold: float | None,
            method: str | None, min_size: int, seed: int, output: Path | None, label: str, overwrite: bool,
            model: str | None, prompt: str | None, prompt_name: str | None, truncate_dim: int | None,
            no_truncation: bool, precision: str, device: str | None, as_json: bool) -> None:  # fmt: skip
    """Groups the rows of FILE by their embeddings.

    Cluster 0 is the largest. A row in no cluster has -1, and a row without an embedding has none. Clusters are named
    by the words that tell them from the others, and by their most central text. The silhouette says how well they are
    separated, from -1 to 1.

    \b
    Examples:
      multihead cluster reviews.csv --column review -k 4 --output labeled.csv
      multihead cluster questions.txt --threshold 0.7
    """
    from ..retrieval.clusters import check_method, cluster_texts

    check_row_output(output, "--output", overwrite, path, ENDINGS[:3])
    check_method(method, k, threshold, min_size)
    rows = readable_rows(read_rows((), path, column, id_column), path)
    if output is not None and any(label in row.values for row in rows):
        raise InvalidInput(f"{path} has a column {label!r} already. Name another for the clusters: --label NAME.")
    encoder, _ = load_encoder(model, precision, device)
    found = cluster_texts(
        [row.text for row in rows], encoder, k=k, threshold=threshold, method=method, min_size=min_size, seed=seed,
        prompt=encoder.prompt_text(prompt_name, prompt) if prompt or prompt_name else None, truncate_dim=truncate_dim,
        truncation=not no_truncation,
    )  # fmt: skip
    log = screen(stderr=True)
    for row, error in found.errors.items():
        log.print(f"Row {rows[row].number} is in no cluster: it {sentence(error)}", style="yellow", soft_wrap=True)
    if output is not None:
        write_rows(output, ({**row_values(row), label: own} for row, own in zip(rows, found.labels, strict=True)))
    console = screen()
    if console.is_terminal and not as_json:
        draw(console, rows, found)
    else:
        from ..pipelines.batch_inference.json_rows import to_json

        print(to_json(entries(rows, found)))


def entries(rows: Sequence[TextRow], found: Clusters) -> dict[str, Any]:
    """Return the clusters as JSON has them."""
    return {
        "rows": len(rows),
        "outside": sum(label == -1 for label in found.labels),
        "without_embedding": len(found.errors),
        "silhouette": found.silhouette,
        "clusters": [
            {
                "cluster": each.label, "rows": len(each.rows), "words": each.words,
                "center": {"row": rows[each.center].number, "id": rows[each.center].id, "text": rows[each.center].text},
            }
            for each in found.clusters
        ],
    }  # fmt: skip


def draw(console: Console, rows: Sequence[TextRow], found: Clusters) -> None:
    """Print the clusters: size with a bar, words, central text; then the silhouette."""
    from rich.text import Text

    most = max((len(each.rows) for each in found.clusters), default=1)
    for each in found.clusters[:SHOWN]:
        bar = "█" * max(round(BAR_WIDTH * len(each.rows) / most), 1)
        line = Text(f"{each.label:>4} {len(each.rows):>7} ").append(f"{bar:<{BAR_WIDTH}} ", style="cyan")
        console.print(line.append(", ".join(each.words), style="bold"))
        console.print(Text(f"{'':13}{short(rows[each.center].text)}", style="dim"))
    if len(found.clusters) > SHOWN:
        console.print(f"and {len(found.clusters) - SHOWN} more clusters", style="dim")
    outside = sum(label == -1 for label in found.labels)
    said = "no silhouette" if found.silhouette is None else f"silhouette {found.silhouette:.3f}"
    console.print(f"{len(rows)} rows in {len(found.clusters)} clusters, {outside} outside, {said}")
