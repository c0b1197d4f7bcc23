"""``tombola init``: write a recipe for a data set and a model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tombola.commands.command import Command, add_data_root
from tombola.ground import waiting
from tombola.ground.errors import InputError


class Init(Command):
    """Write a recipe to start from."""

    order = 20
    help = "write a recipe for a data set and a model, with its cost on this machine"
    description = (
        "Write a commented recipe for a data set and a model, with suitable arms and the cost "
        "measured on this machine. Either may be your own function, package.module:function, "
        "or a mapping with options: --data '{name: cifar10, subset: 5000}'"
    )
    epilog = "exit codes: 0 the recipe is written; 2 it cannot be written"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--data", default="digits", metavar="NAME", help="the data set (default: digits)"
        )
        parser.add_argument(
            "--model", default="mlp", metavar="NAME", help="the model (default: mlp)"
        )
        parser.add_argument(
            "--out", type=Path, metavar="FILE", help="file to write (default: DATA-MODEL.yaml)"
        )
        parser.add_argument("--force", action="store_true", help="replace an existing file")
        add_data_root(parser)
        parser.add_argument(
            "--workers",
            type=int,
            metavar="N",
            help="worker processes to estimate the cost for (default: one per core)",
        )

    def execute(self, options: argparse.Namespace, _: Sequence[str]) -> int:
        """Write the file; print its path, its cost and the command that runs it."""
        from tombola.commands.drafts import draft
        from tombola.ground.files import write_whole
        from tombola.schema.recipe import pairs

        given = dict(pairs([f"--data={options.data}", f"--model={options.model}"]))
        if options.out is not None:
            _check_free(options.out, options.force)  # before time is spent on loading data
        with waiting.told("loading the data"):
            recipe = draft(
                given["data"], given["model"], data_root=options.data_root, workers=options.workers
            )
        path = options.out or Path(f"{recipe.name}.yaml")
        _check_free(path, options.force)
        write_whole(path, recipe.text)
        print(path, recipe.cost, f"tombola run {path}", sep="\n")
        return 0


def _check_free(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise InputError(f"'{path}' already exists; --force replaces it, --out names another file")
