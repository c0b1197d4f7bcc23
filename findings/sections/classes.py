"""Tickets found on 10, 50 and 100 classes: Conv-3 on CIFAR-100."""

from findings.evidence import (
    above,
    estimate,
    minus,
    pooled,
    spread,
    supported,
    table,
    transferred,
    values,
)

TITLE = "Tickets found on 10, 50 and 100 classes: Conv-3 on CIFAR-100"
MATRIX = "cifar100-classes/matrix/records.jsonl"
NUMBERS = (10, 50, 100)
TARGET = "cifar10"


def away(arm: str, number: int) -> list[float]:
    """Return the test accuracies on CIFAR-10 of what was found on so many classes, in percent."""
    return transferred(MATRIX)[arm, f"cifar100 ({number} classes)", TARGET]


def more(number: int, other: int) -> list[float]:
    """Return LTH's tickets of so many classes minus those of another number, on CIFAR-10."""
    return minus(away("lth", number), away("lth", other))


def to_random(number: int) -> list[float]:
    """Return LTH's tickets of so many classes minus random ones, on CIFAR-10, in points."""
    return minus(away("lth", number), away("random-ticket", number))


def text() -> str:
    """Write the section."""
    rows = []
    for number in NUMBERS:
        folder = f"cifar100-classes/{number}"
        row = [f"{number} classes", spread(values(folder, "dense", 1.0))]
        row += [spread(values(folder, arm, 0.2)) for arm in ("lth", "random-ticket")]
        row += [spread(away(arm, number)) for arm in ("dense", "lth", "random-ticket")]
        rows.append([*row, estimate(to_random(number))])
    heads = ["found on", "at home: dense", "LTH", "random ticket"]
    heads += ["on CIFAR-10: dense", "LTH", "random ticket", "LTH - random there"]
    all_three = pooled(*map(to_random, NUMBERS))
    somewhat = "Tickets do transfer here: over the three sets they beat random ones"
    somewhat = supported(somewhat, above("", all_three))
    return f"""
```
tombola run recipes/cifar100-classes.yaml --scale small --data.verify false
tombola transfer runs/cifar100-classes-small-*/tickets/*/*/round-002*.safetensors \\
    --data cifar10 --dense --data.verify false
```

Conv-3 on 4,500 images of 10, 50 or 100 classes of CIFAR-100 (the classes are drawn by the seed),
Adam 3e-3, batch 64, 6 epochs (426 steps; the full recipe has 50 epochs, COLT's section IV-E
ResNet-18 and whole data sets), LTH to 20 % of the convolutions' weights in two rounds, random
tickets of the same counts in each layer, then all trained on 4,500 images of CIFAR-10 with a new
head; three replicates. 26 November 2026, two cores, torch 2.14, 34 minutes and 23 for the matrix.
Records are in [findings/cifar100-classes](findings/cifar100-classes).

{table(heads, rows)}

On CIFAR-10 tickets of 100 classes are at {estimate(more(100, 10))} points relative to those of 10, tickets
of 50 at {estimate(more(50, 10))} (C10): the means show no trend, and three replicates could not detect two or
three points.
{somewhat},
by {estimate(all_three)} points.
"""
