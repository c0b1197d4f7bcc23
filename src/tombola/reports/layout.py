"""Layout: from a list of sections to a page.

    layout, evidence -> [ sections that apply -> what they show ] -> Sheet -> files, report.html

A page is what stands on its first screen, and folds below it under a menu. Which sections these are
is all that the makers of pages say; what a section shows it says itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tombola.ground import catalogue
from tombola.ground.errors import ConfigError, shown
from tombola.reports.section import Figure, Kind, Section
from tombola.reports.sheets import Content, Fold, Sheet

_PACKAGE = "tombola.reports.sections"


@dataclass(frozen=True)
class Layout:
    """What a page is put together from.

    Attributes:
        of: What its sections are made from.
        first: Names of the sections on the first screen, in their order.
        folds: Those below, by the name of their fold, which stands in the menu.
    """

    of: Kind
    first: Sequence[str]
    folds: Mapping[str, Sequence[str]]


def lay_out(
    layout: Layout, evidence: Any, arms: Sequence[str] = (), own: Sequence[str] = ()
) -> Sheet:
    """Put a page together: what all its sections show, in their order.

    Args:
        layout: What the page is put together from.
        evidence: What its sections are made from.
        arms: All arms, each of which has its colour and mark everywhere.
        own: Sections of the user's own, named ``package.module:Name``; they have a fold of
            their own.

    Raises:
        ConfigError: There is no such section, it is none of this kind of page, or it failed.
    """
    names_by_fold = dict(layout.folds)
    if own:
        names_by_fold["More"] = own
    first = _contents(layout, layout.first, evidence)
    folds = []
    for title, names in names_by_fold.items():
        contents = _contents(layout, names, evidence)
        if contents:
            folds.append(Fold(title, contents))
    return Sheet(first, folds, arms)


def _contents(layout: Layout, names: Sequence[str], evidence: Any) -> list[Content]:
    """Return what the sections of these names show, without those that show nothing."""
    contents = []
    for name in names:
        # An error of a user's own section becomes one line that names it.
        with catalogue.own_code(name, "sections"):
            section = find(name, layout.of)
            content = content_of(section, evidence)
            if content is not None:
                contents.append(content)
    return contents


def find(name: str, of: Kind) -> Section[Any]:
    """Return a section by its name.

    Args:
        name: Of an entry of `tombola.reports.sections`, or ``package.module:Name``.
        of: What it is to be made from.

    Raises:
        ConfigError: There is none, or it is made from something else.

    >>> find("costs", "run").of
    'run'
    """
    section = catalogue.entry(_PACKAGE, name)()
    if not isinstance(section, Section):
        raise ConfigError(f"{shown(name)} is no section: it is no tombola.reports.section.Section")
    if section.of != of:
        raise ConfigError(f"the section {shown(name)} is made from a {section.of}, not from a {of}")
    return section


def content_of(section: Section[Any], evidence: Any) -> Content | None:
    """Return what a section shows; ``None`` where it does not apply or has nothing to show."""
    if not section.applies(evidence):
        return None
    grids = [grid for grid in section.grid(evidence) if grid.rows]
    content = Content(
        title=section.title,
        look=section.look,
        sentences=section.sentence(evidence),
        figures=drawn(section, evidence),
        grids=grids,
        links=section.link(evidence),
        facts=section.fact(evidence),
        code=section.code(evidence),
    )
    if not content:
        return None
    # How to read a table is told where there is one, or a chart.
    return replace(content, legend=section.legend(evidence) if grids or content.figures else ())


def drawn(section: Section[Any], evidence: Any) -> Mapping[str, Figure]:
    """Return the charts of a section. Drawing takes nearly all the time that a page takes, so tests
    put another function in this one's place.
    """
    return section.chart(evidence)
