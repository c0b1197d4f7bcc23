"""An evaluation is a mean over examples, whatever the batches, and leaves the model as it was."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tombola.evaluation import evaluate, evaluate_split
from tombola.splits import Split


def identity() -> nn.Linear:
    model = nn.Linear(2, 2, bias=False)
    model.load_state_dict({"weight": torch.eye(2)})
    return model


def test_loss_accuracy_and_predictions_are_those_computed_by_hand():
    # Logits (ln 3, 0): probabilities 3/4 and 1/4, so class 0 is predicted each time.
    inputs = torch.tensor([[math.log(3), 0.0]] * 4)
    metrics = evaluate(identity(), [(inputs, torch.tensor([0, 0, 0, 1]))])
    assert metrics.loss == pytest.approx((3 * math.log(4 / 3) + math.log(4)) / 4)
    assert metrics.accuracy == 0.75
    assert metrics.predictions.tolist() == [0, 0, 0, 0]


def test_every_example_counts_the_same_however_they_are_batched():
    draw = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(10, 2, generator=draw), torch.randint(0, 2, (10,), generator=draw)
    whole = evaluate(identity(), [(inputs, labels)])
    parts = evaluate(identity(), [(inputs[:7], labels[:7]), (inputs[7:], labels[7:])])
    assert parts.loss == pytest.approx(whole.loss)
    assert parts.accuracy == whole.accuracy == sum(inputs.argmax(1) == labels).item() / 10
    assert torch.equal(parts.predictions, whole.predictions)
    assert whole.loss == pytest.approx(cross_entropy(inputs, labels).item())


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_is_put_back_and_nothing_of_the_model_changes(mode):
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 2)).train(mode)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inputs, labels = torch.arange(16.0).view(8, 2), torch.zeros(8, dtype=torch.int64)
    one, other = (evaluate(model, [(inputs, labels)]) for _ in range(2))
    assert one.loss == other.loss  # no dropout
    assert model.training is mode
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_split_is_measured_whole_in_order_and_normalised():
    # 1203 pictures, more than two internal batches; pixel values 4 and 8 become -1 and 1.
    labels = torch.arange(1203) % 2
    images = (4.0 + 4 * labels).view(-1, 1, 1, 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    model.load_state_dict({"1.weight": torch.tensor([[-1.0], [1.0]])})
    split = Split(images, labels, torch.arange(1203))
    metrics = evaluate_split(model, split, torch.tensor([6.0]), torch.tensor([2.0]))
    assert torch.equal(metrics.predictions, labels)
    assert metrics.accuracy == 1
    assert metrics.loss == pytest.approx(math.log(1 + math.exp(-2)))
