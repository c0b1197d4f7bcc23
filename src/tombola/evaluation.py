"""Evaluation: loss and accuracy of a model on a split, and what it predicts for every example."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tombola.batches import ordered
from tombola.splits import Split


@dataclass(frozen=True, eq=False)
class Metrics:
    """What a model does on a split: mean cross-entropy, fraction of examples right, predicted class of each."""

    loss: float
    accuracy: float
    predictions: Tensor


def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Metrics:
    """Measure a model in evaluation mode; its mode is put back afterwards.

    Args:
        model: From inputs [batch, ...] to logits [batch, classes].
        batches: Inputs and labels, at least one batch.

    >>> model = nn.Linear(2, 2, bias=False)
    >>> _ = model.load_state_dict({"weight": torch.eye(2)})
    >>> evaluate(model, [(torch.eye(2), torch.tensor([0, 0]))]).accuracy
    0.5
    """
    was_training = model.training
    model.eval()
    loss, predictions, right = 0.0, [], 0
    with torch.inference_mode():
        for inputs, labels in batches:
            logits = model(inputs)
            loss += float(cross_entropy(logits, labels, reduction="sum"))
            predicted = logits.argmax(dim=1)
            predictions.append(predicted)
            right += int(torch.count_nonzero(predicted == labels))
    model.train(was_training)
    predicted = torch.cat(predictions)
    return Metrics(loss / len(predicted), right / len(predicted), predicted)


def evaluate_split(model: nn.Module, split: Split, mean: Tensor, std: Tensor) -> Metrics:
    """Measure a model on a whole split, in order, without augmentation."""
    return evaluate(model, ordered(split, batch_size=500, mean=mean, std=std))
