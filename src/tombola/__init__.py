"""tombola: find, prove, transfer and ship lottery tickets.

    recipe -> partition -> train -> cut: [ score -> prune ] -> intersect -> rewind --+
                 |           ^  once per partition, in parallel                      |
                 |           +-------------------------------------------------------+  next round
                 +--> ticket -> train on all data -> record -> report

Functions over plain values: a mask maps a parameter's name to a boolean tensor, True keeps the
weight; a state is a ``state_dict``. Public names are imported when they are used, so ``import
tombola`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Where each public name lives, in the order of the flow.
_HOME = {
    "from_tensors": "data.dataset",
    "split": "data.splits",
    "Augment": "data.batches",
    "Classification": "tasks._classification",
    "Metric": "ground.metrics",
    "Metrics": "tasks.protocol",
    "Rows": "tasks.rows",
    "Partition": "data.partitions",
    "by_classes": "data.partitions",
    "by_examples": "data.partitions",
    "by_seeds": "data.partitions",
    "Training": "ground.settings",
    "train": "training.loop",
    "evaluate": "tasks.evaluation",
    "ones": "masks.masks",
    "from_zeros": "masks.masks",
    "density": "masks.masks",
    "total_weights": "masks.masks",
    "unmasked": "masks.masks",
    "apply_": "masks.masks",
    "hold_": "masks.holding",
    "intersect": "masks.masks",
    "whole_model": "masks.scopes",
    "per_layer": "masks.scopes",
    "per_kind": "masks.scopes",
    "half_output": "masks.scopes",
    "erdos_renyi": "masks.scopes",
    "erk": "masks.scopes",
    "n_of_m": "masks.scopes",
    "magnitude": "scores._magnitude",
    "prune": "masks.pruning",
    "Count": "masks.rates",
    "rate_to_reach": "masks.rates",
    "keep_common": "search.cutting",
    "Job": "training.jobs",
    "run_job": "training.jobs",
    "measure": "training.jobs",
    "connect": "search.connectivity",
    "serial": "executors",
    "find": "search.rounds",
    "Round": "search.rounds",
    "Ticket": "tickets",
    "read": "schema.recipe",
    "run": "experiments.experiment",
    "Run": "folder.runs",
    "report": "experiments.reporting",
    "compare": "evidence.comparisons",
    "verdict": "evidence.verdicts",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"tombola.{_HOME[name]}"), name)
    else:
        value = None if name.startswith("_") else _module(name)
        if value is None:
            raise AttributeError(f"module 'tombola' has no attribute '{name}'")
    globals()[name] = value
    return value


def _module(name: str) -> Any:
    """Import a module or a catalogue of tombola's (``tombola.scores``); ``None`` if there is
    none of that name.
    """
    try:
        return importlib.import_module(f"tombola.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"tombola.{name}":
            raise
        return None


def __dir__() -> list[str]:
    import pkgutil  # seldom needed

    modules = {
        found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")
    }
    return sorted({*globals(), *__all__, *modules})


if TYPE_CHECKING:
    from tombola.data.batches import Augment as Augment
    from tombola.data.dataset import from_tensors as from_tensors
    from tombola.data.partitions import Partition as Partition
    from tombola.data.partitions import by_classes as by_classes
    from tombola.data.partitions import by_examples as by_examples
    from tombola.data.partitions import by_seeds as by_seeds
    from tombola.data.splits import split as split
    from tombola.evidence.comparisons import compare as compare
    from tombola.evidence.verdicts import verdict as verdict
    from tombola.executors import serial as serial
    from tombola.experiments.experiment import run as run
    from tombola.experiments.reporting import report as report
    from tombola.folder.runs import Run as Run
    from tombola.ground.metrics import Metric as Metric
    from tombola.ground.settings import Training as Training
    from tombola.masks.holding import hold_ as hold_
    from tombola.masks.masks import apply_ as apply_
    from tombola.masks.masks import density as density
    from tombola.masks.masks import from_zeros as from_zeros
    from tombola.masks.masks import intersect as intersect
    from tombola.masks.masks import ones as ones
    from tombola.masks.masks import total_weights as total_weights
    from tombola.masks.masks import unmasked as unmasked
    from tombola.masks.pruning import prune as prune
    from tombola.masks.rates import Count as Count
    from tombola.masks.rates import rate_to_reach as rate_to_reach
    from tombola.masks.scopes import erdos_renyi as erdos_renyi
    from tombola.masks.scopes import erk as erk
    from tombola.masks.scopes import half_output as half_output
    from tombola.masks.scopes import n_of_m as n_of_m
    from tombola.masks.scopes import per_kind as per_kind
    from tombola.masks.scopes import per_layer as per_layer
    from tombola.masks.scopes import whole_model as whole_model
    from tombola.schema.recipe import read as read
    from tombola.scores._magnitude import magnitude as magnitude
    from tombola.search.connectivity import connect as connect
    from tombola.search.cutting import keep_common as keep_common
    from tombola.search.rounds import Round as Round
    from tombola.search.rounds import find as find
    from tombola.tasks._classification import Classification as Classification
    from tombola.tasks.evaluation import evaluate as evaluate
    from tombola.tasks.protocol import Metrics as Metrics
    from tombola.tasks.rows import Rows as Rows
    from tombola.tickets import Ticket as Ticket
    from tombola.training.jobs import Job as Job
    from tombola.training.jobs import measure as measure
    from tombola.training.jobs import run_job as run_job
    from tombola.training.loop import train as train
