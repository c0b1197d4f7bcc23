"""Writing: an export as a file.

The same ticket gives the same bytes, whatever the file is called; files that torch writes may
differ between versions of torch.
"""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tombola import ticket_format
from tombola.exports.card import card
from tombola.ground import catalogue
from tombola.ground.errors import ConfigError, DiskError, InputError, TicketError, shown
from tombola.ground.files import cannot_write, printable, write_whole
from tombola.ground.metrics import ACCURACY, Metric
from tombola.records import savings
from tombola.records.best import of_run, of_ticket, record_of
from tombola.records.choosing import metrics_of, run_folder
from tombola.records.records import Record
from tombola.tickets import Ticket


def export(
    path: str | os.PathLike[str],
    to: str = "ticket",
    out: str | os.PathLike[str] | None = None,
    *,
    trained: bool = False,
    force: bool = False,
) -> Path:
    """Export a ticket file and return the file that was written, whole or not at all.

    A card is written beside it, ``NAME.md``: what the file is, how accurate, how images are given
    to the model, and the lines that load it in plain torch.

    Args:
        path: The ticket; it is verified, and its rewind point with it. With ``trained`` also a
            run's folder, which stands for its best ticket, see `Run.best`.
        to: An export of `tombola.exports`, or your own ``package.module:function``.
        out: Where to; ``None`` puts it beside the ticket: ``round-003.safetensors`` gives
            ``round-003.ticket.safetensors``, ``round-003.state_dict.pt``,
            ``round-003.torch_prune.pt``; what is trained has ``.trained`` before that.
        trained: The weights after training, which reached the accuracy that the run reports, and
            not those that the ticket starts from.
        force: Replace an existing file, but never the ticket or what it was read from.

    Raises:
        ConfigError: There is no such export, or the run has not kept the trained weights.
        TicketError: The ticket or its rewind point is missing, damaged or cannot be exported so, or
            the file exists already.
        DiskError: The file cannot be written.

    >>> import tempfile
    >>> mask, point = {"w": torch.tensor([True, False])}, {"w": torch.tensor([1.0, 2.0])}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Ticket(mask, point).save(f"{folder}/round-003.safetensors")
    ...     written = export(f"{folder}/round-003.safetensors", "state_dict")
    ...     written.name, torch.load(written, weights_only=True)
    ('round-003.state_dict.pt', {'w': tensor([1., 0.])})
    """
    make = catalogue.entry("tombola.exports", to)
    source = Source.of(Path(path), trained=trained)
    exported = _exported(make, to, source.ticket)

    name = source.path.name.removesuffix(".safetensors")
    if trained:
        name += ".trained"
    ending = "safetensors" if isinstance(exported, Ticket) else "pt"
    name = f"{name}.{to.rpartition(':')[2]}.{ending}"
    target = source.path.with_name(name) if out is None else Path(out)
    # Both places are checked before either file is written.
    page = card_path(target)
    for file in (target, page):
        check_target(file, source.files, force=force)
    text = card(source.ticket, to, target, source.record, source.saves, source.metric)
    if isinstance(exported, Ticket):
        exported.save(target)
    else:
        _save(target, exported)
    write_whole(page, text)
    return target


def _exported(make: Callable[[Ticket], Any], to: str, ticket: Ticket) -> Ticket | Mapping[str, Any]:
    """Call an export, and check what it gives: it may be a function of the user's own."""
    try:
        with catalogue.own_code(to, "exports"):
            exported = make(ticket)
    except InputError:
        raise
    except Exception as error:
        in_one_line = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"the export '{to}' failed: {in_one_line}") from error
    if isinstance(exported, Ticket):
        return exported
    # It would be written, and fail only where somebody loads it.
    if not isinstance(exported, Mapping):
        raise ConfigError(
            f"the export '{to}' gave a {type(exported).__name__}; it gives a Ticket or a state"
        )
    for name, value in exported.items():
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"the export {shown(to)} gave {shown(value)} for {shown(name)}; a state holds "
                "tensors"
            )
    return exported


@dataclass(frozen=True, eq=False)
class Source:
    """What an export is made of.

    Attributes:
        path: The ticket's file, or the run's folder of a dense network.
        ticket: The ticket.
        files: The files that it was read from.
        record: What its run measured of it; ``None`` where no run has it.
        saves: What its mask saves, in words.
        metric: What its run measured by.
    """

    path: Path
    ticket: Ticket
    files: Sequence[Path]
    record: Record | None
    saves: str
    metric: Metric

    @classmethod
    def of(cls, path: Path, *, trained: bool) -> Source:
        """Read a ticket file, or the trained network that its run has of it."""
        points: dict[Path, ticket_format.RewindPoint] = {}
        if not trained:
            ticket = Ticket.load(path, points)
            run, record = record_of(path)
            metric = ACCURACY if run is None else metrics_of(run)[0]
            return cls(path, ticket, [path, *points], record, _saves(path), metric)
        folder = run_folder(path)
        best = of_ticket(path) if folder is None else of_run(folder)
        Ticket.load(best.path, points)
        files = [best.path, best.training, *points]
        path = best.path if folder else path
        return cls(path, best.ticket, files, best.record, _saves(best.path), best.metric)


def _saves(path: Path) -> str:
    return savings.in_words(savings.of_ticket(ticket_format.verify(path)))


def card_path(target: Path) -> Path:
    """Return where the card of an export is.

    >>> card_path(Path("round-003.state_dict.pt")).name, card_path(Path("network")).name
    ('round-003.state_dict.md', 'network.md')
    """
    stem = target.name
    for ending in (".pt", ".pth", ".safetensors"):
        stem = stem.removesuffix(ending)
    return target.with_name(f"{stem}.md")


def check_target(target: Path, sources: Sequence[Path], *, force: bool) -> None:
    """Refuse a file name that is taken: by a folder, a device, a file, or one of the sources.

    Raises:
        TicketError: It is taken; with ``force`` files are replaced, but sources are not: they may
            be nowhere else.
        DiskError: No file can have such a name.
    """
    try:
        # Also by another name: a link, or the same name in capitals where the file system knows no
        # difference.
        exists = os.path.lexists(target)
        same = [source for source in sources if _same(target, source)]
        special = target.exists() and not target.is_file() and not target.is_dir()
        folder = target.is_dir()
    except (OSError, ValueError) as error:  # too long, or with a character that no file's name has
        raise cannot_write(target, error) from error
    shown = printable(target)
    if same:
        raise TicketError(
            f"'{shown}' is '{printable(same[0])}' itself, which an export never replaces; name "
            "another file"
        )
    if folder or special:
        raise TicketError(f"'{shown}' is a {'folder' if folder else 'device'}; name a file")
    if exists and not force:
        raise TicketError(f"'{shown}' is there already; --force replaces it")


def _same(first: Path, second: Path) -> bool:
    if os.path.realpath(first) == os.path.realpath(second):
        return True
    return first.exists() and second.exists() and first.samefile(second)


def _save(path: Path, state: Mapping[str, Any]) -> None:
    # Into memory first: given a path, torch would put the file's name into the file.
    file = io.BytesIO()
    torch.save(state if isinstance(state, OrderedDict) else dict(state), file)
    try:
        write_whole(path, file.getvalue())
    except DiskError:
        raise
    except ValueError as error:  # no system has such a name
        raise cannot_write(path, error) from error
