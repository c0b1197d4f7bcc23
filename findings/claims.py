"""The claims of the two documents that tombola began with, each with its evidence.

A claim is one function: what it says, the statements that it amounts to, and what the table shows
of them; `evidence.answer` answers it. Papers: Havinga & Sawhney (H, and those they report) and COLT
(C, arXiv:2212.12770).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

from findings.branches import DENSITIES, GRADUAL
from findings.evidence import (
    MARGIN,
    MARGIN_MAP,
    MARGIN_MNIST,
    NOT_TESTABLE,
    All,
    Statement,
    Values,
    above,
    agreement,
    alike,
    answer,
    below,
    differences,
    estimate,
    minus,
    ratio_estimate,
    rounds_to,
    supported,
)
from findings.sections import (
    branches,
    causes,
    cifar10_conv3,
    classes,
    collapse,
    detection,
    gaps,
    gradual,
    halves,
    lenet_300_100,
    mnist_lenet5,
    rates,
    transfer,
    uneven,
    untrained,
    width,
)

# How far from chance, 0, to the same weights, 1, an agreement must be to be called strong.
STRONG = 0.5
CHANCE = 0.15  # that the other half prunes a weight, too, over the whole model


@dataclass(frozen=True)
class Claim:
    """What a document says, and what was seen.

    Attributes:
        name: Such as "H5".
        text: What is claimed.
        statements: What it comes to; none where nothing here can decide it.
        seen: What was seen, for the table.
        findings: The sections that it rests on.
    """

    name: str
    text: str
    statements: Sequence[Statement | All]
    seen: str
    findings: Sequence[ModuleType] = ()

    @property
    def answer(self) -> str:
        """Answer it by the rule of the page."""
        return answer(self.statements) if self.statements else NOT_TESTABLE


def h1() -> Claim:
    """Of masks trained from the start and of the network that was pruned, by both rules."""
    statements = []
    for arm in ("as-trained", "gradual", "reinitialised"):
        for density in (50, 20, 10, 5):
            for rule in gradual.RULES:
                difference = gradual.difference(arm, gradual.DENSE, density, rule)
                statements.append(above(f"{arm} {density} % {rule}", difference))
    assert "shown" not in {statement.state for statement in statements}, "the table says so below"
    network, mask = (
        estimate(gradual.difference(arm, gradual.DENSE, 5, "at the end"))
        for arm in ("as-trained", "gradual")
    )
    seen = (
        f"at 5 %, all at the end: pruned while training {network}, its mask from the start {mask}; "
        "no arm is shown to be above dense, by either rule"
    )
    return Claim("H1", "every method improves on dense down to 5 %", statements, seen, [gradual])


def h2() -> Claim:
    """Ahead at 10, 5 and 2 %; at 50 and 20 % no difference of more than the margin."""
    ahead, equal = [], []
    for density in (10, 5, 2):
        difference = gradual.difference("gradual", "reinitialised", density, "at the end")
        ahead.append(above(f"at {density} %", difference))
    for density in (50, 20):
        difference = gradual.difference("gradual", "reinitialised", density, "at the end")
        equal.append(alike(f"at {density} %", difference, MARGIN_MNIST))
    small_rate = rates.to_arm("0.003", "reinitialised", "51.2 %")
    equal.append(alike("at a rate of 0.003 at 51 %", small_rate, MARGIN_MNIST))
    seen = f"it is ahead {ahead[0]} and {ahead[2]}, but also {equal[1]} and {equal[2]}"
    text = "the original initialisation beats new ones only between 10 and 2 %"
    return Claim("H2", text, [*ahead, *equal], seen, [gradual, rates])


def h3() -> Claim:
    """No difference: none of more than the margin."""
    difference = gradual.difference("gradual", "reinitialised", 1, "at the end")
    seen = f"original minus new initialisation {estimate(difference, 1)}"
    text = "no difference between initialisations at 1 %"
    return Claim("H3", text, [alike("", difference, MARGIN_MNIST)], seen, [gradual])


def h4() -> Claim:
    """High densities are 50 and 20 %; the best is above dense, and above its mask trained anew."""
    statements, parts = [], []
    for rule in gradual.RULES:
        for density in (50, 20):
            dense = above("", gradual.difference("as-trained", gradual.DENSE, density, rule))
            mask = above("", gradual.difference("as-trained", "gradual", density, rule))
            statements.append(All((dense, mask)))
            parts.append(f"{density} % {rule} {dense} and {mask}")
    text = "the network pruned while training is best at high densities"
    seen = f"minus dense, and minus its mask trained from the start: {'; '.join(parts)}"
    return Claim("H4", text, statements, seen, [gradual])


def _against_dense(density: str) -> tuple[list[float], list[float]]:
    """Return ticket minus dense in accuracy, at the early stop and at the end."""
    dense = lenet_300_100.DENSE
    early = lenet_300_100.accuracy(dense, density, lenet_300_100.EARLY)
    return early, lenet_300_100.accuracy(dense, density, lenet_300_100.END)


def h5() -> Claim:
    """By both measures."""
    early, end = _against_dense("51.3 %")
    statements = [above("at the early stop", early), above("at the end", end)]
    seen = f"it depends on the measure: {_listed(statements)}"
    text = "LeNet-300-100 at 51.3 % is more accurate than dense"
    return Claim("H5", text, statements, seen, [lenet_300_100])


def h6() -> Claim:
    """Accuracy by both measures; steps by their logarithms: one dense network stops very late."""
    early, end = _against_dense("21.1 %")
    ratio = _ratio("ratio of its steps to dense's", lenet_300_100.steps("dense", "21.1 %"))
    statements = [above("accuracy at the early stop", early), above("at the end", end), ratio]
    sooner = lenet_300_100.sooner("dense", "21.1 %")
    seen = f"{_listed(statements)}, fewer in {sooner} of 5 replicates"
    text = "at 21.1 % it is more accurate and stops earlier"
    return Claim("H6", text, statements, seen, [lenet_300_100])


def h7() -> Claim:
    """Equal: within the margin of the recipe."""
    early, end = _against_dense("3.6 %")
    statements = [
        alike("at the early stop", early, MARGIN_MNIST),
        alike("at the end", end, MARGIN_MNIST),
    ]
    seen = f"{supported('it is still better', above('', early))}: {_listed(statements)}"
    return Claim("H7", "at 3.6 % it equals dense", statements, seen, [lenet_300_100])


def _ahead_at_early_stop(other: str) -> list[Statement]:
    """State at each density that the ticket is more accurate at the early stop than another."""
    statements = []
    for density in lenet_300_100.DENSITIES:
        accuracy = lenet_300_100.accuracy(other, density, lenet_300_100.EARLY)
        statements.append(above(density, accuracy))
    return statements


def h8() -> Claim:
    """Slower and less accurate, at the three densities."""
    slower = []
    for density in lenet_300_100.DENSITIES:
        slower.append(_ratio(density, lenet_300_100.steps("reinitialised", density)))
    worse = _ahead_at_early_stop("reinitialised")
    seen = (
        f"original over new initialisation, early-stop steps: {_listed(slower)}; original minus "
        f"new, accuracy at the early stop: {_listed(worse)}"
    )
    text = "re-initialised it learns slower and is less accurate"
    return Claim("H8", text, [*slower, *worse], seen, [lenet_300_100])


def h9() -> Claim:
    """At the three densities, at the early stop."""
    statements = _ahead_at_early_stop("one-shot")
    text = "iterative beats one-shot"
    return Claim("H9", text, statements, _listed(statements), [lenet_300_100])


def h10() -> Claim:
    """It takes another scale."""
    seen = (
        "not run: 330 trainings of 30,000 steps, `recipes/cifar10-resnet20-warmup.yaml`, would take "
        "24 days on two cores"
    )
    return Claim("H10", "deeper networks need warmup at a high rate", [], seen)


def h13() -> Claim:
    """Between the two rates that are trained out; see the section for the others."""
    farther = Statement("", tuple(rates.farther("0.1", "0.03")), "above", form=_to_three)
    seen = (
        f"distance at 0.1 minus that at 0.03: {farther}; at 0.003 and 0.01 the same number of "
        "steps is too few for convergence"
    )
    text = "weights stay closer to their initial values at small rates"
    return Claim("H13", text, [farther], seen, [rates])


def h14() -> Claim:
    """Not worse: lower by less than the margin, if at all; each size beside the one before it."""
    statements = []
    for units, other in ((64, 16), (256, 64), (1024, 256), (4096, 1024)):
        label = f"{units:,} minus {other:,} units"
        statements.append(above(label, width.larger(units, other), -MARGIN_MNIST))
    seen = f"with a margin of {MARGIN_MNIST} points: {_listed(statements)}"
    return Claim("H14", "larger networks do not generalise worse", statements, seen, [width])


def h15() -> Claim:
    """Far above: by more than chance itself, against a random mask that is not trained either."""
    statements = []
    for density in untrained.DENSITIES:
        ahead = untrained.better("lth", "random", density)
        statements.append(above(density, ahead, untrained.CHANCE))
    seen = f"untrained, LTH's minus random masks: {_listed(statements)}"
    text = "tickets are far above chance before they are trained"
    return Claim("H15", text, statements, seen, [untrained])


def h16() -> Claim:
    """Of convolutional networks, as the document says it."""
    statements = []
    for network in gaps.CONVOLUTIONAL:
        for percent, density in (("50 %", 0.5), ("20 %", 0.2)):
            label = f"{network} {percent}" if density == gaps.DENSITIES[0] else percent
            statements.append(below(label, gaps.gap(network, density)))
    text = "the train-test gap of winning tickets of convolutional networks is smaller"
    return Claim("H16", text, statements, f"ticket minus dense: {_listed(statements)}", [gaps])


def h17() -> Claim:
    """Of a network on its way to 50 %, as in the figure; other densities are shown beside it."""
    statements, parts = [], []
    for density in DENSITIES:
        soon, later = (above("", branches.effect(GRADUAL, density, after)) for after in (100, 300))
        parts.append(f"to {100 * density:.0f} % {soon} and {later}")
        if density == 0.5:
            statements += [soon, later]
    text = "the disruption by pruning (to 50 %) improves accuracy by itself"
    seen = f"cut minus not cut, 100 and 300 steps after one cut: {'; '.join(parts)}"
    return Claim("H17", text, statements, seen, [branches])


def _fewer_rounds(label: str, folder: str, arm: str, other: str) -> Statement:
    """State that an arm needs fewer rounds to 20 % in every replicate."""
    fewer = minus(rounds_to(folder, arm, 0.2), rounds_to(folder, other, 0.2))
    return Statement(label, tuple(fewer), "always below", form=_counts)


def c1() -> Claim:
    """In every replicate."""
    statements = [
        _fewer_rounds("Fashion-MNIST", causes.FOLDER, "colt-2", "lth"),
        _fewer_rounds("CIFAR-10", cifar10_conv3.FOLDER, "colt-2", "lth"),
    ]
    seen = f"to 20 %, COLT-2's rounds minus LTH's by replicate: {_listed(statements, '; ')}"
    return Claim("C1", "fewer rounds than LTH", statements, seen, [causes, cifar10_conv3])


def c2() -> Claim:
    """As accurate or better: lower by less than the margin, if at all."""
    statements = []
    for name, section, margin in (
        ("CIFAR-10", cifar10_conv3, MARGIN),
        ("Fashion-MNIST", causes, MARGIN),
        ("MNIST", mnist_lenet5, MARGIN_MNIST),
    ):
        statements.append(above(name, differences(section.FOLDER, "colt-2", "lth", 0.2), -margin))
    seen = f"COLT-2 minus LTH at 20 %: {_listed(statements)}"
    text = "at least as accurate as LTH at equal sparsity"
    return Claim("C2", text, statements, seen, [cifar10_conv3, causes, mnist_lenet5])


def c3() -> Claim:
    """Of the search, and with the accuracies that the paper's stopping rule takes."""
    search = _ratio("the search", cifar10_conv3.time("lth", "search"))
    evaluated = _ratio("with all evaluations", cifar10_conv3.time("lth", "so_far"))
    seen = f"CIFAR-10, ratio of its seconds to LTH's: {search}; {evaluated}"
    return Claim("C3", "less time than LTH", [search, evaluated], seen, [cifar10_conv3])


