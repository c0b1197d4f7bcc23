"""Grids: tables of text, the one place where numbers become text, so that every output shows the same digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """A table of text: columns that label a row, then groups of columns, each with its name (or "") and heads.

    Groups may stand side by side or, each with the labels, below each other. A row whose first cell is
    empty belongs to the one above it.
    """

    title: str
    labels: list[str]
    groups: list[tuple[str, list[str]]]
    rows: list[list[str]]


def in_words(head: str) -> bool:
    """Whether a column holds words, which stand on the left, and no numbers."""
    words = ("arm", "arms", "verdict", "shown", "accuracy - controls", "stable", "layers")
    return head in words or head in ("data", "ticket", "against", "found on", "model")


def percent(fraction: float) -> str:
    """Return a fraction as percent, without the sign, in as many digits as it takes.

    >>> percent(0.8), percent(0.7225), percent(0.125)
    ('80', '72.25', '12.5')
    """
    return f"{100 * fraction:.2f}".rstrip("0").rstrip(".")


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them.

    >>> listed(["lth"]), listed(["lth", "colt-2", "matched"])
    ('lth', 'lth, colt-2 and matched')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
