"""``tombola ticket``: inspect, verify and export ticket files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.commands.command import Command, Parser, add_json, print_json
from tombola.ground import waiting
from tombola.ground.errors import InputError

if TYPE_CHECKING:
    from tombola.ticket_format import RewindPoint

_MOST_REWIND_POINTS = 8  # held at a time; those of many runs would fill the memory


class Ticket(Command):
    """Inspect, verify and export ticket files."""

    order = 80
    help = "inspect, verify and export ticket files"
    description = "Inspect, verify and export ticket files."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(
            dest="action", metavar="ACTION", required=True, parser_class=Parser
        )
        info = actions.add_parser(
            "info",
            help="describe a ticket file",
            description="Describe a ticket file.",
        )
        info.add_argument(
            "files",
            nargs=1,
            type=Path,
            metavar="FILE",
            help="a ticket file, or a run folder or the name of one in runs/: its best ticket, by "
            "its metric on validation data",
        )
        add_json(info)
        verify = actions.add_parser(
            "verify",
            help="check ticket files bit by bit",
            description="Check ticket files bit by bit.",
            epilog="exit codes: 0 all tickets are intact; 1 a ticket is damaged; 2 a file cannot "
            "be read",
        )
        verify.add_argument(
            "files",
            nargs="+",
            type=Path,
            metavar="FILE",
            help="a ticket file, or a run folder or the name of one in runs/: all its tickets",
        )
        add_json(verify, "a list with one JSON object per file")
        _add_export_arguments(
            actions.add_parser(
                "export",
                help="write a ticket as a file for other programs",
                description="Write a ticket as a file for other programs, and print its path. "
                "ticket: one self-contained file; state_dict: for model.load_state_dict, with "
                "pruned weights at zero; torch_prune: for a model that torch.nn.utils.prune has "
                "prepared. A ticket's weights are those that its training starts from; with "
                "--trained they are the trained weights, which the run has measured. A card "
                "beside the file, NAME.md, has the lines that load it.",
            )
        )

    def execute(self, options: argparse.Namespace, _: Sequence[str]) -> int:
        """Do what the action says."""
        if options.action == "export":
            _export(options)
            return 0
        return _inspect(options)


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="the ticket; or a run folder, or the name of one in runs/: its best ticket, by "
        "its metric on validation data",
    )
    parser.add_argument(
        "--to",
        metavar="EXPORT",
        help="ticket, state_dict or torch_prune, or your own package.module:function (default: "
        "ticket; with --trained, state_dict)",
    )
    parser.add_argument(
        "--trained",
        action="store_true",
        help="export the weights after training, if the run kept them",
    )
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="file to write (default: beside FILE)"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    add_json(parser)


def _export(options: argparse.Namespace) -> None:
    from tombola.exports.writing import card_path, export
    from tombola.records.choosing import best_ticket_of_run, ticket_files

    [file] = ticket_files([options.file], best_ticket_of_run)
    form = options.to or ("state_dict" if options.trained else "ticket")
    with waiting.told(f"exporting {_with_size(file)}"):
        written = export(file, form, options.out, trained=options.trained, force=options.force)
    if options.json:
        print_json({"path": str(written), "card": str(card_path(written))})
    else:
        print(written)


def _inspect(options: argparse.Namespace) -> int:
    """Verify every ticket, print what each holds or that it is intact, and return the exit code."""
    from tombola import ticket_format
    from tombola.records import savings
    from tombola.records.choosing import best_ticket_of_run, ticket_files, tickets_of_run

    verifying = options.action == "verify"
    code = 0
    printed: list[dict[str, Any]] = []
    rewind_points: dict[Path, RewindPoint] = {}  # the tickets of a run share them
    files = ticket_files(options.files, tickets_of_run if verifying else best_ticket_of_run)
    for path in files:
        if len(rewind_points) > _MOST_REWIND_POINTS:
            rewind_points.clear()
        try:
            with waiting.told(f"checking {_with_size(path)}"):
                ticket = ticket_format.verify(path, rewind_points)
        except InputError as error:  # the other files are still checked
            print(f"tombola: {error}", file=sys.stderr)
            printed.append({"path": str(path), "verified": False, "error": str(error)})
            # A ticket that is damaged is a finding; a file that is not there is wrong input.
            damaged = verifying and path.is_file() and os.access(path, os.R_OK)
            code = max(code, 1 if damaged else 2)
            continue
        saved = savings.of_ticket(ticket)
        printed.append({**ticket_format.to_dict(ticket), "saves": saved, "verified": True})
        if options.json:
            continue
        if verifying:
            print(f"{path}: verified, {ticket.digest}")
        else:
            print(ticket_format.describe(ticket, [("masks save", savings.in_words(saved))]))
    if options.json and verifying:
        print_json(printed)
    elif options.json and not code:
        print_json(printed[0])
    return code


def _with_size(path: Path) -> str:
    """Return a path, with the size of its file if it is large."""
    size = path.stat().st_size if path.is_file() else 0
    return f"{path} ({size / 1e9:.1f} GB)" if size >= 1e8 else str(path)
