"""The page: everything a run has to say, in one folder and in one file that needs no network.

    records -> [ decisions, tables, figures ] -> summary.md, figures as svg, png and pdf, report.html

Names of arms, titles, facts and notes come from users and from error messages, so they are escaped
wherever they meet HTML or a script. The page forbids itself every load (its content security policy).
"""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Literal

from tombola.files import write_whole
from tombola.reports import aggregate, decisions, drawing, figures, masks, panels, table
from tombola.reports.aggregate import Record
from tombola.reports.decisions import NOTHING, Asked
from tombola.reports.grids import Grid, in_words, percent

if TYPE_CHECKING:
    import altair as alt

    Chart = alt.LayerChart | alt.VConcatChart

Format = Literal["svg", "png", "pdf"]  # of a figure's own file

_MOST_LAYERS = 4  # arms whose layers are drawn; more figures than that nobody looks at


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


def write(
    folder: Path,
    title: str,
    records: Sequence[Record],
    notes: Sequence[str],
    facts: Mapping[str, str],
    asked: Asked = NOTHING,
    making: Making | None = None,
    formats: Sequence[Format] = ("svg", "png"),
) -> list[Path]:
    """Write the report of a run and return its files, ``report.html`` last; older ones are replaced.

    Each file is complete or not there: it is written beside its place and then moved. Without an
    arm that searches there is nothing to draw, and only ``summary.md`` and ``report.html`` are written.

    Args:
        folder: Is made if it is missing.
        title: Plain text, as are notes and facts.
        records: Of the whole experiment, fractions as in ``records.jsonl``.
        notes: What a reader must know before believing the numbers; one line each.
        facts: What was run, such as ``{"data": "digits", "model": "lenet_300_100"}``; kept in order.
        asked: What is to be decided.
        making: How the run is made again; left out if not given.
        formats: Of the figures' own files: "svg", "png", "pdf".
    """
    charts = _charts(records, asked, " · ".join(filter(None, [title, facts.get("data"), facts.get("training")])))
    drawings = {name: _drawn(chart, "svg") for name, (chart, _) in charts.items()}
    files: dict[str, bytes] = {"summary.md": table.markdown(title, records, notes, asked).encode()}
    for name, (chart, _) in charts.items():
        for kind in formats:
            files[f"{name}.{kind}"] = drawings[name] if kind == "svg" else _drawn(chart, kind)
    files["report.html"] = _html(title, records, notes, facts, asked, making, charts, drawings).encode()
    for name, content in files.items():
        write_whole(folder / name, content)
    return [folder / name for name in files]


