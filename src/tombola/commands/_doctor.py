"""``tombola doctor``: describe this machine, and measure which settings train faster on it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tombola.commands.command import Command, add_data_root, add_json, print_json
from tombola.ground.errors import InputError


class Doctor(Command):
    """Describe this machine and advise on settings."""

    order = 70
    help = "describe this machine, and which settings would train faster on it"
    description = (
        "Describe this machine, and measure how much faster a recipe's training would be with "
        "other settings. It advises and changes nothing. Entries of the recipe can be overridden "
        "as in run."
    )
    epilog = "exit codes: 0 success; 2 the recipe or its data are invalid; 130 interrupted"
    takes_overrides = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "recipe",
            nargs="?",
            metavar="RECIPE",
            help="a file, or the name of an included recipe (default: two built-in cases)",
        )
        add_data_root(parser)
        parser.add_argument(
            "--compile", action="store_true", help="also try torch.compile, which takes a minute"
        )
        add_json(parser)

    def execute(self, options: argparse.Namespace, overrides: Sequence[str]) -> int:
        """Measure and print."""
        if overrides and options.recipe is None:
            raise InputError(
                f"{overrides[0]} is not an option of doctor, and without RECIPE there is nothing "
                "to override"
            )
        from tombola.commands import doctor
        from tombola.commands.printing import console
        from tombola.schema.recipe import read

        # The recipe is read first: a mistake in it shows before anything is timed.
        recipe = None if options.recipe is None else read(options.recipe, overrides)
        with doctor.telling() as tell:
            examination = doctor.examine(
                recipe, data_root=options.data_root, compiled=options.compile, tell=tell
            )
        if options.json:
            print_json(doctor.to_dict(examination))
        else:
            doctor.terminal(examination, console())
        return 0
