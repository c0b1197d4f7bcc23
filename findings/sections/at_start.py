"""Does it matter which weights are kept at the start? LeNet-300-100 and Conv-3."""

from findings.evidence import (
    MARGIN,
    below,
    differences,
    estimate,
    spread,
    supported,
    table,
    values,
)

TITLE = "Pruning before training, and its sanity checks"
FASHION, CIFAR = "at-start", "cifar10-at-start"
DENSITY = {FASHION: 0.05, CIFAR: 0.1}
SCORES = {"snip": "SNIP", "synflow": "SynFlow, 100 cuts", "magnitude": "magnitude"}
CONTROLS = ("shuffled", "reinitialised")


def accuracy(folder: str, arm: str) -> list[float]:
    """Return the test accuracy of an arm's tickets, in percent, by replicate."""
    return values(folder, arm, 1.0 if arm == "dense" else DENSITY[folder])


def better(folder: str, arm: str, other: str) -> list[float]:
    """Return an arm's accuracy minus another's, in points."""
    return differences(folder, arm, other, DENSITY[folder])


def _numbers(folder: str, others: dict[str, str]) -> str:
    """Write the table of one network."""
    rows = []
    for score, name in SCORES.items():
        row = [name, spread(accuracy(folder, score))]
        for control in CONTROLS:
            row.append(estimate(better(folder, score, f"{score}-{control}")))
        row.append(estimate(better(folder, score, "random")))
        rows.append(row)
    for arm, name in others.items():
        row = [name, spread(accuracy(folder, arm)), "", ""]
        row.append("" if arm in ("random", "dense") else estimate(better(folder, arm, "random")))
        rows.append(row)
    heads = ["mask", "accuracy", "minus shuffled", "minus new weights", "minus random"]
    return table(heads, rows)


def _unchanged() -> str:
    """Say what holds of all three scores on Fashion-MNIST."""
    statements = []
    for score in SCORES:
        for control in CONTROLS:
            statements.append(below("", better(FASHION, score, f"{score}-{control}"), MARGIN))
    return supported(
        "On Fashion-MNIST neither change costs any of them a point (F2, F3)", *statements
    )


def text() -> str:
    """Write the section."""
    cifar = {"one-shot": "magnitude after training", "random": "random", "dense": "dense"}
    fashion = {"grasp": "GraSP", "lth": "LTH, three rounds", "random": "random", "dense": "dense"}
    return f"""
```
tombola run recipes/at-start.yaml --scale small
tombola run recipes/cifar10-at-start.yaml --scale small --data.verify false
```

Frankle et al. (2021, arXiv:2009.08576) shuffle the masks that SNIP, GraSP, SynFlow and magnitude find
before training within each layer, and give them newly drawn weights; neither costs accuracy there. Here
it is LeNet-300-100 on Fashion-MNIST, pruned to 5 % (20,000 images, Adam 1.2e-3, batch 100, 4 epochs,
800 steps, five replicates), and Conv-3 on CIFAR-10, pruned to 10 % (3,000 images with crop and flip, Adam
3e-3 with a cosine, batch 64, 4 epochs, 188 steps, three replicates), without the output layers. That is
early in training. 29 November 2026, two cores, torch 2.15, 13 and 17 minutes. The packed runs are
in [findings/at-start](findings/at-start) and [findings/cifar10-at-start](findings/cifar10-at-start).

LeNet-300-100 on Fashion-MNIST, test accuracy in percent and differences in points:

{_numbers(FASHION, fashion)}

Conv-3 on CIFAR-10:

{_numbers(CIFAR, cifar)}

{_unchanged()}: how many weights each layer keeps
seems to be what these masks are worth, as in the paper. On CIFAR-10 three replicates show it of some alone. On
Fashion-MNIST SynFlow and magnitude are ahead of a random mask, SNIP and GraSP behind it; on CIFAR-10 none is
shown to be ahead (F1). SNIP's masks are *less* accurate than the same ones shuffled, on both. All are
behind what magnitude finds after training (F4).
"""
