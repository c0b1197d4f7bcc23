"""Does a cut itself help? Branches from one state, LeNet-5 on MNIST."""

import statistics

from findings.branches import AFTER, BRANCHES, DENSE, DENSITIES, GRADUAL
from findings.evidence import (
    above,
    answer,
    below,
    estimate,
    in_round,
    interval,
    lines,
    minus,
    percent,
    supported,
    table,
)
from findings.sections import gradual

TITLE = "Does a cut itself help? Branches of one training: LeNet-5 on MNIST"
FOLDER = "mnist-lenet5-branches"
RECORDS = f"{FOLDER}/records.jsonl"
STEP = 3300  # the first look after the last cut of the whole schedule


def branch(
    trunk: str, density: float | None, step: int, replicate: int, *, cut: bool
) -> list[float]:
    """Return the test accuracies of a branch, one after each of so many steps, in percent."""
    wanted = (trunk, density, step, replicate, cut)
    for record in lines(RECORDS):
        if tuple(record[key] for key in ("trunk", "to", "branch", "replicate", "cut")) == wanted:
            return percent(record["test_accuracy"])
    raise KeyError(wanted)


def effect(trunk: str, density: float, after: int) -> list[float]:
    """Return cut minus not cut after so many steps, in points: by replicate, over branch points."""
    index = AFTER.index(after)
    effects = []
    for replicate in sorted({record["replicate"] for record in lines(RECORDS)}):
        at_steps = []
        for step in BRANCHES:
            # Of the dense network one branch that is not cut serves every density.
            density_uncut = None if trunk == DENSE else density
            uncut = branch(trunk, density_uncut, step, replicate, cut=False)
            cut = branch(trunk, density, step, replicate, cut=True)
            at_steps.append(cut[index] - uncut[index])
        effects.append(statistics.fmean(at_steps))
    return effects


def share(density: float, step: int) -> float:
    """Return how much of what is left the schedule's cut at a step takes, in percent."""
    kept: dict[bool, int] = {}
    for record in lines(RECORDS):
        if (record["trunk"], record["to"], record["branch"]) == (GRADUAL, density, step):
            kept[record["cut"]] = record["kept"]
    return 100 * (1 - kept[True] / kept[False])


def whole_schedule(density: int) -> list[float]:
    """Return validation accuracy at step 3,300, pruned on the way there minus dense, in points."""
    pruned = in_round(gradual.FOLDER, "as-trained", gradual.DENSITIES[density], "curve")
    dense = in_round(gradual.FOLDER, "gradual", 0, "curve")
    return minus(_valid_at_step(pruned), _valid_at_step(dense), 100)


def _valid_at_step(curves: list[dict[str, list[float]]]) -> list[float]:
    return [curve["valid_accuracy"][curve["step"].index(STEP)] for curve in curves]


def text() -> str:
    """Write the section."""
    heads = ["cut to", *(f"{after} steps later" for after in AFTER)]
    parts = []
    for trunk, digits in ((DENSE, 1), (GRADUAL, 2)):
        rows = []
        for density in DENSITIES:
            effects = [estimate(effect(trunk, density, after), digits) for after in AFTER]
            rows.append([f"{100 * density:.0f} %", *effects])
        parts.append(table(heads, rows))
    # How much a cut takes, which the table of effects must be read with.
    taken = []
    for density in DENSITIES:
        shares = [share(density, step) for step in BRANCHES]
        taken.append(f"{min(shares):.0f} to {max(shares):.0f} %")
    at_half = [above("", effect(GRADUAL, 0.5, after)) for after in (100, 300)]
    little = supported(
        "The effect of a cut on the way to 50 % is not decided", *at_half, state="undecided"
    )
    # What the rule would say if the claim were about all densities, for the text.
    at_all_densities = []
    for density in DENSITIES:
        at_all_densities += [above("", effect(GRADUAL, density, after)) for after in (100, 300)]
    everywhere = answer(at_all_densities)
    most = max(interval(statement.values)[2] for statement in at_half)
    longer = supported(
        "To 10 and 5 % the network that was cut is still less accurate 300 steps later",
        below("", effect(GRADUAL, 0.1, 300)),
        below("", effect(GRADUAL, 0.05, 300)),
    )
    along = [f"{estimate(whole_schedule(density))} to {density} %" for density in (50, 20, 10, 5)]
    return f"""
```
python -m findings.branches
```

Havinga & Sawhney see in one training that a cut first disturbs accuracy and then raises it (H17,
their figure 7b). Whether the cut is the cause is a question about two futures of one state. So training
is branched: cut or not cut, then continued with the same weights, optimiser moments and data order,
and without another cut. Setting and seeds are those of the finding
on gradual pruning (five replicates); branch points are steps {", ".join(map(str, BRANCHES))} of
4,300. Two trainings are branched: the dense one, whose layers are cut to a density at once,
and one on its way to that density, where the cut is the schedule's own: it removes {taken[0]} of
the remaining weights on the way to 50 %, {taken[1]} to 20 %, {taken[2]} to 10 %, {taken[3]} to 5 %. 29
November 2026, torch 2.14, shared cores, about half an hour on one core. Records are in
[findings/mnist-lenet5-branches](findings/mnist-lenet5-branches), the script is
`findings/branches.py`.

Test accuracy, cut minus not cut, in points: means over the branch points within each replicate,
and their intervals over replicates. First the dense network, cut at once:

{parts[0]}

Then networks on the way to a density, with one cut of the schedule:

{parts[1]}

H17 is evaluated at 50 %, the density of their figure; over all four densities, the rule would give
"{everywhere}". {little}: the intervals end at {most:+.2f}. {longer}. The effect of the whole
schedule is another question: at step {STEP:,}, after its last cut, validation accuracy is
{"; ".join(along)}, relative to the dense network at that step.
"""
