"""Gradual pruning on MNIST: pruned and trained on, its mask from the start, other weights."""

from findings.evidence import above, below, in_round, minus, so, spread, table, told

TITLE = "Gradual pruning: LeNet-5 on MNIST"
FOLDER = "mnist-lenet5-gradual"
DENSE = "dense"
DENSITIES = {50: 1, 20: 2, 10: 3, 5: 4, 2: 5, 1: 6}  # percent, and their rounds
COMPARED = (50, 20, 10, 5)
RULES = {"at the end": "test_accuracy", "at the best step": "test_accuracy_early"}
ARMS = {
    "as-trained": "pruned and trained on",
    "gradual": "its mask, original initialisation",
    "reinitialised": "its mask, other weights",
    "random-ticket": "random ticket",
}
PAIRS = (
    ("as-trained", DENSE),
    ("gradual", DENSE),
    ("reinitialised", DENSE),
    ("as-trained", "gradual"),
    ("gradual", "reinitialised"),
    ("gradual", "random-ticket"),
)


def accuracy(arm: str, percent: int, rule: str) -> list[float]:
    """Return what each replicate of an arm has, in percent, by one rule for all arms."""
    where = ("gradual", 0) if arm == DENSE else (arm, DENSITIES[percent])
    return [100 * value for value in in_round(FOLDER, *where, RULES[rule])]


def difference(arm: str, other: str, percent: int, rule: str) -> list[float]:
    """Return one arm minus another, both by the same rule, in points."""
    return minus(accuracy(arm, percent, rule), accuracy(other, percent, rule))


def text() -> str:
    """Write the section."""
    heads = ["density", *ARMS.values()]
    parts = []
    for rule in RULES:
        rows = [
            [f"{percent} %", *(spread(accuracy(arm, percent, rule)) for arm in ARMS)]
            for percent in DENSITIES
        ]
        dense = spread(accuracy(DENSE, 50, rule))
        parts.append(f"All {rule}; the dense network has {dense}:\n\n{table(heads, rows, left=0)}")
    pairs = []
    for arm, other in PAIRS:
        for rule in RULES:
            row = [f"{arm} - {other}" if rule == "at the end" else "", rule.removeprefix("at the ")]
            row += [told(difference(arm, other, percent, rule)) for percent in COMPARED]
            pairs.append(row)
    columns = ["", "both at the", *(f"{percent} %" for percent in COMPARED)]
    sparse = [
        told(difference("gradual", "reinitialised", percent, "at the end"), 1) for percent in (2, 1)
    ]
    at_five = [
        below("", difference(arm, DENSE, 5, rule))
        for arm in ("as-trained", "gradual")
        for rule in RULES
    ]
    from_twenty = [
        above("", difference("gradual", "reinitialised", percent, rule))
        for percent in (20, 10)
        for rule in RULES
    ]
    below_dense = (
        "Both the network that was pruned and its mask trained from the start are below the dense "
        "network at 5 %"
    )
    below_dense = so(below_dense, *at_five)
    return f"""
```
tombola run recipes/mnist-lenet5-gradual.yaml
```

All of MNIST (55,000 training, 5,000 validation images), LeNet-5, every layer pruned alike along
Zhu & Gupta's cubic schedule, the output layer too, Adam 1.2e-3, batch 128, 10 epochs (4,300 steps;
cuts every 100 steps up to three quarters), as in Havinga & Sawhney's figures 6 and 7 but for what
the recipe says. Five replicates, run one by one; 26 November 2026, two cores beside other work,
torch 2.14, 12 to 30 minutes a replicate. The packed run is in
[findings/mnist-lenet5-gradual](findings/mnist-lenet5-gradual).

Two networks are compared by one rule: both at the end of training, or both at their best step by
validation loss (of what is pruned while it trains, the best after the last cut). Test accuracy in
percent. {parts[0]}

{parts[1]}

![Test accuracy by density](findings/mnist-lenet5-gradual/boxes.svg)

In the picture, as in the paper's, what was pruned and trained on is at its end and all others are
at their best step.

Paired differences in points:

{table(columns, pairs, left=2)}

- {below_dense}, by both rules (H1).
- {so("The original initialisation is ahead of others from 20 % on", *from_twenty)}; at 5 % the
  spread of the other weights hides it. At 2 and 1 % the difference is {sparse[0]} and {sparse[1]}
  at the end (H2, H3).
- Which of the two rules is taken decides the sign of most differences to dense at 50 to 10 % (H4):
  dense is further past its best step at the end than what was pruned on the way.
"""
