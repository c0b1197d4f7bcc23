"""COLT-2, LTH and matched IMP: LeNet-5 on MNIST."""

from findings.evidence import (
    accuracies,
    agreement,
    below,
    differences,
    distinct,
    estimate,
    in_round,
    interval,
    kept_a_round,
    mean,
    minus,
    records,
    rounds_to,
    spread,
    supported,
    table,
    trainings,
)

TITLE = "COLT-2, LTH and matched IMP: LeNet-5 on MNIST"
FOLDER = "mnist-lenet5"
ROUNDS = range(15)


def behind(index: int) -> list[float]:
    """COLT-2 minus IMP at the same counts in a round, in points."""
    colt, matched = (in_round(FOLDER, arm, index, "test_accuracy") for arm in ("colt-2", "matched"))
    return minus(colt, matched, 100)


def _numbers(last: int) -> str:
    """Write the table of rounds; COLT-2, and so its counts, ends before LTH does."""
    rows = []
    for index in ROUNDS:
        row = [str(index)]
        if index <= last:
            row.append(mean(accuracies(FOLDER, "colt-2", index, "density")))
            row += [spread(accuracies(FOLDER, arm, index)) for arm in ("colt-2", "matched")]
            row.append(estimate(behind(index)) if index else "")
        else:
            row += [""] * 4
        row.append(mean(accuracies(FOLDER, "lth", index, "density")))
        row.append(spread(accuracies(FOLDER, "lth", index)))
        rows.append(row)
    heads = ["round", "COLT-2 density", "COLT-2", "matched", "COLT-2 - matched"]
    return table([*heads, "LTH density", "LTH"], rows, left=0)


def text() -> str:
    """Write the section."""
    last = max(record["round"] for record in records(FOLDER) if record["arm"] == "colt-2")
    # Rounds in which the interval is below zero.
    lower = [index for index in range(1, last + 1) if interval(behind(index))[2] < 0]
    late: list[float] = []
    for index in range(7, last + 1):
        late += behind(index)
    lower_at_10 = below("", differences(FOLDER, "colt-2", "matched", 0.1))
    more_accurate = "**Matched IMP is more accurate than COLT-2 where few weights are left.**"
    more_accurate = supported(more_accurate, lower_at_10)
    agree = agreement(FOLDER, "colt-2")
    kept = kept_a_round(FOLDER, "colt-2")
    cost, search, rounds = {}, {}, {}
    for arm in ("colt-2", "matched", "lth"):
        cost[arm] = round(trainings(FOLDER, arm))
        search[arm] = round(trainings(FOLDER, arm, "samples_seen_search"))
        rounds[arm] = distinct(rounds_to(FOLDER, arm, 0.05))
    return f"""
```
tombola run recipes/mnist-lenet5.yaml --replicates 3
```

All of MNIST (55,000 training, 5,000 validation, 10,000 test examples), LeNet-5 (60,630 prunable
weights: convolutions and linear layers without the output layer), Adam 1.2e-3, batch 60, 6 epochs
per training, final weights, rewinding to the initial state, three replicates. COLT-2 prunes 15 % in
each of two random halves of the classes, LTH 20 %; `matched` is IMP with exactly COLT-2's number
of weights after every round. 23 November 2026, two CPU cores, torch 2.15; 47 minutes on a machine
that was also doing other work, so seconds mean little. The packed run is in
[findings/mnist-lenet5](findings/mnist-lenet5); it was made before runs could be packed, and
converted later (`findings/convert.py`), so it lacks the costs of each training and the weights of
each layer.

{_numbers(last)}

![Test accuracy over density](findings/mnist-lenet5/accuracy.svg)

**COLT-2 keeps {mean(kept, 1)} % of the weights per round**; two independent cuts of 15 % would keep
72.25 %, two equal ones 85 %. A weight that one half prunes is also pruned by the other with frequency
{estimate(agree, sign=False)}; chance over the whole model gives 0.15.

{more_accurate} The
interval excludes zero in rounds {", ".join(map(str, lower))}; in rounds 7 to {last} COLT-2 is
behind in {sum(value < 0 for value in late)} of {len(late)} pairs. At 20 % density the difference
is {estimate(differences(FOLDER, "colt-2", "matched", 0.2))}, at 10 %
{estimate(differences(FOLDER, "colt-2", "matched", 0.1))}; to LTH it is
{estimate(differences(FOLDER, "colt-2", "lth", 0.2))} and
{estimate(differences(FOLDER, "colt-2", "lth", 0.1))}.

**IMP at COLT's own rate saves as many rounds as COLT.** To get below 5 %, COLT-2 needs
{rounds["colt-2"]} rounds, matched IMP {rounds["matched"]}, LTH {rounds["lth"]}. If every ticket
is evaluated, COLT-2 costs {cost["colt-2"]} trainings on all data, matched IMP
{cost["matched"]}, LTH {cost["lth"]}; the search alone costs {search["colt-2"]} and
{search["matched"]}.

This does not explain why; the finding on causes below does. MNIST is easy and LeNet-5 is small; the
paper's claims are about CIFAR and ResNet-18.
"""
