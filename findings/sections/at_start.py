"""Does it matter which weights are kept at the start? LeNet-300-100 on Fashion-MNIST."""

from findings.evidence import differences, estimate, spread, table, values

TITLE = "Pruning before training, and its sanity checks"
FASHION = "at-start"
DENSITY = {FASHION: 0.05}
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


def text() -> str:
    """Write the section."""
    fashion = {"grasp": "GraSP", "lth": "LTH, three rounds", "random": "random", "dense": "dense"}
    return f"""
```
tombola run recipes/at-start.yaml --scale small
```

Frankle et al. (2021, arXiv:2009.08576) shuffle the masks that SNIP, GraSP, SynFlow and magnitude find
before training within each layer, and give them newly drawn weights; neither costs accuracy there. Here
it is LeNet-300-100 on Fashion-MNIST, pruned to 5 % (20,000 images, Adam 1.2e-3, batch 100, 4 epochs,
800 steps, five replicates), without the output layer. 29 November 2026, one busy core, torch 2.15, 13
minutes. The packed run is in [findings/at-start](findings/at-start).

Test accuracy in percent, differences in points:

{_numbers(FASHION, fashion)}

Neither change costs any of them a point (F2, F3), as in the paper: what they choose is how many weights each layer
keeps, not which. SynFlow and magnitude are ahead of a random mask, SNIP and GraSP behind it (F1), and SNIP's own
choice within a layer is worse than a shuffled one. All are behind LTH (F4).
"""
