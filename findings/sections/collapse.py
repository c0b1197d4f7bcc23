"""Until a layer is empty: LeNet-5 on Fashion-MNIST."""

from collections import Counter

from findings.evidence import (
    above,
    differences,
    estimate,
    listed,
    minus,
    records,
    replicates,
    run,
    spread,
    supported,
    table,
    values,
)
from tombola.evidence.comparisons import rounds_of
from tombola.records.records import Record

TITLE = "Until a layer is empty: LeNet-5 on Fashion-MNIST"
FOLDER = "fashion-mnist-collapse"
ARMS = {
    "lth": "LTH, 20 % per round",
    "matched": "matched: IMP at COLT-2's counts",
    "colt-2": "COLT-2",
}
COLLAPSING = ("lth", "colt-2")


def left(arm: str) -> list[int]:
    """Return the weights of the last ticket with all layers, by replicate."""
    return [record["kept"] for record in _last_tickets(arm)]


def _last_tickets(arm: str) -> list[Record]:
    return [rounds[-1] for rounds in rounds_of(records(FOLDER), arm).values()]


def emptied(arm: str) -> Counter[str]:
    """Count by layer which one was left empty, and so ended a search."""
    layers: Counter[str] = Counter()
    for replicate in replicates(FOLDER):
        collapsed = run(FOLDER).ending(arm, replicate).collapsed
        if collapsed is not None:
            layers.update(name.removesuffix(".weight") for name in collapsed[1])
    return layers


def text() -> str:
    """Write the section."""
    rows = []
    for arm, name in ARMS.items():
        row = [name, *(spread(values(FOLDER, arm, density)) for density in (0.1, 0.01))]
        row.append(", ".join(map(str, left(arm))))
        row.append(", ".join(str(record["round"]) for record in _last_tickets(arm)))
        empty = ", ".join(f"{layer} ({number} of 3)" for layer, number in emptied(arm).items())
        rows.append([*row, empty or "none: COLT-2 ended, and with it the counts"])
    heads = ["arm", "at 10 %", "at 1 %", "weights left", "after rounds", "layer that is empty next"]
    ended = emptied("lth") + emptied("colt-2")
    # Which layer goes first, over all searches that ended so.
    most, number = ended.most_common(1)[0]
    others = [f"{layer} in {times}" for layer, times in ended.items() if layer != most]
    assert "conv1" not in ended, "the sentence below says that it never is"
    at_10 = differences(FOLDER, "matched", "colt-2", 0.1)
    at_1 = differences(FOLDER, "matched", "colt-2", 0.01)
    behind = supported("COLT-2 is behind matched IMP", above("", at_10), above("", at_1))
    weights_left = left("lth") + left("colt-2")
    smallest, largest = min(weights_left), max(weights_left)
    return f"""
```
tombola run recipes/fashion-mnist-collapse.yaml --scale small
```

COLT-2, LTH and IMP at COLT-2's counts, pruned until a layer has no weight left; 5,000 images, 3
epochs (252 steps; the full recipe has 55,000 images and 6 epochs, and COLT's section IV-F is about
ResNet-18), Adam 1.2e-3, batch 60, final weights, three replicates. 26 November 2026, two cores,
torch 2.14, 5 minutes. The packed run is in
[findings/fashion-mnist-collapse](findings/fashion-mnist-collapse).

Test accuracy in percent, then what is left of 60,630 weights in the last ticket whose layers all
have one, by replicate:

{table(heads, rows)}

All four layers keep weights until {smallest} to {largest} weights are left, in every arm. Of
{ended.total()} searches that ended this way, {most} was empty first in {number}, {listed(others)}; the
first layer in none. Whether COLT-2 collapses later than LTH (C12) is not decided: its last tickets
have {estimate(minus(left("colt-2"), left("lth")), 1)} more weights. A network of a dozen weights is
of no use, so this answers the claim as stated, not whether layers of a larger model become too thin
earlier. The dense network has {spread(values(FOLDER, "dense", 1.0))} %;
{behind} by {estimate(at_10, sign=False)} points at 10 % and by {estimate(at_1, sign=False)} at 1 %.

The sparsest tickets keep 0.01 % of the weights and take as long per image as the dense network,
since their zeros are multiplied: `latency.json`, and the table of inference in the report.
"""
