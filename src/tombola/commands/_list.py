"""``tombola list``: what a recipe can name."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from tombola.commands.command import Command, add_json, print_json
from tombola.ground.contracts import CONTRACTS

if TYPE_CHECKING:
    from tombola.schema.entries import Entry

CATALOGUES = (
    "data",
    "models",
    "tasks",
    "scores",
    "scopes",
    "methods",
    "kernels",
    "exports",
    "executors",
    "sections",
    "arms",
    "entries",
    "recipes",
)
# Those whose name is not that of their catalogue.
PACKAGES = {"sections": "tombola.reports.sections", "scopes": "tombola.masks.scopes"}


class _Catalogue:
    """A catalogue whose entries are files; the first line of each says what it is."""

    hint: ClassVar[str] = ""

    def __init__(self, name: str) -> None:
        self.name = name
        self._package = PACKAGES.get(name, f"tombola.{name}")

    def names(self) -> list[str]:
        """Return the names that a recipe may say."""
        from tombola.ground.catalogue import entries

        return entries(self._package)

    def as_data(self) -> list[Any]:
        """Return the entries as plain data."""
        return self.names()

    def print_names(self) -> None:
        """Print the names on one line."""
        print(f"{self.name}: {', '.join(self.names())}{self.hint}")

    def print_entries(self) -> None:
        """Print what each entry is."""
        from tombola.commands.printing import print_table
        from tombola.ground.catalogue import described

        rows = [[name, text] for name, text in described(self._package).items()]
        print_table([self.name, "what it is"], rows)


class _ByTask(_Catalogue):
    """A catalogue whose entries are each for one task."""

    def print_entries(self) -> None:
        from tombola.commands.printing import print_table
        from tombola.ground.catalogue import described, tasks

        task_of = tasks(self._package)
        rows = [[name, task_of[name], text] for name, text in described(self._package).items()]
        print_table([self.name, "task", "what it is"], rows)


class _Arms(_Catalogue):
    hint = " (tombola list arms says what each is)"

    def names(self) -> list[str]:
        from tombola.methods import every_card

        return [card.name for card in every_card()]

    def as_data(self) -> list[Any]:
        from tombola.methods import every_card

        return list(map(asdict, every_card()))

    def print_entries(self) -> None:
        from tombola.commands.printing import print_table
        from tombola.methods import every_card

        rows = []
        for card in every_card():
            rows.append([card.name, card.role, f"{card.summary}\n{card.entry}"])
        print_table(["arm", "role", "what it is, and its entry in a recipe"], rows)


class _Entries(_Catalogue):
    hint = " (tombola list entries says what each means)"

    def names(self) -> list[str]:
        from tombola.schema.recipe import entry_names

        return entry_names()

    def as_data(self) -> list[Any]:
        return list(map(asdict, self._entries()))

    def print_entries(self) -> None:
        from tombola.commands.printing import print_table

        rows = []
        for entry in self._entries():
            takes = f"{entry.values} (default: {entry.default})" if entry.default else entry.values
            # Backquotes mark code on the page of the documentation, and nothing here.
            rows.append([entry.name, f"{entry.meaning}\n{takes}".replace("`", "")])
        print_table(["entry of a recipe", "what it means, and what it takes"], rows)

    def _entries(self) -> Iterator[Entry]:
        from tombola.schema.entries import sections

        return chain.from_iterable(sections().values())


class _Recipes(_Catalogue):
    hint = " (tombola list recipes says what each is and what it costs)"

    def names(self) -> list[str]:
        from tombola import recipes

        return recipes.names()

    def as_data(self) -> list[Any]:
        return [dict(zip(("name", "summary", "cost"), row, strict=True)) for row in self._rows()]

    def print_entries(self) -> None:
        from tombola.commands.printing import print_table

        print_table(["recipe", "what it is", "cost"], self._rows())

    def _rows(self) -> list[tuple[str, str, str]]:
        from tombola import recipes

        return [(name, *recipes.described(name)) for name in recipes.names()]


_DESCRIBED: dict[str, type[_Catalogue]] = {
    "data": _ByTask,
    "models": _ByTask,
    "arms": _Arms,
    "entries": _Entries,
    "recipes": _Recipes,
}


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
        chosen = [options.catalogue] if options.catalogue else CATALOGUES
        catalogues = [_DESCRIBED.get(name, _Catalogue)(name) for name in chosen]
        if options.json:
            print_json({catalogue.name: catalogue.as_data() for catalogue in catalogues})
        elif options.catalogue:
            catalogues[0].print_entries()
            _print_contract(options.catalogue)
        else:
            for catalogue in catalogues:
                catalogue.print_names()
        return 0


def _print_contract(catalogue: str) -> None:
    """Print what user code must do to serve as an entry."""
    if catalogue in CONTRACTS:
        contract = CONTRACTS[catalogue]
        own_code = f"{contract.in_words()}; a recipe names it package.module:function"
        print(f"\n{own_code}\n{contract.example}", end="")
