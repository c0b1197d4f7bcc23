"""The gap between training and test accuracy of winning tickets."""

from findings.evidence import above, below, differences, so, table, told
from findings.sections import lenet_300_100

TITLE = "The gap between training and test accuracy"
CONVOLUTIONAL = {
    "LeNet-5 on MNIST": "mnist-lenet5",
    "LeNet-5 on Fashion-MNIST": "causes",
    "Conv-3 on CIFAR-10": "cifar10-conv3",
}
DENSITIES = (0.5, 0.2)


def gap(network: str, density: float, arm: str = "lth") -> list[float]:
    """Return training minus test accuracy at the end of training, ticket minus dense, in points."""
    return differences(CONVOLUTIONAL[network], arm, "dense", density, "gap")


def text() -> str:
    """Write the section."""
    rows = []
    for network in CONVOLUTIONAL:
        for arm in ("lth", "matched", "colt-2"):
            name = network if arm == "lth" else ""
            rows.append([name, arm, *(told(gap(network, density, arm)) for density in DENSITIES)])
    dense = [
        f"{told(lenet_300_100.gap(density))} at {density}" for density in lenet_300_100.DENSITIES
    ]
    lth = [below("", gap(network, density)) for network in CONVOLUTIONAL for density in DENSITIES]
    assert "shown" not in {statement.state for statement in lth}, "so it is said below"
    smaller = below("", gap("LeNet-5 on Fashion-MNIST", 0.2, "colt-2"))
    colt = so("COLT-2's tickets have a smaller one on Fashion-MNIST at 20 %", smaller)
    return f"""
Training minus test accuracy at the end of training, ticket minus dense, in points. These are the
runs of the findings above, read for another question: Havinga & Sawhney report that the gap is
smaller for winning tickets of convolutional networks (H16).

{table(["", "ticket", "at 50 %", "at 20 %"], rows, left=2)}

The gap of LTH's tickets is nowhere shown to be smaller, and larger where it differs:
{so("on all three at 20 %", *(above("", gap(network, 0.2)) for network in CONVOLUTIONAL))},
{so("on Fashion-MNIST at 50 %", above("", gap("LeNet-5 on Fashion-MNIST", 0.5)))} too. Trainings
are short here; the papers train longer.
{colt}.
LeNet-300-100, which is not convolutional, shows no difference: {", ".join(dense)}.
"""
