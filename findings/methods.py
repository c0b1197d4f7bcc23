"""The claims of the papers whose scores and methods tombola has, each with its evidence.

SNIP (S, arXiv:1810.02340), Zhou et al. (Z, arXiv:1905.01067), edge-popup (E, arXiv:1911.13299),
Frankle et al. on pruning at initialisation (F, arXiv:2009.08576), SynFlow (T, arXiv:2006.05467), RigL
(R, arXiv:1911.11134). As in `findings.claims`, a claim is one function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from findings.claims import Claim
from findings.evidence import MARGIN, MARGIN_MNIST, Statement, Values, above, below, minus
from findings.sections import at_start, dynamic, layers_left, snip, untrained


def s1() -> Claim:
    """Each ten times as many examples lower the error."""
    statements = []
    for few, many in pairwise(snip.PRINTED):
        gained = snip.better(snip.arm(many), snip.arm(few))
        statements.append(above(f"{few:,} to {many:,}", gained))
    seen = f"accuracy gained by ten times as many: {_listed(statements)}"
    return Claim(
        "S1", "SNIP's error falls with the examples that it scores", statements, seen, [snip]
    )


def _at_each_density(arm: str, other: str, label: str) -> list[Statement]:
    """State that an arm's untrained tickets are more accurate than another's."""
    statements: list[Statement] = []
    for density in untrained.DENSITIES:
        # What is compared is said once, before the first density.
        at = f"{label} at {density}" if not statements else density
        statements.append(above(at, untrained.better(arm, other, density)))
    return statements


def z1() -> Claim:
    """At each density."""
    final = _at_each_density("large-final", "random", "large final minus random")
    signs = _at_each_density("same-sign", "large-final", "same sign minus large final")
    seen = f"{_listed(final)}; {_listed(signs)}"
    text = "untrained, large-final masks beat random ones, and those of the same sign beat them"
    return Claim("Z1", text, [*final, *signs], seen, [untrained])


def z2() -> Claim:
    """Of the masks of the same sign, at each density."""
    statements = _at_each_density("same-sign-constants", "same-sign", "constants minus weights")
    text = "untrained, signed constants are better than the weights themselves"
    return Claim("Z2", text, statements, _listed(statements), [untrained])


def z3() -> Claim:
    """As accurate or better: lower by less than the margin, if at all."""
    difference = minus(untrained.drawn("supermask-rescaled"), untrained.dense())
    statement = above("drawn supermask minus trained", difference, -MARGIN_MNIST)
    text = "a learnt mask of rescaled constants is as accurate as the trained network"
    return Claim("Z3", text, [statement], str(statement), [untrained])


def e1() -> Claim:
    """At 50 %."""
    difference = untrained.better("edge-popup-constants", "edge-popup")
    statement = above("constants minus weights", difference)
    text = "edge-popup finds better networks among signed constants"
    return Claim("E1", text, [statement], str(statement), [untrained])


def _networks(arm: str, other: str) -> list[Statement]:
    statements = []
    for density in dynamic.DENSITIES:
        statements.append(above(f"at {density}", dynamic.better(arm, other, density)))
    return statements


def r1() -> Claim:
    """At both densities."""
    statements = _networks("rigl-net", "set-net")
    text = "RigL's networks are more accurate than SET's"
    return Claim("R1", text, statements, _listed(statements), [dynamic])


def r2() -> Claim:
    """At both densities."""
    statements = _networks("set-net", "static")
    text = "SET's networks are more accurate than a random mask that stays"
    return Claim("R2", text, statements, _listed(statements), [dynamic])


_CHECKED = (
    ("Fashion-MNIST", at_start.FASHION, (*at_start.SCORES, "grasp")),
    ("CIFAR-10", at_start.CIFAR, tuple(at_start.SCORES)),
)


def _with(name: str, score: str, scores: Sequence[str]) -> str:
    """Return a label that says the data set once, before its first score."""
    return f"{name} {score}" if score == scores[0] else score


def f1() -> Claim:
    """For each score, on both networks."""
    statements = []
    for name, folder, scores in _CHECKED:
        for score in scores:
            label = _with(name, score, scores)
            statements.append(above(label, at_start.better(folder, score, "random")))
    text = "masks by a score of the untrained network beat random ones"
    return Claim("F1", text, statements, f"minus random: {_listed(statements)}", [at_start])


def _nothing_lost(number: str, control: str, text: str) -> Claim:
    """State that a change of the tickets costs less than the margin."""
    statements = []
    for name, folder, _ in _CHECKED:
        for score in at_start.SCORES:
            label = _with(name, score, tuple(at_start.SCORES))
            difference = at_start.better(folder, score, f"{score}-{control}")
            statements.append(below(label, difference, MARGIN))
    return Claim(number, text, statements, f"cost: {_listed(statements)}", [at_start])


def f2() -> Claim:
    """Less than the margin."""
    text = "to shuffle these masks within each layer costs nothing"
    return _nothing_lost("F2", "shuffled", text)


def f3() -> Claim:
    """Less than the margin."""
    return _nothing_lost("F3", "reinitialised", "to give these masks new weights costs nothing")


def f4() -> Claim:
    """LTH on Fashion-MNIST, one cut after training on CIFAR-10."""
    statements = []
    for (name, folder, scores), trained in zip(_CHECKED, ("lth", "one-shot"), strict=True):
        for score in scores:
            label = _with(name, score, scores)
            statements.append(above(label, at_start.better(folder, trained, score)))
    text = "they stay below magnitude after training"
    return Claim("F4", text, statements, f"behind it: {_listed(statements)}", [at_start])


def t1() -> Claim:
    """At every density and in every replicate."""
    statements = []
    for density in layers_left.DENSITIES:
        emptied = [layers_left.layers() - alive for alive in layers_left.alive("synflow", density)]
        statements.append(Statement(density, tuple(emptied), "always below", 0.5, _counts))
    text = "SynFlow in 100 cuts empties no layer"
    return Claim(
        "T1", text, statements, f"layers emptied: {'; '.join(map(str, statements))}", [layers_left]
    )


def t2() -> Claim:
    """At 0.1 %, in every replicate: SynFlow at least as many as SNIP, SNIP as a random mask."""
    statements = []
    for arm, other in (("synflow", "snip"), ("snip", "random")):
        more = layers_left.more(arm, other, "0.1 %")
        label = f"{layers_left.ARMS[arm]} minus {layers_left.ARMS[other]}"
        statements.append(Statement(label, tuple(more), "always above", -0.5, _counts))
    text = "it leaves at least as many layers as SNIP, and SNIP as many as a random mask"
    seen = f"layers at 0.1 %, by replicate: {'; '.join(map(str, statements))}"
    return Claim("T2", text, statements, seen, [layers_left])


def _counts(values: Values) -> str:
    return ", ".join(f"{value:+.0f}" for value in values)


def _listed(statements: Sequence[Statement]) -> str:
    return ", ".join(map(str, statements))


CLAIMS: tuple[Callable[[], Claim], ...] = (s1, z1, z2, z3, e1, r1, r2, f1, f2, f3, f4, t1, t2)
"""In the order of the page."""
