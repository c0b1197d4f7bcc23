"""Learning rates: LeNet-300-100 on MNIST by SGD."""

from findings.evidence import (
    differences,
    estimate,
    in_round,
    mean,
    minus,
    records,
    spread,
    table,
    values,
)

TITLE = "Learning rates: LeNet-300-100 on MNIST by SGD"
RATES = ("0.003", "0.01", "0.03", "0.1")
DENSITIES = {"51.2 %": 3, "21.0 %": 7, "10.7 %": 10}  # and their rounds
DENSE = "100 %"


def folder(rate: str) -> str:
    """Return where the run of a rate is."""
    return f"mnist-rates/{rate}"


def density(percents: str) -> float:
    """Return the exact density of a round of 20 %."""
    return float(0.8 ** DENSITIES[percents]) if percents != DENSE else 1.0


def to_arm(rate: str, other: str, percents: str) -> list[float]:
    """Return ticket minus another arm, in points."""
    return differences(folder(rate), "lth", other, density(percents))


def distance(rate: str) -> list[float]:
    """Return how far the dense network's weights ended from where they began."""
    return in_round(folder(rate), "lth", 0, "distance")


def farther(rate: str, other: str) -> list[float]:
    """Return the dense network's distance at one rate minus that at another."""
    return minus(distance(rate), distance(other))


def stops_at_the_end(rate: str) -> int:
    """Count the replicates whose dense network is best at the last look: trained too short."""
    count = 0
    for record in records(folder(rate)):
        if (record["arm"], record["round"]) == ("lth", 0):
            count += record["early_stop_step"] >= record["curve"]["step"][-1]
    return count


def _numbers() -> str:
    """Write the table of rates and densities."""
    rows = []
    for rate in RATES:
        dense = spread(values(folder(rate), "dense", 1.0))
        rows.append([rate, DENSE, dense, "", "", "", mean(distance(rate), 3)])
        for percents, index in DENSITIES.items():
            row = ["", percents]
            for arm in ("lth", "reinitialised"):
                row.append(spread(values(folder(rate), arm, density(percents))))
            row += [estimate(to_arm(rate, arm, percents)) for arm in ("reinitialised", "dense")]
            row.append(mean(in_round(folder(rate), "lth", index, "distance"), 3))
            rows.append(row)
    heads = ["rate", "density", "ticket", "its mask, new weights"]
    heads += ["ticket - new weights", "ticket - dense", "distance"]
    return table(heads, rows, left=2)


def text() -> str:
    """Write the section."""
    short = [f"{stops_at_the_end(rate)} of 3 at {rate}" for rate in RATES]
    worth = [f"{mean(to_arm(rate, 'reinitialised', '10.7 %'), 1)} at {rate}" for rate in RATES]
    at_small, at_large = (values(folder(rate), "dense", 1.0) for rate in ("0.01", "0.1"))
    return f"""
```
tombola run recipes/mnist-rates.yaml --scale small
tombola report docs/findings/mnist-rates/0.0* docs/findings/mnist-rates/0.1 --out page
```

20,000 training images, SGD with momentum 0.9 at a constant rate, batch 60, 6 epochs (2,004 steps)
per training, whole-model pruning of 20 % per round, three replicates at four rates. The full recipe
trains for 30 epochs on all images. 26 November 2026, two cores, torch 2.14, 7 minutes. The four
packed runs are in [findings/mnist-rates](findings/mnist-rates).

Test accuracy in percent at the end of training, and how far the kept weights ended from where they
started (root mean square; that of the initial weights is 0.04 and 0.07 in the two layers):

{_numbers()}

![Test accuracy over density, by rate](findings/mnist-rates/accuracy.svg)

- *Distance* (H13) of the dense network: {estimate(farther("0.1", "0.003"), 3)} more at the largest
  rate than at the smallest. But the rates are compared after equally many steps, and the small
  ones have not converged: the dense network's best step is its last in {", ".join(short)}.
  Between the two that have, 0.1 and 0.03, it is {estimate(farther("0.1", "0.03"), 3)}.
- *Does the original initialisation matter only at small rates?* (H11 is about longer trainings of
  larger networks and is not tested here.) At 10.7 % density it is worth
  {", ".join(worth)} points.
- At 0.1 the dense network itself trains badly, {estimate(minus(at_large, at_small))} points to that
  at 0.01, and tickets are up to {mean(to_arm("0.1", "dense", "10.7 %"), 1)} points *above* it.
"""
