"""Best: a ticket of a run with the weights that it was trained to, ready to be used.

record -> ticket file, trained weights -> [ best ] -> model
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.ground.errors import ConfigError, InputError, TicketError
from tombola.ground.metrics import ACCURACY, Metric
from tombola.records.choosing import (
    best_of_run,
    metrics_of,
    records_of,
    run_above,
    seals_of,
    ticket_path,
    training_path,
)
from tombola.records.layout import Layout
from tombola.records.records import Record
from tombola.records.storage import Store

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tombola.ground.types import State
    from tombola.tickets import Ticket


# What the origin of a dense network shares with those of the tickets that it was pruned to.
_SHARED_ORIGIN: tuple[str, ...] = ("model", "data", "inputs", "training", "prunable")
_SHARED_ORIGIN += ("shared", "versions", "read_elsewhere", "seeds")


@dataclass(frozen=True, eq=False, repr=False)
class Best:
    """A network of a run: its mask, its trained weights and what was measured of it.

    Attributes:
        path: The ticket's file; of the dense network, which has none, the run's folder.
        training: The file of the trained weights.
        record: All that the run measured of it.
        ticket: The trained network as a ticket: its mask, and the trained weights in the place of
            the rewind point.
        metric: By which the run judges networks.
    """

    path: Path
    training: Path
    record: Record
    ticket: Ticket
    metric: Metric = ACCURACY

    @property
    def arm(self) -> str:
        """The arm that found it."""
        return str(self.record["arm"])

    @property
    def replicate(self) -> int:
        """Of which replicate."""
        return int(self.record["replicate"])

    @property
    def round(self) -> int:
        """In which round."""
        return int(self.record["round"])

    @property
    def density(self) -> float:
        """Kept / prunable weights, 0 to 1."""
        return float(self.record["density"])

    @property
    def test(self) -> float:
        """Its headline metric on the test split, as the report has it."""
        return float(self.record[self.metric.test])

    @property
    def valid(self) -> float | None:
        """Its headline metric on validation data, by which it was chosen; ``None`` without."""
        value = self.record.get(self.metric.valid)
        return None if value is None else float(value)

    @property
    def accuracy(self) -> float:
        """Its test accuracy, 0 to 1, of a classifier."""
        return float(self.record["test_accuracy"])

    @property
    def valid_accuracy(self) -> float | None:
        """Its validation accuracy, 0 to 1, of a classifier; ``None`` without validation data."""
        value = self.record["valid_accuracy"]
        return None if value is None else float(value)

    @property
    def mask(self) -> Mapping[str, Tensor]:
        """True = kept; no entry = never pruned."""
        return self.ticket.mask

    @property
    def state(self) -> dict[str, Tensor]:
        """The trained weights and buffers, pruned ones zero, as ``load_state_dict`` takes them."""
        return dict(self.ticket.rewind_point)

    def apply(self, model: nn.Module) -> dict[str, Tensor]:
        """Load the trained weights into a model, in place, and return the mask on its device, see
        `Ticket.apply`.

        A model takes images as ``(images - mean) / std``, see ``ticket.origin["inputs"]``.
        """
        return self.ticket.apply(model)

    def __repr__(self) -> str:
        valid = "" if self.valid is None else f", {_shown(self.metric, self.valid)} validation"
        return (
            f"<{self.arm}, round {self.round} of replicate {self.replicate}: {self.density:.2%} of "
            f"the weights, {_shown(self.metric, self.test)} test{valid}; {self.path}>"
        )


def _shown(metric: Metric, value: float) -> str:
    return f"{value:.2%}" if metric.fraction else metric.shown(value)


def of_record(run: Path, record: Record, keep: str | None = None) -> Best:
    """Return the trained network of a record.

    Args:
        run: The run's folder.
        record: Of an evaluated round.
        keep: What the run keeps of its trainings, for the message where it has not kept this one.

    Raises:
        ConfigError: The record's training was not kept, or is not the record's.
        TicketError: The ticket is missing, damaged, or not the record's.
    """
    from tombola.tickets import Ticket

    which = f"{record['arm']}, round {record['round']} of replicate {record['replicate']}"
    digest = record.get("training_digest")
    file = training_path(run, record)
    store = Store(Layout.of(run).trainings, sealed=seals_of(run).required)
    trained = store.trained(digest) if isinstance(digest, str) else None
    if trained is None:
        kept = "" if keep is None else f" (keep: {keep})"
        why = "are damaged" if file.exists() else f"were not kept{kept}"
        raise ConfigError(
            f"the trained weights of {which} {why}; 'keep: all' in the recipe keeps them: run it "
            "under another --runs folder, and it finds the same"
        )
    metric = metrics_of(run)[0]
    about = {
        "training": digest,
        metric.test: record[metric.test],
        metric.valid: record.get(metric.valid),
        "selected": record.get("selected"),
    }
    if record["round"] == 0:
        return Best(run, file, record, _dense_ticket(run, record, trained.state, about), metric)
    path = ticket_path(run, record)
    ticket = Ticket.load(path)
    if ticket.mask_digest != record["mask_digest"]:
        raise TicketError(f"'{path}' is not the ticket that the records tell of")
    # The trained weights replace the rewind point; the mask and the rest of the origin stay.
    origin = {**ticket.origin, "trained": about}
    ticket = replace(ticket, rewind_point=trained.state, origin=origin, digest=None)
    return Best(path, file, record, ticket, metric)


def _dense_ticket(run: Path, record: Record, state: State, about: Mapping[str, Any]) -> Ticket:
    """Return a trained dense network as a ticket that keeps everything.

    What is prunable, and what its origin shares with those of tickets, is read from a ticket of the
    replicate; without one it has no mask.
    """
    import torch

    from tombola.masks.masks import from_zeros
    from tombola.tickets import Ticket

    mask: dict[str, Tensor] = {}
    origin: dict[str, Any] = {}
    pruned = _any_ticket(run, record["replicate"])
    if pruned is not None:
        mask = {name: torch.ones_like(keep) for name, keep in pruned.mask.items()}
        if pruned.origin.get("model", {}).get("mask") is not None:
            mask = from_zeros(state, mask)  # it began with the zeros of a checkpoint
        for name in _SHARED_ORIGIN:
            if name in pruned.origin:
                origin[name] = pruned.origin[name]
    origin |= {
        "arm": record["arm"],
        "round": 0,
        "replicate": record["replicate"],
        "trained": about,
    }
    return Ticket(mask, state, origin, record.get("total"))


def _any_ticket(run: Path, replicate: int) -> Ticket | None:
    """Return a ticket of a replicate, or ``None`` where there is none."""
    from tombola.tickets import Ticket

    for path, (_, number, index) in Layout.of(run).ticket_files():
        if number == replicate and index == 1:
            return Ticket.load(path)
    return None


def of_ticket(path: str | os.PathLike[str]) -> Best:
    """Return the trained network of a run's ticket, by its file.

    Raises:
        ConfigError: It is no ticket in its run's folder, it was not evaluated, or its training was
            not kept.
        TicketError: It is missing or damaged.
    """
    run, record = record_of(path)
    if run is None or record is None:
        raise ConfigError(
            f"'{os.fspath(path)}' lies in no run that has a record of it; trained weights are in "
            "the run's own folder, which 'tombola runs' names"
        )
    if not record["evaluated"]:
        raise ConfigError(
            f"'{os.fspath(path)}' was not trained on all data: its round was not evaluated "
            "(evaluate_at in the recipe)"
        )
    return of_record(run, record)


def of_run(run: Path) -> Best:
    """Return the best ticket of a run folder, of all arms that search.

    Raises:
        InputError: There is none, or its training was not kept.
    """
    return of_record(run, best_of_run(run))


def record_of(path: str | os.PathLike[str]) -> tuple[Path | None, Record | None]:
    """Find the run folder that a ticket lies in, and its record there; ``None`` where there is
    none.

    Raises:
        InputError: The ticket or the records are damaged.
    """
    from tombola.tickets import Ticket

    run = run_above(Path(path))
    if run is None:
        return None, None
    ticket = Ticket.load(path)
    arm, replicate, index = (ticket.origin.get(name) for name in ("arm", "replicate", "round"))
    if not (isinstance(arm, str) and isinstance(replicate, int) and isinstance(index, int)):
        return run, None
    record = records_of(run).get(arm, replicate, index)
    if record is not None and record["mask_digest"] != ticket.mask_digest:
        record = None
    return run, record


def trained_of(origin: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what a ticket's origin says of its training; ``None`` where it holds a rewind point
    and no trained weights.
    """
    trained = origin.get("trained")
    return trained if isinstance(trained, Mapping) else None


def check_untrained(ticket: Ticket, path: Path) -> None:
    """Refuse a ticket whose values are trained weights: training would not start from its rewind
    point.

    Raises:
        InputError: It is one.
    """
    if trained_of(ticket.origin) is not None:
        raise InputError(
            f"'{path}' holds trained weights and no rewind point; give the run's own ticket, or "
            "one that was exported without --trained"
        )
