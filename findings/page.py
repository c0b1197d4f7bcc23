"""The page: what is said at its top, the table of claims, and the findings."""

from __future__ import annotations

import re
import textwrap

from findings import claims as documents
from findings import methods
from findings.claims import Claim
from findings.evidence import MARGIN, MARGIN_MAP, MARGIN_MNIST
from findings.sections import SECTIONS

WIDTH = 120

TOP = f"""
<!-- Made by `make findings` (findings/); changes belong there. -->

# Findings

What experiments with tombola have shown. Every result on this page, and every answer to a claim, is computed
from the records in [docs/findings](findings): `make findings` regenerates this page, and a test
compares the two. A finding that contradicts a paper is reported like any other.

**What all intervals are conditional on.** "±" is the sample standard deviation over replicates;
brackets are 95 % t intervals of paired differences, in points of test accuracy unless stated
otherwise. Replicates differ only in their seed, which sets initial weights, data order and partitions. All
replicates of a run share *one* training subset, *one* validation split and *one* test set (only the
finding on uneven classes redraws examples), so the intervals do not say what other data would give.
There are three to five replicates, as each section says. Intervals are not corrected for
multiple comparisons: of twenty
differences that are truly zero, about one appears significant. Most trainings are 1 to 10 % as
long as the papers'; each section gives the details.

**How a claim is answered.** A claim is turned into one or more statements about a mean difference.
A statement is *shown* if the interval is on the claimed side, *contradicted* if it is on the other,
and *undecided* otherwise. "As accurate as" and "no difference" mean within {MARGIN_MNIST} points on
MNIST, {MARGIN_MAP:.0f} points of mAP and {MARGIN:.0f} point elsewhere, the margins of the recipes. A
statement about rounds is shown if it holds in every replicate.

| answer | statements |
| :--- | :--- |
| reproduced | all are shown |
| reproduced in part | some are shown, none is contradicted |
| refuted in part | some are shown, some contradicted |
| refuted | some are contradicted, none is shown |
| not testable at this scale | none is decided, or the claim needs another scale |

## The claims, one by one

The claims come from the two documents that tombola started from: Havinga & Sawhney (H, including what they
report from others) and COLT (C, arXiv:2212.12770), and from papers whose scores and methods it has: SNIP
(S, arXiv:1810.02340), Zhou et al. (Z, arXiv:1905.01067), edge-popup (E, arXiv:1911.13299), Frankle et
al. on pruning before training (F, arXiv:2009.08576), RigL (R, arXiv:1911.11134), SynFlow (T,
arXiv:2006.05467). H11 and H12 need features that do not exist yet.
"""


def anchor(title: str) -> str:
    """Return what GitHub links a heading by.

    >>> anchor("COLT-2, LTH and matched IMP: LeNet-5 on MNIST")
    'colt-2-lth-and-matched-imp-lenet-5-on-mnist'
    """
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def page() -> str:
    """Write the whole page."""
    claims = [make() for make in (*documents.CLAIMS, *methods.CLAIMS)]
    parts = [TOP, _table(claims)]
    for section in SECTIONS:
        parts += [f"## {section.TITLE}", section.text()]
    return "\n\n".join(wrapped(part.strip("\n")) for part in parts) + "\n"


def _table(claims: list[Claim]) -> str:
    # Sections are numbered on the page, and claims link to them by number.
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
