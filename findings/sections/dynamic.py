"""Sparse training whose masks change: LeNet-300-100 on Fashion-MNIST."""

from findings.evidence import accuracies, estimate, minus, spread, table

TITLE = "RigL, SET and a mask that stays: LeNet-300-100 on Fashion-MNIST"
FOLDER = "dynamic"
DENSITIES = {"10 %": 1, "5 %": 2}  # and their rounds
NETWORKS = {
    "rigl-net": "RigL",
    "set-net": "SET",
    "static": "a random mask that stays",
    "gradual-net": "pruned while training",
    "lth": "LTH",
}
TICKETS = {"rigl": "RigL's", "set": "SET's", "gradual": "of pruning while training"}


def accuracy(arm: str, density: str) -> list[float]:
    """Return the test accuracy of an arm, in percent, by replicate."""
    return accuracies(FOLDER, arm, DENSITIES[density])


def better(arm: str, other: str, density: str) -> list[float]:
    """Return an arm's accuracy minus another's, in points."""
    return minus(accuracy(arm, density), accuracy(other, density))


def text() -> str:
    """Write the section."""
    rows = []
    for arm, name in NETWORKS.items():
        row = [name]
        for density in DENSITIES:
            row.append(spread(accuracy(arm, density)))
            row.append("" if arm == "static" else estimate(better(arm, "static", density)))
        rows.append(row)
    heads = ["network"]
    for density in DENSITIES:
        heads += [f"at {density}", "minus the mask that stays"]
    rewound = []
    for arm, name in TICKETS.items():
        difference = estimate(better(arm, "static", "5 %"))
        rewound.append([name, spread(accuracy(arm, "5 %")), difference])
    return f"""
```
tombola run recipes/dynamic.yaml --scale small
```

RigL (Evci et al. 2020, arXiv:1911.11134) and SET (Mocanu et al. 2018, arXiv:1707.04780) begin with a
random mask, whose layers have densities by Erdos-Renyi, and exchange up to 30 % of its weights every 50
steps, in the first three quarters of the training. 20,000 images, Adam 1.2e-3, batch 100, 5 epochs (1,000
steps), five replicates. 29 November 2026, one busy core, torch 2.15, 15 minutes. The packed run is in
[findings/dynamic](findings/dynamic). Test accuracy in percent; the dense network has
{spread(accuracies(FOLDER, "static", 0))}.

{table(heads, rows)}

Their last masks on the initial weights, trained like any ticket, at 5 %:

{table(["last mask", "accuracy", "minus the mask that stays"], rewound)}

SET is ahead of the mask that stays (R2), RigL behind SET (R1): {estimate(better("rigl-net", "set-net", "5 %"))}
points at 5 %. The literature's order is of ResNets that are trained for a hundred epochs and more by SGD; here
a training has 15 exchanges. Both are behind what is pruned from a dense network, pruned while training
by {estimate(better("gradual-net", "set-net", "5 %"))} to SET.
"""
