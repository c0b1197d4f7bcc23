"""How many examples SNIP needs: LeNet-300-100 on MNIST."""

from findings.evidence import (
    differences,
    estimate,
    interval,
    table,
    values,
)

TITLE = "How many examples SNIP needs: LeNet-300-100 on MNIST"
FOLDER = "mnist-snip-examples"
DENSITY = 0.1
# Examples scored, and the error that the paper prints for them, in percent.
PRINTED = {1: 1.94, 10: 1.72, 100: 1.64, 1000: 1.56, 10000: 1.40}


def arm(examples: int) -> str:
    """Return the arm whose scores are of so many examples."""
    return f"snip-{examples}"


def errors(name: str) -> list[float]:
    """Return the test error of an arm, in percent, by replicate."""
    density = 1.0 if name == "dense" else DENSITY
    return [100 - accuracy for accuracy in values(FOLDER, name, density)]


def better(name: str, other: str) -> list[float]:
    """Return an arm's accuracy minus another's, in points."""
    return differences(FOLDER, name, other, DENSITY)


def _row(label: str, name: str, printed: str) -> list[str]:
    middle, low, high = interval(errors(name))
    row = [label, printed, f"{middle:.2f} [{low:.2f}, {high:.2f}]"]
    for other in ("dense", "random"):
        row.append("" if name in (other, "dense") else estimate(better(name, other)))
    return row


def text() -> str:
    """Write the section."""
    rows = []
    for examples, printed in PRINTED.items():
        rows.append(_row(f"{examples:,}", arm(examples), f"{printed:.2f}"))
    rows.append(_row("a random mask", "random", ""))
    rows.append(_row("dense", "dense", ""))
    heads = ["examples scored", "error in the paper", "error here"]
    heads += ["accuracy - dense", "accuracy - random"]
    many, one = arm(10000), arm(1)
    printed = PRINTED[1] - PRINTED[10000]
    return f"""
```
tombola run recipes/mnist-snip-examples.yaml --scale small
```

SNIP (Lee et al. 2019, arXiv:1810.02340) scores the connections of the untrained network and prunes 90
% of them, here those of the output layer, too. All of MNIST (55,000 training, 5,000 validation images),
SGD 0.1 with momentum 0.9 and decay 5e-4, batch 100, as in the paper; 1,650 steps, the rate divided by
10 after 825 and 1,238, where the paper divides it after every 25,000; five replicates. 29
November 2026, one busy core, torch 2.15, 8 minutes. The packed run is in
[findings/mnist-snip-examples](findings/mnist-snip-examples). Test errors in percent, with the 95 %
interval of their mean:

{table(heads, rows)}

The order of the errors is what can be compared (S1): trained for 3 epochs, all networks have more
of them than in the paper. From one example to 10,000 accuracy changes by
{estimate(better(many, one))} points; in the paper the error falls by {printed:.2f}. A mask by a
single example is {estimate(better(one, "random"))} points from a random one of that size.
"""
