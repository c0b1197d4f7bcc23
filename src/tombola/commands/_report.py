"""``tombola report``: write the report of a run again, or of several runs together."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tombola.commands.command import RUN_HELP, Command, add_json
from tombola.ground.errors import InputError, shown


class Report(Command):
    """Write and print reports of existing runs."""

    order = 50
    help = "write the report of a run again and print it, or of several runs together"
    description = (
        "Write the tables, figures and page of a run folder again, and print the tables. For "
        "several runs, such as the variants of a recipe, write one page that compares them."
    )
    epilog = (
        "--verdict.margin 0.01, or any other entry of verdict, is used instead of the recipe's; "
        "the run does not change"
    )
    takes_overrides = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=RUN_HELP)
        parser.add_argument(
            "--out",
            type=Path,
            metavar="DIR",
            help="folder for the page of several runs (default: beside the first run)",
        )
        parser.add_argument(
            "--section",
            action="append",
            default=[],
            metavar="NAME",
            help="also show this section, such as your own package.module:Name",
        )
        add_json(parser)

    def execute(self, options: argparse.Namespace, overrides: Sequence[str]) -> int:
        """Write the report and print it."""
        from tombola.commands.printing import print_outcome, print_together
        from tombola.experiments import reporting
        from tombola.folder.runs import Run
        from tombola.records.choosing import named_run

        # Before any run is read, which may take long.
        verdict = _verdict_entries(overrides)
        folders = [named_run(path) for path in options.runs]
        if len(folders) > 1:
            if options.section:
                raise InputError("--section works for the page of one run only")
            print_together(folders, out=options.out, as_json=options.json, verdict=verdict)
            return 0
        if options.out is not None:
            raise InputError(
                "--out is for the page of several runs; that of one run is in its folder"
            )
        run = Run(folders[0])
        run.judge_by(verdict)
        outcome = reporting.report(run, formats=("svg", "png", "pdf"), sections=options.section)
        print_outcome(outcome, run.recipe.name, options.json)
        return 0


def _verdict_entries(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the entries of ``verdict`` to use instead of the recipe's."""
    from tombola.schema.recipe import pairs

    entries = {}
    for dotted, value in pairs(overrides):
        section, _, name = dotted.partition(".")
        if section != "verdict" or not name:
            raise InputError(
                f"there is no option {shown(f'--{dotted}')}; report takes --verdict.NAME, such as "
                "--verdict.margin 0.01"
            )
        entries[name] = value
    return entries