def _charts(records: Sequence[Record], asked: Asked, title: str) -> dict[str, tuple[Chart, str]]:
    """Draw what there is to draw, by the name of its file, each with its caption; without one it is a file alone."""
    arms = aggregate.arms(records)
    if not arms:
        return {}
    source = asked.printed.source if asked.printed else ""
    printed = [
        {"arm": point.arm, "density": 100 * density, "accuracy": 100 * point.accuracy, "source": source}
        for point, density in decisions.paper_points(records, asked)
    ]
    hollow = f"; hollow: printed in {source}" if printed else ""
    found: dict[str, tuple[Chart, str]] = {
        "accuracy": (
            figures.accuracy_over_density(records, printed, title),
            "Test accuracy over density. Lines: mean of the replicates; small points: replicates; bands: lowest to "
            f"highest replicate; dashed: mean of the dense network{hollow}.",
        ),
        "density": (
            figures.density_over_round(records),
            "Density over rounds. A constant rate is a straight line; arms with equal counts lie on each other.",
        ),
    }
    if compared := decisions.comparisons(records, asked):
        found["differences"] = (
            panels.differences(compared),
            f"Paired differences in test accuracy: mean and {percent(1 - asked.alpha)} % interval over the replicates, "
            "sorted by the lowest density. An arrow: the interval goes on"
            + ("; grey: the margin." if asked.margin is not None else "."),
        )
    if decisions.cost_grid(records, asked).rows:
        found["costs"] = (
            panels.costs(records, asked.at),
            "What it costs to come to a density, as if each arm ran alone. Dark: the search; lighter: the training "
            "that tells the ticket's accuracy (at the end of the bar); palest: those of the tickets before it.",
        )
    drawn = [arm for arm in arms if arm in asked.drawn]
    if len(drawn) > 1:
        found["accuracy-and-rounds"] = (panels.accuracy_and_rounds(records, drawn), "")
        found["rounds"] = (
            panels.rounds(records, drawn),
            "Test accuracy, and below it the rounds it took, over the same densities. Mean of the replicates; bands: "
            "lowest to highest.",
        )
    tickets = [record for record in records if record["round"] and record["arm"] in arms]
    if any(aggregate.early_accuracy(record) is not None for record in tickets):
        found["early-stop"] = (
            panels.early_stop(records),
            "At the early stop, where the validation loss is lowest: test accuracy and training step; and at the end, "
            "how far the accuracy on training data is above that on test data (dashed, where arms are few: on "
            "validation data). Mean of the replicates; bands: lowest to highest.",
        )
    if any(record.get("distance") is not None for record in tickets):
        found["distance"] = (
            panels.distance(records),
            "How far the kept weights went in the training that evaluates a ticket, from where it began: root of the "
            "mean square. Mean of the replicates; bands: lowest to highest.",
        )
    if any(record.get("by_itself") for record in tickets) and aggregate.replicates(records) > 2:
        found["boxes"] = (
            figures.boxes(records, asked.at),
            "Test accuracy of the replicates by density: box and median of the middle half, whiskers to the outermost "
            "replicates; dashed: mean of the dense network.",
        )
    common = decisions.overlap_rows(records, asked)
    if common:
        found["overlap"] = (
            figures.overlap(common, arms),
            "What all partitions keep of the weights before a round (points), what they would by chance, in each layer "
            "by its own rate (dashed), and between which bounds arithmetic leaves it (band). Mean of the replicates.",
        )
    alike = masks.similarity_rows(records, asked)
    if alike:
        few = len({row["pair"] for row in alike}) <= figures.FEW_PAIRS
        found["similarity"] = (
            figures.similarity(alike, arms),
            "What two arms prune alike (Jaccard: pruned by both over pruned by either) where they have rounds of about "
            "the same density. Points: measured; dashed: by chance, in each layer by its own rates"
            + ("; thin: what one arm shares with the weights that were smallest before training; dotted: the most that "
               "is possible" if few else "")
            + ". All of them rise as less is kept. Mean of the replicates.",
        )  # fmt: skip
    for arm in [arm for arm in arms if arm in asked.drawn and _tells(records, arm, "layers")][:_MOST_LAYERS]:
        found[f"layers-{arm}"] = (
            figures.layers(records, arm),
            f"Where {arm} leaves its weights: what it keeps of each layer over the density of the whole; dashed: as "
            "much of each. A layer that falls off nears collapse.",
        )
    if asked.pruned:
        found["weights"] = (
            panels.weights(asked.pruned, arms),
            "The weights of the trained dense network by value, in its largest layer: coloured those that a ticket "
            "keeps, grey those that it prunes. One replicate; the outer bars hold all beyond.",
        )
    if any(record.get("curve") for record in records if record["round"]):
        for density in asked.at:
            if any(r["density"] <= density and r.get("curve") and r["arm"] in arms for r in records):
                found[f"curves-{percent(density)}"] = (
                    figures.curves(records, density),
                    f"Validation accuracy while training the first tickets at or below {percent(density)} %, and the "
                    "dense network. Mean of the replicates.",
                )
    return found


def _tells(records: Sequence[Record], arm: str, what: str) -> bool:
    return any(record.get(what) for record in records if record["arm"] == arm and record["round"])


def _drawn(chart: Chart, kind: Format) -> bytes:
    """Draw a chart as "svg" or "pdf", or as "png" with two pixels to the point."""
    if kind == "svg":
        text = io.StringIO()
        chart.save(text, format="svg")
        return text.getvalue().encode()
    drawn = io.BytesIO()
    chart.save(drawn, format=kind, scale_factor=2 if kind == "png" else 1)
    return drawn.getvalue()


