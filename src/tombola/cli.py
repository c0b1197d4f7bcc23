"""Command line: arguments to calls, nothing else. What needs torch is imported by the command that needs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tombola import __version__
from tombola.errors import InputError, near

COMMANDS = ("run", "doctor", "ticket", "list")
CATALOGUES = ("data", "models", "scores")
# The options of the commands that take overrides of a recipe too: those with a value, those without.
OPTIONS = {
    "run": (("--workers", "--data-root", "--runs"), ("--quiet", "--help")),
    "doctor": (("--data-root",), ("--json", "--compile", "--help")),
}
RECIPE_ENTRIES = (
    "name",
    "data",
    "model",
    "training",
    "arms",
    "until",
    "prunable",
    "rewind",
    "replicates",
    "seed",
    "device",
)


class _Parser(argparse.ArgumentParser):
    """Errors as everywhere in tombola: one line, exit code 2."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    top = _Parser(prog="tombola", allow_abbrev=False, description="Find, prove, transfer and ship lottery tickets.")
    top.add_argument("--version", action="version", version=f"tombola {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    run = commands.add_parser(
        "run",
        allow_abbrev=False,
        help="run an experiment: arms x replicates, tickets, records and a report",
        description="Run the experiment of a recipe, or go on with one that was stopped. Every entry of the recipe can "
        "be overridden by its dotted name, with a YAML value: --until.rounds 2 --arms.colt-2.rate 0.2 --data mnist",
        epilog="exit codes: 0 all arms finished; 1 an arm failed; 2 the recipe or its data are wrong; 130 interrupted",
    )
    run.add_argument("recipe", metavar="RECIPE.yaml", help="the recipe")
    run.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one a core); change no bit")
    root = "data sets (default: TOMBOLA_DATA, else the cache)"
    run.add_argument("--data-root", type=Path, metavar="DIR", help=root)
    run.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs go (default: runs)")
    run.add_argument("--quiet", action="store_true", help="tell no progress, print the result alone")

    doctor = commands.add_parser(
        "doctor",
        allow_abbrev=False,
        help="say what this machine is, and which settings would train quicker on it",
        description="Say what this machine is, and measure what a recipe's training would gain from other settings. "
        "It advises and changes nothing. Entries of the recipe can be overridden as those of run.",
        epilog="exit codes: 0 it measured; 2 the recipe or its data are wrong; 130 interrupted",
    )
    doctor.add_argument("recipe", nargs="?", metavar="RECIPE.yaml", help="the recipe (default: two built-in cases)")
    doctor.add_argument("--data-root", type=Path, metavar="DIR", help=root)
    doctor.add_argument("--compile", action="store_true", help="try torch.compile too, which takes a minute")
    doctor.add_argument("--json", action="store_true", help="print one JSON object instead of tables")

    ticket = commands.add_parser("ticket", allow_abbrev=False, help="look at ticket files and export them",
                                 description="Look at ticket files and export them.")  # fmt: skip
    actions = ticket.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=_Parser)
    for action, what in (("info", "say what a ticket file holds"), ("verify", "check ticket files to the last bit")):
        one = actions.add_parser(action, allow_abbrev=False, help=what, description=what[0].upper() + what[1:] + ".")
        one.add_argument("files", nargs="+" if action == "verify" else 1, type=Path, metavar="FILE")
        printed = "a list with one JSON object for every file" if action == "verify" else "one JSON object"
        one.add_argument("--json", action="store_true", help=f"print {printed} instead of text")
    export = actions.add_parser(
        "export",
        allow_abbrev=False,
        help="write a ticket as a file for others",
        description="Write a ticket as a file for others, and print its path. ticket: one file with all of it, to be "
        "copied out of its run; state_dict: for model.load_state_dict, pruned weights are zero; torch_prune: for a "
        "model that torch.nn.utils.prune has prepared.",
    )
    export.add_argument("file", type=Path, metavar="FILE", help="the ticket")
    export.add_argument("--to", default="ticket", metavar="EXPORT", help="ticket, state_dict or torch_prune, or your "
                        "own package.module:function (default: ticket)")  # fmt: skip
    export.add_argument("--out", type=Path, metavar="PATH", help="file to write (default: beside FILE)")
    export.add_argument("--force", action="store_true", help="replace a file that is there")

    listing = commands.add_parser("list", allow_abbrev=False, help="list what a recipe can name",
                                  description="List what a recipe can name.")  # fmt: skip
    listing.add_argument("catalogue", nargs="?", choices=CATALOGUES, metavar="CATALOGUE", help=", ".join(CATALOGUES))
    return top


