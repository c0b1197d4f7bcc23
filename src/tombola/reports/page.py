"""The page of a run: everything it has to say, in one folder and in one file that needs no network.

    records -> [ sections ] -> report.html, results.csv, table.tex, summary.md, figures/ as svg,
    png and pdf

Names of arms, titles, facts and notes come from users and from error messages: see `sheets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tombola.evidence.answers import Evidence
from tombola.reports import aggregate, decisions, table, tabular
from tombola.reports.aggregate import Record
from tombola.reports.decisions import NOTHING, Asked
from tombola.reports.layout import Layout, lay_out
from tombola.reports.section import BestTicket, Making, OneRun
from tombola.reports.sheets import Format, write_files

__all__ = ["LAYOUT", "BestTicket", "Format", "Making", "write"]

LAYOUT = Layout(
    of="run",
    first=("answer", "hindrances", "accuracy", "against_dense", "basis"),
    folds={
        "Why": (
            "verdicts",
            "equal_cost",
            "differences",
            "overlap",
            "similarity",
            "stability",
            "paper",
        ),
        "Classes": ("per_class", "pictures", "shares"),
        "Untrained": ("untrained",),
        "Cost": ("costs", "scoring", "inference", "spent"),
        "Layers": ("layers", "layers_alive", "weights"),
        "Training": ("early_stop", "curves", "distance"),
        "All results": ("rounds", "boxes"),
        "Reproduce": ("reproduce",),
    },
)


def write(
    folder: Path,
    title: str,
    records: Sequence[Record],
    notes: Sequence[str],
    facts: Mapping[str, str],
    asked: Asked = NOTHING,
    making: Making | None = None,
    formats: Sequence[Format] = ("svg", "png"),
    best: BestTicket | None = None,
    sections: Sequence[str] = (),
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
        best: The ticket to take away; left out if not given.
        sections: Of the user's own, each as ``package.module:Name``; they stand in a fold of their
            own.
    """
    # Each section asks for what it needs, and it is worked out once.
    records = Evidence.of(records)
    files = {"summary.md": table.markdown(title, records, notes, asked).encode()}
    tables = {}
    if records:
        tables["results.csv"] = tabular.spreadsheet(records).encode()
        tables["table.tex"] = tabular.latex(title, records, asked).encode()
    evidence = OneRun(
        records=records,
        asked=asked,
        notes=notes,
        facts=facts,
        making=making,
        best=best,
        files=tuple(tables),
        title=" · ".join(filter(None, [title, facts.get("data"), facts.get("training")])),
    )
    sheet = lay_out(LAYOUT, evidence, aggregate.arms(records), own=sections)
    files |= sheet.files(formats) | tables
    files["report.html"] = sheet.html(title, decisions.question(records, asked))
    return write_files(folder, files)
