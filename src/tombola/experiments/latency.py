"""Latency: how long a network takes for a batch, dense and as tickets, measured at the end of a
run.

    tickets -> [ networks x batch sizes, in turn ] -> latency.json -> report

A ticket is timed as the run's kernel runs it. To torch's own layers pruned weights are zeros, which
are multiplied like any other number. What a mask could save is counted, see `tombola.models.flops`;
only a smaller network or a kernel for sparse weights takes less time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
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
_WARMING = 2  # calls before them
_LONGEST = 60.0  # a size of batch that would take longer, with the fewest samples, is left out
_SAMPLE_SECONDS = 1e-3  # of a sample at least: shorter ones are lost in the grain of the clock


def measure(run: Run, plans: Plans, model: Callable[[int], nn.Module]) -> None:
    """Time the dense network and the sparsest ticket of each search, and write the run's
    ``latency.json``, unless it is there for the same tickets.

    Args:
        run: The folder; nobody else may work there.
        plans: Of its recipe.
        model: Gives the model of a replicate as it is before training.

    Raises:
        TicketError: A ticket is damaged.
        DiskError: The file cannot be written.
    """
    tickets = _sparsest(run)
    # What was measured before of the same tickets stays as it is.
    if not tickets or _measured(run) == [record["mask_digest"] for record in tickets]:
        return
    training, task = plans.recipe.training, plans.task
    networks = {DENSE: model(tickets[0]["replicate"])}
    rows: list[dict[str, Any]] = [{"arm": DENSE}]
    for record in tickets:
        arm, replicate, index = record["arm"], record["replicate"], record["round"]
        networks[arm] = model(replicate)
        apply_(networks[arm], run.mask(arm, replicate, index))
        rows.append({key: record[key] for key in ("arm", "replicate", "round", "mask_digest")})
    kernel = finding.named(training.kernel)
    with alone(training, task), torch.inference_mode():
        for name, network in networks.items():
            network.eval().to(task.device)
            arrange_(network, training)
            networks[name] = kernel.inference(network)
        left_out = []
        per_example = 0.0  # of all networks
        for batch in BATCHES:
            if batch * per_example * (_FEWEST + _WARMING) > _LONGEST:
                left_out.append(batch)
                continue
            samples = timed(networks, task.probe(batch, 0))
            for row in rows:
                row[f"batch_{batch}"] = _summary(samples[row["arm"]])
            per_example = sum(map(statistics.median, samples.values())) / batch
    content = {"device": task.device.type, "threads": training.threads, "rows": rows}
    if left_out:
        content["left_out"] = left_out
    run.seals.write_json(run.layout.latency, content)


def _measured(run: Run) -> list[str]:
    """Return the digests of the masks that were timed before."""
    rows = run.latency().get("rows", [])
    return [row["mask_digest"] for row in rows if row["arm"] != DENSE]


def _summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Return median and quartiles in milliseconds."""
    low, median, high = (1000 * np.quantile(seconds, [0.25, 0.5, 0.75])).tolist()
    return {"ms": median, "quartiles": [low, high], "samples": len(seconds)}


def timed(networks: Mapping[str, nn.Module], inputs: Tensor) -> dict[str, list[float]]:
    """Time networks on one batch, in turn, so that all of them share what else the machine does.

    Args:
        networks: By name, in evaluation mode, on the device of the inputs.
        inputs: Shape [batch, ...].

    Returns:
        Seconds per batch, several samples of each network.

    >>> networks = {"dense": nn.Linear(4, 2), "ticket": nn.Linear(4, 2)}
    >>> samples = timed(networks, torch.ones(3, 4))
    >>> len(samples["dense"]) == len(samples["ticket"]) >= 5
    True
    """
    # How long a call takes decides how many calls make a sample, and how many samples there are.
    slowest = 0.0
    for network in networks.values():
        # Two calls, `_WARMING`: the first may compile or allocate, which no other one does.
        _seconds(network, inputs, 1)
        slowest = max(slowest, _seconds(network, inputs, 1))
    calls = max(1, round(_SAMPLE_SECONDS / slowest))
    number = round(_SECONDS / (calls * slowest * len(networks)))
    number = min(_MOST, max(_FEWEST, number))
    samples: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(number):
        for name, network in networks.items():
            samples[name].append(_seconds(network, inputs, calls) / calls)
    return samples


def _seconds(network: nn.Module, inputs: Tensor, calls: int) -> float:
    devices.wait(inputs.device)
    began = time.perf_counter()
    for _ in range(calls):
        network(inputs)
    devices.wait(inputs.device)
    return time.perf_counter() - began


def _sparsest(run: Run) -> list[Record]:
    """Return of each arm that searches and follows no other the sparsest ticket whose file is
    here, of the first replicate that has one.
    """
    sparsest: dict[str, Record] = {}
    in_order = sorted(
        run.records.all(), key=lambda record: (record["replicate"], record["density"])
    )
    for name, arm in run.recipe.arms.items():
        if not arm.searches or arm.source is not None:
            continue
        for record in in_order:
            if record["arm"] != name or not 0 < record["density"] < 1:
                continue
            if run.ticket_path(name, record["replicate"], record["round"]).exists():
                sparsest[name] = record
                break
    return list(sparsest.values())