def c4() -> Claim:
    """In every replicate."""
    statements, lower = [], []
    for name, section in (("CIFAR-10", cifar10_conv3), ("Fashion-MNIST", causes)):
        statements.append(_fewer_rounds(name, section.FOLDER, "colt-2", "matched"))
        lower.append(below(name, differences(section.FOLDER, "colt-2", "matched", 0.2)))
    seen = f"equally many, by construction; accuracy at 20 % minus that of IMP: {_listed(lower)}"
    text = "fewer rounds than IMP at its own pace"
    return Claim("C4", text, statements, seen, [cifar10_conv3, causes])


def c5() -> Claim:
    """More than by chance, and at least half of the way from chance to the same weights."""
    more, strong = [], []
    for name, section in (
        ("CIFAR-10", cifar10_conv3),
        ("MNIST", mnist_lenet5),
        ("Fashion-MNIST", causes),
    ):
        shares = tuple(agreement(section.FOLDER, "colt-2"))
        more.append(Statement(name, shares, "above", CHANCE, _frequency))
        strong.append(Statement(name, shares, "above", CHANCE + STRONG * (1 - CHANCE), _frequency))
    orders = _frequency(agreement(causes.FOLDER, "by-seeds"))
    seen = (
        f"how often a weight that one prunes is also pruned by the other ({CHANCE} by chance; "
        f"strongly: half of the way from there to 1): {_listed(more)}; two orders of the same data "
        f"{orders}"
    )
    text = "the partitions' tickets are strongly correlated"
    sections = [cifar10_conv3, mnist_lenet5, causes, halves]
    return Claim("C5", text, [*more, *strong], seen, sections)


