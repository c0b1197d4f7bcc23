"""Sections: what every one of them promises, on the records of committed findings."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.test_page import FOUR, asked
from tests.test_page import records as made_records

from tombola.evidence.answers import Evidence
from tombola.experiments import reporting
from tombola.folder.runs import Run
from tombola.ground import catalogue
from tombola.reports import layout, matrix, page, together
from tombola.reports.detections import Picture, Shown
from tombola.reports.grids import Grid
from tombola.reports.section import Figure, Making, OneRun, Section, SeveralRuns

PACKAGE = "tombola.reports.sections"
NAMES = catalogue.entries(PACKAGE)
LAYOUTS = {one.of: one for one in (page.LAYOUT, together.LAYOUT, matrix.LAYOUT)}
# Sections that these findings have nothing for: they need what is not committed.
SILENT = {
    "paper",
    "weights",
    "stability",
    "runs_barrier",
    "runs_notes",
    "hindrances",
    "scoring",
    "equal_cost",
    "runs_layers_alive",
    "runs_classes",
}


def findings(root, name):
    run = Run(root / "docs" / "findings" / name)
    records = Evidence(run.records.all())
    decided = reporting.asked(run.recipe)
    return run, records, decided


@pytest.fixture(scope="module")
def evidence(request):
    """By what sections are made from, committed results of such."""
    root = request.config.rootpath
    found = {"run": [], "several runs": [], "transfer": []}
    for name in ("cifar10-conv3", "mnist-lenet5-gradual"):
        run, records, decided = findings(root, name)
        found["run"].append(
            OneRun(
                records,
                replace(decided, similar=run.similarities(), latency=run.latency()),
                facts=run.facts or {"data": "x"},
                making=Making("tombola run", "name: x"),
            )
        )
    # Those records have no curves, no candidates, no distances, no values by class, no shares of
    # partitions and no untrained tickets.
    made = []
    for record in made_records():
        untrained = record["arm"] == "matched" and record["round"] > 0
        by_class = {"test_more": {"ap_cat": 0.7, "ap_dog": 0.6 - 0.1 * record["density"]}}
        shares = {"partition_shares": [{"pictures": 9, "shared_pictures": 4, "cells": 2}]}
        made.append(record | by_class | shares | ({"untrained": True} if untrained else {}))
    picture = Picture("data:image/png;base64,AA", 4, 4, [], {"dense": [], "lth": []})
    more = {"chance": 0.1, "shown": Shown([picture], {"lth": 0.5}, 0)}
    found["run"].append(OneRun(Evidence(made), replace(asked(FOUR), **more)))
    parts = []
    for rate in ("0.003", "0.01"):
        run, records, decided = findings(root, f"mnist-rates/{rate}")
        parts.append(together.Part(rate, records, decided, {"training.lr": float(rate)}))
    found["several runs"].append(SeveralRuns(parts))
    lines = (root / "docs/findings/lenet5-transfer/matrix/records.jsonl").read_text().splitlines()
    whole = matrix.Matrix.of([json.loads(line) for line in lines])
    found["transfer"].append(matrix.Transfer(whole, ["a note"], {"data": "x"}))
    return found


def used(of):
    names = list(LAYOUTS[of].first)
    for fold in LAYOUTS[of].folds.values():
        names += fold
    return names


def test_every_section_stands_on_exactly_one_page_and_once():
    listed = [name for of in LAYOUTS for name in used(of)]
    assert sorted(listed) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_section_shows_plain_text_charts_and_grids_and_the_same_each_time(
    name, evidence, with_charts
):
    made = catalogue.entry(PACKAGE, name)()
    assert isinstance(made, Section)
    assert made.__doc__
    shown = 0
    for one in evidence[made.of]:
        content = layout.content_of(made, one)
        if content is None:
            continue
        shown += 1
        texts = [*content.sentences, *content.legend, *content.code.values()]
        texts += [*content.facts.values(), *content.links]
        assert all(isinstance(text, str) for text in texts)
        assert not any(re.search(r"</?\w+>", text) for text in texts)
        for grid in content.grids:
            assert isinstance(grid, Grid)
            width = len(grid.labels) + sum(len(heads) for _, heads in grid.groups)
            assert {len(row) for row in grid.rows} == {width}
        for figure in content.figures.values():
            assert isinstance(figure, Figure)
            # A caption is a sentence.
            assert figure.caption == "" or figure.caption[-1] in ".:"
            figure.chart.to_dict(validate=True)
        again = layout.content_of(made, one)
        assert (again.sentences, again.grids) == (content.sentences, content.grids)
    assert shown or name in SILENT


class Cells(HTMLParser):
    """Collects what stands in the cells of tables."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.inside = [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.inside = tag in ("td", "th") or (self.inside and tag != "table")
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


def test_the_first_caption_tells_of_intervals_only_where_they_are_drawn(evidence):
    several = evidence["run"][0]
    alone = replace(several, records=[r for r in several.records if r["replicate"] == 0])
    for one, drawn in ((several, True), (alone, False)):
        [figure] = catalogue.entry(PACKAGE, "accuracy")().chart(one).values()
        datasets = figure.chart.to_dict()["datasets"].values()
        assert any(row.get("interval") for rows in datasets for row in rows) == drawn
        assert ("interval" in figure.caption, "band" in figure.caption) == (drawn, drawn)


def numbers(texts):
    return {number for text in texts for number in re.findall(r"[-+]?\d[\d,]*\.?\d*", text)}


@pytest.mark.parametrize("name", ["mnist-lenet-300-100", "fashion-mnist-collapse"])
def test_the_tables_of_the_page_have_the_numbers_of_the_summary_and_no_others(
    name, request, tmp_path
):
    """The summary's tables are put together without sections."""
    _, records, decided = findings(request.config.rootpath, name)
    page.write(tmp_path, name, records, [], {}, decided, formats=())
    shown = Cells((tmp_path / "report.html").read_text(encoding="utf-8")).cells
    lines = (tmp_path / "summary.md").read_text(encoding="utf-8").splitlines()
    tables = [line.replace("\\", "") for line in lines if line.startswith("| ")]
    told = numbers(cell for line in tables for cell in line.split(" | "))
    assert len(told) > 200
    assert numbers(shown) == told


@pytest.mark.parametrize("name", NAMES)
def test_a_section_of_nothing_shows_nothing_that_is_drawn_or_tabled(name):
    nothing = {
        "run": OneRun(Evidence([])),
        "several runs": SeveralRuns([together.Part("a", [], asked(FOUR))]),
        "transfer": matrix.Transfer(matrix.Matrix.of([])),
    }
    made = catalogue.entry(PACKAGE, name)()
    content = layout.content_of(made, nothing[made.of])
    if content is not None and name != "runs_settings":
        assert (list(content.figures), list(content.grids)) == ([], [])
