"""Packing: the evidence of a finished run without its weights, small enough to be committed or
sent.

A packed run is a run folder with its recipe, records, states, ``similarity.jsonl`` and
``latency.json``, and one ``predictions.npz`` in place of tickets, candidates, trainings and a file
of predictions per round; beside it ``predictions.safetensors``, where the task keeps more of its
tests, and the test pictures that its page shows. It can be reported and merged, not continued.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tombola.folder.kept import write_packed
from tombola.folder.locking import reading
from tombola.folder.predictions import LABELS, Classes
from tombola.folder.runs import Run
from tombola.folder.sealing import write_findings
from tombola.ground.errors import ConfigError
from tombola.ground.files import cannot_write
from tombola.records.layout import Layout
from tombola.records.seals import Seals


def labelled(labels: Classes | None) -> dict[str, Classes]:
    """Return the test examples' classes under the name that they have in a packed run."""
    return {} if labels is None else {LABELS: labels}


def pack(run: Path, to: Path) -> Run:
    """Write what a run found, without its weights, into a folder of its own.

    Args:
        run: A run folder; it stays as it is.
        to: A folder that is not there yet, or is empty.

    Returns:
        The packed run.

    Raises:
        ConfigError: The first is no run folder, something in it is damaged, or another process
            works in it; the second has something in it.
        DiskError: It cannot be written to.
    """
    unpacked = Run(run)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"'{to}' is already there; a run is packed into a new folder")
    with reading(run):
        predictions = unpacked.predictions() | labelled(unpacked.labels())
        pictures = unpacked.pictures()
        # Beside its place first, so that a packed run is there whole or not at all.
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                dir=to.parent, prefix=f".{to.name}.", ignore_cleanup_errors=True
            ) as part:
                layout = Layout(Path(part))
                write_findings(unpacked, layout)
                packed = Seals(layout.top, unpacked.digest)
                packed.write_arrays(layout.packed_predictions, predictions)
                write_packed(layout, packed, [unpacked.kept_files])
                if pictures:
                    packed.write_tensors(layout.pictures, pictures)
                Path(part).chmod(0o755)  # a temporary folder is its maker's alone
                Path(part).replace(to)
        except OSError as error:
            raise cannot_write(to, error) from error
    return Run(to)
