"""Doctests of docstrings as blocks of code: Markdown would take ``>>>`` for quotations."""

from __future__ import annotations

import re
from typing import Any

import griffe

_PROMPT = re.compile(r"^ *>>> ")


def fenced(text: str) -> str:
    """Put the examples of a docstring between fences."""
    made: list[str] = []
    inside = False
    for line in [*text.splitlines(), ""]:
        if not inside and _PROMPT.match(line):
            made.append("```pycon")
            inside = True
        elif inside and not line.strip():
            made.append("```")
            inside = False
        made.append(line)
    return "\n".join(made[:-1])


class Doctests(griffe.Extension):
    """Fence the examples of every docstring."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
