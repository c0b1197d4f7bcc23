"""Tabular: the results of a run for other programs, as a spreadsheet and as a table for a paper.

    records -> [ spreadsheet ] -> results.csv
    records -> aggregate -> [ latex ] -> table.tex

The spreadsheet has a row for each result and a column for each of its numbers and words, as they
stand in the records: accuracies and densities are fractions, an unknown value is an empty cell.
The table for a paper has a row for each arm and a column for each density that the recipe compares
at, in the units of the report.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from tombola.reports import aggregate
from tombola.reports.aggregate import Record, Spread
from tombola.reports.decisions import NOTHING, Asked
from tombola.reports.grids import percent

_LATEX_ACTS_ON = re.compile(r"[\\&%$#_{}~^]")
_LATEX_WORDS = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LINE = r"\\"  # ends a row


def spreadsheet(records: Sequence[Record]) -> str:
    r"""Return the results as comma-separated values, with the entries' names as the first line.

    What is no number and no word (counts of every layer, curves) stands in the records alone.

    >>> known = {"arm": "lth", "replicate": 0, "layers": {"fc.weight": 3}}
    >>> spreadsheet([known | {"round": 0, "density": 1.0}, known | {"round": 1, "density": 0.8}])
    'arm,replicate,round,density\nlth,0,0,1.0\nlth,0,1,0.8\n'
    """
    columns = _columns(records)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _columns(records: Sequence[Record]) -> list[str]:
    """Return the entries that hold one value in every record, in the order of the records."""
    nested: set[str] = set()
    names: dict[str, None] = {}
    for record in records:
        for name, value in record.items():
            names[name] = None
            if not isinstance(value, bool | int | float | str | None):
                nested.add(name)
    return [name for name in names if name not in nested]


def latex(title: str, records: Sequence[Record], asked: Asked = NOTHING) -> str:
    r"""Return a LaTeX table of the arms at the densities that are compared; it needs the package
    booktabs.

    A cell has mean and standard deviation over the replicates, of the first ticket at or below the
    density; it is empty where an arm has not got there.

    >>> known = {"arm": "lth", "replicate": 0, "samples_seen": 9, "seconds": 1.0}
    >>> dense = known | {"round": 0, "density": 1.0, "test_accuracy": 0.97}
    >>> ticket = known | {"round": 1, "density": 0.5, "test_accuracy": 0.96}
    >>> table = latex("digits_1", [dense, ticket], Asked(at=(0.5, 0.2)))
    >>> print(table, end="")  # doctest: +ELLIPSIS
    % digits\_1: test accuracy in %, mean over replicates, at the first ticket at or below ...
    \begin{tabular}{lrr}
    \toprule
    density (\%) & 50 & 20 \\
    \midrule
    dense network & \multicolumn{2}{c}{97.00} \\
    \midrule
    lth & 96.00 &  \\
    \bottomrule
    \end{tabular}
    """
    metric = asked.metric
    unit = f" in {metric.shown_unit}" if metric.shown_unit else ""
    lines = [
        f"% {_escaped(title)}: test {metric.title}{unit}, mean over replicates, at the first "
        "ticket at or below each density",
        rf"\begin{{tabular}}{{l{'r' * len(asked.at)}}}",
        r"\toprule",
        _row([r"density (\%)", *map(percent, asked.at)]),
        r"\midrule",
    ]
    dense = aggregate.dense(records, metric)
    if dense is not None:
        across = rf"\multicolumn{{{len(asked.at)}}}{{c}}{{{_cell(dense, asked)}}}"
        lines += [_row(["dense network", across]), r"\midrule"]
    rows = aggregate.by_target(records, asked.at, made_of=asked.made_of, metric=metric)
    cells = {(row.arm, row.target): _cell(row.value, asked) for row in rows}
    for arm in aggregate.arms(records):
        lines.append(_row([_escaped(arm), *(cells.get((arm, at), "") for at in asked.at)]))
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} {_LINE}"


def _cell(value: Spread | None, asked: Asked) -> str:
    if value is None:
        return ""
    mean = asked.metric.number(value.mean)
    if value.deviation is None:
        return mean
    return rf"${mean} \pm {asked.metric.number(value.deviation)}$"


def _escaped(text: str) -> str:
    """Return plain text so that LaTeX shows it as it is, in one line."""
    one_line = " ".join(text.split())
    return _LATEX_ACTS_ON.sub(lambda found: _LATEX_WORDS.get(found[0], rf"\{found[0]}"), one_line)
