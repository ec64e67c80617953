"""`multihead completion SHELL`: shell completion of commands, tasks and cached models."""

from __future__ import annotations

import click

SHELLS = {
    "bash": ("~/.bashrc", 'eval "$(_MULTIHEAD_COMPLETE=bash_source multihead)"'),
    "zsh": ("~/.zshrc", 'eval "$(_MULTIHEAD_COMPLETE=zsh_source multihead)"'),
    "fish": ("~/.config/fish/completions/multihead.fish", "_MULTIHEAD_COMPLETE=fish_source multihead | source"),
}


@click.command(name="completion")
@click.argument("shell", type=click.Choice(sorted(SHELLS)))
def command(shell: str) -> None:
    """Prints the line that turns completion on in SHELL.

    It completes commands, tasks and the names of cached models.

    \b
    Examples:
      multihead completion bash >> ~/.bashrc
      multihead completion zsh >> ~/.zshrc
      multihead completion fish > ~/.config/fish/completions/multihead.fish
    """
    file, line = SHELLS[shell]
    click.echo(f"# Add this to {file}. It takes effect in the next shell.\n{line}")


def complete_task(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names and aliases of tasks."""
    from ..pipelines.catalog import ALIASES, TASKS
    from ..pipelines.defaults import TRANSLATORS

    pairs = [f"translation_{source}_to_{target}" for source, target in TRANSLATORS]
    return sorted(name for name in [*TASKS, *ALIASES, *pairs] if name.startswith(incomplete))


def complete_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of cached models."""
    from ..hub.cached import list_cached

    return sorted(model.name for model in list_cached() if model.name.startswith(incomplete))