def c6() -> Claim:
    """What a round keeps."""
    fewer = below("kept per round, in points", causes.faster_by_classes())
    text = "a split by classes prunes faster than one by examples"
    return Claim("C6", text, [fewer], str(fewer), [causes])


def c7() -> Claim:
    """Fewer rounds in every replicate; less accurate than COLT-2."""
    rounds, lower = [], []
    for name, arm in (("three", "colt-3"), ("four", "colt-4")):
        rounds.append(_fewer_rounds(name, causes.FOLDER, arm, "colt-2"))
        lower.append(below(name, differences(causes.FOLDER, arm, "colt-2", 0.2)))
    seen = (
        f"rounds minus COLT-2's by replicate: {_listed(rounds, '; ')}; accuracy at 20 % minus "
        f"COLT-2's: {_listed(lower)}"
    )
    text = "three and four partitions: fewer rounds, less accurate"
    return Claim("C7", text, [*rounds, *lower], seen, [causes])


def c8() -> Claim:
    """Robust: it loses less than the margin."""
    statements = []
    for density in (0.5, 0.2, 0.1):
        loss = uneven.loss("colt-2", density)
        statements.append(above(f"at {100 * density:.0f} %", loss, -MARGIN))
    seen = f"uneven minus all examples, COLT-2: {_listed(statements)}"
    return Claim("C8", "robust to unevenly represented classes", statements, seen, [uneven])


