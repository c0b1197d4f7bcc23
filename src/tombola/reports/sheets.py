"""Sheets: one HTML file that needs no network, and the drawings in it; what they say is not known
here.

    what sections show -> [ Sheet ] -> figures as svg, png and pdf; report.html

Whatever text comes in is escaped where it meets HTML or a script. A sheet forbids itself every load
(its content security policy). Without scripts it has everything but charts that react: the drawings
stand in their place, and folds open by themselves. Colours follow the reader's system: the charts
are SVG, so a rule of CSS for each colour is enough.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Literal
from urllib.parse import quote

from tombola.ground.files import write_whole
from tombola.reports import drawing
from tombola.reports.grids import Grid, filled, in_words
from tombola.reports.section import Figure

Format = Literal["svg", "png", "pdf"]  # of a figure's own file
FIGURES = "figures"  # the folder of these files, beside the page
_ANSWER = "answer"  # what the first screen is called in the menu
_LONG = 16  # letters of a head, from which on it takes two lines
_MOST_NOTES = 2  # that are told at once; the others are folded


@dataclass(frozen=True)
class Content:
    """What a section shows, as plain text, charts and grids; false where that is nothing.

    Attributes:
        title: Stands above.
        look: How the sentences are set.
        sentences: One paragraph each.
        figures: By the names of their files.
        grids: Tables.
        legend: How the tables are to be read.
        links: Files to open, by what they are called.
        facts: What was run, by what it is.
        code: Text to copy, by what it is.
    """

    title: str = ""
    look: str = "text"
    sentences: Sequence[str] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    grids: Sequence[Grid] = ()
    legend: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        texts = (self.sentences, self.links, self.facts, self.code)
        return any((*texts, self.figures, self.grids))


@dataclass(frozen=True)
class Fold:
    """Contents that are folded up under one name of the menu."""

    title: str
    contents: Sequence[Content]


class Sheet:
    """A page in the making: its charts, drawn once, and what stands around them.

    Args:
        first: What stands on the first screen.
        folds: What is folded up below it.
        arms: All arms, each of which has its colour and mark everywhere.
    """

    def __init__(
        self, first: Sequence[Content], folds: Sequence[Fold] = (), arms: Sequence[str] = ()
    ) -> None:
        self.first, self.folds = first, folds
        self._colours, self._marks = drawing.colours(arms), drawing.marks(arms)
        self.figures: dict[str, Figure] = {}
        for contents in (first, *(fold.contents for fold in folds)):
            for content in contents:
                self.figures |= content.figures
        self._specs: dict[str, dict[str, Any]] = {}
        for name, figure in self.figures.items():
            # The tests hold every chart to Vega-Lite's schema; a page of thousands of results would
            # wait for it each time.
            self._specs[name] = figure.chart.to_dict(validate=False)
        drawings = {name: _drawing(spec) for name, spec in self._specs.items()}
        self.drawings = _with_clips_from_one(drawings)
        # Names of arms may hold what has a meaning in a selector, so charts are numbered.
        shown = [name for name, figure in self.figures.items() if figure.caption]
        self._ids = {name: f"chart-{index}" for index, name in enumerate(shown)}

    def files(self, formats: Sequence[Format]) -> dict[str, bytes]:
        """Return the charts as files of their own, by their places beside the page."""
        files = {}
        for name, svg in self.drawings.items():
            for kind in formats:
                files[f"{FIGURES}/{name}.{kind}"] = _as(kind, svg)
        return files

    def html(self, title: str, question: Sequence[str] = ()) -> bytes:
        """Return the page.

        Args:
            title: Plain text: what the page is of.
            question: What it answers, plain text; its heading. The title if there is none.
        """
        menu = [f'<a href="#{_ANSWER}">Answer</a>']
        folds = []
        for index, fold in enumerate(self.folds):
            place, name = f"fold-{index}", escape(fold.title)
            menu.append(f'<a href="#{place}">{name}</a>')
            inside = "".join(map(self._content, fold.contents))
            folds.append(
                f"<details><summary>{name}</summary>"
                f'<div class="inside" id="{place}">{inside}</div></details>'
            )
        page = _PAGE.substitute(
            title=escape(title),
            style=_text("sheet.css") + _colour_rules(),
            name=f'<p class="name">{escape(title)}</p>' if question else "",
            menu="".join(menu) if folds else "",
            question=escape(" ".join(question) or title),
            first="".join(map(self._content, self.first)),
            folds="".join(folds),
            scripts=self._scripts(),
        )
        return page.encode()

    def _content(self, content: Content) -> str:
        """Return what a section shows, in the order in which it is read."""
        heading = f"<h2>{escape(content.title)}</h2>" if content.title else ""
        parts = [heading, _said(content)]
        for name, figure in content.figures.items():
            parts.append(self._figure(name, figure))
        for grid in content.grids:
            # What is called as its section is needs no name of its own.
            parts.append(_table(grid, self._arm, title=grid.title != content.title))
        if content.facts:
            rows = ""
            for name, text in content.facts.items():
                rows += f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>"
            parts.append(f"<dl>{rows}</dl>")
        for name, text in content.code.items():
            if text:
                parts.append(f"<h3>{escape(name)}</h3><pre tabindex=0>{escape(text)}</pre>")
        if content.legend:
            parts.append(f'<div class="legend">{paragraphs(content.legend)}</div>')
        return f'<section class="{content.look}">{"".join(parts)}</section>'

    def _figure(self, name: str, figure: Figure) -> str:
        """Return a figure; nothing where it is a file alone.

        The drawing is what readers without scripts see; where scripts run, the chart takes its
        place.
        """
        if name not in self._ids:
            return ""
        return (
            f'<figure><div class="chart" id="{self._ids[name]}">{self.drawings[name]}</div>'
            f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
        )

    def _arm(self, name: str) -> str:
        """Return the name of an arm behind its mark in its colour."""
        if name not in self._colours:
            return escape(name)
        outline = _MARKS[self._marks[name]]
        return (
            '<span class="arm"><svg class="mark" viewBox="-6 -6 12 12" aria-hidden="true">'
            f'<path d="{outline}" fill="{self._colours[name]}"/></svg>{escape(name)}</span>'
        )

    def _scripts(self) -> str:
        """Return the scripts of the page, without the library if there is no chart."""
        options = _json({"renderer": "svg", "actions": False})
        calls = []
        for name, place in self._ids.items():
            spec = dict(self._specs[name])
            # What the page says above; a long one would leave a narrow figure no room.
            if "vconcat" not in spec:
                spec.pop("title", None)
            calls.append(f'chart("{place}",{_json(spec)},{options});')
        library = f"<script>{_library()}</script>" if calls else ""
        return f"{library}<script>{_text('sheet.js')}{''.join(calls)}</script>"


def _said(content: Content) -> str:
    """Return the sentences of a section, and its links behind the last one."""
    links = []
    for name, path in content.links.items():
        links.append(f'<a href="{escape(_relative(path))}">{escape(name)}</a>')
    linked = f'<p class="links">{" · ".join(links)}</p>' if links else ""
    if content.look != "notes":
        return paragraphs(content.sentences) + linked
    notes = [f"<li>{escape(note)}</li>" for note in content.sentences]
    if not notes:
        return linked
    shown, more = notes[:_MOST_NOTES], notes[_MOST_NOTES:]
    folded = ""
    if more:
        folded = f"<details><summary>{len(more)} more</summary><ul>{''.join(more)}</ul></details>"
    return f"<ul>{''.join(shown)}</ul>{folded}{linked}"


def _relative(path: str) -> str:
    """Return the address of a file beside the page; a name of the user's cannot lead elsewhere."""
    return "./" + quote(path)


