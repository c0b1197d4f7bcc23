"""The page: what is said at its top, the table of claims, and the findings."""

from __future__ import annotations

import re
import textwrap

from findings.claims import CLAIMS, Claim
from findings.evidence import MARGIN, MARGIN_MNIST
from findings.sections import SECTIONS

WIDTH = 120

TOP = f"""
<!-- Made by `make findings` (findings/); changes belong there. -->

# Findings

What runs of tombola have shown. Every result here, and every answer to a claim, is computed from
the records in [docs/findings](findings): `make findings` writes this page anew, and a test
compares. A finding that contradicts a paper is a finding.

**What all intervals are conditional on.** "±" is the sample standard deviation over replicates;
brackets are 95 % t intervals of paired differences, in points of test accuracy where nothing else
is said. Replicates differ in their seed alone: initial weights, order of the data, partitions. All
replicates of a run share *one* training subset, *one* validation split and *one* test set (only
the finding on uneven classes draws examples anew), so the intervals do not say what other data
would give. There are three replicates, five for LeNet-300-100, for Conv-3 on CIFAR-10 and for
gradual pruning and its branches. Nothing is corrected for multiplicity: of twenty differences that
are truly zero, about one is shown by chance. Most trainings are 1 to 10 % as long as the papers';
each section says how far it is from them.

**How a claim is answered.** A claim comes to one or more statements about a mean difference. A
statement is *shown* where the interval lies on the claimed side, *contradicted* where it lies on
the other, else *undecided*. "As accurate as" and "no difference" mean to {MARGIN_MNIST} points on
MNIST and to {MARGIN:.0f} point elsewhere, the margins of the recipes. What is counted in rounds is
shown where it is so in every replicate.

| answer | statements |
| :--- | :--- |
| reproduced | all are shown |
| reproduced in part | some are shown, none is contradicted |
| refuted in part | some are shown, some contradicted |
| refuted | some are contradicted, none is shown |
| not testable at this scale | none is decided, or it takes another scale |

## The claims, one by one

What the two documents that tombola began with say: Havinga & Sawhney (H, and those they report)
and COLT (C, arXiv:2212.12770). H11, H12 and H15 need parts that are still to come.
"""


def anchor(title: str) -> str:
    """Return what GitHub links a heading by.

    >>> anchor("COLT-2, LTH and matched IMP: LeNet-5 on MNIST")
    'colt-2-lth-and-matched-imp-lenet-5-on-mnist'
    """
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def page() -> str:
    """Write the whole page."""
    claims = [make() for make in CLAIMS]
    parts = [TOP, _table(claims)]
    for section in SECTIONS:
        parts += [f"## {section.TITLE}", section.text()]
    return "\n\n".join(wrapped(part.strip("\n")) for part in parts) + "\n"


def _table(claims: list[Claim]) -> str:
    numbers, names = {}, []
    for number, section in enumerate(SECTIONS, 1):
        numbers[section] = f"[{number}](#{anchor(section.TITLE)})"
        names.append(f"{number}. [{section.TITLE}](#{anchor(section.TITLE)})")
    rows = ["| claim | answer | what was seen | finding |", "| :--- | :--- | :--- | :--- |"]
    for claim in claims:
        links = ", ".join(numbers[section] for section in claim.findings)
        rows.append(f"| {claim.name} {claim.text} | {claim.answer} | {claim.seen} | {links} |")
    return "\n".join(rows) + "\n\nThe findings:\n\n" + "\n".join(names)


def wrapped(text: str) -> str:
    """Fill the lines of paragraphs and lists; tables, code and headings stay as they are."""
    blocks = []
    for block in re.split(r"\n{2,}", text):
        as_it_is = block.startswith(("|", "```", "#", "!", "<!--"))
        blocks.append(block if as_it_is else _filled(block))
    return "\n\n".join(blocks)


def _filled(block: str) -> str:
    items = re.split(r"\n(?=- |\d+\. )", block)
    return "\n".join(_fill(" ".join(item.split())) for item in items)


def _fill(item: str) -> str:
    # Not broken before a minus: a line that begins with one would be an item of a list.
    glued = re.sub(r"(?<=\S) - ", "\u00a0-\u00a0", item)
    marker = re.match(r"- |\d+\. ", item)
    indent = "" if marker is None else "  " if item.startswith("- ") else "   "
    lines = textwrap.wrap(
        glued, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\u00a0-\u00a0", " - ")
