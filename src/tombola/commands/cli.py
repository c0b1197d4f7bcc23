"""Command line: arguments to calls, nothing else. What needs torch is imported by the command
that needs it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias, cast

from tombola import __version__
from tombola.commands.completion import SHELLS, script
from tombola.ground.contracts import CONTRACTS
from tombola.ground.errors import DiskError, InputError, near, one_line, shown

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod

    from tombola.experiments.experiment import Outcome
    from tombola.folder.overview import Line

COMMANDS = (
    "demo",
    "init",
    "run",
    "runs",
    "report",
    "transfer",
    "doctor",
    "ticket",
    "list",
    "completion",
)
CATALOGUES = (
    "data",
    "models",
    "tasks",
    "scores",
    "kernels",
    "exports",
    "executors",
    "arms",
    "recipes",
)
_WIDE = 44  # columns for the path of a run in a list
_ROOT = "data sets (default: TOMBOLA_DATA, else the cache)"
_PARENT = "where runs go (default: runs)"
_WORKERS = "worker processes (default: one a core); change no bit"
DEMO = "digits"  # the recipe that tombola demo runs
# The options of the commands that take overrides of a recipe too: those with a value, those
# without.
OPTIONS = {
    "run": (
        (
            *("--workers", "--executor", "--address", "--data-root", "--runs"),
            *("--scale", "--variant", "--only-replicates"),
        ),
        ("--quiet", "--dry-run", "--print_config", "--json", "--help"),
    ),
    "transfer": (
        ("--workers", "--data-root", "--runs", "--data", "--model", "--name", "--device"),
        ("--dense", "--quiet", "--json", "--help"),
    ),
    "doctor": (("--data-root",), ("--json", "--compile", "--help")),
    "report": (("--out",), ("--json", "--help")),
}
# Entries of a recipe that an option of a command might be mistaken for.
RECIPE_ENTRIES = (
    *(
        "name",
        "task",
        "data",
        "model",
        "training",
        "arms",
        "until",
        "densities",
        "evaluate_at",
        "verdict",
    ),
    *("profile", "prunable", "rewind", "replicates", "seed", "device", "keep"),
)


_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Parser(argparse.ArgumentParser):
    """Errors as everywhere in tombola: one line, exit code 2."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{message} (see {self.prog} --help)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise InputError(
                f"there is no {action.metavar or action.dest} {shown(value)}; there are: "
                f"{', '.join(known)}.{near(str(value), known)} (see {self.prog} --help)"
            )


