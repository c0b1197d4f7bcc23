"""``tombola transfer``: train tickets on other data sets and test them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import filterfalse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.commands.command import (
    Command,
    add_data_root,
    add_json,
    add_quiet,
    add_runs,
    add_workers,
    print_json,
)
from tombola.ground.errors import InputError

if TYPE_CHECKING:
    from tombola.experiments.transfer import Outcome


class Transfer(Command):
    """Train tickets on other data sets."""

    order = 60
    help = "train tickets on other data sets and test them"
    description = (
        "Train each ticket on each data set and test it once; tickets of several replicates are "
        "summarised and compared within each replicate. Settings that are not given come from the "
        "ticket; training and data options can be overridden: --training.epochs 3 --data.subset "
        "1000"
    )
    epilog = "exit codes: 0 all tickets were tested; 1 some could not be trained; 2 invalid input"
    takes_overrides = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "tickets",
            nargs="+",
            type=Path,
            metavar="TICKET",
            help="ticket files; or a run folder, or the name of one in runs/: the tickets of the "
            "best round of each arm that searches, by accuracy on validation data",
        )
        parser.add_argument(
            "--data",
            action="append",
            required=True,
            metavar="NAME",
            help="a data set; may be repeated",
        )
        parser.add_argument(
            "--model", metavar="NAME", help="the model, if the ticket names your own code"
        )
        parser.add_argument(
            "--dense", action="store_true", help="also train the unpruned network, for comparison"
        )
        parser.add_argument("--name", default="transfer", metavar="NAME", help="folder name prefix")
        add_runs(parser)
        add_data_root(parser)
        add_workers(parser)
        parser.add_argument(
            "--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:NUMBER"
        )
        add_json(parser, "a list of the results")
        add_quiet(parser)

    def execute(self, options: argparse.Namespace, overrides: Sequence[str]) -> int:
        """Train the tickets, print their accuracies, then what failed."""
        from tombola.experiments import transfer
        from tombola.experiments.progress import Display
        from tombola.records.choosing import best_tickets_of_run, ticket_files

        outcome = transfer.transfer(
            ticket_files(options.tickets, best_tickets_of_run),
            options.data,
            _checked_changes(overrides),
            model=options.model,
            dense=options.dense,
            name=options.name,
            runs=options.runs,
            data_root=options.data_root,
            workers=options.workers,
            device=options.device,
            display=Display(quiet=options.quiet),
        )
        if options.json:
            print_json(list(outcome.records))
        elif outcome.records:
            _print_accuracies(outcome)
        # Last, where a terminal shows it, and not among the results.
        for failure in outcome.failures:
            print(f"tombola: {failure}", file=sys.stderr)
        if not options.json:
            print("", outcome.files[-1] if outcome.files else outcome.folder, sep="\n")
        return 1 if outcome.failures else 0


def _checked_changes(overrides: Sequence[str]) -> dict[str, Any]:
    from tombola.schema.recipe import pairs

    # What a ticket is, it says itself; how it is trained, and on what, may be changed.
    changes = dict(pairs(overrides))
    for dotted in changes:
        if not dotted.startswith(("training.", "data.")):
            raise InputError(
                f"there is no option '--{dotted}'; transfer takes --training.NAME and --data.NAME, "
                "see --help"
            )
    return changes


def _print_accuracies(outcome: Outcome) -> None:
    from tombola.commands.printing import print_table
    from tombola.reports.grids import in_words
    from tombola.reports.matrix import Matrix, matrix_grid, sentences

    matrix = Matrix.of(outcome.records)
    grid = matrix_grid(matrix)
    print("test accuracy %\n")
    heads = [*grid.labels, *grid.groups[0][1]]
    # All columns hold numbers but those that name a ticket.
    print_table(heads, grid.rows, right=list(filterfalse(in_words, heads)))
    print(*("", *sentences(matrix)), sep="\n")
