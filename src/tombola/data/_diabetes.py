"""Diabetes: the small table that comes with scikit-learn, for regression."""

from __future__ import annotations

import numpy as np
import torch

from tombola.data._table import divide
from tombola.data.tables import Table


def diabetes() -> Table:
    """Progress of the disease in 442 patients a year after ten numbers were taken of them.

    Needs no download. The set has no test split: 88 patients are set aside by a draw that is
    always the same; 354 remain for training.

    Source:
        scikit-learn's ``load_diabetes``: Efron, Hastie, Johnstone and Tibshirani 2004, Least Angle
        Regression.

    >>> data = diabetes()
    >>> tuple(data.train_features.shape), tuple(data.test_features.shape)
    ((354, 10), (88, 10))
    """
    from tombola.ground.extras import sklearn

    features, targets = sklearn.datasets.load_diabetes(return_X_y=True)
    numbers = torch.from_numpy(features.astype(np.float32))
    progression = torch.from_numpy(targets.astype(np.float32))
    return Table(*divide(numbers, progression, 0.2), "progression")