def c9() -> Claim:
    """Over both directions: ahead of random tickets, and COLT-2's ahead of LTH's."""
    ahead = above("LTH's minus random ones", transfer.both_ways("lth", "random-ticket"))
    better = above("COLT-2's minus LTH's", transfer.both_ways("colt-2", "lth"))
    lost = estimate(transfer.to_those_found_there())
    seen = (
        f"both directions pooled: {ahead}, {better}; LTH's minus tickets found on the target {lost}"
    )
    text = "tickets transfer, COLT's better than LTH's"
    return Claim("C9", text, [ahead, better], seen, [transfer])


def c10() -> Claim:
    """On CIFAR-10, by number of classes."""
    statements = []
    for number in (100, 50):
        statements.append(above(f"of {number} minus of 10 classes", classes.more(number, 10)))
    text = "a ticket found on more classes transfers better"
    return Claim("C10", text, statements, f"on CIFAR-10, {_listed(statements)}", [classes])


def c11() -> Claim:
    """More alike than by chance in each layer."""
    above_chance, start = uneven.pruned_alike()
    more = Statement("", tuple(above_chance), "above", form=_to_three)
    seen = (
        f"Jaccard at 17 % density, minus that by chance in each layer: {more}; but each overlaps "
        f"more with the weights that were smallest before training, by {_to_three(start)}"
    )
    text = "COLT and LTH prune similar weights at high sparsity"
    return Claim("C11", text, [more], seen, [uneven])


