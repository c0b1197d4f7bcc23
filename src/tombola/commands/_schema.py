"""``tombola schema``: print the JSON Schema of recipes, for editors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tombola.commands.command import Command, print_json


class Schema(Command):
    """Print the JSON Schema of recipes."""

    order = 95
    help = "print the JSON Schema of recipes, for editors"
    description = (
        "Print the JSON Schema of recipes, with which editors complete entries and mark invalid "
        "ones: tombola schema > recipe.schema.json, with the first line of a recipe "
        "# yaml-language-server: $schema=recipe.schema.json"
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare none."""

    def execute(self, options: argparse.Namespace, _: Sequence[str]) -> int:  # noqa: ARG002
        """Print it."""
        from tombola.schema.editors import json_schema

        print_json(json_schema())
        return 0
