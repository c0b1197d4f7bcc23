"""Sheets: one HTML file that needs no network, and the drawings in it; what they say is not known
here.

    charts + grids -> [ Sheet ] -> page, together

Whatever text comes in is escaped where it meets HTML or a script. A sheet forbids itself every load
(its content security policy).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

from tombola.ground.files import write_whole
from tombola.reports.grids import Grid, filled, in_words

if TYPE_CHECKING:
    from tombola.ground.extras import altair as alt

Format = Literal["svg", "png", "pdf"]  # of a figure's own file
FIGURES = "figures"  # the folder of these files, beside the page
Chart: TypeAlias = Union["alt.LayerChart", "alt.VConcatChart"]


class Sheet:
    """A page in the making: its charts, drawn once, and its tables.

    Args:
        charts: By the name of its file, each with its caption; one without is a file alone.
        colours: Of the names that stand in tables with a dot of their colour.
    """

    def __init__(
        self, charts: Mapping[str, tuple[Chart, str]], colours: Mapping[str, str] | None = None
    ) -> None:
        self.charts, self.colours = charts, colours or {}
        # The tests hold every chart to Vega-Lite's schema; a page of thousands of results would
        # wait for it each time.
        self._specs = {name: chart.to_dict(validate=False) for name, (chart, _) in charts.items()}
        self.drawings = {name: _drawing(spec) for name, spec in self._specs.items()}
        self._told = {name: one for name, one in charts.items() if one[1]}
        # Names of arms may hold what has a meaning in a selector.
        self._ids = {
            name: name if name.isalpha() else f"chart-{index}"
            for index, name in enumerate(self._told)
        }

    def files(self, formats: Sequence[Format]) -> dict[str, bytes]:
        """Return the charts as files of their own, by their places beside the page."""
        return {
            f"{FIGURES}/{name}.{kind}": _as(kind, drawing)
            for name, drawing in self.drawings.items()
            for kind in formats
        }

    def shown(self, *names: str) -> str:
        """Return the figures of these names; a name that ends in a dash stands for all that begin
        so.

        The drawing is what readers without scripts see; where scripts run, the chart takes its
        place.
        """
        return "".join(
            f'<figure><div class="chart" id="{self._ids[name]}">{self.drawings[name]}</div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for name, (_, caption) in self._told.items()
            if any(name.startswith(one) if one.endswith("-") else name == one for one in names)
        )

    def told(self, *grids: Grid) -> str:
        """Return tables, without those that have no rows."""
        return "".join(_table(grid, self.colours) for grid in grids if grid.rows)

    def html(
        self,
        title: str,
        *,
        body: Sequence[str],
        question: Sequence[str] = (),
        verdicts: Sequence[str] = (),
        summary: Sequence[str] = (),
        notes: Sequence[str] = (),
        facts: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the page.

        Args:
            title: Plain text, as are question, summary, notes and facts.
            body: Pieces of HTML, in their order.
            question: What the page answers.
            verdicts: What is decided, one line each.
            summary: Lines above the body.
            notes: What a reader must know before believing the numbers.
            facts: What was run.
        """
        told = (facts or {}).items()
        decided = "".join(f"<li>{escape(sentence)}</li>" for sentence in verdicts)
        page = _PAGE.substitute(
            title=escape(title),
            question=paragraphs(question),
            verdicts=f"<ul class=verdicts>{decided}</ul>" if decided else "",
            facts="".join(
                f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in told
            ),
            summary=paragraphs(summary),
            notes=f"<ul class=notes>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>"
            if notes
            else "",
            body="".join(body),
            scripts=self._scripts() if self._told else "",
        )
        return page.encode()

    def _scripts(self) -> str:
        options = _json({"renderer": "svg", "actions": False})
        calls = []
        for name in self._told:
            spec = dict(self._specs[name])
            where = f'"#{self._ids[name]}",'
            # Vega-Lite gives the width of its place to single views alone
            if "room" in spec.get("usermeta", {}):
                calls.append(f"panels({where}{_json(spec)},{options});")
                continue
            # panels side by side keep their width, and are scaled as pictures are
            if "vconcat" not in spec:
                spec["width"] = "container"
                # what the page says above; a long one would leave a narrow figure no room
                spec.pop("title", None)
            calls.append(f"vegaEmbed({where}{_json(spec)},{options}).catch(console.error);")
        return f"<script>{_library()}</script><script>{_PANELS}{''.join(calls)}</script>"


