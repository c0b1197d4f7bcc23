"""Detection: Faster R-CNN on drawn shapes."""

from findings.evidence import (
    above,
    agreement,
    below,
    differences,
    distinct,
    estimate,
    records,
    rounds_to,
    spread,
    supported,
    table,
    values,
)

TITLE = "Detection: a small Faster R-CNN on drawn shapes"
FOLDER = "shapes-faster-rcnn"
ENTRY = "test_map50"
DENSITIES = {"50 %": 0.5, "20 %": 0.2}
ARMS = {
    "lth": "LTH, 20 % per round",
    "matched": "matched: IMP at COLT-2's counts",
    "colt-2": "COLT-2, objects of other classes ignored",
    "background": "COLT-2, called background",
    "exclude": "COLT-2, pictures with them left out",
    "random-ticket": "random ticket, COLT-2's counts in each layer",
}
PAIRS = (
    ("colt-2", "matched"),
    ("colt-2", "lth"),
    ("colt-2", "random-ticket"),
    ("background", "colt-2"),
    ("exclude", "colt-2"),
)


def difference(arm: str, other: str, density: str) -> list[float]:
    """Return an arm's mAP minus another's, in points."""
    return differences(FOLDER, arm, other, DENSITIES[density], ENTRY)


def at(arm: str, density: str) -> list[float]:
    """Return the mAP of an arm, in percent, by replicate."""
    return values(FOLDER, arm, DENSITIES[density], ENTRY)


def dense() -> list[float]:
    """Return the mAP of the dense network, in percent, by replicate."""
    return values(FOLDER, "lth", 1.0, ENTRY)


def fewer_rounds(arm: str, other: str) -> list[int]:
    """Return an arm's rounds to 20 % of the weights minus another's, by replicate."""
    rounds, others = rounds_to(FOLDER, arm, 0.2), rounds_to(FOLDER, other, 0.2)
    return [first - second for first, second in zip(rounds, others, strict=True)]


def counted(arm: str, entry: str) -> int:
    """Count pictures or boxes of an arm's partitions, over all replicates."""
    total = 0
    for record in records(FOLDER):
        if record["arm"] == arm and record["round"] == 0:
            total += sum(shares[entry] for shares in record["partition_shares"])
    return total


def share(arm: str, part: str, rest: str) -> str:
    """Return which share some pictures or boxes are of them and the rest, in percent."""
    number = counted(arm, part)
    return f"{100 * number / (number + counted(arm, rest)):.0f} %"


def text() -> str:
    """Write the section."""
    rows = []
    for arm, name in ARMS.items():
        row = [name, distinct(rounds_to(FOLDER, arm, 0.2))]
        for density in DENSITIES:
            row += [spread(at(arm, density)), estimate(difference(arm, "dense", density))]
        rows.append(row)
    heads = ["arm", "rounds to below 20 %"]
    for density in DENSITIES:
        heads += [f"mAP at {density}", "minus dense"]
    pairs = []
    for arm, other in PAIRS:
        row = [f"{arm} - {other}"]
        row += [estimate(difference(arm, other, density)) for density in DENSITIES]
        pairs.append(row)
    colt_to_matched = difference("colt-2", "matched", "20 %")
    statements = [
        above("", difference(arm, "dense", "20 %")) for arm in ("lth", "matched", "colt-2")
    ]
    pruned = supported(
        "Pruned by 80 %, detectors of LTH and COLT are better than the dense one", *statements
    )
    colt = supported("its tickets are worse", below("", colt_to_matched))
    policies = supported(
        "Whether objects of other classes are ignored or called background makes no difference that is shown",
        above("", difference("background", "colt-2", "20 %")),
        state="undecided",
    )
    worse = supported("makes tickets worse", below("", difference("exclude", "colt-2", "20 %")))
    agreed = 100 * sum(agreement(FOLDER, "colt-2")) / len(dense())
    mixed = f"{100 * counted('colt-2', 'shared_pictures') / counted('colt-2', 'pictures'):.0f} %"
    foreign = share("colt-2", "other_boxes", "own_boxes")
    lost = share("exclude", "lost_boxes", "own_boxes")
    return f"""
```
tombola run recipes/shapes-faster-rcnn.yaml
```

COLT's last experiment (section IV-G, Tables VII and VIII) prunes Faster R-CNN with VGG16 on Pascal VOC: 27 days
of one core for one training. Here a detector of 287,072 weights finds shapes of six kinds, 9 to 30 pixels high,
on noise: 1,116 pictures of 96 x 96, 400 steps of 8 by Adam, three replicates, tested on 300 pictures. 29 November
2026, two busy cores, torch 2.14, 57 minutes. The packed run is in
[findings/shapes-faster-rcnn](findings/shapes-faster-rcnn).
VOC's mAP at an overlap of one half, in percent; the dense network has {spread(dense())}.

{table(heads, rows)}

{table(["", "at 50 %", "at 20 %"], pairs)}

{pruned} (C14). Trainings end while the validation loss still falls: what magnitudes keep learns faster, and what
chance keeps does not. So the run's own verdict on winning tickets is inconclusive: that they stop no later
than dense cannot be seen. COLT-2 needs three rounds fewer than LTH (C15), and {colt}: {estimate(colt_to_matched)}
at 20 % to IMP with as many weights in as many rounds. What both of its partitions keep is not what a network
of all data would keep, though they agree more than chance would: a weight that one prunes is pruned by the other
in {agreed:.0f} % of cases.

Most pictures show several classes. In a partition of three classes, {mixed} of its pictures show others too,
and {foreign} of the boxes in them are not its own. {policies}:
{estimate(difference("background", "colt-2", "20 %"))} at 20 %. Leaving such pictures out loses {lost} of its own boxes,
takes a fifth of the search, and {worse}.
"""
