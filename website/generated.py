"""Pages that are made from the code.

There is a page for each method, score and scope, one for each room of public names, and one for all
catalogues.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import Any

import tombola
from tombola import methods
from tombola.commands._list import PACKAGES
from tombola.ground.catalogue import described, entries, entry, tasks
from tombola.ground.contracts import CONTRACTS
from tombola.ground.models import descriptions_of
from tombola.methods.cards import Card


def method_pages() -> dict[str, str]:
    """Return a page for each method that ships, and one that lists them.

    Returns:
        The pages by their places on the site.
    """
    pages = {}
    lines = [
        "# Methods",
        "",
        "What an arm of a recipe does. [Arms](../arms.md) explains how arms work together.",
        "",
        "| method | what it does |",
        "|---|---|",
    ]
    for name in methods.names():
        kind = methods.shipped(name)
        assert kind is not None
        lines.append(f"| [`{name}`]({name}.md) | {_summary(kind)} |")
        pages[f"methods/{name}.md"] = _method_page(name, kind)
    return {"methods/index.md": "\n".join(lines) + "\n", **pages}


def _method_page(name: str, kind: Any) -> str:
    lines = [f"# {name}", "", _summary(kind), ""]
    for card in kind.cards:
        lines += _card(card)
    lines += ["## Options", "", "| option | default | meaning |", "|---|---|---|"]
    meanings = descriptions_of(kind)
    for field in dataclasses.fields(kind):
        lines.append(f"| `{field.name}` | {_default(field)} | {meanings.get(field.name, '')} |")
    return "\n".join(lines) + "\n"


def _card(card: Card) -> list[str]:
    lines = [f"## {card.name}", "", _sentence(card.what or card.summary), ""]
    lines += ["```yaml", f"{card.name}: {card.entry}", "```", ""]
    lines.append(f"- **Role:** [{card.role}](../glossary.md#experiments)")
    if card.question:
        lines.append(f"- **Question:** {card.question}")
    if card.source:
        lines.append(f"- **Source:** {card.source}")
    return [*lines, ""]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "" if field.default_factory is not dataclasses.MISSING else "required"
    if field.default is None or field.default == ():
        return ""
    return f"`{field.default}`"


def _summary(thing: Any) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


# The page has the entry's name as its title already.
_NO_HEADING = "    options:\n      show_root_heading: false\n"


def entry_pages() -> dict[str, str]:
    """Return a page for each score and each scope that ships, and one that lists them."""
    pages = {}
    for catalogue, title in (("scores", "Scores"), ("scopes", "Scopes")):
        package = PACKAGES.get(catalogue, f"tombola.{catalogue}")
        lines = [f"# {title}", "", _sentence(_summary_of(package)), ""]
        lines += [f"| {catalogue[:-1]} | what it is |", "|---|---|"]
        index = f"methods/{catalogue}/index.md"
        pages[index] = ""
        for name, text in described(package).items():
            lines.append(f"| [`{name}`]({name}.md) | {text} |")
            function = entry(package, name)
            page = [f"# {name}", "", f"::: {function.__module__}.{name}", _NO_HEADING]
            pages[f"methods/{catalogue}/{name}.md"] = "\n".join(page)
        pages[index] = "\n".join(lines) + "\n"
    return pages


def _summary_of(package: str) -> str:
    """Return what a package says of itself after its name."""
    return _summary(importlib.import_module(package)).partition(": ")[2]


def api_pages() -> dict[str, str]:
    """Return a page for each room that has public names, by its place on the site."""
    rooms: dict[str, list[str]] = {}
    for name, home in tombola._HOME.items():
        rooms.setdefault(home.partition(".")[0], []).append(name)
    pages = {f"api/{room}.md": _api_page(room, names) for room, names in rooms.items()}
    lines = [
        "# Python API",
        "",
        "Everything here is a name of `tombola`: `import tombola; tombola.find(...)`.",
        "",
        "| name | what it does |",
        "|---|---|",
    ]
    for room, names in rooms.items():
        for name in names:
            summary = _summary(getattr(tombola, name))
            lines.append(f"| [`{name}`]({room}.md#tombola.{name}) | {summary} |")
    return {"api/index.md": "\n".join(lines) + "\n", **pages}


def _api_page(room: str, names: list[str]) -> str:
    # The docstring of a room begins with its name.
    lines = [f"# {room}", "", _sentence(_summary_of(f"tombola.{room}")), ""]
    for name in names:
        lines += [f"::: tombola.{name}", ""]
    return "\n".join(lines)


def catalogue_page() -> str:
    """Return the page of all catalogues.

    It lists their entries, and shows how a function of the user's own is called.
    """
    lines = [
        "# Catalogues",
        "",
        "What a recipe chooses among by name. `tombola list` prints the same.",
    ]
    for catalogue, contract in CONTRACTS.items():
        if catalogue == "arms":  # the methods have pages of their own
            continue
        package = PACKAGES.get(catalogue, f"tombola.{catalogue}")
        lines += ["", f"## {catalogue.capitalize()}", ""]
        if catalogue in ("data", "models"):
            lines += ["| name | task | what it is |", "|---|---|---|"]
            for name, task in tasks(package).items():
                lines.append(f"| `{name}` | {task} | {_summary(entry(package, name))} |")
        else:
            lines += ["| name | what it is |", "|---|---|"]
            for name in entries(package):
                lines.append(f"| `{name}` | {_summary(entry(package, name))} |")
        lines += ["", _sentence(contract.in_words())]
        lines += ["", "```python", contract.example.strip(), "```"]
    return "\n".join(lines) + "\n"
