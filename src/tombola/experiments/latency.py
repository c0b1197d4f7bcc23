"""Latency: how long a network takes for a batch, dense and as tickets, measured at the end of a
run.

    tickets -> [ networks x batch sizes, in turn ] -> latency.json -> report

A ticket is timed as the run's kernel runs it. To torch's own layers pruned weights are zeros, which
are multiplied like any other number. What a mask could save is counted, see `tombola.models.flops`;
only a smaller network or a kernel for sparse weights takes less time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tombola.evidence.comparisons import DENSE
from tombola.experiments.plans import Plans
from tombola.folder.runs import Run
from tombola.ground import devices
from tombola.kernels import finding
from tombola.masks.masks import apply_
from tombola.records.records import Record
from tombola.training.jobs import alone
from tombola.training.loop import arrange_

BATCHES = (1, 100)

_SECONDS = 0.5  # for all networks at one size of batch, as far as the fewest samples allow
_FEWEST, _MOST = 5, 51  # samples of each network
_SAMPLE = 1e-3  # seconds that a sample takes at least: clocks are no finer than it needs


def measure(run: Run, plans: Plans, model: Callable[[int], nn.Module]) -> None:
    """Time the dense network and the sparsest ticket of each search, and write the run's
    ``latency.json``.

    What is measured of the same tickets already stays as it is.

    Args:
        run: The folder; nobody else may work there.
        plans: Of its recipe.
        model: Gives the model of a replicate as it is before training.

    Raises:
        TicketError: A ticket is damaged.
        DiskError: The file cannot be written.
    """
    tickets = _sparsest(run)
    wanted = [record["mask_digest"] for record in tickets]
    if (
        not tickets
        or [row["mask_digest"] for row in run.latency().get("rows", []) if row["arm"] != DENSE]
        == wanted
    ):
        return
    training, task = plans.recipe.training, plans.task
    networks = {DENSE: model(tickets[0]["replicate"])}
    for record in tickets:
        networks[record["arm"]] = model(record["replicate"])
        apply_(
            networks[record["arm"]], run.mask(record["arm"], record["replicate"], record["round"])
        )
    rows: list[dict[str, Any]] = [{"arm": DENSE}]
    rows += [
        {key: record[key] for key in ("arm", "replicate", "round", "mask_digest")}
        for record in tickets
    ]
    kernel = finding.named(training.kernel)
    with alone(training, task), torch.inference_mode():
        for name, network in networks.items():
            network.eval().to(task.device)
            arrange_(network, training)
            networks[name] = kernel.inference(network)
        for batch in BATCHES:
            for row, seconds in zip(
                rows, timed(networks, task.probe(batch, 0)).values(), strict=True
            ):
                low, middle, high = (
                    1000 * float(value) for value in np.quantile(seconds, [0.25, 0.5, 0.75])
                )
                row[f"batch_{batch}"] = {
                    "ms": middle,
                    "quartiles": [low, high],
                    "samples": len(seconds),
                }
    run.seals.write_json(
        run.layout.latency, {"device": task.device.type, "threads": training.threads, "rows": rows}
    )


def timed(networks: Mapping[str, nn.Module], inputs: Tensor) -> dict[str, list[float]]:
    """Time networks on one batch, in turn, so that what else the machine does meets all of them.

    Args:
        networks: By name, in evaluation mode, on the device of the inputs.
        inputs: Shape [batch, ...].

    Returns:
        Seconds a batch, several samples of each network.

    >>> found = timed({"dense": nn.Linear(4, 2), "ticket": nn.Linear(4, 2)}, torch.ones(3, 4))
    >>> len(found["dense"]) == len(found["ticket"]) >= 5
    True
    """
    once = 0.0
    for network in networks.values():
        _seconds(network, inputs, 1)  # what is made at the first call is no part of any other
        once = max(once, _seconds(network, inputs, 1))
    calls = max(1, round(_SAMPLE / once))
    samples = min(_MOST, max(_FEWEST, round(_SECONDS / (calls * once * len(networks)))))
    found: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(samples):
        for name, network in networks.items():
            found[name].append(_seconds(network, inputs, calls) / calls)
    return found


def _seconds(network: nn.Module, inputs: Tensor, calls: int) -> float:
    devices.wait(inputs.device)
    began = time.perf_counter()
    for _ in range(calls):
        network(inputs)
    devices.wait(inputs.device)
    return time.perf_counter() - began


def _sparsest(run: Run) -> list[Record]:
    """Return, of each arm that searches by itself, the sparsest ticket whose file is here, of
    the first replicate.
    """
    arms = [name for name, arm in run.recipe.arms.items() if arm.searches and arm.source is None]
    found = []
    for arm in arms:
        there = [
            record
            for record in run.records.all()
            if record["arm"] == arm
            and 0 < record["density"] < 1
            and run.ticket_path(arm, record["replicate"], record["round"]).exists()
        ]
        if there:
            found.append(min(there, key=lambda record: (record["replicate"], record["density"])))
    return found
