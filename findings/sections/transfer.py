"""Transfer between MNIST and Fashion-MNIST: LeNet-5."""

from findings.evidence import (
    above,
    below,
    estimate,
    minus,
    pooled,
    spread,
    supported,
    table,
    transferred,
)

TITLE = "Transfer between MNIST and Fashion-MNIST: LeNet-5"
MATRIX = "lenet5-transfer/matrix/records.jsonl"
NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
AWAY = (("mnist", "fashion_mnist"), ("fashion_mnist", "mnist"))
PAIRS = (
    ("LTH - random ticket", "lth", "random-ticket"),
    ("COLT-2 - random ticket", "colt-2", "random-ticket"),
    ("COLT-2 - LTH", "colt-2", "lth"),
    ("LTH - LTH found there", "lth", "lth"),
    ("LTH - dense", "lth", "dense"),
)
ARMS = {
    "lth": "LTH",
    "colt-2": "COLT-2",
    "random-ticket": "random ticket",
    "dense": "dense, same start",
}


def difference(
    arm: str, other: str, source: str, target: str, *, other_source: str | None = None
) -> list[float]:
    """Return a ticket found on one data set minus another one, both trained on the target."""
    accuracies = transferred(MATRIX)
    subtracted = accuracies[other, other_source or source, target]
    return minus(accuracies[arm, source, target], subtracted)


def both_ways(arm: str, other: str) -> list[float]:
    """Return the same, both directions averaged within each replicate."""
    return pooled(*(difference(arm, other, *direction) for direction in AWAY))


def to_those_found_there() -> list[float]:
    """Return LTH's tickets from elsewhere minus those found there, both directions averaged."""
    return pooled(*_to_those_found_there())


def _to_those_found_there() -> list[list[float]]:
    return [
        difference("lth", "lth", source, target, other_source=target) for source, target in AWAY
    ]


def _accuracies() -> str:
    """Write the table of accuracies, by data set that tickets were found on."""
    accuracies = transferred(MATRIX)
    rows = []
    for source, source_name in NAMES.items():
        for arm, arm_name in ARMS.items():
            row = [source_name if arm == "lth" else "", arm_name]
            row += [spread(accuracies[arm, source, target]) for target in NAMES]
            rows.append(row)
    return table(["found on", "ticket", "on MNIST", "on Fashion-MNIST"], rows, left=2)


def _differences() -> str:
    """Write the table of paired differences away from home."""
    rows = []
    for label, arm, other in PAIRS:
        if label.endswith("found there"):
            directions = _to_those_found_there()
        else:
            directions = [difference(arm, other, *direction) for direction in AWAY]
        rows.append([label, *map(estimate, directions), estimate(pooled(*directions))])
    heads = ["", "MNIST to Fashion-MNIST", "Fashion-MNIST to MNIST", "both, pooled"]
    return table(heads, rows)


def text() -> str:
    """Write the section."""
    at_home = []
    for home, name in NAMES.items():
        at_home.append(f"{estimate(difference('colt-2', 'lth', home, home))} on {name}")
    somewhat = "LTH's tickets transfer to some extent: over both directions they beat random ones"
    somewhat = supported(somewhat, above("", both_ways("lth", "random-ticket")))
    alone = supported(
        "neither direction alone shows it",
        *(above("", difference("lth", "random-ticket", *direction)) for direction in AWAY),
        state="undecided",
    )
    better = "Whether COLT-2's transfer better than LTH's is not decided"
    better = supported(better, above("", both_ways("colt-2", "lth")), state="undecided")
    return f"""
```
tombola run recipes/lenet5-transfer.yaml --scale small
tombola transfer runs/lenet5-transfer-small-*/tickets/*/*/round-007*.safetensors \\
    --data mnist --data fashion_mnist --dense
```

Tickets of LTH, of COLT-2 and random ones with LTH's counts in each layer, all with 9 % of the
weights after seven rounds on each data set (20,000 images, 6 epochs, 2,004 steps, Adam 1.2e-3,
final weights), trained unchanged on both, with a new head on the other data set;
three replicates. COLT's figure 6 and table VI transfer ResNet-18 from Tiny ImageNet to CIFAR. 26
November 2026, two cores, torch 2.14, 13 minutes and 7 for the matrix. Records are in
[findings/lenet5-transfer](findings/lenet5-transfer).

{_accuracies()}

On the other data set, paired differences in points:

{_differences()}

{somewhat}, by {estimate(both_ways("lth", "random-ticket"))}; {alone}.
{supported("They lose to tickets found on the target itself", below("", to_those_found_there()))}
({estimate(to_those_found_there())}) and, pooled,
{supported("to the dense network", below("", both_ways("lth", "dense")))}; for a single direction
this is shown on MNIST only. {better}; their means are lower. On its own data set, COLT-2 minus LTH
is {" and ".join(at_home)}.
"""
