"""Grids: tables of text, the one place where numbers become text, so that every output shows
the same digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tombola.ground.metrics import ACCURACY, Metric


@dataclass(frozen=True)
class Grid:
    """A table of text: columns that label a row, then groups of columns, each with its name (or "")
    and heads.

    Groups may stand side by side or, each with the labels, below each other. A row whose first cell
    is empty belongs to the one above it.

    Attributes:
        title: Stands above.
        labels: Heads of the columns that label a row.
        groups: Name and heads of each group.
        rows: Cells, those of the labels first.
        notes: What a reader must know of the numbers; they stand below.
        why: By head, why a column may have nothing to say; "not recorded" if not given. See
            `filled`.
    """

    title: str
    labels: list[str]
    groups: list[tuple[str, list[str]]]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()
    why: Mapping[str, str] = field(default_factory=dict)


def filled(grid: Grid) -> Grid:
    """Return a grid without the columns that are empty in every row; a note says which and why.

    Columns in a named group stay, so that groups are alike.

    >>> grid = Grid("Costs", ["arm"], [("", ["rounds", "TFLOP"])], [["lth", "3", ""]])
    >>> without = filled(grid)
    >>> without.groups, without.rows, without.notes
    ([('', ['rounds'])], [['lth', '3']], ('TFLOP: not recorded.',))
    """
    kept_columns = list(range(len(grid.labels)))
    groups = []
    dropped: dict[str, list[str]] = {}  # heads by why their columns are empty
    column = len(grid.labels)
    for name, heads in grid.groups:
        kept_heads = []
        for head in heads:
            if name or not grid.rows or any(row[column] for row in grid.rows):
                kept_columns.append(column)
                kept_heads.append(head)
            else:
                dropped.setdefault(grid.why.get(head, "not recorded"), []).append(head)
            column += 1
        groups.append((name, kept_heads))
    notes = tuple(f"{listed(heads)}: {why}." for why, heads in dropped.items())
    rows = [chosen(row, kept_columns) for row in grid.rows]
    return replace(grid, groups=groups, rows=rows, notes=(*grid.notes, *notes), why={})


def chosen(row: Sequence[str], columns: Sequence[int]) -> list[str]:
    """Return the cells of some columns of a row."""
    return [row[column] for column in columns]


def in_words(head: str) -> bool:
    """Whether a column holds words, which stand on the left, and no numbers."""
    words = ("arm", "arms", "class", "verdict", "outcome", "stable", "layers", "thinnest layer")
    words_of_transfers = ("data", "ticket", "against", "found on", "model", "setting")
    return head in words or head in words_of_transfers or " - controls" in head


def capitalised(title: str) -> str:
    """Return a title as it begins a sentence; one with a capital of its own stays as it is.

    >>> capitalised("accuracy"), capitalised("mAP@0.5")
    ('Accuracy', 'mAP@0.5')
    """
    first_word = title.partition(" ")[0]
    if first_word != first_word.lower():
        return title
    return title[:1].upper() + title[1:]


def with_unit(title: str, unit: str) -> str:
    """Return a title with the unit of what stands below it, if it has one.

    >>> with_unit("Barrier", "points"), with_unit("Barrier", "")
    ('Barrier, points', 'Barrier')
    """
    return f"{title}, {unit}" if unit else title


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


def difference(
    mean: float, low: float | None, high: float | None, metric: Metric = ACCURACY
) -> str:
    """Return a mean difference with its interval, where it has one, and its unit.

    >>> difference(0.015, 0.0055, 0.0246)
    '+1.50 [+0.55, +2.46] points'
    """
    parts = (metric.signed(mean), metric.interval(low, high), metric.points)
    return " ".join(filter(None, parts))
