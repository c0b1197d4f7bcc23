"""Larger networks: one hidden layer on MNIST."""

from findings.evidence import (
    MARGIN_MNIST,
    above,
    differences,
    estimate,
    in_round,
    records,
    spread,
    supported,
    table,
)

TITLE = "Larger networks: one hidden layer on MNIST"
UNITS = (4, 16, 64, 256, 1024, 4096)


def folder(units: int) -> str:
    """Return where the run of a width is."""
    return f"mnist-width/{units}"


def larger(units: int, other: int) -> list[float]:
    """Return the test accuracy of one width minus that of another, in points."""
    return differences(folder(units), "dense", "dense", 1.0, beside=folder(other))


def text() -> str:
    """Write the section."""
    rows = []
    smaller = None
    for units in UNITS:
        row = [f"{units:,}", f"{records(folder(units))[0]['total']:,}"]
        for entry in ("train_accuracy", "test_accuracy"):
            accuracy = in_round(folder(units), "dense", 0, entry)
            row.append(spread([100 * (1 - value) for value in accuracy]))
        row.append("" if smaller is None else estimate(larger(units, smaller)))
        rows.append(row)
        smaller = units
    heads = ["hidden units", "weights", "training error", "test error"]
    heads += ["accuracy minus that above"]
    margin = "where a loss of the margin is not excluded"
    margin = supported(margin, above("", larger(4096, 1024), -MARGIN_MNIST), state="undecided")
    return f"""
```
tombola run recipes/mnist-width.yaml --scale small
cd docs/findings/mnist-width && tombola report 4 16 64 256 1024 4096 --out page
```

Figure 3 of Havinga & Sawhney: 10,000 training images, SGD 0.01 with momentum 0.9, batch 100, 20
epochs, three replicates; the full recipe has all images, 100 epochs and eleven sizes. 26 November
2026, two cores, torch 2.14, 4 minutes. The packed runs are in
[findings/mnist-width](findings/mnist-width). Errors in percent.

{table(heads, rows, left=0)}

![Error over size](findings/mnist-width/dense.svg)

From 64 units on, nearly all training images are learnt, and test accuracy does not fall with more
(H14): "not worse" is taken as less than {MARGIN_MNIST} points lower. 4,096 units are at
{estimate(larger(4096, 64))} against 64, {estimate(larger(4096, 256))} against 256, and
{estimate(larger(4096, 1024))} against 1,024, {margin}.
"""