def c12() -> Claim:
    """Fewer weights are left in the last ticket whose layers all have one."""
    colt, lth = (collapse.left(arm) for arm in ("colt-2", "lth"))
    fewer = Statement("", tuple(minus(colt, lth)), "below", form=_to_one)
    seen = (
        f"weights left of 60,630 before a layer is empty: COLT-2 {', '.join(map(str, colt))}, "
        f"LTH {', '.join(map(str, lth))}: {fewer}"
    )
    return Claim("C12", "less layer collapse", [fewer], seen, [collapse])


def c13() -> Claim:
    """Not above the dense network's by more than the margin; beside it those of IMP."""
    statements = []
    for density in (0.2, 0.1):
        gap = uneven.gap("colt-2", density)
        statements.append(below(f"at {100 * density:.0f} %", gap, MARGIN))
    lth, matched = (estimate(uneven.gap(arm, 0.2)) for arm in ("lth", "matched"))
    seen = (
        f"COLT-2 minus dense {_listed(statements)}; LTH at 20 % {lth}, matched IMP {matched}, "
        "whose test accuracy is also higher"
    )
    text = "the gap between training and validation stays or shrinks at 85 to 92 % sparsity"
    return Claim("C13", text, statements, seen, [uneven])


def c14() -> Claim:
    """Of mAP: lower by less than the margin, if at all."""
    statements = []
    for arm, name in (("colt-2", "COLT-2"), ("lth", "LTH")):
        for density in detection.DENSITIES:
            difference = detection.difference(arm, "dense", density)
            statements.append(above(f"{name} at {density}", difference, -MARGIN_MAP))
    seen = f"on drawn shapes, mAP minus dense: {_listed(statements)}"
    text = "detectors pruned by up to 79 % are as accurate as the dense one"
    return Claim("C14", text, statements, seen, [detection])


def c15() -> Claim:
    """In every replicate, and lower by less than the margin, if at all."""
    fewer = detection.fewer_rounds("colt-2", "lth")
    rounds = Statement("rounds to 20 %", tuple(fewer), "always below", form=_counts)
    statements = [rounds]
    for density in detection.DENSITIES:
        difference = detection.difference("colt-2", "lth", density)
        statements.append(above(f"mAP at {density}", difference, -MARGIN_MAP))
    seen = f"on drawn shapes, COLT-2 minus LTH: {_listed(statements, '; ')}"
    text = "in detection, COLT needs fewer rounds than LTH and is as accurate"
    return Claim("C15", text, statements, seen, [detection])


def _listed(statements: Sequence[Statement], between: str = ", ") -> str:
    return between.join(map(str, statements))


def _ratio(label: str, logarithms: Values) -> Statement:
    """State that a ratio is below 1."""
    return Statement(label, tuple(logarithms), "below", form=ratio_estimate)


def _counts(values: Values) -> str:
    return ", ".join(f"{value:+.0f}" for value in values)


def _frequency(values: Values) -> str:
    return estimate(values, 3, sign=False)


def _to_three(values: Values) -> str:
    return estimate(values, 3)


def _to_one(values: Values) -> str:
    return estimate(values, 1)


CLAIMS: tuple[Callable[[], Claim], ...] = (
    *(h1, h2, h3, h4, h5, h6, h7, h8, h9, h10, h13, h14, h15, h16, h17),
    *(c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15),
)
