"""Cards: what each kind of arm is, the question it answers, and its recipe entry. Needs no torch.

    cards of the methods -> tombola list arms, the tables of docs/arms.md

``python -m tombola.methods docs/arms.md`` rewrites the tables of that page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["search", "control", "cause", "baseline", "stability"]

_TABLE = re.compile(r"(?<=<!-- cards: )(\w+)( -->\n).*?(?=<!-- end of cards -->)", re.DOTALL)


@dataclass(frozen=True)
class Card:
    """One kind of arm, for ``tombola list arms`` and the page of arms.

    Attributes:
        name: Its name in these lists; in a recipe an arm may have any name.
        role: "search", "control", "cause" (of COLT's effect), "baseline", or "stability" (to
            data order).
        summary: What it is, in a few words.
        entry: Its YAML, in a recipe with arms named colt-2, lth and gradual.
        what: The full description, for the page of arms.
        question: The question that it answers.
        source: The paper that it comes from.
    """

    name: str
    role: Role
    summary: str
    entry: str
    what: str = ""
    question: str = ""
    source: str = ""


def in_order(cards: Iterable[Card]) -> list[Card]:
    """Sort cards by role, and by name within a role."""
    roles = get_args(Role)
    return sorted(cards, key=lambda card: (roles.index(card.role), card.name))


def table(cards: Iterable[Card]) -> str:
    """Return cards as Markdown: their YAML, and a table that describes them.

    >>> card = Card("lth", "search", "IMP", "{method: lth}", question="is there a ticket?")
    >>> print(table([card]).splitlines()[-1])
    | `lth` | IMP | is there a ticket? | |
    """
    entries, rows = [], ["| kind | what it is | the question | source |", "|---|---|---|---|"]
    for card in cards:
        entries.append(f"{card.name}: {card.entry}")
        row = f"| `{card.name}` | {card.what or card.summary} | {card.question} | {card.source} |"
        rows.append(row.replace("|  |", "| |"))
    return "\n".join(["```yaml", *entries, "```", "", *rows]) + "\n"


def page(text: str, cards: Iterable[Card]) -> str:
    """Return a page with its tables of cards rewritten.

    Each table is between comments that name its role.
    """
    cards = in_order(cards)

    def anew(match: re.Match[str]) -> str:
        role, end_of_comment = match.groups()
        of_role = table(card for card in cards if card.role == role)
        return f"{role}{end_of_comment}{of_role}"

    return _TABLE.sub(anew, text)
