"""Masks of weights that are never trained: LeNet-300-100 on MNIST."""

from findings.evidence import (
    accuracies,
    estimate,
    in_round,
    mean,
    minus,
    percent,
    spread,
    table,
    values,
)

TITLE = "Masks of weights that are never trained: LeNet-300-100 on MNIST"
FOLDER = "untrained"
DENSITIES = {"50 %": 1, "20 %": 2, "10 %": 3}  # and their rounds
CHANCE = 10.0  # percent, of ten classes
# The arms that choose a mask, with what they keep.
CHOSEN = {
    "random": "a random mask",
    "large-init": "largest before training",
    "large-final": "largest after training",
    "lth": "the same, in rounds (LTH)",
    "same-sign": "largest after training, of the same sign",
    "increase": "grown most",
    "increase-same-sign": "grown most, of the same sign",
    "distance": "moved farthest",
    "small-final": "smallest after training",
    "random-constants": "a random mask, constants",
    "large-final-constants": "largest after training, constants",
    "same-sign-constants": "largest of the same sign, constants",
}
# The arms that learn one, and what Zhou et al. print for it, in percent.
LEARNT = {
    "supermask": ("supermask", "95.3"),
    "supermask-constants": ("supermask, constants", "96.4"),
    "supermask-rescaled": ("supermask, constants, rescaled", "98.0"),
    "edge-popup": ("edge-popup at 50 %", ""),
    "edge-popup-constants": ("edge-popup at 50 %, constants", ""),
}


def accuracy(arm: str, density: str = "50 %") -> list[float]:
    """Return the untrained test accuracy of an arm's tickets, in percent, by replicate.

    Learnt masks have one density, which a supermask finds itself.
    """
    return accuracies(FOLDER, arm, DENSITIES[density])


def drawn(arm: str) -> list[float]:
    """Return the accuracy of a supermask's second ticket, which is drawn by its probabilities."""
    return accuracies(FOLDER, arm, 2)


def better(arm: str, other: str, density: str = "50 %") -> list[float]:
    """Return an arm's untrained accuracy minus another's, in points."""
    return minus(accuracy(arm, density), accuracy(other, density))


def dense() -> list[float]:
    """Return the trained dense network's accuracy, in percent."""
    return values(FOLDER, "dense", 1.0)


def text() -> str:
    """Write the section."""
    rows = []
    for arm, name in CHOSEN.items():
        rows.append([name, *(spread(accuracy(arm, density)) for density in DENSITIES)])
    learnt = []
    for arm, (name, printed) in LEARNT.items():
        density = mean(percent(in_round(FOLDER, arm, 1, "density")), 1)
        of_drawn = spread(drawn(arm)) if printed else ""
        learnt.append([name, density, printed, of_drawn, spread(accuracy(arm))])
    learnt_heads = ["learnt mask", "density", "in the paper", "drawn", "more likely than not"]
    return f"""
```
tombola run recipes/untrained.yaml --scale small
```

What a ticket is worth before its first step: its mask on the initial weights, which no one trains
(figure 8 of Havinga & Sawhney, after Zhou et al. 2019, arXiv:1905.01067). 20,000 training images,
Adam 1.2e-3, batch 100, 15 epochs (3,000 steps) for the one training that a mask is chosen after, three
replicates; each layer is pruned alike, the output layer too. "Constants": the weights keep their
signs, and all of a layer have one size. 29 November 2026, one busy core, torch 2.15, 20 minutes. The
packed run is in [findings/untrained](findings/untrained). Test accuracy in percent; the trained dense
network has {spread(dense())}.

{table(["what is kept", *DENSITIES], rows)}

Masks that are learnt while the weights stay as they were drawn:

{table(learnt_heads, learnt)}

- *Is a ticket above chance before it is trained?* (H15) By chance one image in ten is right;
  LTH's tickets are at {estimate(better("lth", "random", "50 %"))} points against a random mask at 50 %,
  {estimate(better("lth", "random", "20 %"))} at 20 % and {estimate(better("lth", "random", "10 %"))} at
  10 %. Weights chosen by their initial size alone are no better than random ones:
  {estimate(better("large-init", "random"))} at 50 %.
- *Signs* (Z1): to keep only weights that end with the sign that they began with gives
  {estimate(better("same-sign", "large-final"))} points at 50 % and
  {estimate(better("same-sign", "large-final", "10 %"))} at 10 %. With constants for weights (Z2) these
  masks are at {estimate(better("same-sign-constants", "same-sign"))} and
  {estimate(better("same-sign-constants", "same-sign", "10 %"))} against the weights themselves; the paper's
  best such network has 86 %.
- *Learnt masks* (Z3): a mask that is drawn by the learnt probabilities, as the paper tests them, has about
  the accuracy that the paper prints; with rescaled constants it is at
  {estimate(minus(drawn("supermask-rescaled"), dense()))} points against the trained network, in the paper at
  +0.3. *The mask that keeps what is more likely kept than not is far worse*:
  {estimate(minus(accuracy("supermask"), drawn("supermask")))} points with the weights,
  {estimate(minus(accuracy("supermask-constants"), drawn("supermask-constants")))} with constants: it keeps
  about as many weights, but the networks that the probabilities were learnt for are drawn. Edge-popup, whose
  networks are not drawn, is at
  {estimate(minus(accuracy("edge-popup-constants"), dense()))} with constants.
"""
