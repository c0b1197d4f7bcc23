"""Tickets of each half, and what both keep: LeNet-5 on Fashion-MNIST."""

import statistics

from findings.evidence import (
    accuracies,
    below,
    estimate,
    lines,
    mean,
    minus,
    pooled,
    records,
    spread,
    supported,
    table,
    values,
)
from tombola.evidence.comparisons import rounds_of
from tombola.evidence.overlap import overlaps, similarities, together

TITLE = "Tickets of each half, and what both keep: LeNet-5 on Fashion-MNIST"
FOLDER = "fashion-mnist-halves"
HALVES = ("half-1", "half-2")
ROUNDS = range(1, 8)


def accuracy(arm: str, index: int) -> list[float]:
    """Return what each replicate has in a round, in percent."""
    return accuracies(FOLDER, arm, index)


def to_matched(index: int) -> list[float]:
    """Return what both halves keep minus IMP at as many weights, in points."""
    return minus(accuracy("overlap", index), accuracy("matched", index))


def both_keep(index: int) -> tuple[list[float], list[float]]:
    """Return what both tickets keep of all weights, and by chance in each layer, in percent."""
    kept, chance = [], []
    for rounds in rounds_of(records(FOLDER), "overlap").values():
        [record] = [record for record in rounds if record["round"] == index]
        overlap = together(overlaps(None, record))
        kept.append(100 * overlap.fraction)
        chance.append(100 * overlap.expected / overlap.before)
    return kept, chance


def pruned_alike(rounds: list[int]) -> tuple[float, float, float]:
    """Return Jaccard's index of what both prune, by chance, and with what was smallest at first."""
    alike, by_chance, with_smallest = [], [], []
    for line in lines(f"{FOLDER}/similarity.jsonl"):
        if tuple(line["arms"]) == HALVES[::-1] and line["rounds"] == rounds:
            overlap = together(similarities(line))
            alike.append(overlap.jaccard or 0.0)
            by_chance.append(overlap.jaccard_by_chance or 0.0)
            for half in (0, 1):
                start = together(similarities(line, by_start=half))
                with_smallest.append(start.jaccard or 0.0)
    return statistics.fmean(alike), statistics.fmean(by_chance), statistics.fmean(with_smallest)


def text() -> str:
    """Write the section."""
    rows = []
    for index in ROUNDS:
        row = [str(index), mean(accuracies(FOLDER, HALVES[0], index, "density"))]
        row += [spread(accuracy(arm, index)) for arm in (*HALVES, "lth")]
        row += map(mean, both_keep(index))
        row += [spread(accuracy("overlap", index)), estimate(to_matched(index))]
        rows.append(row)
    heads = ["round", "density of each", "half 1", "half 2", "LTH, all classes"]
    heads += ["both keep", "by chance", "overlap", "overlap - matched"]
    halves = pooled(*(minus(accuracy(arm, 7), accuracy("lth", 7)) for arm in HALVES))
    in_every_round = [below("", to_matched(index)) for index in ROUNDS]
    overlap = "the weights that both keep are worse than IMP with as many weights, in every round"
    overlap = supported(overlap, *in_every_round)
    alike, chance, start = pruned_alike([4, 4])
    kept = both_keep(7)
    headline = "**A ticket of half of the classes is worse than LTH's at the same density**"
    headline = supported(headline, below("", halves))
    return f"""
```
tombola run recipes/cifar100-resnet18-halves.yaml --scale small
```

COLT's table I: each half of the classes is searched separately (20 % per round, seven rounds), and
its tickets, and the weights that both halves keep, are trained on all classes. The paper does it
with ResNet-18 on
CIFAR-100 and 50 epochs, to 79.9 % sparse (72.4 and 72.3 %; overlap 95.0 % sparse, 69.1 %); here it
is LeNet-5 on 20,000 images of Fashion-MNIST, 6 epochs (2,004 steps) per training, Adam 1.2e-3, final
weights, three replicates. 26 November 2026, two cores, torch 2.14, 19 minutes. The packed run is
in [findings/fashion-mnist-halves](findings/fashion-mnist-halves).

Test accuracy in percent; the dense network has {spread(values(FOLDER, "lth", 1.0))}. `by chance`
is what two tickets with the same counts in each layer would both keep if they were drawn
independently; `matched` is IMP at the overlap's counts.

{table(heads, rows, left=0)}

![Test accuracy over density](findings/fashion-mnist-halves/accuracy.svg)

{headline}:
{estimate(halves)} in round 7, both halves pooled;
{overlap}.

**Two finished tickets overlap more than by chance** (C5): {mean(kept[0])} % of the weights are in
both in round 7, {mean(kept[1])} % by chance. But so would tickets made without training: in
round 4 the pruned weights of the two halves have a Jaccard index of {alike:.3f}, by chance
{chance:.3f}, and each shares {start:.3f} with those that were *smallest before training*. In the
paper 5.0 % are in both and chance is 4.0 %.
"""
