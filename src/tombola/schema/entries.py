"""Entries: what a recipe may say, told from the fields of its dataclasses.

    Recipe, Training, methods … -> [ sections ] -> docs/recipes.md, tombola list entries

``python -m tombola.schema docs/recipes.md`` writes the tables of that page anew.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tombola import methods
from tombola.ground.checking import alias_of, dataclass_in, hints_of, in_words
from tombola.ground.models import descriptions_of
from tombola.methods import Method
from tombola.methods.method import WRITTEN_OUT
from tombola.schema.recipe import Recipe

_TABLE = re.compile(r"(?<=<!-- entries: )(\w+)( -->\n).*?(?=<!-- end of entries -->)", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """One entry of a recipe.

    Attributes:
        name: Its dotted name, such as ``training.lr``; of an arm's options ``arms.NAME.rate``.
        values: What it takes, in words.
        default: Its default as YAML; empty where there is none.
        meaning: What it means.
        methods: Of an arm's option the methods that have it.
    """

    name: str
    values: str
    default: str
    meaning: str
    methods: tuple[str, ...] = ()


def sections() -> dict[str, list[Entry]]:
    """Return the entries by section: "recipe" is the top level, "arms" what arms may say.

    >>> [entry.name for entry in sections()["until"]][:2]
    ['until.rounds', 'until.density']
    """
    by_section: dict[str, list[Entry]] = {}
    _add_section(by_section, Recipe, "")
    by_section["arms"] = _options_of_methods(by_section)
    return by_section


def page(text: str) -> str:
    """Return a page with its tables of entries made anew; each stands between comments that name
    its section.
    """
    known = sections()

    def anew(old: re.Match[str]) -> str:
        section, comment_end = old.groups()
        return f"{section}{comment_end}{table(known[section])}"

    return _TABLE.sub(anew, text)


def table(entries: Sequence[Entry]) -> str:
    """Return entries as a table in Markdown.

    >>> print(table([Entry("until.rounds", "a whole number", "", "After so many rounds.")]))
    | entry | values | default | meaning |
    |---|---|---|---|
    | `rounds` | a whole number | | After so many rounds. |
    <BLANKLINE>
    """
    of_methods = any(entry.methods for entry in entries)
    heads = ["entry", *(["methods"] if of_methods else []), "values", "default", "meaning"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for entry in entries:
        cells = [f"`{entry.name.rpartition('.')[2]}`"]
        if of_methods:
            names = ", ".join(f"`{name}`" for name in entry.methods)
            cells.append("all" if entry.methods == ("all",) else names)
        default = f"`{entry.default}`" if entry.default else ""
        cells += [entry.values, default, entry.meaning]
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def _add_section(by_section: dict[str, list[Entry]], kind: Any, where: str) -> None:
    """Add the entries of a dataclass, and those of the dataclasses that its fields hold."""
    described, hints = descriptions_of(kind), hints_of(kind)
    entries = by_section[where.rpartition(".")[2] or "recipe"] = []
    for field in dataclasses.fields(kind):
        # The field that takes all options of a data set or a model is no entry by its name.
        if "rest" in field.metadata:
            continue
        hint, dotted = hints[field.name], f"{where}.{alias_of(field)}".removeprefix(".")
        entries.append(_entry(field, hint, dotted, described[field.name]))
        inner = dataclass_in(hint)
        # Arms are described by the options of all methods together.
        if inner is not None and inner is not Method:
            _add_section(by_section, inner, dotted)


def _entry(field: dataclasses.Field[Any], hint: Any, dotted: str, meaning: str) -> Entry:
    default = ""
    if field.default not in (dataclasses.MISSING, None, ()):
        default = _as_yaml(field.default)
    return Entry(dotted, in_words(hint, marked=True), default, meaning)


def _options_of_methods(by_section: dict[str, list[Entry]]) -> list[Entry]:
    """Return the options of all methods that ship, each once, in the order of old recipes; add
    those that are sections themselves.
    """
    having: dict[str, list[str]] = {}
    entries: dict[str, Entry] = {}
    described_kinds = set[Any]()
    for name in methods.names():
        kind: Any = methods.named(name)
        hints, described = hints_of(kind), descriptions_of(kind)
        for field in dataclasses.fields(kind):
            having.setdefault(field.name, []).append(name)
            dotted = f"arms.NAME.{field.name}"
            entry = _entry(field, hints[field.name], dotted, described[field.name])
            entries.setdefault(field.name, entry)
            # Methods share sections such as `reach`; the first that has one describes it. Where a
            # method has another section of that name, it has a table of its own.
            inner = dataclass_in(hints[field.name])
            if inner is None or inner in described_kinds:
                continue
            described_kinds.add(inner)
            section = field.name if field.name not in by_section else f"{field.name}_of_{name}"
            added: dict[str, list[Entry]] = {}
            _add_section(added, inner, dotted)
            by_section[section] = added[field.name]
    # Those of old recipes first, in the order that they have there.
    order = dict.fromkeys((*WRITTEN_OUT, *entries))
    choices = ", ".join(f"`{name}`" for name in methods.names())
    method = Entry(
        "arms.NAME.method",
        f"{choices}, or `package.module:Name`",
        "",
        "What the arm does. An arm with `match` alone is of method `lth`.",
        ("all",),
    )
    options = [method]
    for name in order:
        if name not in entries:
            continue
        of_methods = tuple(having[name])
        if len(of_methods) == len(methods.names()):
            of_methods = ("all",)
        options.append(dataclasses.replace(entries[name], methods=of_methods))
    return options


def _as_yaml(value: Any) -> str:
    """Return a default as a recipe would say it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_as_yaml, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
