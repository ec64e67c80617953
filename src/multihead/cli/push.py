"""`multihead push`: a model's folder as a commit of a repository on the hub."""

from __future__ import annotations

from pathlib import Path

import click

from ..config import CONFIG_FILE, read_json
from ..consoles import screen
from ..errors import InvalidInput
from ..terminal import visible

MODELS = (CONFIG_FILE, "adapter_config.json", "modules.json", "tokenizer.json")  # a folder has one of these
LEFT_OUT = (".*", "*/.*", "_*", "checkpoint-*", "*.tmp")


@click.command(name="push")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("repository")
@click.option("--message", "-m", help="Message of the commit.")
@click.option("--private", is_flag=True, help="Makes a private repository, if there is none yet.")
@click.option("--revision", help="Branch; it is made if there is none.")
@click.option("--create-pr", is_flag=True, help="Opens a pull request instead.")
def command(
    folder: Path,
    repository: str,
    message: str | None,
    private: bool,
    revision: str | None,
    create_pr: bool,
) -> None:
    """Uploads the model in FOLDER to REPOSITORY (org/name), which is made if there is none.

    The token is the one of HF_TOKEN or of `hf auth login`. Files of training checkpoints and names that begin with a
    dot or an underscore are left out. README.md is the model card: if neither the folder nor the repository has one, a
    short card is written into the folder first.

    \b
    Examples:
      multihead push ./out org/name --private
      multihead push ./out org/name --revision trial --message "More data"
    """
    from ..hub.push import add_card
    from ..hub.upload import CARD, UploadOptions, create_repository, upload_folder

    if not any((folder / name).is_file() for name in MODELS):
        raise InvalidInput(f"{folder} has none of {', '.join(MODELS)}, so it is no model's folder.")
    options = UploadOptions(commit_message=message, private=private or None, revision=revision, create_pr=create_pr)
    console = screen()
    name = create_repository(repository, options)
    if not (folder / CARD).exists():
        add_card(folder, name, options, loader(folder))
    with console.status(f"Uploading to {name}"):
        link = upload_folder(folder, name, options, ignore=LEFT_OUT)
    click.echo(visible(link.pr_url or str(link)))


def loader(folder: Path) -> str:
    """Return the name of the class that loads a folder, for its model card."""
    if (folder / "modules.json").is_file():
        return "SentenceEncoder"
    if not (folder / CONFIG_FILE).is_file():
        return "AutoModel" if (folder / "adapter_config.json").is_file() else "AutoTokenizer"
    classes = read_json(folder / CONFIG_FILE).get("architectures")
    return str(classes[0]) if isinstance(classes, list) and classes else "AutoModel"