def _colour_rules() -> str:
    """Return the rules of CSS that give the colours of charts on a dark page."""
    on_dark = dict(zip(drawing.PALETTE, drawing.ON_DARK, strict=True))
    on_dark |= dict(zip(drawing.LETTERS, drawing.ON_DARK, strict=True))
    on_dark |= {drawing.INK: "#e6e6e6", drawing.GREY: "#a5a9b0", drawing.PAPER: "#15171a"}
    on_dark |= {drawing.GRID: "#2e3238", drawing.PRUNED: "#5a5f66"}
    rules = []
    for light, dark in on_dark.items():
        rules.append(f'svg [fill="{light}" i]{{fill:{dark}}}')
        rules.append(f'svg [stroke="{light}" i]{{stroke:{dark}}}')
    return f"@media screen and (prefers-color-scheme: dark) {{{''.join(rules)}}}"


# The marks of arms as Vega draws them, around a middle at 0, 0.
_MARKS = {
    "circle": "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0Z",
    "square": "M-4,-4h8v8h-8Z",
    "triangle-up": "M0,-5L5,4H-5Z",
    "diamond": "M0,-5.5L5.5,0L0,5.5L-5.5,0Z",
    "cross": "M-5,-1.8h3.2v-3.2h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2Z",
    "triangle-down": "M0,5L5,-4H-5Z",
    "triangle-right": "M5,0L-4,5V-5Z",
    "triangle-left": "M-5,0L4,5V-5Z",
}


def _drawing(spec: Mapping[str, Any]) -> str:
    """Draw a chart as SVG."""
    from tombola.ground.extras import vl_convert

    drawing: str = vl_convert.vegalite_to_svg(dict(spec), vl_version=_version())
    return drawing


def _with_clips_from_one(drawings: Mapping[str, str]) -> dict[str, str]:
    """Number the clip paths of a page's drawings from 1.

    Vega counts on through the life of a process; so numbered, a page is the same whatever was
    drawn before it. The drawings share the page, so the numbers go on from one to the next.
    """
    pattern = re.compile(r'(url\(#clip|<clipPath id="clip)(\d+)')
    numbered: dict[str, str] = {}
    clips = 0
    for name, svg in drawings.items():
        numbers: dict[str, int] = {}
        for _, clip in pattern.findall(svg):
            if clip not in numbers:
                clips += 1
                numbers[clip] = clips

        # As a default, because a closure would see the numbers of the last drawing.
        def renumber(match: re.Match[str], numbers: Mapping[str, int] = numbers) -> str:
            return f"{match[1]}{numbers[match[2]]}"

        numbered[name] = pattern.sub(renumber, svg)
    return numbered


