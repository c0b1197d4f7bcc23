"""Gradual pruning on MNIST: pruned and trained on, its mask from the start, other weights."""

from findings.evidence import above, accuracies, below, estimate, minus, spread, supported, table

TITLE = "Gradual pruning: LeNet-5 on MNIST"
FOLDER = "mnist-lenet5-gradual"
DENSE = "dense"
DENSITIES = {50: 1, 20: 2, 10: 3, 5: 4, 2: 5, 1: 6}  # percent, and their rounds
COMPARED = (50, 20, 10, 5)
RULES = {"at the end": "test_accuracy", "at the best step": "test_accuracy_early"}
ARMS = {
    "as-trained": "pruned while training",
    "gradual": "its mask, original initialisation",
    "reinitialised": "its mask, new weights",
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


def accuracy(arm: str, density: int, rule: str) -> list[float]:
    """Return what each replicate of an arm has, in percent, by one rule for all arms."""
    if arm == DENSE:
        return accuracies(FOLDER, "gradual", 0, RULES[rule])
    return accuracies(FOLDER, arm, DENSITIES[density], RULES[rule])


def difference(arm: str, other: str, density: int, rule: str) -> list[float]:
    """Return one arm minus another, both by the same rule, in points."""
    return minus(accuracy(arm, density, rule), accuracy(other, density, rule))


def _accuracies(rule: str) -> str:
    """Write the table of accuracies by one rule."""
    rows = []
    for density in DENSITIES:
        row = [f"{density} %"]
        row += [spread(accuracy(arm, density, rule)) for arm in ARMS]
        rows.append(row)
    dense = spread(accuracy(DENSE, 50, rule))
    numbers = table(["density", *ARMS.values()], rows, left=0)
    return f"All {rule}; the dense network has {dense}:\n\n{numbers}"


def _differences() -> str:
    """Write the table of paired differences."""
    rows = []
    for arm, other in PAIRS:
        for rule in RULES:
            row = [f"{arm} - {other}" if rule == "at the end" else "", rule.removeprefix("at the ")]
            row += [estimate(difference(arm, other, density, rule)) for density in COMPARED]
            rows.append(row)
    heads = ["", "both at the", *(f"{density} %" for density in COMPARED)]
    return table(heads, rows, left=2)


def text() -> str:
    """Write the section."""
    at_two = difference("gradual", "reinitialised", 2, "at the end")
    at_one = difference("gradual", "reinitialised", 1, "at the end")
    at_five, from_twenty = [], []
    for rule in RULES:
        for arm in ("as-trained", "gradual"):
            at_five.append(below("", difference(arm, DENSE, 5, rule)))
        for density in (20, 10):
            from_twenty.append(above("", difference("gradual", "reinitialised", density, rule)))
    below_dense = (
        "Both the network that was pruned and its mask trained from the start are below the dense "
        "network at 5 %"
    )
    below_dense = supported(below_dense, *at_five)
    ahead = "The original initialisation is ahead of new ones at 20 and 10 %"
    ahead = supported(ahead, *from_twenty)
    return f"""
```
tombola run recipes/mnist-lenet5-gradual.yaml
```

All of MNIST (55,000 training, 5,000 validation images), LeNet-5, every layer pruned equally along Zhu
& Gupta's cubic schedule, including the output layer, Adam 1.2e-3, batch 128, 10 epochs (4,300
steps;
cuts every 100 steps up to three quarters), as in Havinga & Sawhney's figures 6 and 7, with the
exceptions that the recipe lists. Five replicates, run one by one; 26 November 2026, two cores,
shared with other work,
torch 2.14, 12 to 30 minutes per replicate. The packed run is in
[findings/mnist-lenet5-gradual](findings/mnist-lenet5-gradual).

Two networks are compared by one rule: both at the end of training, or both at their best step by
validation loss (for a network pruned during training, the best after the last cut). Test accuracy
in
percent. {_accuracies("at the end")}

{_accuracies("at the best step")}

![Test accuracy by density](findings/mnist-lenet5-gradual/boxes.svg)

In the figure, as in the paper's, the network that was pruned while training is shown at its end,
all others at their best step.

Paired differences in points:

{_differences()}

- {below_dense}, by both rules (H1).
- {ahead}; at 5 % the spread of the new ones hides it. At 2 and 1 % the difference is
  {estimate(at_two, 1)} and {estimate(at_one, 1)} at the end (H2, H3).
- The choice of rule decides the sign of most differences to dense at 50 to 10 % (H4): at the end,
  the dense network is further past its best step than the networks pruned while training.
"""
