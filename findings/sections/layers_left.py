"""Which scores empty a layer: Conv-6 pruned before training."""

from findings.evidence import in_round, listed, minus, spread, table

TITLE = "Which scores empty a layer: Conv-6 pruned before training"
FOLDER = "layers-left"
DENSITIES = {"1 %": 1, "0.1 %": 2}  # and their rounds
ARMS = {
    "synflow": "SynFlow, 100 cuts",
    "synflow-once": "SynFlow, one cut",
    "snip": "SNIP",
    "grasp": "GraSP",
    "magnitude": "magnitude",
    "random": "random",
}


def alive(arm: str, density: str) -> list[int]:
    """Count the layers that keep a weight, by replicate."""
    counts = []
    for layers in in_round(FOLDER, arm, DENSITIES[density], "layers"):
        counts.append(sum(kept > 0 for kept, _ in layers.values()))
    return counts


def layers() -> int:
    """Count the layers of the network."""
    return len(in_round(FOLDER, "synflow", 1, "layers")[0])


def more(arm: str, other: str, density: str) -> list[float]:
    """Return the layers that one arm leaves minus those that another does, by replicate."""
    return minus(alive(arm, density), alive(other, density))


def thinnest(arm: str, density: str) -> list[int]:
    """Return the weights of the layer that keeps the fewest, by replicate."""
    fewest = []
    for layers_of_replicate in in_round(FOLDER, arm, DENSITIES[density], "layers"):
        fewest.append(min(kept for kept, _ in layers_of_replicate.values()))
    return fewest


def _counts(values: list[int]) -> str:
    return ", ".join(map(str, values))


def text() -> str:
    """Write the section."""
    rows, thin = [], []
    for arm, name in ARMS.items():
        rows.append([name, *(_counts(alive(arm, density)) for density in DENSITIES)])
        thin.append([name, *(spread(thinnest(arm, density), 0) for density in DENSITIES)])
    counts = [in_round(FOLDER, "snip", index, "kept")[0] for index in DENSITIES.values()]
    kept = listed(f"{count:,}" for count in counts)
    return f"""
```
tombola run recipes/layers-left.yaml --scale small
```

Conv-6, all weights in competition, pruned before training to {kept} of
{in_round(FOLDER, "snip", 1, "prunable")[0]:,} weights, no training, three replicates. Images are drawn at random in
CIFAR-10's shape, which matters to SNIP (500 images) and GraSP (100) alone. 29 November 2026, one busy
core, torch 2.15, 15 minutes. The packed run is in [findings/layers-left](findings/layers-left).

Layers of {layers()} that keep a weight, by replicate:

{table(["score", *DENSITIES], rows)}

Weights of the layer that keeps the fewest:

{table(["score", *DENSITIES], thin)}

The hundred cuts are what keeps SynFlow's layers (T1): in one cut it empties more layers than any other
score. SNIP empties none here, either (T2), but its thinnest layer keeps fewer weights. A random mask keeps every
layer's share, so it empties those that are small: the first one and the head.
"""