def _drawing(spec: Mapping[str, Any]) -> str:
    """Draw a chart as SVG."""
    from tombola.ground.extras import vl_convert

    drawing: str = vl_convert.vegalite_to_svg(dict(spec), vl_version=_version())
    return drawing


def _as(kind: Format, drawing: str) -> bytes:
    """Turn an SVG into the bytes of a file: "svg", "pdf", or "png" with two pixels to the point."""
    from tombola.ground.extras import vl_convert

    if kind == "svg":
        return drawing.encode()
    found: bytes = (
        vl_convert.svg_to_png(drawing, scale=2) if kind == "png" else vl_convert.svg_to_pdf(drawing)
    )
    return found


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


def section(title: str, *content: str) -> str:
    """Put a heading over pieces of HTML, where there are any.

    >>> section("Costs", "<p>much</p>"), section("Costs", "", "")
    ('<h2>Costs</h2><p>much</p>', '')
    """
    whole = "".join(content)
    return f"<h2>{escape(title)}</h2>{whole}" if whole else ""


def paragraphs(lines: Sequence[str]) -> str:
    """Return lines of plain text as paragraphs of HTML.

    >>> paragraphs(["a < b"])
    '<p>a &lt; b</p>'
    """
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def legend(lines: Sequence[str]) -> str:
    """Return how tables and figures are to be read, as HTML."""
    return f'<div class="legend">{paragraphs(lines)}</div>'


def _table(grid: Grid, colours: Mapping[str, str]) -> str:
    grid = filled(grid)
    labels = "".join(f'<th scope="col"{_side(head)}>{escape(head)}</th>' for head in grid.labels)
    heads = "".join(
        f'<th scope="col"{_side(head)}>{escape(head)}</th>'
        for _, heads in grid.groups
        for head in heads
    )
    above = "".join(
        f'<th scope="colgroup" colspan="{len(heads)}">{_arm(name, colours)}</th>'
        for name, heads in grid.groups
    )
    named = any(name for name, _ in grid.groups)
    body = []
    for row in grid.rows:
        heads_of_cells = [*grid.labels, *(head for _, heads in grid.groups for head in heads)]
        cells = [
            f"<td{_side(head)}>{escape(cell)}</td>"
            for head, cell in zip(heads_of_cells, row, strict=True)
        ]
        for index, head in enumerate(grid.labels):
            text = _arm(row[index], colours) if head == "arm" else escape(row[index])
            cells[index] = f'<th scope="row"{_side(head)}>{text}</th>'
        body.append(f"<tr{'' if row[0] else ' class=more'}>{''.join(cells)}</tr>")
    return (
        f'<h2>{escape(grid.title)}</h2><div class="wide"><table{" class=grouped" if named else ""}><thead>'
        + (f'<tr><td colspan="{len(grid.labels)}"></td>{above}</tr>' if named else "")
        + f"<tr>{labels}{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        + "".join(f"<p class=below>{escape(note)}</p>" for note in grid.notes)
    )


def _arm(name: str, colours: Mapping[str, str]) -> str:
    return (
        f'<i style="background:{colours[name]}"></i>{escape(name)}'
        if name in colours
        else escape(name)
    )


def _side(head: str) -> str:
    return ' class="left names"' if head == "arms" else " class=left" if in_words(head) else ""


# Draws panels as wide as their place is, and again when it changes.
_PANELS = """
function panels(id, spec, options) {
  const place = document.querySelector(id);
  let width = 0;
  function draw() {
    if (place.clientWidth === width) return;
    width = place.clientWidth;
    for (const one of spec.vconcat) one.width = Math.max(120, width - spec.usermeta.room);
    vegaEmbed(id, spec, options).catch(console.error);
  }
  addEventListener("resize", draw);
  draw();
}
"""


