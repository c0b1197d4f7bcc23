"""Notebooks: how values are shown in a cell of Jupyter or Colab.

a value's facts -> [ card ] -> HTML of a few lines
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from html import escape

_LONGEST = 120  # letters of a fact


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    if ipython is None:  # a kernel has imported it long before
        return False
    shell = ipython.get_ipython()
    # The shell of a terminal is a "TerminalInteractiveShell"; Colab's has a name of its own.
    return shell is not None and hasattr(shell, "kernel")


def card(title: str, facts: Mapping[str, str], note: str = "") -> str:
    """Return the HTML of a heading with a table of facts and a note below, all of it plain text.

    Whatever stands in names, titles and origins of tickets comes from strangers: it is escaped.

    >>> card("lth <3", {"density": "51.2 %"})
    '<div><strong>lth &lt;3</strong><table><tr><th style="text-align:left">density</th>\
<td style="text-align:left">51.2 %</td></tr></table></div>'
    """
    left = 'style="text-align:left"'
    rows = []
    for name, value in facts.items():
        rows.append(f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(value)}</td></tr>")
    table = f"<table>{''.join(rows)}</table>" if rows else ""
    below = f"<p>{escape(note)}</p>" if note else ""
    return f"<div><strong>{escape(title)}</strong>{table}{below}</div>"


def one_line(kind: str, *facts: str) -> str:
    """Return how a value is printed: what it is and a few facts, in one line of printable text.

    A fact may be a stranger's text, such as the name of an arm in a ticket: long ones are cut.

    >>> one_line("Ticket", "lth, round 3", "", "51.2 % of 24,320 weights")
    '<Ticket: lth, round 3; 51.2 % of 24,320 weights>'
    """
    shown = []
    for fact in filter(None, facts):
        text = " ".join(fact.split())
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
        shown.append(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")
    return f"<{kind}: {'; '.join(shown)}>" if shown else f"<{kind}>"


def percent(fraction: float) -> str:
    """Return a density as it is told in one line.

    >>> percent(0.512), percent(0.00376), percent(1.0)
    ('51.2 %', '0.376 %', '100 %')
    """
    return f"{100 * fraction:.4g} %"
