"""A metric of its own: how well the class is told apart that is told apart worst."""

from dataclasses import fields

import torch

from tombola.ground.metrics import CLASSIFIED, Metric
from tombola.tasks._classification import Classification, classification
from tombola.tasks.protocol import Metrics

WORST = Metric("worst_class", title="accuracy of the worst class")


class Fair(Classification):
    """Classify images, and judge by the class that fares worst."""

    metrics = (WORST, *CLASSIFIED)

    def measure(self, model, partition, which):
        found = super().measure(model, partition, which)
        labels = self.split(partition, which).labels
        right = found.predictions == labels
        worst = min(float(right[labels == label].float().mean()) for label in torch.unique(labels))
        return Metrics(found.loss, {"worst_class": worst, **found.values}, found.predictions)


def fair(data, model, **made):
    """Make the task of a recipe's data and model."""
    task = classification(data, model, **made)
    return Fair(**{field.name: getattr(task, field.name) for field in fields(task) if field.init})
