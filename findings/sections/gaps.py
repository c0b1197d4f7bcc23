"""The gap between training and test accuracy of winning tickets."""

from findings.evidence import above, below, differences, estimate, supported, table
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
            rows.append(
                [name, arm, *(estimate(gap(network, density, arm)) for density in DENSITIES)]
            )
    linear = []
    for percents in lenet_300_100.DENSITIES:
        linear.append(f"{estimate(lenet_300_100.gap(percents))} at {percents}")

    larger = []
    for network in CONVOLUTIONAL:
        larger.append(above("", gap(network, 0.2)))
        for density in DENSITIES:
            smaller = below("", gap(network, density))
            assert smaller.state != "shown", "the text says that it is nowhere shown"
    fashion_mnist = "LeNet-5 on Fashion-MNIST"
    at_half = supported("on Fashion-MNIST at 50 %", above("", gap(fashion_mnist, 0.5)))
    smaller = below("", gap(fashion_mnist, 0.2, "colt-2"))
    colt = supported("COLT-2's tickets have a smaller one on Fashion-MNIST at 20 %", smaller)
    return f"""
Training minus test accuracy at the end of training, ticket minus dense, in points. These are the
runs of the findings above, used for another question: Havinga & Sawhney report that the gap is
smaller for winning tickets of convolutional networks (H16).

{table(["", "ticket", "at 50 %", "at 20 %"], rows, left=2)}

The gap of LTH's tickets is never shown to be smaller; where it differs, it is larger:
{supported("on all three at 20 %", *larger)},
{at_half} too. Trainings are short here; the papers train longer.
{colt}.
LeNet-300-100, which is not convolutional, shows no difference: {", ".join(linear)}.
"""
