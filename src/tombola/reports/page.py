"""The page: everything a run has to say, in one folder and in one file that needs no network.

    records -> [ decisions, tables, figures ] -> report.html, results.csv, table.tex, summary.md,
    figures/ as svg, png and pdf

Names of arms, titles, facts and notes come from users and from error messages: see `sheets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from tombola.evidence.answers import Evidence
from tombola.ground.metrics import Metric
from tombola.reports import (
    aggregate,
    decisions,
    drawing,
    figures,
    inference,
    masks,
    panels,
    table,
    tabular,
)
from tombola.reports.aggregate import Record
from tombola.reports.decisions import NOTHING, Asked
from tombola.reports.grids import listed, percent
from tombola.reports.sheets import Chart, Format, Sheet, legend, paragraphs, section, write_files

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
    """Write the report of a run and return its files, ``report.html`` last; older ones are
    replaced.

    Each file is complete or not there: it is written beside its place and then moved. Without an
    arm that searches there is nothing to draw, and there are no figures.

    Args:
        folder: Is made if it is missing.
        title: Plain text, as are notes and facts.
        records: Of the whole experiment, fractions as in ``records.jsonl``.
        notes: What a reader must know before believing the numbers; one line each.
        facts: What was run, such as ``{"data": "digits", "model": "lenet_300_100"}``; kept in
            order.
        asked: What is to be decided.
        making: How the run is made again; left out if not given.
        formats: Of the figures' own files: "svg", "png", "pdf".
    """
    records = Evidence.of(records)  # each section asks for what it needs, and it is worked out once
    charts = _charts(
        records, asked, " · ".join(filter(None, [title, facts.get("data"), facts.get("training")]))
    )
    sheet = Sheet(charts, drawing.colours(aggregate.arms(records)))
    files: dict[str, bytes] = {"summary.md": table.markdown(title, records, notes, asked).encode()}
    files |= sheet.files(formats)
    if records:
        files["results.csv"] = tabular.spreadsheet(records).encode()
        files["table.tex"] = tabular.latex(title, records, asked).encode()
    files["report.html"] = _html(sheet, title, records, notes, facts, asked, making)
    return write_files(folder, files)


def _charts(records: Sequence[Record], asked: Asked, title: str) -> dict[str, tuple[Chart, str]]:
    """Draw what there is to draw, by the name of its file, each with its caption; without one
    it is a file alone.
    """
    arms, metric = aggregate.arms(records), asked.metric
    if not arms:
        return {}
    source = asked.printed.source if asked.printed else ""
    printed = [
        {
            "arm": point.arm,
            "density": 100 * density,
            metric.name: 100 * point.accuracy,
            "source": source,
        }
        for point, density in decisions.paper_points(records, asked)
    ]
    hollow = f"; hollow: printed in {source}" if printed else ""
    found: dict[str, tuple[Chart, str]] = {
        metric.name: (
            figures.metric_over_density(records, printed, title, metric),
            f"Test {metric.title} over density. Lines: mean of the replicates; small points: "
            "replicates; bands: 95 % t interval of the mean, of three or more, cut off where the "
            f"replicates end; dashed: mean of the dense network{hollow}.",
        ),
        "density": (
            figures.density_over_round(records),
            "Density over rounds. A constant rate is a straight line; arms with equal counts lie "
            "on each other.",
        ),
    }
    if compared := decisions.comparisons(records, asked):
        found["differences"] = (
            panels.differences(compared),
            f"Paired differences in test {metric.title}: mean and {percent(1 - asked.alpha)} % "
            "interval over the replicates, sorted by the lowest density. An arrow: the interval "
            "goes on" + ("; grey: the margin." if asked.margin is not None else "."),
        )
    if decisions.cost_grid(records, asked).rows:
        found["costs"] = (
            panels.costs(records, asked.at, asked.made_of, metric),
            "What it costs to come to a density, as if each arm ran alone. Dark: the search; "
            f"lighter: the training that tells the ticket's {metric.title} (at the end of the "
            "bar); palest: those of the tickets before it, as far as they were evaluated.",
        )
    drawn = [arm for arm in arms if arm in asked.drawn]
    if len(drawn) > 1:
        found[f"{metric.name}-and-rounds"] = (panels.metric_and_rounds(records, drawn, metric), "")
        found["rounds"] = (
            panels.rounds(records, drawn, metric),
            f"Test {metric.title}, and below it the rounds it took, over the same densities. Mean "
            "of the replicates; bands: lowest to highest.",
        )
    tickets = [record for record in records if record["round"] and record["arm"] in arms]
    if any(aggregate.early_value(record, metric) is not None for record in tickets):
        found["early-stop"] = (
            panels.early_stop(records, metric),
            f"At the early stop, where the validation loss is lowest: test {metric.title} and "
            f"training step; and at the end, how far the {metric.title} on training data is above "
            "that on test data (dashed, where arms are few: on validation data). Mean of the "
            "replicates; bands: lowest to highest.",
        )
    if any(record.get("distance") is not None for record in tickets):
        found["distance"] = (
            panels.distance(records),
            "How far the kept weights went in the training that evaluates a ticket, from where it "
            "began: root of the mean square. Mean of the replicates; bands: lowest to highest.",
        )
    if any(record.get("by_itself") for record in tickets) and aggregate.replicates(records) > 2:
        early = any(aggregate.early_value(record, metric) is not None for record in records)
        ends = [arm for arm in arms if arm in asked.networks]
        found["boxes"] = (
            figures.boxes(records, asked.at, ends, metric),
            f"Test {metric.title} of the replicates, each density on a scale of its own, the dense "
            "networks in all of them: box and median of the middle half, whiskers to the outermost "
            "replicates. "
            + (
                "Tickets and dense networks at their early stop"
                if early
                else "All at the end of training"
            )
            + (f", {listed(ends)} at the end of training." if early and ends else "."),
        )
    common = decisions.overlap_rows(records, asked)
    if common:
        found["overlap"] = (
            figures.overlap(common, arms),
            "What all partitions keep of the weights before a round (points), what they would by "
            "chance, in each layer by its own rate (dashed), and between which bounds arithmetic "
            "leaves it (band). Mean of the replicates.",
        )
    alike = masks.similarity_rows(records, asked)
    if alike:
        few = len({row["pair"] for row in alike}) <= figures.FEW_PAIRS
        found["similarity"] = (
            figures.similarity(alike, arms),
            "What two arms prune alike (Jaccard: pruned by both over pruned by either) where they "
            "have rounds of about the same density. Points: measured; dashed: by chance, in each "
            "layer by its own rates"
            + (
                "; thin: what one arm shares with the weights that were smallest before training; "
                "dotted: the most that is possible"
                if few
                else ""
            )
            + ". All of them rise as less is kept. Mean of the replicates.",
        )
    for arm in decisions.connected(records):
        found[f"line-{arm}"] = (
            figures.line(decisions.line_rows(records, arm, asked), metric),
            f"Test {metric.error_title} on the straight line between two trainings of one ticket, "
            f"in two orders of the data: those of {arm}, and the dense network. A level line: both "
            "came to one basin. Mean of the replicates.",
        )
    if decisions.connected(records):
        found["barrier"] = (
            figures.barrier(records, decisions.STABLE if metric.fraction else None, metric),
            f"Barrier over density: {_barrier(metric)}. Lines: mean of the replicates; points: "
            "replicates."
            + (
                f" Stable where it is below {percent(decisions.STABLE)} points (dashed)."
                if metric.fraction
                else ""
            ),
        )
    for arm in [arm for arm in arms if arm in asked.drawn and _tells(records, arm, "layers")][
        :_MOST_LAYERS
    ]:
        found[f"layers-{arm}"] = (
            figures.layers(records, arm),
            f"Where {arm} leaves its weights: what it keeps of each layer over the density of the "
            "whole; dashed: as much of each. A layer that falls off nears collapse.",
        )
    if asked.pruned:
        found["weights"] = (
            panels.weights(asked.pruned, arms),
            "The weights of the trained dense network by value, in its largest layer: coloured "
            "those that a ticket keeps, grey those that it prunes. One replicate; the outer bars "
            "hold all beyond.",
        )
    if any(record.get("curve") for record in records if record["round"]):
        for density in asked.at:
            if any(
                r["density"] <= density and r.get("curve") and r["arm"] in arms for r in records
            ):
                found[f"curves-{percent(density)}"] = (
                    figures.curves(records, density, metric),
                    f"Validation {metric.title} while training the first tickets at or below "
                    f"{percent(density)} %, and the dense network. Mean of the replicates.",
                )
    return found


def _barrier(metric: Metric) -> str:
    """Say what the height of a barrier is."""
    if metric.higher and not metric.fraction:
        return f"the lowest {metric.title} on that line below the mean of its ends"
    return f"the highest {metric.error_title} on that line above the mean of its ends"


def _tells(records: Sequence[Record], arm: str, what: str) -> bool:
    return any(record.get(what) for record in records if record["arm"] == arm and record["round"])


def _html(
    sheet: Sheet,
    title: str,
    records: Sequence[Record],
    notes: Sequence[str],
    facts: Mapping[str, str],
    asked: Asked,
    making: Making | None,
) -> bytes:
    shown, told = sheet.shown, sheet.told
    title_of = asked.metric.title[:1].upper() + asked.metric.title[1:]
    parts = [
        shown(asked.metric.name, "boxes"),
        told(decisions.verdict_grid(records, asked)),
        shown("differences"),
        told(decisions.comparison_grid(records, asked), decisions.paper_grid(records, asked)),
        shown("density", "costs"),
        told(decisions.cost_grid(records, asked), decisions.budget_grid(records, asked)),
        told(*table.grids(records, asked, briefly=True)[1:]),
        section(f"{title_of} and rounds", shown("rounds")),
        shown("overlap"),
        told(decisions.overlap_grid(records, asked)),
        shown("similarity"),
        told(masks.similarity_grid(records, asked)),
        shown("line-", "barrier"),
        told(decisions.barrier_grid(records, asked.metric)),
        section(
            "Where the weights went",
            paragraphs(masks.collapse_lines(records, asked)),
            shown("layers-", "weights"),
        ),
        told(masks.collapse_grid(records, asked)),
        section("While training", shown("curves-", "distance", "early-stop")),
        told(table.stop_grid(records, asked.at, asked.metric)),
        told(*table.grids(records, asked, briefly=True)[:1]),
        told(inference.inference_grid(records, asked)),
        paragraphs(inference.inference_lines(records, asked)),
        section("What was spent", paragraphs(decisions.spent_lines(records, asked))),
        legend([*decisions.legend(records, asked), *table.legend(records, asked.metric)]),
        _again(making) if making else "",
    ]
    return sheet.html(
        title,
        body=parts,
        question=decisions.question(records, asked),
        verdicts=decisions.sentences(records, asked),
        summary=table.summary(records, asked),
        notes=notes,
        facts=facts,
    )


def _again(making: Making) -> str:
    """Say how the run is made again: command, recipe, environment; folded up, and unfolded in
    print.
    """
    lines = []
    for environment in making.environments:
        packages = ", ".join(
            f"{name} {version}" for name, version in environment.get("packages", {}).items()
        )
        where = [f"Python {environment.get('python', '?')}", str(environment.get("platform", "")), packages,
                 f"data {str(environment.get('data_fingerprint', ''))[:12]}"]  # fmt: skip
        lines.append("; ".join(filter(None, where)))
    return (
        f"<h2>To make it again</h2><pre>{escape(making.command)}</pre>{paragraphs(lines)}"
        "<details><summary>The recipe with every "
        f"default</summary><pre>{escape(making.recipe)}</pre></details>"
    )
