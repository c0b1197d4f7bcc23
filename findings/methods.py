"""The claims of the papers whose scores and methods tombola has, each with its evidence.

SNIP (S, arXiv:1810.02340). As in `findings.claims`, a claim is one function.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from findings.claims import Claim
from findings.evidence import above
from findings.sections import snip


def s1() -> Claim:
    """Each ten times as many examples lower the error."""
    statements = []
    for few, many in pairwise(snip.PRINTED):
        gained = snip.better(snip.arm(many), snip.arm(few))
        statements.append(above(f"{few:,} to {many:,}", gained))
    seen = f"accuracy gained by ten times as many: {', '.join(map(str, statements))}"
    return Claim(
        "S1", "SNIP's error falls with the examples that it scores", statements, seen, [snip]
    )


CLAIMS: tuple[Callable[[], Claim], ...] = (s1,)
"""In the order of the page."""
