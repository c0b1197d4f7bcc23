"""``tombola demo``: run the recipe that needs no download."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tombola.commands.command import Command, add_json, add_quiet, add_runs, add_workers

RECIPE = "digits"


class Demo(Command):
    """Run the demo recipe."""

    order = 10
    help = "find winning tickets on scikit-learn's digits, in two to three minutes on two cores"
    description = (
        f"Run the recipe {RECIPE}: tickets of LTH and COLT-2 on scikit-learn's digits, which need "
        "no download, each compared with its controls, in two to three minutes on two cores."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_workers(parser)
        add_runs(parser)
        add_json(parser)
        add_quiet(parser)

    def execute(self, options: argparse.Namespace, _: Sequence[str]) -> int:
        """Run the recipe and print its report."""
        from tombola.commands._run import run_recipes
        from tombola.schema.recipe import read

        return run_recipes(
            [read(RECIPE)],
            runs=options.runs,
            workers=options.workers,
            quiet=options.quiet,
            as_json=options.json,
        )
