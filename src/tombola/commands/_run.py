"""``tombola run``: run the experiment of a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
from tombola.ground import waiting
from tombola.ground.errors import InputError, shown

if TYPE_CHECKING:
    from tombola.schema.recipe import Recipe


class Run(Command):
    """Run the experiment of a recipe, or say what running it would do."""

    order = 30
    help = "run an experiment: arms x replicates, tickets, records and a report"
    description = (
        "Run the experiment of a recipe, or continue one that was stopped. Every entry of the "
        "recipe can be overridden by its dotted name, with a YAML value: --until.rounds 2 "
        "--arms.colt-2.rate 0.2 --data mnist. tombola list entries says what each means."
    )
    epilog = (
        "exit codes: 0 all arms finished; 1 an arm failed; 2 the recipe or its data are invalid; "
        "130 interrupted"
    )
    takes_overrides = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "recipe",
            nargs="?",
            metavar="RECIPE",
            help="a file, or the name of an included recipe (tombola list recipes); a file of that "
            "name takes precedence",
        )
        add_workers(parser)
        parser.add_argument(
            "--executor",
            metavar="NAME",
            help="where the workers run (tombola list executors); does not affect results "
            "(default: processes of this machine, or a thread with one worker)",
        )
        parser.add_argument("--address", metavar="A", help="address of the executor's cluster")
        add_data_root(parser)
        add_runs(parser)
        parser.add_argument(
            "--scale", metavar="NAME", help="one of the recipe's own scales, such as small"
        )
        parser.add_argument(
            "--variant",
            metavar="NAME[,NAME]",
            help="run only these variants of the recipe (default: all)",
        )
        parser.add_argument(
            "--only-replicates",
            metavar="K",
            help="run only these replicates, such as 0-2 or 0,3; see runs merge",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="say what would be done, and estimate how long it takes",
        )
        parser.add_argument(
            "--print_config",
            action="store_true",
            help="print the recipe with every default, and exit",
        )
        add_json(parser)
        add_quiet(parser)

    def execute(self, options: argparse.Namespace, overrides: Sequence[str]) -> int:
        """Read the recipe, then print it, plan it or run it."""
        if options.recipe is None:
            raise InputError(
                "run needs a recipe, a file or the name of an included one: tombola run digits "
                "(tombola list recipes lists them, tombola init writes one)"
            )
        from tombola.schema.recipe import read, variants

        names = variants(options.recipe, scale=options.scale)
        if options.variant:
            names = options.variant.split(",")
        # Without variants there is one recipe, which has no such name.
        variant_names: Sequence[str | None] = names or [None]
        # All are read before the first one runs: a mistake in the last shows at once.
        recipes = []
        for name in variant_names:
            recipe = read(options.recipe, overrides, scale=options.scale, variant=name)
            recipes.append(recipe)
        if options.print_config:
            _print_config(recipes, as_list=bool(names), as_json=options.json)
            return 0
        if options.dry_run:
            _print_plans(recipes, options)
            return 0
        return run_recipes(
            recipes,
            runs=options.runs,
            data_root=options.data_root,
            workers=options.workers,
            executor=options.executor,
            address=options.address,
            replicates=_numbers(options.only_replicates),
            quiet=options.quiet,
            as_json=options.json,
        )


def run_recipes(
    recipes: Sequence[Recipe],
    *,
    runs: Path,
    data_root: Path | None = None,
    workers: int | None = None,
    executor: str | None = None,
    address: str | None = None,
    replicates: Sequence[int] | None = None,
    quiet: bool = False,
    as_json: bool = False,
) -> int:
    """Run recipes one after the other, print the results and return the exit code."""
    if (workers or 0) > 1 and executor in (None, "processes"):
        from tombola.executors import forking

        forking.begin()  # it imports torch while this process does
    from tombola.commands.printing import print_outcome, print_together
    from tombola.experiments import experiment
    from tombola.experiments.progress import Display

    outcomes = []
    for recipe in recipes:
        outcomes.append(
            experiment.run(
                recipe,
                runs=runs,
                data_root=data_root,
                workers=workers,
                executor=executor,
                address=address,
                replicates=replicates,
                display=Display(quiet=quiet),
            )
        )
    if len(outcomes) > 1:
        print_together([outcome.folder for outcome in outcomes], as_json=as_json)
    else:
        print_outcome(outcomes[0], recipes[0].name, as_json)
    # An arm that failed leaves its run incomplete, and the other arms and runs go on.
    return 0 if all(outcome.complete for outcome in outcomes) else 1


def _print_config(recipes: Sequence[Recipe], *, as_list: bool, as_json: bool) -> None:
    plain = [recipe.to_dict() for recipe in recipes]
    if as_json:
        print_json(plain if as_list else plain[0])
        return
    import yaml

    print(yaml.safe_dump_all(plain, sort_keys=False).rstrip("\n"))


def _print_plans(recipes: Sequence[Recipe], options: argparse.Namespace) -> None:
    from tombola.experiments import experiment

    replicates = _numbers(options.only_replicates)
    # All are planned before anything is printed: one that cannot run gives its error alone.
    outlooks = []
    for recipe in recipes:
        with waiting.told(experiment.loading(recipe)):
            plans = experiment.plan(recipe, options.data_root)
        ahead = experiment.foresee(
            plans, runs=options.runs, workers=options.workers, replicates=replicates
        )
        outlooks.append(experiment.outlook(plans, ahead, options.runs))
    if options.json:
        print_json(outlooks if len(outlooks) > 1 else outlooks[0])
        return
    for index, outlook in enumerate(outlooks):
        if index:
            print()
        _print_plan(outlook)


def _print_plan(outlook: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from tombola.commands.printing import console, print_table

    facts = Table.grid(padding=(0, 3))
    for key, value in outlook.items():
        if key != "arms":
            facts.add_row(key, Text(value, overflow="fold"))
    console(120).print(facts, "")
    heads = ("arm", "method", "follows", "rounds", "last density %")
    rows = []
    for arm in outlook["arms"]:
        density = "" if arm["density"] is None else f"{100 * arm['density']:.2f}"
        rounds = str(arm["rounds"] or "")
        rows.append([arm["name"], arm["method"], arm["follows"] or "", rounds, density])
    print_table(heads, rows, right=heads[3:])


def _numbers(text: str | None) -> list[int] | None:
    """Read numbers and ranges, such as 0-2,4."""
    if text is None:
        return None
    numbers: dict[int, None] = {}  # an ordered set
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(
                f"--only-replicates is {shown(text)}; give numbers or ranges, such as 0-2 or 0,3"
            )
        # they are numbered from 0, and a recipe has at most 1,000
        if len(first) > 3 or len(last) > 3:
            raise InputError(
                f"--only-replicates is {shown(text)}; no recipe has that many replicates"
            )
        numbers |= dict.fromkeys(range(int(first), int(last if dash else first) + 1))
    return list(numbers)
