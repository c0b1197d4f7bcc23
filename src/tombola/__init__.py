"""tombola: find, prove, transfer and ship lottery tickets.

    recipe -> partition -> train -> cut: [ score -> prune ] -> intersect -> rewind --+
                 |           ^  once per partition, in parallel                      |
                 |           +-------------------------------------------------------+  next round
                 +--> ticket -> train on all data -> record -> report

Functions over plain values: a mask maps a parameter's name to a boolean tensor, True keeps the weight; a state is a
``state_dict``. Public names are imported when they are used, so ``import tombola`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Where each public name lives, in the order of the flow.
_HOME = {
    "from_tensors": "data.dataset",
    "split": "splits",
    "Augment": "batches",
    "Classification": "tasks._classification",
    "Metric": "metrics",
    "Metrics": "tasks.protocol",
    "Rows": "tasks.rows",
    "Partition": "partitions",
    "by_classes": "partitions",
    "by_examples": "partitions",
    "by_seeds": "partitions",
    "Training": "settings",
    "train": "training",
    "evaluate": "tasks.evaluation",
    "ones": "masks",
    "from_zeros": "masks",
    "density": "masks",
    "total_weights": "masks",
    "unmasked": "masks",
    "apply_": "masks",
    "hold_": "holding",
    "intersect": "masks",
    "whole_model": "scopes",
    "per_layer": "scopes",
    "per_kind": "scopes",
    "half_output": "scopes",
    "magnitude": "scores._magnitude",
    "prune": "pruning",
    "Count": "rates",
    "rate_to_reach": "rates",
    "keep_common": "cutting",
    "Job": "jobs",
    "run_job": "jobs",
    "measure": "jobs",
    "connect": "connectivity",
    "serial": "executors",
    "find": "search",
    "Round": "search",
    "Ticket": "tickets",
    "read": "recipe",
    "run": "experiment",
    "Run": "runs",
    "report": "experiment",
    "compare": "comparisons",
    "verdict": "verdicts",
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
    """Import a module or a catalogue of tombola's (``tombola.scores``); ``None`` if there is none of that name."""
    try:
        return importlib.import_module(f"tombola.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"tombola.{name}":
            raise
        return None


def __dir__() -> list[str]:
    import pkgutil  # seldom needed

    modules = {found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")}
    return sorted({*globals(), *__all__, *modules})


if TYPE_CHECKING:
    from tombola.batches import Augment as Augment
    from tombola.comparisons import compare as compare
    from tombola.connectivity import connect as connect
    from tombola.cutting import keep_common as keep_common
    from tombola.data.dataset import from_tensors as from_tensors
    from tombola.executors import serial as serial
    from tombola.experiment import report as report
    from tombola.experiment import run as run
    from tombola.holding import hold_ as hold_
    from tombola.jobs import Job as Job
    from tombola.jobs import measure as measure
    from tombola.jobs import run_job as run_job
    from tombola.masks import apply_ as apply_
    from tombola.masks import density as density
    from tombola.masks import from_zeros as from_zeros
    from tombola.masks import intersect as intersect
    from tombola.masks import ones as ones
    from tombola.masks import total_weights as total_weights
    from tombola.masks import unmasked as unmasked
    from tombola.metrics import Metric as Metric
    from tombola.partitions import Partition as Partition
    from tombola.partitions import by_classes as by_classes
    from tombola.partitions import by_examples as by_examples
    from tombola.partitions import by_seeds as by_seeds
    from tombola.pruning import prune as prune
    from tombola.rates import Count as Count
    from tombola.rates import rate_to_reach as rate_to_reach
    from tombola.recipe import read as read
    from tombola.runs import Run as Run
    from tombola.scopes import half_output as half_output
    from tombola.scopes import per_kind as per_kind
    from tombola.scopes import per_layer as per_layer
    from tombola.scopes import whole_model as whole_model
    from tombola.scores._magnitude import magnitude as magnitude
    from tombola.search import Round as Round
    from tombola.search import find as find
    from tombola.settings import Training as Training
    from tombola.splits import split as split
    from tombola.tasks._classification import Classification as Classification
    from tombola.tasks.evaluation import evaluate as evaluate
    from tombola.tasks.protocol import Metrics as Metrics
    from tombola.tasks.rows import Rows as Rows
    from tombola.tickets import Ticket as Ticket
    from tombola.training import train as train
    from tombola.verdicts import verdict as verdict
