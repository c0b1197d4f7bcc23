"""Section: what each part of a page is, and from what the sections of a page are made.

    evidence -> [ applies? -> sentence, chart, grid ] -> page

A section says what it shows as plain text, charts and grids, and never as HTML: escaping, order and
layout are the page's. What there is to choose among stands in `tombola.reports.sections`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, Union

from tombola.evidence.answers import Evidence
from tombola.reports.aggregate import Record
from tombola.reports.decisions import NOTHING, Asked
from tombola.reports.grids import Grid

if TYPE_CHECKING:
    from tombola.ground.extras import altair as alt

Chart: TypeAlias = Union["alt.LayerChart", "alt.VConcatChart"]
Kind = Literal["run", "several runs", "transfer"]
Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Figure:
    """A chart with its caption.

    Attributes:
        chart: As Vega-Lite has it.
        caption: Stands below; without one the chart is a file of its own and not on the page.
    """

    chart: Chart
    caption: str = ""


@dataclass(frozen=True)
class Making:
    """How a run is made again.

    Attributes:
        command: What to type.
        recipe: The resolved recipe, as YAML.
        environments: What it was made with, one entry for each machine and version.
    """

    command: str = ""
    recipe: str = ""
    environments: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class BestTicket:
    """The ticket that is best on validation data.

    Attributes:
        path: Its file, relative to the page.
        density: Fraction of the prunable weights that it keeps.
        value: The headline metric of the trained ticket on the test split.
    """

    path: str
    density: float
    value: float | None = None


@dataclass(frozen=True)
class OneRun:
    """What the sections of a run's page are made from.

    Attributes:
        records: Of the whole experiment; `Evidence`, so that what several sections need is worked
            out once.
        asked: What is to be decided.
        notes: What a reader must know before believing the numbers; one line each.
        facts: What was run, such as ``{"data": "digits"}``; kept in order.
        making: How the run is made again; ``None`` if that is not told.
        best: The ticket to take away, if there is one.
        files: Further files of the run, relative to the page.
        title: Stands above the figures that are files of their own.
    """

    records: Evidence
    asked: Asked = NOTHING
    notes: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    making: Making | None = None
    best: BestTicket | None = None
    files: Sequence[str] = ()
    title: str = ""


@dataclass(frozen=True)
class Part:
    """One of several runs.

    Attributes:
        label: What it is called here.
        records: Its results.
        asked: What it decides by itself.
        settings: What it is set to where the runs differ, by the dotted name of the recipe's entry.
    """

    label: str
    records: Sequence[Record]
    asked: Asked
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SeveralRuns:
    """What the sections of a page of several runs are made from.

    Attributes:
        parts: The runs, in the order of the panels; the first is what the others are compared with.
        notes: What a reader must know before believing the numbers; one line each.
    """

    parts: Sequence[Part]
    notes: Sequence[str] = ()


class Section(Generic[Seen]):
    """A part of a page. A subclass says what it shows; what it does not define, it does not show.

    Attributes:
        of: What it is made from: one run (`OneRun`), several runs (`SeveralRuns`) or a
            transfer (`tombola.reports.matrix.Transfer`).
        title: Stands above; none where it is empty.
        look: How its sentences are set: as text, as the answer of the page, as notes, or small.
    """

    of: ClassVar[Kind] = "run"
    title: str = ""
    look: ClassVar[Literal["text", "answer", "notes", "small"]] = "text"

    def applies(self, evidence: Seen) -> bool:
        """Whether there may be anything to show; a section that then shows nothing is left out."""
        return True

    def sentence(self, evidence: Seen) -> Sequence[str]:
        """Say in words what it shows, one line each."""
        return ()

    def chart(self, evidence: Seen) -> Mapping[str, Figure]:
        """Draw what it shows, by the name of the file."""
        return {}

    def grid(self, evidence: Seen) -> Sequence[Grid]:
        """Return its tables; those without rows are left out."""
        return ()

    def legend(self, evidence: Seen) -> Sequence[str]:
        """Say how its tables are to be read, one line each."""
        return ()

    def link(self, evidence: Seen) -> Mapping[str, str]:
        """Return files to open, relative to the page, by what they are called."""
        return {}

    def fact(self, evidence: Seen) -> Mapping[str, str]:
        """Return what was run, by what it is, such as the data."""
        return {}

    def code(self, evidence: Seen) -> Mapping[str, str]:
        """Return text to copy, such as a command, by what it is."""
        return {}
