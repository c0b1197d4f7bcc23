"""``tombola list``: what a recipe can name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tombola.commands.command import Command, add_json, print_json
from tombola.ground.contracts import CONTRACTS

if TYPE_CHECKING:
    from tombola.schema.entries import Entry

CATALOGUES = (
    "data",
    "models",
    "tasks",
    "scores",
    "kernels",
    "exports",
    "executors",
    "sections",
    "arms",
    "entries",
    "recipes",
)
PACKAGES = {"sections": "tombola.reports.sections"}  # that are not called as their catalogue


class List(Command):
    """List the entries of the catalogues."""

    order = 90
    help = "list what a recipe can name"
    description = "List what a recipe can name."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "catalogue",
            nargs="?",
            choices=CATALOGUES,
            metavar="CATALOGUE",
            help=", ".join(CATALOGUES),
        )
        add_json(parser)

    def execute(self, options: argparse.Namespace, _: Sequence[str]) -> int:
        """Print one catalogue in full, or the names in all of them."""
        if options.json:
            chosen = [options.catalogue] if options.catalogue else CATALOGUES
            print_json({name: _as_data(name) for name in chosen})
        elif options.catalogue:
            _print_catalogue(options.catalogue)
        else:
            for name in CATALOGUES:
                _print_names(name)
        return 0


def _as_data(catalogue: str) -> list[Any]:
    if catalogue == "arms":
        from dataclasses import asdict

        from tombola.methods import every_card

        return [asdict(card) for card in every_card()]
    if catalogue == "entries":
        from dataclasses import asdict

        return [asdict(entry) for entry in _entries()]
    if catalogue == "recipes":
        return [
            {"name": name, "summary": summary, "cost": cost} for name, summary, cost in _recipes()
        ]
    return _names(catalogue)


def _print_names(catalogue: str) -> None:
    names = ", ".join(_names(catalogue))
    more = {
        "arms": " (tombola list arms says what each is)",
        "entries": " (tombola list entries says what each means)",
        "recipes": " (tombola list recipes says what each is and costs)",
    }
    print(f"{catalogue}: {names}{more.get(catalogue, '')}")


def _print_catalogue(catalogue: str) -> None:
    from tombola.commands.printing import print_table

    if catalogue == "arms":
        from tombola.methods import every_card

        rows = [[card.name, card.role, f"{card.summary}\n{card.entry}"] for card in every_card()]
        print_table(["arm", "role", "what it is, and its entry in a recipe"], rows)
    elif catalogue == "entries":
        entry_rows = []
        for entry in _entries():
            takes = f"{entry.values} (default: {entry.default})" if entry.default else entry.values
            entry_rows.append([entry.name, f"{entry.meaning}\n{takes}".replace("`", "")])
        print_table(["entry of a recipe", "what it means, and what it takes"], entry_rows)
    elif catalogue == "recipes":
        print_table(["recipe", "what it is", "cost"], _recipes())
    else:
        _print_names(catalogue)
    if catalogue in CONTRACTS:
        contract = CONTRACTS[catalogue]
        own_code = f"{contract.in_words()}; a recipe names it package.module:function"
        print(f"\n{own_code}\n{contract.example}", end="")


def _names(catalogue: str) -> list[str]:
    if catalogue == "arms":
        from tombola.methods import every_card

        return [card.name for card in every_card()]
    if catalogue == "entries":
        from tombola.schema.recipe import entry_names

        return entry_names()
    if catalogue == "recipes":
        from tombola import recipes

        return recipes.names()
    from tombola.ground.catalogue import entries

    return entries(PACKAGES.get(catalogue, f"tombola.{catalogue}"))


def _entries() -> list[Entry]:
    """Return every entry that a recipe may have, section by section."""
    from tombola.schema.entries import sections

    return [entry for entries in sections().values() for entry in entries]


def _recipes() -> list[tuple[str, str, str]]:
    """Return name, summary and cost of every recipe that ships."""
    from tombola import recipes

    return [(name, *recipes.described(name)) for name in recipes.names()]
