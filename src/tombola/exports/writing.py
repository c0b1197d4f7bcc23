"""Writing: an export as a file.

The same ticket gives the same bytes, whatever the file is called; of what torch writes, with one version of torch.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tombola import catalogue
from tombola.errors import ConfigError, InputError, TicketError
from tombola.files import write_whole
from tombola.tickets import Ticket


def export(
    path: str | os.PathLike[str],
    to: str = "ticket",
    out: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
) -> Path:
    """Export a ticket file and return the file that was written, whole or not at all.

    Args:
        path: The ticket; it is verified, and its rewind point with it.
        to: An export of `tombola.exports`, or your own ``package.module:function``.
        out: Where to; ``None`` puts it beside the ticket: ``round-003.safetensors`` gives
            ``round-003.ticket.safetensors``, ``round-003.state_dict.pt``, ``round-003.torch_prune.pt``.
        force: Replace an existing file.

    Raises:
        ConfigError: There is no such export.
        TicketError: The ticket or its rewind point is missing, damaged or cannot be exported so, or the file is
            there already.
        DiskError: The file cannot be written.

    >>> import tempfile
    >>> ticket = Ticket({"weight": torch.tensor([[True, False]])}, {"weight": torch.tensor([[1.0, 2.0]])}, {})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = ticket.save(f"{folder}/round-003.safetensors")
    ...     written = export(f"{folder}/round-003.safetensors", "state_dict")
    ...     written.name, torch.load(written, weights_only=True)
    ('round-003.state_dict.pt', {'weight': tensor([[1., 0.]])})
    """
    make = catalogue.entry("tombola.exports", to)
    ticket = Ticket.load(path)
    try:
        made = make(ticket)
    except InputError:
        raise
    except Exception as error:  # whatever a function of the user's own meets
        met = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"the export '{to}' failed: {met}") from error
    if not isinstance(made, Ticket | Mapping):
        raise ConfigError(f"the export '{to}' gave a {type(made).__name__}; it gives a Ticket or a state")
    end = "safetensors" if isinstance(made, Ticket) else "pt"
    stem = Path(path).name.removesuffix(".safetensors")
    target = Path(path).with_name(f"{stem}.{to.rpartition(':')[2]}.{end}") if out is None else Path(out)
    if target.is_dir() or (os.path.lexists(target) and not force):
        what = "a folder; name a file" if target.is_dir() else "there already; --force replaces it"
        raise TicketError(f"'{target}' is {what}")
    if isinstance(made, Ticket):
        made.save(target)
    else:
        _save(target, made)
    return target


def _save(path: Path, state: Mapping[str, Tensor]) -> None:
    # Into memory first: given a path, torch would put the file's name into the file.
    file = io.BytesIO()
    torch.save(dict(state), file)
    write_whole(path, file.getvalue())
