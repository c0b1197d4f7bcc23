"""Digits: the small real data set that comes with scikit-learn."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import torch

from tombola.data import stratified
from tombola.data.dataset import Dataset
from tombola.ground import seeds

_TEST = 360


def digits() -> Dataset:
    """Handwritten digits, 1,797 grey images of 8 x 8 pixels, values 0 to 16. Needs no download.

    The set has no test split: 360 examples, stratified by class, are set aside by a draw that is
    always the same; 1,437 remain for training. Both keep the published order.

    Source:
        scikit-learn's ``load_digits``: the test part of Optdigits (Alpaydin and Kaynak 1998, UCI
        repository).

    >>> data = digits()
    >>> tuple(data.train_images.shape), tuple(data.test_images.shape)
    ((1437, 1, 8, 8), (360, 1, 8, 8))
    """
    table = torch.from_numpy(_table())
    images = table[:, :-1].contiguous().view(-1, 1, 8, 8)
    labels = table[:, -1].long()
    test = stratified.draw(labels, _TEST, 10, seeds.generator(0, "digits", "test"))
    train = torch.ones(len(labels), dtype=torch.bool)
    train[test] = False
    return Dataset(images[train], labels[train], images[test], labels[test], num_classes=10)


def _table() -> np.ndarray:
    """Return one row per image: its 64 pixels, then its class.

    Every process that trains reads it, and importing scikit-learn takes longer than a small
    training, so the file is read where scikit-learn has it, without importing the library.
    """
    spec = importlib.util.find_spec("sklearn")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            with gzip.open(path) as file:
                return np.loadtxt(file, delimiter=",", dtype=np.uint8)

    # Another version may keep the file elsewhere: then the library itself reads it, and where there
    # is none the import says what is missing.
    from tombola.ground.extras import sklearn

    pixels, targets = sklearn.datasets.load_digits(return_X_y=True)
    return np.column_stack([pixels, targets]).astype(np.uint8)
