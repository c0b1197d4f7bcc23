"""Transfer between MNIST and Fashion-MNIST: LeNet-5."""

from findings.evidence import above, below, minus, pooled, so, spread, table, told, transferred

TITLE = "Transfer between MNIST and Fashion-MNIST: LeNet-5"
MATRIX = "lenet5-transfer/matrix/records.jsonl"
NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
AWAY = (("mnist", "fashion_mnist"), ("fashion_mnist", "mnist"))
ARMS = {
    "lth": "LTH",
    "colt-2": "COLT-2",
    "random-ticket": "random ticket",
    "dense": "dense, same start",
}


def difference(
    arm: str, other: str, home: str, there: str, *, other_home: str | None = None
) -> list[float]:
    """Return a ticket found at home minus another one, both trained there, in points."""
    of = transferred(MATRIX)
    return minus(of[arm, home, there], of[other, other_home or home, there])


def both_ways(arm: str, other: str) -> list[float]:
    """Return the same, both directions averaged within each replicate."""
    return pooled(*(difference(arm, other, home, there) for home, there in AWAY))


def to_those_found_there() -> list[float]:
    """Return LTH's tickets from elsewhere minus those found there, both directions averaged."""
    return pooled(
        *(difference("lth", "lth", home, there, other_home=there) for home, there in AWAY)
    )


def text() -> str:
    """Write the section."""
    of = transferred(MATRIX)
    rows = []
    for home, name in NAMES.items():
        for arm, told_as in ARMS.items():
            row = [name if arm == "lth" else "", told_as]
            rows.append([*row, *(spread(of[arm, home, there]) for there in NAMES)])
    pairs = []
    for label, arm, other, target in (
        ("LTH - random ticket", "lth", "random-ticket", False),
        ("COLT-2 - random ticket", "colt-2", "random-ticket", False),
        ("COLT-2 - LTH", "colt-2", "lth", False),
        ("LTH - LTH found there", "lth", "lth", True),
        ("LTH - dense", "lth", "dense", False),
    ):
        each = [
            difference(arm, other, home, there, other_home=there if target else None)
            for home, there in AWAY
        ]
        pairs.append([label, *map(told, each), told(pooled(*each))])
    columns = ["", "MNIST to Fashion-MNIST", "Fashion-MNIST to MNIST", "both, pooled"]
    at_home = [
        f"{told(difference('colt-2', 'lth', home, home))} on {name}" for home, name in NAMES.items()
    ]
    somewhat = "LTH's tickets transfer somewhat: over both directions they are ahead of random ones"
    somewhat = so(somewhat, above("", both_ways("lth", "random-ticket")))
    alone = so(
        "each direction by itself does not show it",
        *(above("", difference("lth", "random-ticket", home, there)) for home, there in AWAY),
        state="undecided",
    )
    better = "Whether COLT-2's transfer better than LTH's is not decided"
    better = so(better, above("", both_ways("colt-2", "lth")), state="undecided")
    return f"""
```
tombola run recipes/lenet5-transfer.yaml --scale small
tombola transfer runs/lenet5-transfer-small-*/tickets/*/*/round-007.safetensors \\
    --data mnist --data fashion_mnist --dense
```

Tickets of LTH, of COLT-2 and random ones with LTH's counts in each layer, all with 9 % of the
weights after seven rounds on each data set (20,000 images, 6 epochs, 2,004 steps, Adam 1.2e-3,
final weights), trained as they were found on both, with a new head where they are not at home;
three replicates. COLT's figure 6 and table VI transfer ResNet-18 from Tiny ImageNet to CIFAR. 26
November 2026, two cores, torch 2.14, 13 minutes and 7 for the matrix. Records are in
[findings/lenet5-transfer](findings/lenet5-transfer).

{table(["found on", "ticket", "on MNIST", "on Fashion-MNIST"], rows, left=2)}

Away from home, paired differences in points:

{table(columns, pairs)}

{somewhat}, by {told(both_ways("lth", "random-ticket"))}; {alone}.
{so("They lose to tickets found on the target itself", below("", to_those_found_there()))}
({told(to_those_found_there())}) and, pooled,
{so("to the dense network", below("", both_ways("lth", "dense")))}; that is shown by itself on
MNIST only. {better}; their means are lower. At home COLT-2 minus LTH is {" and ".join(at_home)}.
"""