def _html(
    title: str,
    records: Sequence[Record],
    notes: Sequence[str],
    facts: Mapping[str, str],
    asked: Asked,
    making: Making | None,
    charts: Mapping[str, tuple[Chart, str]],
    drawings: Mapping[str, bytes],
) -> str:
    colours = drawing.colours(aggregate.arms(records))
    # Names of arms may hold what has a meaning in a selector.
    charts = {name: (chart, caption) for name, (chart, caption) in charts.items() if caption}
    ids = {name: name if name.isalpha() else f"chart-{index}" for index, name in enumerate(charts)}

    def shown(*names: str) -> str:
        # The drawing is what readers without scripts see; where scripts run, the chart takes its place.
        return "".join(
            f'<figure><div class="chart" id="{ids[name]}">{drawings[name].decode()}</div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for name, (_, caption) in charts.items()
            if any(name.startswith(one) if one.endswith("-") else name == one for one in names)
        )

    def told(*grids: Grid) -> str:
        return "".join(_table(grid, colours) for grid in grids if grid.rows)

    said = decisions.sentences(records, asked)
    many = "".join(f"<li>{_judged(sentence)}</li>" for sentence in said)
    parts = [
        shown("accuracy", "boxes"),
        told(decisions.verdict_grid(records, asked)),
        shown("differences"),
        told(decisions.comparison_grid(records, asked), decisions.paper_grid(records, asked)),
        shown("density", "costs"),
        told(decisions.cost_grid(records, asked), *table.grids(records)[1:]),
        _section("Accuracy and rounds", shown("rounds")),
        shown("overlap"),
        told(decisions.overlap_grid(records, asked)),
        shown("similarity"),
        told(masks.similarity_grid(records, asked)),
        _section(
            "Where the weights went", _paragraphs(masks.collapse_lines(records, asked)) + shown("layers-", "weights")
        ),
        told(masks.collapse_grid(records, asked)),
        _section("While training", shown("curves-", "distance", "early-stop")),
        told(table.stop_grid(records, asked.at)),
        told(*table.grids(records)[:1]),
        _section("What was spent", _paragraphs(decisions.spent_lines(records))),
        f'<div class="legend">{_paragraphs([*decisions.legend(records, asked), *table.legend(records)])}</div>',
        _again(making) if making else "",
    ]
    return _PAGE.substitute(
        title=escape(title),
        question=_paragraphs(decisions.question(records, asked)),
        verdicts=f"<ul class=verdicts>{many}</ul>" if many else "",
        facts="".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts.items()),
        summary=_paragraphs(table.summary(records)),
        notes=f"<ul class=notes>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" if notes else "",
        body="".join(parts),
        scripts=_scripts({ids[name]: chart for name, (chart, _) in charts.items()}) if charts else "",
    )


def _judged(sentence: str) -> str:
    """Set the word of a verdict off, so that it is seen at a glance."""
    words = "winning|losing|not shown|no verdict"
    return re.sub(rf"^([^:]*: )({words})\.", r"\1<b>\2</b>.", escape(sentence))


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def _again(making: Making) -> str:
    """Say how the run is made again: command, recipe, environment; folded up, and unfolded in print."""
    lines = []
    for environment in making.environments:
        packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())
        where = [f"Python {environment.get('python', '?')}", str(environment.get("platform", "")), packages,
                 f"data {str(environment.get('data_fingerprint', ''))[:12]}"]  # fmt: skip
        lines.append("; ".join(filter(None, where)))
    return (
        f"<h2>To make it again</h2><pre>{escape(making.command)}</pre>{_paragraphs(lines)}"
        f"<details><summary>The recipe with every default</summary><pre>{escape(making.recipe)}</pre></details>"
    )


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _table(grid: Grid, colours: Mapping[str, str]) -> str:
    labels = "".join(f'<th scope="col"{_side(head)}>{escape(head)}</th>' for head in grid.labels)
    heads = "".join(f'<th scope="col"{_side(head)}>{escape(head)}</th>' for _, heads in grid.groups for head in heads)
    above = "".join(
        f'<th scope="colgroup" colspan="{len(heads)}">{_arm(name, colours)}</th>' for name, heads in grid.groups
    )
    named = any(name for name, _ in grid.groups)
    body = []
    for row in grid.rows:
        heads_of_cells = [*grid.labels, *(head for _, heads in grid.groups for head in heads)]
        cells = [f"<td{_side(head)}>{escape(cell)}</td>" for head, cell in zip(heads_of_cells, row, strict=True)]
        for index, head in enumerate(grid.labels):
            text = _arm(row[index], colours) if head == "arm" else escape(row[index])
            cells[index] = f'<th scope="row"{_side(head)}>{text}</th>'
        body.append(f"<tr{'' if row[0] else ' class=more'}>{''.join(cells)}</tr>")
    return (
        f'<h2>{escape(grid.title)}</h2><div class="wide"><table{" class=grouped" if named else ""}><thead>'
        + (f'<tr><td colspan="{len(grid.labels)}"></td>{above}</tr>' if named else "")
        + f"<tr>{labels}{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _arm(name: str, colours: Mapping[str, str]) -> str:
    return f'<i style="background:{colours[name]}"></i>{escape(name)}' if name in colours else escape(name)


def _side(head: str) -> str:
    return ' class="left names"' if head == "arms" else " class=left" if in_words(head) else ""


def _scripts(charts: Mapping[str, Chart]) -> str:
    options = _json({"renderer": "svg", "actions": False})
    calls = []
    for name, chart in charts.items():
        spec = chart.to_dict()
        if "vconcat" in spec:  # Vega-Lite gives the width of its place to single views alone
            calls.append(f'panels("#{name}",{_json(spec)},{options});')
        else:
            spec["width"] = "container"
            spec.pop("title", None)  # what the page says above; a long one would leave a narrow figure no room
            calls.append(f'vegaEmbed("#{name}",{_json(spec)},{options}).catch(console.error);')
    return f"<script>{_library()}</script><script>{_PANELS}{''.join(calls)}</script>"


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
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
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
