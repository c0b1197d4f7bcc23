"""Layout: where the files of a run lie. What people open is at the top, the rest in one folder.

    report.html results.csv table.tex summary.md figures/   what `report` writes
    recipe.yaml                                             the recipe, every default written out
    tickets/ARM/replicate-K/round-RRR-density-D.safetensors see `ticket_name`
    tickets/rewind_points/DIGEST.safetensors                the states that these tickets refer to
    errors.log                                              tracebacks, if there were any
    machine/                                                what tombola itself reads back

Folders of before there was ``machine`` hold its files at the top, their rewind points too, and
tickets named ``round-RRR.safetensors``. They are read, and gone on with, as they are; no other
module knows that there are two layouts. A file's digest does not depend on the layout
(`tombola.records.seals`), nor does a ticket's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from tombola.ticket_format.layout import FOLDER as REWIND_POINTS

MACHINE = "machine"
ABOUT = "run.json"  # what a run folder is known by

# Of these an older folder has at least one at its top.
_OLDER = (ABOUT, "records.jsonl", "arms.json", "transfer.json")
_TICKET = re.compile(r"round-(\d{3,})(-density-\d+(\.\d+)?)?\.safetensors")
_REPLICATE = re.compile(r"replicate-(\d+)")

Round = tuple[str, int, int]  # an arm, a replicate, a round
# What `in_round` makes below its folder, without the suffix.
IN_ROUND = r"[A-Za-z0-9][A-Za-z0-9._-]*/replicate-\d+/round-\d{3,}"


def ticket_name(index: int, density: float) -> str:
    """Return what a ticket's file is called: its round, and its density to three digits.

    The name is for people. What a ticket is stands in the file, which says the density exactly.

    >>> ticket_name(3, 0.512), ticket_name(1, 0.8), ticket_name(24, 0.004722)
    ('round-003-density-0.512.safetensors', 'round-001-density-0.800.safetensors', \
'round-024-density-0.00472.safetensors')
    """
    three_digits = Decimal(f"{density:.2e}")
    return f"round-{index:03}-density-{three_digits:f}.safetensors"


@dataclass(frozen=True)
class Layout:
    """The places of a run's files.

    Attributes:
        top: The run's folder.
        older: Whether it is laid out as before there was a folder ``machine``.
    """

    top: Path
    older: bool = False

    @classmethod
    def of(cls, run: Path) -> Layout:
        """Return the layout that a folder has; one that is not there yet gets that of today."""
        has_machine = (run / MACHINE).is_dir()
        return cls(run, not has_machine and any((run / name).exists() for name in _OLDER))

    @property
    def machine(self) -> Path:
        """Where the files lie that tombola itself reads back."""
        return self.top if self.older else self.top / MACHINE

    @property
    def about(self) -> Path:
        """What made the folder: format, digest, and what its page says of the run."""
        return self.machine / ABOUT

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.top / "recipe.yaml"

    @property
    def environments(self) -> Path:
        """Versions, machine and fingerprint of the data."""
        return self.machine / "environment.json"

    @property
    def arms(self) -> Path:
        """The definition of every arm that ever ran here."""
        return self.machine / "arms.json"

    @property
    def records(self) -> Path:
        """One line for each result."""
        return self.machine / "records.jsonl"

    @property
    def states(self) -> Path:
        """How each arm of each replicate ended."""
        return self.machine / "state.json"

    @property
    def similarities(self) -> Path:
        """What the tickets of two arms prune alike."""
        return self.machine / "similarity.jsonl"

    @property
    def latency(self) -> Path:
        """How long the dense network and tickets took."""
        return self.machine / "latency.json"

    @property
    def trainings(self) -> Path:
        """Trained weights, by the digests of their trainings."""
        return self.machine / "trainings"

    @property
    def predictions(self) -> Path:
        """The predicted class of every test example, a file for each result, and the labels; and
        what else a task keeps of a test (`tombola.folder.kept`).
        """
        return self.machine / "predictions"

    @property
    def pictures(self) -> Path:
        """A few test pictures with what they show, where the task has pictures to show."""
        return self.predictions / "pictures.safetensors"

    @property
    def packed_predictions(self) -> Path:
        """The same in one file, which a packed run is known by."""
        return self.machine / "predictions.npz"

    @property
    def packed_kept(self) -> Path:
        """What a task keeps of each test besides, of a packed run in one file, if it keeps any."""
        return self.machine / "predictions.safetensors"

    @property
    def packed(self) -> bool:
        """Whether the folder holds what a run found without its weights."""
        return self.packed_predictions.exists()

    @property
    def lock(self) -> Path:
        """The file that is locked by who works here."""
        return self.machine / ".lock"

    @property
    def candidates(self) -> Path:
        """The mask of every partition, a file for each round."""
        return self.machine / "candidates"

    @property
    def tickets(self) -> Path:
        """The tickets of all arms."""
        return self.top / "tickets"

    @property
    def rewind_points(self) -> Path:
        """The states that tickets start from, each once.

        Beside the tickets, which look for them in the folders above: who copies the folder of the
        tickets has all of them.
        """
        return (self.top if self.older else self.tickets) / REWIND_POINTS

    def ticket(self, arm: str, replicate: int, index: int, density: float | None = None) -> Path:
        """Return where the ticket of a round is, or where it would be if it is not there.

        Args:
            arm: Its name.
            replicate: Its number.
            index: The round.
            density: Of the ticket, where it is known; the name has it.
        """
        folder = self.tickets / arm / f"replicate-{replicate}"
        older = folder / f"round-{index:03}.safetensors"
        if older.exists():
            return older
        # By its round alone: who asks need not know the density that is in the name.
        for path in folder.glob(f"round-{index:03}-density-*.safetensors"):
            if _TICKET.fullmatch(path.name):
                return path
        if self.older or density is None:
            return older
        return folder / ticket_name(index, density)

    def ticket_files(self) -> Iterator[tuple[Path, Round]]:
        """Give the tickets of all arms, each with what it is of, in the order of their names."""
        for path in sorted(self.tickets.glob("*/replicate-*/round-*.safetensors")):
            if (key := self.round_of(path)) is not None:
                yield path, key

    def round_of(self, ticket: Path) -> Round | None:
        """Return what a file among the tickets is of by its place; ``None`` if it is no ticket."""
        replicate = _REPLICATE.fullmatch(ticket.parent.name)
        index = _TICKET.fullmatch(ticket.name)
        if ticket.parents[2] != self.tickets or replicate is None or index is None:
            return None
        return ticket.parent.parent.name, int(replicate[1]), int(index[1])


def in_round(folder: Path, arm: str, replicate: int, index: int, suffix: str) -> Path:
    """Return where a folder with a file for each round has that of one."""
    return folder / arm / f"replicate-{replicate}" / f"round-{index:03}{suffix}"


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run; one that may not be looked into is none."""
    try:
        return Layout.of(folder).about.is_file()
    except OSError:
        return False
