"""Doctests of docstrings as blocks of code: Markdown would take ``>>>`` for quotations."""

from __future__ import annotations

import re
from typing import Any

import griffe

_PROMPT = re.compile(r"^ *>>> ")


def fenced(text: str) -> str:
    """Put the examples of a docstring between fences."""
    lines: list[str] = []
    inside = False
    # The empty line at the end closes an example that the text ends with.
    for line in [*text.splitlines(), ""]:
        if not inside and _PROMPT.match(line):
            lines.append("```pycon")
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(line)
    return "\n".join(lines[:-1])


class Doctests(griffe.Extension):
    """Fence the examples of every docstring."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