def _as(kind: Format, drawing: str) -> bytes:
    """Turn an SVG into the bytes of a file: "svg", "pdf", or "png" with two pixels to the point."""
    from tombola.ground.extras import vl_convert

    if kind == "svg":
        return drawing.encode()
    if kind == "png":
        png: bytes = vl_convert.svg_to_png(drawing, scale=2)
        return png
    pdf: bytes = vl_convert.svg_to_pdf(drawing)
    return pdf


def _version() -> str:
    """Return the version of Vega-Lite that the charts are written in, as major and minor number."""
    from tombola.ground.extras import altair

    return ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write the files of a report, each whole or not at all, and return their paths in order.

    A figure that an older report left beside the page is removed once the new one stands in its
    folder: two of one name would be taken for each other.
    """
    for name, content in files.items():
        write_whole(folder / name, content)
        path = Path(name)
        if path.parent.name == FIGURES:
            (folder / path.name).unlink(missing_ok=True)
    return [folder / name for name in files]


def paragraphs(lines: Sequence[str]) -> str:
    """Return lines of plain text as paragraphs of HTML.

    >>> paragraphs(["a < b"])
    '<p>a &lt; b</p>'
    """
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _table(grid: Grid, arm: Callable[[str], str], *, title: bool) -> str:
    """Return a table in a place of its own, which scrolls where it is too narrow.

    Args:
        grid: The table.
        arm: Gives the HTML of an arm's name.
        title: Whether its title stands above.
    """
    grid = filled(grid)
    notes = "".join(f'<p class="below">{escape(note)}</p>' for note in grid.notes)
    heads, classes, top = _columns(grid, arm)
    row_of_heads = ""
    for head, css in zip(heads, classes, strict=True):
        row_of_heads += f'<th scope="col"{css}>{_in_one_piece(escape(head))}</th>'
    body = ""
    for row in grid.rows:
        cells = ""
        for index, (head, css, text) in enumerate(zip(heads, classes, row, strict=True)):
            shown = arm(text) if head == "arm" else escape(text)
            is_label = index < len(grid.labels)
            cells += f'<th scope="row"{css}>{shown}</th>' if is_label else f"<td{css}>{shown}</td>"
        # A row without a first label goes on with what the one above is about.
        body += f"<tr{'' if row[0] else ' class=more'}>{cells}</tr>"
    return (
        (f"<h3>{escape(grid.title)}</h3>" if title else "")
        + f'<div class="wide" role="region" aria-label="{escape(grid.title)}" tabindex="0">'
        + f"<table><thead>{top}<tr>{row_of_heads}</tr></thead>"
        + f"<tbody>{body}</tbody></table></div>{notes}"
    )


def _columns(grid: Grid, arm: Callable[[str], str]) -> tuple[list[str], list[str], str]:
    """Return the heads of all columns, how each is set, and the row of the groups' names above
    them, which is empty where they have none.
    """
    named = any(name for name, _ in grid.groups)
    heads = list(grid.labels)
    starts = set[int]()
    top = f'<td colspan="{len(heads)}"></td>'
    for name, of_group in grid.groups:
        if named:
            starts.add(len(heads))  # a gap before each group of columns
        if of_group:
            span = f'colspan="{len(of_group)}"'
            top += f'<th scope="colgroup" class="start" {span}>{arm(name)}</th>'
        heads += of_group
    classes = [_classes(head, index in starts) for index, head in enumerate(heads)]
    return heads, classes, f"<tr>{top}</tr>" if named else ""


def _in_one_piece(head: str) -> str:
    """Keep what stands in brackets in one line, where a head takes two."""
    return re.sub(r"\([^)]*\)", lambda match: match[0].replace(" ", "&nbsp;"), head)


def _classes(head: str, is_start: bool) -> str:
    """Return how the cells of a column are set."""
    classes = ["start"] if is_start or head.startswith("at ") else []
    if in_words(head) or not head:  # without a head it is the words on what stands before
        classes.append("left")
    if head in ("arm", "arms"):
        classes.append("names")
    elif len(head) > _LONG:
        classes.append("long")
    if head in ("", "verdict", "outcome"):
        classes.append("word")
    return f' class="{" ".join(classes)}"' if classes else ""


def _text(name: str) -> str:
    """Return a file of this package."""
    file = importlib.resources.files("tombola.reports").joinpath(name)
    return file.read_text(encoding="utf-8")


@functools.cache
def _library() -> str:
    """Return the scripts that draw the charts; putting them together takes two seconds."""
    from tombola.ground.extras import vl_convert

    bundle: str = vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed;", vl_version=_version()
    )
    return bundle


def _json(value: Any) -> str:
    """Return JSON that cannot end the script it stands in."""
    return json.dumps(value).replace("<", "\\u003c")


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline' 'unsafe-eval'; img-src data:">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header>$name<nav aria-label="Sections">$menu</nav></header>
<main>
<h1 id="answer">$question</h1>
$first
$folds
</main>
$scripts
</body>
</html>
""")