@functools.cache
def _library() -> str:
    """Return the scripts that draw the charts; putting them together takes two seconds."""
    from tombola.ground.extras import vl_convert

    bundle: str = vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed;", vl_version=_version()
    )
    return bundle


def _json(value: Any) -> str:
    """JSON that cannot end the script it stands in."""
    return json.dumps(value).replace("<", "\\u003c")


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data:">
<title>$title</title>
<style>
:root { color-scheme: light; --ink: #222; --soft: #595959; --line: #d9d9d9 }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem; color: var(--ink); background: #fff;
  font: 1rem/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; overflow-wrap: break-word }
h1 { margin: 0 0 1.25rem; font-size: 1.9rem; line-height: 1.2; font-weight: 650; letter-spacing: -.01em }
h2 { margin: 2.5rem 0 .6rem; font-size: 1.15rem; font-weight: 650 }
p { margin: .5rem 0; max-width: 46rem }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .9rem 1.5rem; margin: 0 0 1.5rem;
  padding: 1rem 0; border: solid var(--line); border-width: 1px 0 }
dl:empty { display: none }
dt { color: var(--soft); font-size: .8rem }
dd { margin: 0 }
figure { margin: 2rem 0 0 }
figcaption { color: var(--soft); font-size: .85rem; max-width: 46rem }
.chart, .chart.vega-embed { display: block; width: 100% }
.chart svg { display: block; max-width: 100%; height: auto }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; white-space: nowrap }
th, td { padding: .22rem .55rem; text-align: right; font-weight: 400; vertical-align: baseline }
th:first-child, td:first-child { padding-left: 0 }
thead th { color: var(--soft); font-size: .8rem; vertical-align: bottom }
thead tr:last-child th { border-bottom: 1px solid var(--ink) }
thead [scope=colgroup] { color: var(--ink); font-size: .9rem; font-weight: 600; white-space: normal }
.left { min-width: 8.5rem; white-space: normal }
.names { white-space: nowrap }
tbody th, tbody td { border-top: 1px solid #eee }
tbody tr.more > *, tbody tr:first-child > * { border-top: 0 }
.left { text-align: left }
.grouped thead tr:last-child > :nth-child(even),
.grouped tbody tr > :nth-child(even) { padding-left: 1.8rem }
i { display: inline-block; width: .65em; height: .65em; margin-right: .45em; border-radius: 50%;
  print-color-adjust: exact; -webkit-print-color-adjust: exact }
.below { color: var(--soft); font-size: .85rem }
.question { font-size: 1.1rem }
.verdicts { margin: 1rem 0; padding: 0 0 0 1.1rem; max-width: 50rem }
.verdicts li { margin: .3rem 0 }
pre { max-width: 100%; overflow-x: auto; margin: .5rem 0; padding: .7rem 1rem; background: #f6f6f6; font-size: .82rem;
  line-height: 1.4 }
details { margin: 1rem 0 }
.legend { margin-top: 1.5rem; color: var(--soft); font-size: .85rem }
.notes { margin: 1rem 0; padding: .7rem 1rem .7rem 2rem; max-width: 46rem; background: #fdf6e3;
  border-left: 3px solid #e69f00; font-size: .92rem; print-color-adjust: exact; -webkit-print-color-adjust: exact }
@media (max-width: 40rem) { body { padding-top: 1.5rem } h1 { font-size: 1.5rem } th, td { padding: .2rem .5rem } }
@media print { body { padding: 0; max-width: none; font-size: 10pt } figure, tr { break-inside: avoid }
  tr.more { break-before: avoid }
  h2 { break-after: avoid } .wide { overflow: visible } table { font-size: 8pt } th, td { padding: .15rem .4rem } }
</style>
</head>
<body>
<h1>$title</h1>
<div class="question">$question</div>
$verdicts
$summary
$notes
<dl>$facts</dl>
<main>
$body
</main>
$scripts
</body>
</html>
""")
