"""``tombola runs``: list the runs, merge runs of one experiment, or pack one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tombola.commands.command import RUN_HELP, Command, print_json
from tombola.ground.errors import InputError

if TYPE_CHECKING:
    from tombola.folder.listing import Line

_PATH_COLUMNS = 44  # of the list; a longer path takes two lines


class Runs(Command):
    """List, merge or pack run folders."""

    order = 40
    help = "list the runs, merge runs of one experiment, or pack one"
    description = (
        "List the runs: recipe, state, replicates, and for each arm the lowest density whose "
        "tickets are on average as good as the dense network on validation data. Merge joins runs "
        "of one experiment that were done separately into the first of them. Pack copies a "
        "run into a new folder with recipe, records and predictions but without weights, which "
        "can be committed, reported and merged."
    )
    usage = (
        "tombola runs [--runs DIR] [--json]\n       tombola runs merge RUN RUN [RUN ...]\n"
        "       tombola runs pack RUN FOLDER"
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "action",
            nargs="?",
            choices=("merge", "pack"),
            metavar="merge|pack",
            help="merge run folders into the first of them, or pack one into a folder",
        )
        parser.add_argument("folders", nargs="*", type=Path, metavar="RUN", help=RUN_HELP)
        parser.add_argument(
            "--runs", type=Path, metavar="DIR", help="folder of the runs to list (default: runs)"
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help="print a list with one JSON object per run; with merge or pack, one JSON object",
        )

    def execute(self, options: argparse.Namespace, _: Sequence[str]) -> int:
        """Do what the action says; without one, list."""
        if options.action is not None and options.runs is not None:
            raise InputError(f"runs {options.action} takes no --runs; name each of its folders")
        if options.action == "pack":
            _pack(options.folders, options.json)
        elif options.action == "merge":
            _merge(options.folders, options.json)
        else:
            _list(options.runs or Path("runs"), options.json)
        return 0


def _pack(folders: Sequence[Path], as_json: bool) -> None:
    from tombola.folder.packing import pack
    from tombola.records.choosing import named_run

    if len(folders) != 2:
        raise InputError("runs pack needs a run folder and the folder to pack it into")
    packed = pack(named_run(folders[0]), folders[1]).path
    if as_json:
        print_json({"folder": str(packed)})
    else:
        print(packed)


def _merge(folders: Sequence[Path], as_json: bool) -> None:
    from tombola.commands.printing import print_outcome
    from tombola.experiments import reporting
    from tombola.folder.merging import merge
    from tombola.records.choosing import named_run

    if len(folders) < 2:
        raise InputError(
            "runs merge needs two or more run folders; the others are merged into the first"
        )
    # All names are looked up before the first run takes anything in.
    first, *others = map(named_run, folders)
    merged = merge(first, others)
    print_outcome(reporting.report(merged), merged.recipe.name, as_json)


def _list(parent: Path, as_json: bool) -> None:
    from tombola.commands.printing import print_table
    from tombola.folder import listing

    lines = listing.runs(parent)
    # An empty list is JSON as well: a program that reads it needs no special case.
    if as_json:
        from dataclasses import asdict

        print_json([asdict(line) for line in lines])
    elif lines:
        heads = ("run", "state", "replicates", "best tickets: arm, density %, file")
        print_table(heads, [_row(line) for line in lines], right=["replicates"])
    else:
        print(f"no runs in '{parent}'")


def _row(line: Line) -> list[str]:
    path = line.path
    if len(path) > _PATH_COLUMNS:
        # If the path is long, the name goes on its own line, unbroken.
        path = f"{Path(path).parent}/\n{line.folder}"
    tickets = []
    for arm, density in line.tickets.items():
        tickets.append(f"{arm} {100 * density:.2f}  {_ticket_inside(line, arm)}")
    return [path, line.state, line.counted, line.problem or "\n".join(tickets)]


def _ticket_inside(line: Line, arm: str) -> str:
    """Return the path of an arm's best ticket inside the run's folder; empty if there is none."""
    path = line.best[arm]["path"]
    return "" if path is None else Path(path).relative_to(line.path).as_posix()
