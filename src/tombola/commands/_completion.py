"""``tombola completion``: print the shell script that completes commands, options and names."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tombola.commands.command import Command
from tombola.commands.completion import SHELLS, script


class Completion(Command):
    """Print a script for a shell."""

    order = 100
    help = "print a shell script that completes commands, options and names"
    description = (
        'Print a completion script for a shell. Put eval "$(tombola completion bash)" into '
        "~/.bashrc, or the same with zsh into ~/.zshrc, or run tombola completion fish > "
        "~/.config/fish/completions/tombola.fish"
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))

    def execute(self, options: argparse.Namespace, _: Sequence[str]) -> int:
        """Print the script."""
        from tombola import recipes
        from tombola.commands.cli import parser
        from tombola.ground.catalogue import entries
        from tombola.schema.recipe import entry_names

        values = {
            "--task": entries("tombola.tasks"),
            "--data": entries("tombola.data"),
            "--model": entries("tombola.models"),
            "--to": entries("tombola.exports"),
            "--training.step": entries("tombola.kernels"),
            "--executor": entries("tombola.executors"),
            "--device": ["auto", "cpu", "cuda"],
        }
        # A command that takes entries of a recipe knows none of them before it is called.
        overrides = [f"--{name}" for name in entry_names(dotted=True)]
        more = {
            "run": [*recipes.names(), *overrides],
            "doctor": [*recipes.names(), *overrides],
            "transfer": _within(overrides, "training", "data"),
            "report": _within(overrides, "verdict"),
        }
        print(script(options.shell, parser(), values, more), end="")
        return 0


def _within(overrides: Sequence[str], *sections: str) -> list[str]:
    """Keep the overrides of entries inside sections of the recipe."""
    starts = tuple(f"--{section}." for section in sections)
    return [override for override in overrides if override.startswith(starts)]
