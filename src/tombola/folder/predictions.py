"""Predictions: the classes that tickets predict for the test examples, and the examples' own.

predictions/ARM/replicate-K/round-RRR.npy, labels.npy -> [ read, check ] -> classes by round
predictions.npz, all of them, of a packed run         -> [ read, check ] -> classes by round
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tombola.folder.contents import checked_classes
from tombola.folder.opening import advising
from tombola.ground.errors import DamagedError
from tombola.records.layout import IN_ROUND, Layout, in_round
from tombola.records.seals import Seals

Classes = NDArray[np.integer[Any]]  # one a test example

LABELS = "labels"  # what the examples' own classes are called beside the predictions


@dataclass(frozen=True)
class Predictions:
    """The files of a run with predicted classes, and with the labels.

    Args:
        layout: Where they are.
        seals: Of the folder.
        arms: In the order in which predictions are given.
    """

    layout: Layout
    seals: Seals
    arms: Sequence[str]

    def path(self, arm: str, replicate: int, index: int) -> Path:
        """Where the predictions of a round are kept, unless the run is packed."""
        return in_round(self.layout.predictions, arm, replicate, index, ".npy")

    @property
    def labels_path(self) -> Path:
        """Where the labels are kept, unless the run is packed."""
        return self.layout.predictions / f"{LABELS}.npy"

    def labels(self) -> Classes | None:
        """Return the labels; ``None`` in runs of before they were kept."""
        if self.layout.packed:
            return self._in_one_file().get(LABELS)
        return self.read(self.labels_path) if self.labels_path.exists() else None

    def with_labels(self) -> tuple[Classes | None, dict[str, Classes]]:
        """Return the labels, and the predictions of every round by "arm/replicate-K/round-RRR".

        Raises:
            ConfigError: A file is damaged.
        """
        predictions = self.by_name()
        labels = predictions.pop(LABELS, None)
        # Without labels the first predictions say how many examples there are.
        examples = None if labels is None else len(labels)
        for name, classes in predictions.items():
            if not re.fullmatch(IN_ROUND, name):
                raise DamagedError(
                    f"'{self.layout.top}' has predictions of '{name}'; '{name}' is no round of an "
                    "arm"
                )
            examples = len(classes) if examples is None else examples
            if len(classes) != examples:
                raise DamagedError(
                    f"'{self.layout.top}' has {len(classes)} predictions of {name}, and {examples} "
                    "test examples"
                )
        return labels, dict(sorted(predictions.items(), key=lambda item: self._place(item[0])))

    def _place(self, name: str) -> tuple[int, str]:
        arm = name.partition("/")[0]
        return self.arms.index(arm) if arm in self.arms else len(self.arms), name

    def by_name(self) -> dict[str, Classes]:
        """Return the predictions and the labels by their names, unchecked against each other."""
        if self.layout.packed:
            return self._in_one_file()
        files = list(self.layout.predictions.glob("*/*/*.npy"))
        if self.labels_path.exists():
            files.append(self.labels_path)
        predictions = {}
        for path in files:
            name = path.relative_to(self.layout.predictions).with_suffix("").as_posix()
            predictions[name] = self.read(path)
        return predictions

    def _in_one_file(self) -> dict[str, Classes]:
        path = self.layout.packed_predictions
        with advising("pack the run again"):
            arrays = self.seals.read_arrays(path)
            return {name: checked_classes(path, values) for name, values in arrays.items()}

    def read(self, path: Path) -> Classes:
        """Read a file of classes."""
        with advising("running the recipe makes it again"):
            return checked_classes(path, self.seals.read_array(path))

    def write(self, path: Path, classes: Classes) -> None:
        """Write a file of classes, a byte or two each."""
        small = np.uint8 if classes.max(initial=0) < 256 else np.uint16
        self.seals.write_array(path, classes.astype(small))
