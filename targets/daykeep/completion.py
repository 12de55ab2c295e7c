"""`daykeep completion`: prints what makes a shell complete verbs, sources and streams."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the code for tab completion.

    Put `eval "$(daykeep completion bash)"` in ~/.bashrc, the same with zsh in ~/.zshrc, or
    `daykeep completion fish | source` in ~/.config/fish/config.fish.
    """
    kind = get_completion_class(shell)
    if kind:
        click.echo(kind(context.find_root().command, {}, "daykeep", "_DAYKEEP_COMPLETE").source())