def _chosen(parser: argparse.ArgumentParser, given: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command that arguments name, and of the command in it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word in given:
                if word in action.choices:
                    return _chosen(action.choices[word], given)
    return parser


class _Results:
    """Standard output, which may be a pipe that is not read to its end, or a file on a full disk.

    Where nobody reads on (``tombola runs | head -1``), what more is printed is dropped and the
    command goes on to its end: its exit code says what was done, not what was read. What cannot be
    written is a `DiskError`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._told():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._told():
            self._stream.flush()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Python writes what is still in the buffer when it ends, and would fail once more.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if not isinstance(error, BrokenPipeError):
                raise DiskError(
                    f"the results cannot be written: {error.strerror or error}"
                ) from error


def parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    top = _Parser(
        prog="tombola",
        allow_abbrev=False,
        description="Find, prove, transfer and ship lottery tickets.",
    )
    top.add_argument("--version", action="version", version=f"tombola {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    # In the order in which the help lists them.
    _add_demo(commands)
    _add_init(commands)
    _add_run(commands)
    _add_runs(commands)
    _add_report(commands)
    _add_transfer(commands)
    _add_doctor(commands)
    _add_ticket(commands)
    _add_list(commands)
    _add_completion(commands)
    return top


def _add_demo(commands: _Commands) -> None:
    demo = commands.add_parser(
        "demo",
        allow_abbrev=False,
        help="find winning tickets on scikit-learn's digits, in two to three minutes on two cores",
        description=f"Run the recipe {DEMO}: tickets of LTH and COLT-2 on scikit-learn's digits, "
        "which need no download, each against what it has to beat, in two to three minutes on two "
        "cores.",
    )
    demo.add_argument("--workers", type=int, metavar="N", help=_WORKERS)
    demo.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help=_PARENT)
    demo.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    demo.add_argument(
        "--quiet", action="store_true", help="tell no progress, print the result alone"
    )
    demo.set_defaults(
        recipe=DEMO,
        data_root=None,
        scale=None,
        variant=None,
        only_replicates=None,
        dry_run=False,
        print_config=False,
        executor=None,
        address=None,
    )


def _add_init(commands: _Commands) -> None:
    init = commands.add_parser(
        "init",
        allow_abbrev=False,
        help="write a recipe for a data set and a model, with what it costs here",
        description="Write a commented recipe for a data set and a model, with arms that fit them "
        "and the cost measured on this machine. Either may be your own function, "
        "package.module:function, or a mapping with options: --data '{name: cifar10, subset: "
        "5000}'",
        epilog="exit codes: 0 the recipe is written; 2 it cannot be",
    )
    init.add_argument(
        "--data", default="digits", metavar="NAME", help="the data set (default: digits)"
    )
    init.add_argument("--model", default="mlp", metavar="NAME", help="the model (default: mlp)")
    init.add_argument(
        "--out", type=Path, metavar="FILE", help="where it goes (default: DATA-MODEL.yaml)"
    )
    init.add_argument("--force", action="store_true", help="replace a file that is there")
    init.add_argument("--data-root", type=Path, metavar="DIR", help=_ROOT)
    init.add_argument(
        "--workers", type=int, metavar="N", help="that the cost is told for (default: one a core)"
    )


def _add_run(commands: _Commands) -> None:
    run = commands.add_parser(
        "run",
        allow_abbrev=False,
        help="run an experiment: arms x replicates, tickets, records and a report",
        description="Run the experiment of a recipe, or go on with one that was stopped. Every "
        "entry of the recipe can be overridden by its dotted name, with a YAML value: "
        "--until.rounds 2 --arms.colt-2.rate 0.2 --data mnist",
        epilog="exit codes: 0 all arms finished; 1 an arm failed; 2 the recipe or its data are "
        "wrong; 130 interrupted",
    )
    run.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help="a file, or the name of a recipe that ships (tombola "
        "list recipes); a file of that name comes first",
    )
    run.add_argument("--workers", type=int, metavar="N", help=_WORKERS)
    run.add_argument(
        "--executor",
        metavar="NAME",
        help="where they are (tombola list executors); changes no bit "
        "(default: processes of this machine, or with one worker a thread)",
    )
    run.add_argument("--address", metavar="A", help="of the executor's cluster")
    run.add_argument("--data-root", type=Path, metavar="DIR", help=_ROOT)
    run.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help=_PARENT)
    run.add_argument(
        "--scale", metavar="NAME", help="one of the recipe's own scales, such as small"
    )
    run.add_argument(
        "--variant",
        metavar="NAME[,NAME]",
        help="of the recipe's variants these (default: all of them)",
    )
    run.add_argument(
        "--only-replicates", metavar="K", help="run these alone, such as 0-2 or 0,3; see runs merge"
    )
    run.add_argument(
        "--dry-run", action="store_true", help="say what would be done and about how long it takes"
    )
    run.add_argument(
        "--print_config",
        action="store_true",
        help="print the recipe with every default, and do nothing",
    )
    run.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    run.add_argument(
        "--quiet", action="store_true", help="tell no progress, print the result alone"
    )


def _add_runs(commands: _Commands) -> None:
    runs = commands.add_parser(
        "runs",
        allow_abbrev=False,
        help="list the runs, join runs of one experiment, or pack one",
        description="List the runs: recipe, state, replicates, and for each arm the lowest density "
        "whose tickets are on average as accurate as the dense network, on validation data. Or "
        "join runs of one experiment that were done apart: the first folder takes the others in. "
        "Or pack a run into a new folder: recipe, records and predictions, which can be committed, "
        "reported and merged, without the weights.",
        usage="tombola runs [--runs DIR] [--json]\n       tombola runs merge RUN RUN [RUN ...]\n"
        "       tombola runs pack RUN FOLDER",
    )
    runs.add_argument(
        "action",
        nargs="?",
        choices=("merge", "pack"),
        metavar="merge|pack",
        help="join run folders into the first of them, or pack one into a folder",
    )
    runs.add_argument("folders", nargs="*", type=Path, metavar="RUN", help="run folders")
    runs.add_argument(
        "--runs", type=Path, metavar="DIR", help="where the runs to list are (default: runs)"
    )
    runs.add_argument(
        "--json",
        action="store_true",
        help="print a list with one JSON object for every run; of merge and pack one JSON object",
    )


def _add_report(commands: _Commands) -> None:
    report = commands.add_parser(
        "report",
        allow_abbrev=False,
        help="write the report of a run again and print it, or of several runs together",
        description="Write tables, figures and page of a run folder again, and print the tables. "
        "Of several runs, such as the variants of a recipe, write one page that shows them beside "
        "each other.",
    )
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    report.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where the page of several runs goes (default: beside the first)",
    )
    report.add_argument(
        "--json", action="store_true", help="print one JSON object instead of tables"
    )
    report.epilog = (
        "--verdict.margin 0.01, and every other entry of verdict, judges again by that; "
        "the run stays as it is"
    )


def _add_transfer(commands: _Commands) -> None:
    transfer = commands.add_parser(
        "transfer",
        allow_abbrev=False,
        help="train tickets on other data sets and test them",
        description="Train each ticket on each data set and test it once; tickets of several "
        "replicates are summed up and compared within them. What is not said is taken from the "
        "ticket; training and data options can be overridden: --training.epochs 3 --data.subset "
        "1000",
        epilog="exit codes: 0 all tickets were tested; 1 some could not be trained; 2 something "
        "given is wrong",
    )
    transfer.add_argument(
        "tickets",
        nargs="+",
        type=Path,
        metavar="TICKET",
        help="ticket files; or a run folder or "
        "the name of one in runs/: of each arm that searches the tickets of its best round, by "
        "validation accuracy",
    )
    transfer.add_argument(
        "--data", action="append", required=True, metavar="NAME", help="a data set; may be repeated"
    )
    transfer.add_argument(
        "--model", metavar="NAME", help="the model, where the ticket names code of your own"
    )
    transfer.add_argument(
        "--dense", action="store_true", help="train the unpruned network too, to compare with"
    )
    transfer.add_argument(
        "--name", default="transfer", metavar="NAME", help="begins the name of the folder"
    )
    transfer.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where it goes (default: runs/)",
    )
    transfer.add_argument("--data-root", type=Path, metavar="DIR", help=_ROOT)
    transfer.add_argument(
        "--workers", type=int, metavar="N", help="worker processes (default: one a core)"
    )
    transfer.add_argument(
        "--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:NUMBER"
    )
    transfer.add_argument(
        "--json", action="store_true", help="print a list of the results instead of a table"
    )
    transfer.add_argument(
        "--quiet", action="store_true", help="tell no progress, print the result alone"
    )


def _add_doctor(commands: _Commands) -> None:
    doctor = commands.add_parser(
        "doctor",
        allow_abbrev=False,
        help="say what this machine is, and which settings would train quicker on it",
        description="Say what this machine is, and measure what a recipe's training would gain "
        "from other settings. It advises and changes nothing. Entries of the recipe can be "
        "overridden as those of run.",
        epilog="exit codes: 0 it measured; 2 the recipe or its data are wrong; 130 interrupted",
    )
    doctor.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help="a file, or the name of a recipe that ships (default: two built-in cases)",
    )
    doctor.add_argument("--data-root", type=Path, metavar="DIR", help=_ROOT)
    doctor.add_argument(
        "--compile", action="store_true", help="try torch.compile too, which takes a minute"
    )
    doctor.add_argument(
        "--json", action="store_true", help="print one JSON object instead of tables"
    )


def _add_ticket(commands: _Commands) -> None:
    ticket = commands.add_parser(
        "ticket",
        allow_abbrev=False,
        help="look at ticket files and export them",
        description="Look at ticket files and export them.",
    )
    actions = ticket.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=_Parser
    )
    for action, what in (
        ("info", "say what a ticket file holds"),
        ("verify", "check ticket files to the last bit"),
    ):
        one = actions.add_parser(
            action, allow_abbrev=False, help=what, description=what[0].upper() + what[1:] + "."
        )
        if action == "verify":
            one.epilog = (
                "exit codes: 0 all tickets are whole; 1 one of them is not; 2 a file cannot be read"
            )
        stands = (
            "all its tickets" if action == "verify" else "its best ticket, by validation accuracy"
        )
        one.add_argument(
            "files",
            nargs="+" if action == "verify" else 1,
            type=Path,
            metavar="FILE",
            help=f"a ticket file, or a run folder or the name of one in runs/: {stands}",
        )
        printed = (
            "a list with one JSON object for every file"
            if action == "verify"
            else "one JSON object"
        )
        one.add_argument("--json", action="store_true", help=f"print {printed} instead of text")
    _add_export(actions)


def _add_export(actions: _Commands) -> None:
    export = actions.add_parser(
        "export",
        allow_abbrev=False,
        help="write a ticket as a file for others",
        description="Write a ticket as a file for others, and print its path. ticket: one file "
        "with all of it, to be copied out of its run; state_dict: for model.load_state_dict, "
        "pruned weights are zero; torch_prune: for a model that torch.nn.utils.prune has prepared. "
        "A ticket's weights are those that its training starts from; with --trained they are those "
        "that it ended with, of which the run reports the accuracy. A card beside the file, "
        "NAME.md, has the lines that load it.",
    )
    export.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="the ticket; or a run folder or the name of one in "
        "runs/, of which it is the best ticket, by validation accuracy",
    )
    export.add_argument(
        "--to",
        metavar="EXPORT",
        help="ticket, state_dict or torch_prune, or your own "
        "package.module:function (default: ticket, with --trained state_dict)",
    )
    export.add_argument(
        "--trained", action="store_true", help="the weights after training, as the run keeps them"
    )
    export.add_argument(
        "--out", type=Path, metavar="PATH", help="file to write (default: beside FILE)"
    )
    export.add_argument("--force", action="store_true", help="replace a file that is there")
    export.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _add_list(commands: _Commands) -> None:
    listing = commands.add_parser(
        "list",
        allow_abbrev=False,
        help="list what a recipe can name",
        description="List what a recipe can name.",
    )
    listing.add_argument(
        "catalogue", nargs="?", choices=CATALOGUES, metavar="CATALOGUE", help=", ".join(CATALOGUES)
    )
    listing.add_argument("--json", action="store_true", help="print one JSON object")


def _add_completion(commands: _Commands) -> None:
    completion = commands.add_parser(
        "completion",
        allow_abbrev=False,
        help="print what lets a shell complete commands, options and names",
        description='Print a script for a shell: eval "$(tombola completion bash)" in ~/.bashrc, the same with zsh in '
        "~/.zshrc, or tombola completion fish > ~/.config/fish/completions/tombola.fish",
    )
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


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
            raise InputError(f"there is no option {shown(name)}.{near(name, known)}")
        overrides.append(word)
        if not equals:
            overrides += rest[:1]
            del rest[:1]
    return own, overrides


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # there is none where it is closed: >&-
    results = cast(TextIO, _Results(sys.stdout or io.StringIO()))
    try:
        with contextlib.redirect_stdout(results), warnings.catch_warnings():
            warnings.showwarning = _warn
            try:
                return _command(given)
            finally:
                results.flush()
    except InputError as error:
        print(f"tombola: {one_line(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:  # no file of the user's: a bug, which keeps its traceback
            raise
        told = one_line(f"{shown(str(error.filename))}: {error.strerror or error}")
        print(f"tombola: {told}", file=sys.stderr)
        return 2
    except MemoryError:
        print("tombola: this takes more memory than there is", file=sys.stderr)
        return 2


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 - as the library calls it
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Tell a warning in one line, such as one of the user's own code."""
    told = one_line(f"{Path(filename).name}, line {lineno}: {category.__name__}: {message}")
    print(f"tombola: {told}", file=sys.stderr)


def _command(given: Sequence[str]) -> int:
    """Do what is asked for."""
    top = parser()
    if given and not given[0].startswith("-") and given[0] not in COMMANDS:
        raise InputError(
            f"there is no command {shown(given[0])}; there are: {', '.join(COMMANDS)}."
            f"{near(given[0], COMMANDS)}"
        )
    own, overrides = _apart(given[0], given) if given and given[0] in OPTIONS else (given, [])
    options, rest = top.parse_known_args(own)
    if rest:
        at = _chosen(top, own)
        flags = [flag for action in at._actions for flag in action.option_strings]
        raise InputError(
            f"{at.prog} does not take {shown(rest[0])}.{near(rest[0].partition('=')[0], flags)} "
            f"(see {at.prog} --help)"
        )
    if options.command is None:
        top.print_help()
        return 0
    commands = {
        "demo": _run,
        "init": _init,
        "run": _run,
        "runs": _runs,
        "report": _report,
        "transfer": _transfer,
        "doctor": _doctor,
        "ticket": _ticket,
        "list": _list,
        "completion": _completion,
    }
    return commands[options.command](options, overrides)


def _init(options: argparse.Namespace, _: Sequence[str]) -> int:
    from tombola.commands.drafts import draft
    from tombola.ground.files import write_whole
    from tombola.schema.recipe import pairs

    given = dict(pairs([f"--data={options.data}", f"--model={options.model}"]))
    if options.out is not None:
        _check_free(options.out, options.force)  # before data is loaded for nothing
    made = draft(
        given["data"], given["model"], data_root=options.data_root, workers=options.workers
    )
    path = options.out or Path(f"{made.name}.yaml")
    _check_free(path, options.force)
    write_whole(path, made.text)
    print(path, made.cost, f"tombola run {path}", sep="\n")
    return 0


def _check_free(path: Path, force: bool) -> None:
    """Refuse to write over a file, unless that is meant."""
    if path.exists() and not force:
        raise InputError(
            f"'{path}' is there already; --force replaces it, --out names another file"
        )


def _run(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    if options.recipe is None:
        raise InputError(
            "run needs a recipe, a file or the name of one that ships: tombola run digits (tombola "
            "list recipes names them all, tombola init writes one)"
        )
    from tombola.schema.recipe import read, variants

    known = variants(options.recipe, scale=options.scale)
    chosen = options.variant.split(",") if options.variant else known
    recipes = [
        read(options.recipe, overrides, scale=options.scale, variant=name)
        for name in chosen or [None]
    ]
    if options.print_config:
        import json

        import yaml

        plain = [recipe.plain() for recipe in recipes]
        if options.json:
            print(json.dumps(plain if chosen else plain[0], indent=2))
        else:
            print(yaml.safe_dump_all(plain, sort_keys=False).rstrip("\n"))
        return 0
    if (
        not options.dry_run
        and (options.workers or 0) > 1
        and options.executor in (None, "processes")
    ):
        from tombola.executors import forking

        forking.begin()  # it imports torch while this process does
    from tombola.experiments import experiment
    from tombola.experiments.progress import Display

    replicates = _numbers(options.only_replicates)
    if options.dry_run:
        outlooks = []
        for recipe in recipes:
            plans = experiment.plan(recipe, options.data_root)
            ahead = experiment.foresee(
                plans, runs=options.runs, workers=options.workers, replicates=replicates
            )
            outlooks.append(experiment.outlook(plans, ahead, options.runs))
        _print_plans(outlooks, options.json)
        return 0
    outcomes = [
        experiment.run(
            recipe,
            runs=options.runs,
            data_root=options.data_root,
            workers=options.workers,
            executor=options.executor,
            address=options.address,
            replicates=replicates,
            display=Display(quiet=options.quiet),
        )
        for recipe in recipes
    ]
    if len(outcomes) > 1:
        _print_together([outcome.folder for outcome in outcomes], None, options.json)
    else:
        _print_outcome(outcomes[0], recipes[0].name, options.json)
    return 0 if all(outcome.complete for outcome in outcomes) else 1


def _verdict_changes(overrides: Sequence[str]) -> dict[str, Any]:
    """Return what a report is to judge by other than its recipe says, by the names in verdict."""
    from tombola.schema.recipe import pairs

    changes = dict(pairs(overrides))
    for dotted in changes:
        if not dotted.startswith("verdict."):
            raise InputError(
                f"there is no option {shown(f'--{dotted}')}; report takes --verdict.NAME, such as "
                "--verdict.margin 0.01"
            )
    return {dotted.removeprefix("verdict."): value for dotted, value in changes.items()}


def _print_together(
    folders: Sequence[Path],
    out: Path | None,
    as_json: bool,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Report several runs beside each other, and print what the page says first."""
    from tombola.commands import studies
    from tombola.folder.runs import Run

    runs = [Run(folder) for folder in folders]
    for run in runs:
        run.judge_by(changes or {})
    files = studies.report(runs, out)
    if as_json:
        import json

        print(
            json.dumps(
                {"folders": [str(folder) for folder in folders], "files": [str(f) for f in files]},
                indent=2,
            )
        )
        return
    from rich.markdown import Markdown

    _console().print(Markdown(files[0].read_text(encoding="utf-8")))
    print(files[-1])


def _numbers(text: str | None) -> list[int] | None:
    """Read numbers as people write them: 0-2,4."""
    if text is None:
        return None
    found: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(
                f"--only-replicates is {shown(text)}; it is numbers and ranges, such as 0-2 or 0,3"
            )
        # they are numbered from 0, and a recipe has at most 1,000
        if len(first) > 3 or len(last) > 3:
            raise InputError(
                f"--only-replicates is {shown(text)}; so many replicates no recipe has"
            )
        found |= dict.fromkeys(range(int(first), int(last if dash else first) + 1))
    return list(found)


def _print_plans(outlooks: Sequence[dict[str, Any]], as_json: bool) -> None:
    import json

    if as_json:
        print(json.dumps(outlooks if len(outlooks) > 1 else outlooks[0], indent=2))
        return
    for index, outlook in enumerate(outlooks):
        if index:
            print()
        _print_plan(outlook)


def _print_plan(outlook: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    said = Table.grid(padding=(0, 3))
    for key, value in outlook.items():
        if key != "arms":
            said.add_row(key, Text(value, overflow="fold"))
    _console(120).print(said, "")
    rows = []
    for arm in outlook["arms"]:
        last = "" if arm["density"] is None else f"{100 * arm['density']:.2f}"
        rows.append(
            [arm["name"], arm["method"], arm["follows"] or "", str(arm["rounds"] or ""), last]
        )
    _print_table(
        {
            "arm": "left",
            "method": "left",
            "follows": "left",
            "rounds": "right",
            "last density %": "right",
        },
        rows,
    )


def _console(width: int = 100) -> Console:
    """Make the console for results; without a terminal there is no width to keep to, so it has
    that many columns.
    """
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width)


def _print_table(heads: Mapping[str, JustifyMethod], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of plain texts under heads, each with the side it stands on."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head, side in heads.items():
        table.add_column(head, justify=side, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    _console(120).print(table)


def _print_outcome(outcome: Outcome, name: str, as_json: bool) -> None:
    from tombola.reports.decisions import answer, sentences

    if as_json:
        import json

        files = [str(file) for file in outcome.files]
        found = {
            "folder": str(outcome.folder),
            "complete": outcome.complete,
            "notes": outcome.notes,
            "files": files,
        }
        found["answer"] = sentences(outcome.records, outcome.asked)
        print(json.dumps(found | {"records": list(outcome.records)}, indent=2))
        return
    from rich.text import Text

    from tombola.reports.table import terminal

    if outcome.records:
        terminal(name, outcome.records, outcome.notes, _console(), outcome.asked)
    for note in outcome.notes if not outcome.records else []:
        print(note)
    # What is printed last is what one reads first: the answer, and the one file that has all the
    # rest.
    for of_arm in answer(outcome.records, outcome.asked)[:1]:
        _console().print("", Text(of_arm[0]), sep="\n")
    print(outcome.files[-1] if outcome.files else outcome.folder)


def _runs(options: argparse.Namespace, _: Sequence[str]) -> int:
    import json

    from tombola.experiments import experiment
    from tombola.folder import overview

    if options.action is not None and options.runs is not None:
        raise InputError(f"runs {options.action} takes no --runs; its folders are named one by one")
    if options.action == "pack":
        from tombola.folder.packing import pack

        if len(options.folders) != 2:
            raise InputError("runs pack needs a run folder and the folder to pack it into")
        packed = pack(*options.folders).path
        print(json.dumps({"folder": str(packed)}, indent=2) if options.json else packed)
        return 0
    if options.action == "merge":
        from tombola.folder.merging import merge

        if len(options.folders) < 2:
            raise InputError(
                "runs merge needs two run folders or more; the first one takes the others in"
            )
        merged = merge(options.folders[0], options.folders[1:])
        _print_outcome(experiment.report(merged), merged.recipe.name, options.json)
        return 0
    parent = options.runs or Path("runs")
    lines = overview.runs(parent)
    if options.json:
        from dataclasses import asdict

        print(json.dumps([asdict(line) for line in lines], indent=2))
        return 0
    rows = []
    for line in lines:
        tickets = "\n".join(
            f"{arm} {100 * density:.2f}  {_below(line, arm)}"
            for arm, density in line.tickets.items()
        )
        # The name whole, on a line of its own where the way there is long.
        where = (
            line.path if len(line.path) <= _WIDE else f"{Path(line.path).parent}/\n{line.folder}"
        )
        rows.append([where, line.state, line.counted, line.problem or tickets])
    if rows:
        _print_table(
            {
                "run": "left",
                "state": "left",
                "replicates": "right",
                "best tickets: arm, density %, file": "left",
            },
            rows,
        )
    else:
        print(f"no runs in '{parent}'")
    return 0


def _below(line: Line, arm: str) -> str:
    """Return where the best ticket of an arm lies, seen from its run's folder; nothing where it
    does not.
    """
    path = line.best[arm]["path"]
    return "" if path is None else Path(path).relative_to(line.path).as_posix()


def _completion(options: argparse.Namespace, _: Sequence[str]) -> int:
    import dataclasses

    from tombola import recipes
    from tombola.ground.catalogue import entries
    from tombola.ground.settings import Training
    from tombola.schema.recipe import Data, Decision, Model, Until

    sections = {
        "training": Training,
        "data": Data,
        "model": Model,
        "until": Until,
        "verdict": Decision,
    }
    entries_of = {
        name: [
            f"--{name}.{field.name}"
            for field in dataclasses.fields(kind)
            if field.name != "options"
        ]
        for name, kind in sections.items()
    }
    every = [f"--{name}" for name in RECIPE_ENTRIES] + [
        one for of in entries_of.values() for one in of
    ]
    values = {
        "--task": entries("tombola.tasks"),
        "--data": entries("tombola.data"),
        "--model": entries("tombola.models"),
        "--to": entries("tombola.exports"),
        "--training.step": entries("tombola.kernels"),
        "--executor": entries("tombola.executors"),
        "--device": ["auto", "cpu", "cuda"],
    }
    more = {
        "run": [*recipes.names(), *every],
        "doctor": [*recipes.names(), *every],
        "transfer": [*entries_of["training"], *entries_of["data"]],
        "report": entries_of["verdict"],
    }
    print(script(options.shell, parser(), values, more), end="")
    return 0


def _report(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    from tombola.experiments import experiment
    from tombola.folder.runs import Run

    changes = _verdict_changes(overrides)
    if len(options.runs) > 1:
        _print_together(options.runs, options.out, options.json, changes)
        return 0
    if options.out is not None:
        raise InputError(
            "--out is where the page of several runs goes; that of one run is in its folder"
        )
    run = Run(options.runs[0])
    run.judge_by(changes)
    _print_outcome(
        experiment.report(run, formats=("svg", "png", "pdf")), run.recipe.name, options.json
    )
    return 0


def _transfer(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    import json

    from tombola.experiments import transfer
    from tombola.experiments.progress import Display
    from tombola.records.choosing import best_tickets_of_run, run_folder
    from tombola.schema.recipe import pairs

    files: list[Path] = []
    for path in options.tickets:
        folder = run_folder(path)
        files += [path] if folder is None else best_tickets_of_run(folder)

    changes = dict(pairs(overrides))
    for dotted in changes:
        if not dotted.startswith(("training.", "data.")):
            raise InputError(
                f"there is no option '--{dotted}'; transfer takes --training.NAME and --data.NAME, "
                "see --help"
            )
    outcome = transfer.transfer(
        files,
        options.data,
        changes,
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
        print(json.dumps(list(outcome.records), indent=2))
    elif outcome.records:
        from tombola.reports.grids import in_words
        from tombola.reports.matrix import Matrix, matrix_grid, sentences

        found = Matrix.of(outcome.records)
        grid = matrix_grid(found)
        print("test accuracy %\n")
        heads = [*grid.labels, *grid.groups[0][1]]
        _print_table({head: "left" if in_words(head) else "right" for head in heads}, grid.rows)
        print(*("", *sentences(found)), sep="\n")
    for failure in outcome.failures:
        print(f"tombola: {failure}", file=sys.stderr)
    if not options.json:
        print("", outcome.files[-1] if outcome.files else outcome.folder, sep="\n")
    return 1 if outcome.failures else 0


def _doctor(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    if overrides and options.recipe is None:
        raise InputError(
            f"{overrides[0]} is no option of doctor, and without RECIPE there is nothing to "
            "override"
        )
    import json

    from tombola.commands import doctor
    from tombola.schema.recipe import read

    recipe = None if options.recipe is None else read(options.recipe, overrides)
    with doctor.telling() as tell:
        found = doctor.examine(
            recipe, data_root=options.data_root, compiled=options.compile, tell=tell
        )
    if options.json:
        print(json.dumps(doctor.plain(found), indent=2))
    else:
        doctor.terminal(found, _console())
    return 0


def _ticket(options: argparse.Namespace, _: Sequence[str]) -> int:
    import json

    if options.action == "export":
        from tombola.exports.writing import card_path, export
        from tombola.records.choosing import best_of_run, run_folder, ticket_path

        folder = run_folder(options.file)
        file = options.file if folder is None else ticket_path(folder, best_of_run(folder))
        to = options.to or ("state_dict" if options.trained else "ticket")
        written = export(file, to, options.out, trained=options.trained, force=options.force)
        told = {"path": str(written), "card": str(card_path(written))}
        print(json.dumps(told, indent=2) if options.json else written)
        return 0

    from tombola import ticket_format
    from tombola.records import savings

    code, said = 0, []
    rewind_points: dict[Path, ticket_format.RewindPoint] = {}  # the tickets of a run share theirs
    for path in _ticket_files(options.files, every=options.action == "verify"):
        if len(rewind_points) > 8:  # of many runs they would fill the memory
            rewind_points.clear()
        try:
            ticket = ticket_format.verify(path, rewind_points)
        except InputError as error:  # the other files are looked at all the same
            print(f"tombola: {error}", file=sys.stderr)
            said.append({"path": str(path), "verified": False, "error": str(error)})
            damaged = options.action == "verify" and path.is_file() and os.access(path, os.R_OK)
            code = max(code, 1 if damaged else 2)
            continue
        saved = savings.of_ticket(ticket)
        said.append({**ticket_format.plain(ticket), "saves": saved, "verified": True})
        if not options.json:
            info = options.action == "info"
            more = [("masks save", savings.in_words(saved))]
            print(
                ticket_format.describe(ticket, more)
                if info
                else f"{path}: verified, {ticket.digest}"
            )
    if options.json and options.action == "verify":
        print(json.dumps(said, indent=2))
    elif options.json and not code:
        print(json.dumps(said[0], indent=2))
    return code


def _ticket_files(given: Sequence[Path], *, every: bool) -> list[Path]:
    """Return the ticket files that paths mean: a run folder stands for its best ticket, or for
    every one.
    """
    from tombola.records.choosing import best_of_run, run_folder, ticket_path, tickets_of_run

    found: list[Path] = []
    for path in given:
        folder = run_folder(path)
        if folder is None:
            found.append(path)
        else:
            found += tickets_of_run(folder) if every else [ticket_path(folder, best_of_run(folder))]
    return found


def _list(options: argparse.Namespace, _: Sequence[str]) -> int:
    from tombola import recipes
    from tombola.ground.catalogue import entries

    chosen = [options.catalogue] if options.catalogue else list(CATALOGUES)
    found = {name: entries(f"tombola.{name}") for name in chosen if name not in ("arms", "recipes")}
    if options.json:
        import json
        from dataclasses import asdict

        from tombola.methods import every_card

        more: dict[str, Any] = {}
        if "arms" in chosen:
            more["arms"] = [asdict(card) for card in every_card()]
        if "recipes" in chosen:
            more["recipes"] = []
            for name in recipes.names():
                what, cost = recipes.described(name)
                more["recipes"].append({"name": name, "summary": what, "cost": cost})
        print(json.dumps(found | more, indent=2))
        return 0
    for name, known in found.items():
        print(f"{name}: {', '.join(known)}")
    if options.catalogue == "arms":
        from tombola.methods import every_card

        _print_table(
            {"arm": "left", "role": "left", "what it is, and its entry in a recipe": "left"},
            [[card.name, card.role, f"{card.summary}\n{card.entry}"] for card in every_card()],
        )
    elif "arms" in chosen:
        from tombola.methods import every_card

        print(
            f"arms: {', '.join(card.name for card in every_card())} (tombola list arms says what "
            "each is)"
        )
    if options.catalogue in CONTRACTS:
        contract = CONTRACTS[options.catalogue]
        print(
            f"\n{contract.in_words()}; a recipe names it "
            f"package.module:function\n{contract.example}",
            end="",
        )
    if options.catalogue == "recipes":
        rows = []
        for name in recipes.names():
            what, cost = recipes.described(name)
            rows.append([name, what, cost])
        _print_table({"recipe": "left", "what it is": "left", "cost": "left"}, rows)
    elif "recipes" in chosen:
        print(
            f"recipes: {', '.join(recipes.names())} (tombola list recipes says what each is and "
            "costs)"
        )
    return 0
