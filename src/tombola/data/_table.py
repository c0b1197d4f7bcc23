"""Table: your own examples of numbers in a .csv or .npz file, for regression."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tombola.data.roots import first_existing
from tombola.data.tables import Table
from tombola.ground import seeds
from tombola.ground.errors import ConfigError, DataError, near, shown

_KEYS = ("train_features", "train_targets", "test_features", "test_targets")


def table(
    *,
    path: str,
    target: str = "target",
    drop: Sequence[str] = (),
    test: float = 0.2,
    unit: str = "",
    root: str | Path | None = None,
) -> Table:
    """Read a table of numbers, one column of which is to be predicted.

    A ``.csv`` file has the names of its columns in the first line; some of its rows, by a draw
    that is always the same, are the test examples. A ``.npz`` file holds ``train_features``,
    ``train_targets``, ``test_features`` and ``test_targets``; features are [n, features]. All
    numbers become float32.

    Args:
        path: Absolute, or relative to the data root, or else to the working folder.
        target: Name of the target; in a .csv file, its column.
        drop: Columns of a .csv file to leave out.
        test: The fraction of the rows of a .csv file to test on.
        unit: The target's unit, in which errors are shown.
        root: The data root; see ``tombola.data.roots.data_root``.

    Raises:
        ConfigError: An option will not do.
        DataError: There is no such file, it cannot be read, or a value in it is no number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("size,price\\n" + "1,2\\n3,4\\n" * 5)
    ...     read = table(path="a.csv", target="price", root=folder)
    >>> read.train_features.shape, read.test_targets.shape
    (torch.Size([8, 1]), torch.Size([2]))
    """
    file = first_existing(path, root, "file", "a .csv or .npz file")
    if file.suffix == ".npz":
        return Table(*_arrays(file), target, unit)
    if file.suffix != ".csv":
        raise DataError(f"{file} is no .csv and no .npz file")
    if not 0 < test < 1:
        raise ConfigError(
            f"table.test is {shown(test)}; it is the fraction of the rows to test on, such as 0.2"
        )
    columns, values = _rows(file, [target, *drop])
    features = [index for index, name in enumerate(columns) if name not in {target, *drop}]
    chosen = values[:, features], values[:, columns.index(target)]
    return Table(*divide(*chosen, test), target, unit)


def divide(features: Tensor, targets: Tensor, test: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Set the test examples aside, by a draw that is always the same; the order stays.

    Returns:
        Training features and targets, test features and targets.
    """
    number = max(1, round(test * len(targets))) if len(targets) else 0
    order = torch.randperm(len(targets), generator=seeds.generator(0, "table", "test"))
    for_test, for_training = order[:number].sort().values, order[number:].sort().values
    return features[for_training], targets[for_training], features[for_test], targets[for_test]


def _rows(file: Path, asked: Sequence[str]) -> tuple[list[str], Tensor]:
    """Read the names of the columns, and all rows as numbers; only target and features need be."""
    dropped = set(asked[1:])
    try:
        # With a byte order mark in front where a spreadsheet wrote it.
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.reader(opened)
            columns = next(reader, [])
            for name in asked:
                if name not in columns:
                    raise DataError(
                        f"{file} has no column {shown(name)}; it has: "
                        f"{', '.join(columns[:20])}.{near(name, columns)}"
                    )
            rows = []
            for cells in reader:
                if cells:
                    where = f"{file}, line {reader.line_num}"
                    rows.append(_numbers(cells, columns, dropped, where))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read {file} as a table: {reason}") from error
    if not rows:
        raise DataError(f"{file} has no row below the names of its columns")
    return columns, torch.tensor(np.array(rows), dtype=torch.float32)


def _numbers(
    cells: Sequence[str], columns: Sequence[str], dropped: set[str], where: str
) -> list[float]:
    if len(cells) != len(columns):
        raise DataError(
            f"{where}: there are {len(cells)} values for {len(columns)} columns; one for each"
        )
    numbers = []
    for name, cell in zip(columns, cells, strict=True):
        try:
            numbers.append(0.0 if name in dropped else float(cell))
        except ValueError:
            raise DataError(
                f"{where}: {shown(name)} is {shown(cell)}, which is no number; drop: "
                f"[{name}] would leave the column out"
            ) from None
    return numbers


def _arrays(file: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Read the four arrays of a .npz file; nothing in it is unpickled."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            missing = [key for key in _KEYS if key not in stored.files]
            if missing:
                names = ", ".join(stored.files) or "nothing"
                raise DataError(f"{file} has no {', '.join(missing)}; it has: {names}")
            loaded = [np.asarray(stored[key]) for key in _KEYS]
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read {file} as an .npz file of plain numbers: {reason}") from error
    tensors = []
    for key, array in zip(_KEYS, loaded, strict=True):
        if array.dtype.kind not in "buif":
            raise DataError(f"{key} in {file} are {array.dtype}; real numbers are needed")
        # Numbers that are too large for float32 become infinite, which is refused later on.
        with np.errstate(over="ignore"):
            values = torch.from_numpy(np.require(array, np.float32, ["C", "W"]))
        is_column = key.endswith("targets") and values.ndim == 2 and values.shape[1] == 1
        tensors.append(values.flatten() if is_column else values)
    train_features, train_targets, test_features, test_targets = tensors
    return train_features, train_targets, test_features, test_targets