def _apart(command: str, given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell the options of a command from overrides of the recipe, wherever they stand."""
    own: list[str] = []
    overrides: list[str] = []
    rest = list(given)
    valued, flags = OPTIONS[command]
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        if not word.startswith("--") or name in valued or name in flags:
            own.append(word)
            if name in valued and not equals:
                own += rest[:1]
                del rest[:1]
            continue
        known = (*valued, *flags)
        if "." not in name and near(name, known) and name[2:] not in RECIPE_ENTRIES:
            raise InputError(f"there is no option '{name}'.{near(name, known)}")
        overrides.append(word)
        if not equals:
            overrides += rest[:1]
            del rest[:1]
    return own, overrides


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        top = parser()
        if given and not given[0].startswith("-") and given[0] not in COMMANDS:
            raise InputError(f"there is no command '{given[0]}'; there are: {', '.join(COMMANDS)}."
                             f"{near(given[0], COMMANDS)}")  # fmt: skip
        own, overrides = _apart(given[0], given) if given and given[0] in OPTIONS else (given, [])
        options = top.parse_args(own)
        if options.command is None:
            top.print_help()
            return 0
        commands = {"run": _run, "doctor": _doctor, "ticket": _ticket, "list": _list}
        return commands[options.command](options, overrides)
    except InputError as error:
        print(f"tombola: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        further = "; the same command goes on from here" if given[:1] == ["run"] else ""
        print(f"tombola: stopped{further}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _run(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    from rich.console import Console

    from tombola.experiment import run
    from tombola.progress import Display
    from tombola.recipe import read
    from tombola.reports.table import terminal

    recipe = read(options.recipe, overrides)
    outcome = run(
        recipe,
        runs=options.runs,
        data_root=options.data_root,
        workers=options.workers,
        display=Display(quiet=options.quiet),
    )
    if outcome.records:
        # Without a terminal there is no width to keep to; a hundred columns hold three arms side by side.
        terminal(recipe.name, outcome.records, outcome.notes, Console(width=None if sys.stdout.isatty() else 100))
    for note in outcome.notes if not outcome.records else []:
        print(note)
    print(f"results  {outcome.folder}")
    for file in outcome.files:
        print(f"         {file}")
    return 0 if outcome.complete else 1


def _doctor(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    if overrides and options.recipe is None:
        raise InputError(f"{overrides[0]} is no option of doctor, and without RECIPE.yaml there is nothing to override")
    import json

    from rich.console import Console

    from tombola import doctor
    from tombola.recipe import read

    recipe = None if options.recipe is None else read(options.recipe, overrides)
    with doctor.telling() as tell:
        found = doctor.examine(recipe, data_root=options.data_root, compiled=options.compile, tell=tell)
    if options.json:
        print(json.dumps(doctor.plain(found), indent=2))
    else:
        doctor.terminal(found, Console(width=None if sys.stdout.isatty() else 100))
    return 0


def _ticket(options: argparse.Namespace, _: Sequence[str]) -> int:
    if options.action == "export":
        from tombola.exports.writing import export

        print(export(options.file, options.to, options.out, force=options.force))
        return 0

    import json

    from tombola import ticket_format

    code, said = 0, []
    rewind_points: dict[Path, ticket_format.RewindPoint] = {}  # the tickets of a run share theirs
    for path in options.files:
        if len(rewind_points) > 8:  # of many runs they would fill the memory
            rewind_points.clear()
        try:
            ticket = ticket_format.verify(path, rewind_points)
        except InputError as error:  # the other files are looked at all the same
            print(f"tombola: {error}", file=sys.stderr)
            said.append({"path": str(path), "verified": False, "error": str(error)})
            code = 2
            continue
        said.append({**ticket_format.plain(ticket), "verified": True})
        if not options.json:
            info = options.action == "info"
            print(ticket_format.describe(ticket) if info else f"{path}: verified, {ticket.digest}")
    if options.json and options.action == "verify":
        print(json.dumps(said, indent=2))
    elif options.json and not code:
        print(json.dumps(said[0], indent=2))
    return code


def _list(options: argparse.Namespace, _: Sequence[str]) -> int:
    from tombola.catalogue import entries

    for name in [options.catalogue] if options.catalogue else CATALOGUES:
        print(f"{name}: {', '.join(entries(f'tombola.{name}'))}")
    return 0
