"""Digits: the small real data set that comes with scikit-learn."""

from __future__ import annotations

import torch

from tombola import seeds
from tombola.data import stratified
from tombola.data.dataset import Dataset

_TEST = 360


def digits() -> Dataset:
    """Handwritten digits, 1,797 grey images of 8 x 8 pixels, values 0 to 16. Needs no download.

    The set has no test split of its own: 360 examples, stratified by class, are set aside by a draw that is always
    the same; 1,437 remain for training. Both keep the published order.

    Source:
        scikit-learn's ``load_digits``: the test part of Optdigits (Alpaydin and Kaynak 1998, UCI repository).

    >>> data = digits()
    >>> tuple(data.train_images.shape), tuple(data.test_images.shape)
    ((1437, 1, 8, 8), (360, 1, 8, 8))
    """
    from tombola.extras import sklearn

    pixels, targets = sklearn.datasets.load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).to(torch.uint8).view(-1, 1, 8, 8)
    labels = torch.from_numpy(targets).long()
    test = stratified.draw(labels, _TEST, 10, seeds.generator(0, "digits", "test"))
    train = torch.ones(len(labels), dtype=torch.bool)
    train[test] = False
    return Dataset(images[train], labels[train], images[test], labels[test], num_classes=10)
