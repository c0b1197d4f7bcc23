"""Does a cut itself help? Branches from one state, LeNet-5 on MNIST."""

import statistics

from findings.branches import AFTER, BRANCHES, DENSE, DENSITIES, GRADUAL
from findings.evidence import above, answer, below, in_round, interval, lines, so, table, told
from findings.sections import gradual

TITLE = "Does a cut itself help? Branches of one training: LeNet-5 on MNIST"
FOLDER = "mnist-lenet5-branches"
RECORDS = f"{FOLDER}/records.jsonl"
STEP = 3300  # the first look after the last cut of the whole schedule


def branch(trunk: str, to: float | None, at: int, replicate: int, *, cut: bool) -> list[float]:
    """Return the test accuracies of a branch, one after each of so many steps, in percent."""
    wanted = (trunk, to, at, replicate, cut)
    for record in lines(RECORDS):
        if tuple(record[key] for key in ("trunk", "to", "branch", "replicate", "cut")) == wanted:
            return [100 * value for value in record["test_accuracy"]]
    raise KeyError(wanted)


def effect(trunk: str, to: float, after: int, at: tuple[int, ...] = BRANCHES) -> list[float]:
    """Return cut minus not cut after so many steps, in points: by replicate, over branch points."""
    index = AFTER.index(after)
    found = []
    for replicate in sorted({record["replicate"] for record in lines(RECORDS)}):
        each = []
        for step in at:
            # Of the dense network one branch that is not cut serves every density.
            uncut = branch(trunk, None if trunk == DENSE else to, step, replicate, cut=False)
            each.append(branch(trunk, to, step, replicate, cut=True)[index] - uncut[index])
        found.append(statistics.fmean(each))
    return found


def share(to: float, at: int) -> float:
    """Return how much of what is left the schedule's cut at a step takes, in percent."""
    kept: dict[bool, int] = {
        r["cut"]: r["kept"]
        for r in lines(RECORDS)
        if (r["trunk"], r["to"], r["branch"]) == (GRADUAL, to, at)
    }
    return 100 * (1 - kept[True] / kept[False])


def whole_schedule(percent: int) -> list[float]:
    """Return validation accuracy at step 3,300, pruned on the way there minus dense, in points."""
    curves = [
        in_round(gradual.FOLDER, arm, index, "curve")
        for arm, index in (("as-trained", gradual.DENSITIES[percent]), ("gradual", 0))
    ]
    found = []
    for pruned, dense in zip(*curves, strict=True):
        pair = [
            dict(zip(c["step"], c["valid_accuracy"], strict=True))[STEP] for c in (pruned, dense)
        ]
        found.append(100 * (pair[0] - pair[1]))
    return found


def text() -> str:
    """Write the section."""
    heads = ["cut to", *(f"{after} steps later" for after in AFTER)]
    parts = []
    for trunk, digits in ((DENSE, 1), (GRADUAL, 2)):
        rows = []
        for to in DENSITIES:
            effects = [told(effect(trunk, to, after), digits) for after in AFTER]
            rows.append([f"{100 * to:.0f} %", *effects])
        parts.append(table(heads, rows))
    taken = []
    for to in DENSITIES:
        shares = [share(to, at) for at in BRANCHES]
        taken.append(f"{min(shares):.0f} to {max(shares):.0f} %")
    at_half = [above("", effect(GRADUAL, 0.5, after)) for after in (100, 300)]
    little = so(
        "What a cut on the way to 50 % is worth is not decided", *at_half, state="undecided"
    )
    everywhere = answer(
        [above("", effect(GRADUAL, to, after)) for to in DENSITIES for after in (100, 300)]
    )
    most = max(interval(statement.values)[2] for statement in at_half)
    longer = so(
        "To 10 and 5 % the network that was cut is still less accurate 300 steps later",
        *(below("", effect(GRADUAL, to, 300)) for to in (0.1, 0.05)),
    )
    along = [f"{told(whole_schedule(percent))} to {percent} %" for percent in (50, 20, 10, 5)]
    return f"""
```
python -m findings.branches
```

Havinga & Sawhney see in one training that a cut disturbs and then lifts accuracy (H17, their
figure 7b). Whether a cut does is a question about two futures of one state, so training is
branched off: cut, or not cut, and then trained on alike, with the same weights, optimiser's
moments and order of the data, and without another cut. Setting and seeds are those of the finding
on gradual pruning (five replicates); branch points are steps {", ".join(map(str, BRANCHES))} of
4,300. Two trainings are branched off: the dense one, whose layers are cut to a density at once,
and one on its way to that density, where the cut is the schedule's own: it takes {taken[0]} of
what is left on the way to 50 %, {taken[1]} to 20 %, {taken[2]} to 10 %, {taken[3]} to 5 %. 29
November 2026, torch 2.14, cores shared with other work, about half an hour of one. Records are in
[findings/mnist-lenet5-branches](findings/mnist-lenet5-branches), the script is
`findings/branches.py`.

Test accuracy, cut minus not cut, in points: means over the branch points within each replicate,
and their intervals over replicates. First the dense network, cut at once:

{parts[0]}

Then networks on their way to a density, and one cut of the schedule:

{parts[1]}

H17 is asked at 50 %, the density of their figure; asked at all four, the rule would say
"{everywhere}". {little}: the intervals end at {most:+.2f}. {longer}. What the whole schedule does
is another question: at step {STEP:,}, after its last cut, validation accuracy is
{"; ".join(along)}, relative to the dense network at that step.
"""
