"""An evaluation is a mean over examples, whatever the batches, and leaves the model as it was."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tombola.data.splits import Split
from tombola.ground.errors import InputError
from tombola.tasks.evaluation import evaluate, evaluate_split


def identity() -> nn.Linear:
    model = nn.Linear(2, 2, bias=False)
    model.load_state_dict({"weight": torch.eye(2)})
    return model


def test_loss_accuracy_and_predictions_are_those_computed_by_hand():
    # Logits (ln 3, 0): probabilities 3/4 and 1/4, so class 0 is predicted each time.
    inputs = torch.tensor([[math.log(3), 0.0]] * 4)
    metrics = evaluate(identity(), [(inputs, torch.tensor([0, 0, 0, 1]))])
    assert metrics.loss == pytest.approx((3 * math.log(4 / 3) + math.log(4)) / 4)
    assert metrics.values == {"accuracy": 0.75}
    assert metrics.predictions.tolist() == [0, 0, 0, 0]


def test_every_example_counts_the_same_however_they_are_batched():
    draw = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(10, 2, generator=draw), torch.randint(0, 2, (10,), generator=draw)
    whole = evaluate(identity(), [(inputs, labels)])
    parts = evaluate(identity(), [(inputs[:7], labels[:7]), (inputs[7:], labels[7:])])
    assert parts.loss == pytest.approx(whole.loss)
    assert (
        parts.values["accuracy"]
        == whole.values["accuracy"]
        == sum(inputs.argmax(1) == labels).item() / 10
    )
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
    assert metrics.values["accuracy"] == 1
    assert metrics.loss == pytest.approx(math.log(1 + math.exp(-2)))


@pytest.mark.parametrize("modes", [(True, False, True), (False, True, False), (True, True, False)])
@pytest.mark.parametrize("fails", [False, True])
def test_every_modules_own_mode_is_put_back_even_when_the_model_fails(modes, fails):
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Dropout(0.5)), nn.Linear(2, 2))
    for module, mode in zip((model, model[0], model[1][0]), modes, strict=True):
        module.training = mode
    before = [module.training for module in model.modules()]
    inputs = torch.ones(4, 3 if fails else 2)
    try:
        evaluate(model, [(inputs, torch.zeros(4, dtype=torch.int64))])
    except InputError:
        assert fails
    assert [module.training for module in model.modules()] == before


class Caching(nn.Module):
    """Makes a tensor in its first forward pass and keeps it."""

    def __init__(self):
        super().__init__()
        self.layer, self.kept = nn.Linear(2, 2), None

    def forward(self, inputs):
        self.kept = torch.ones(2) if self.kept is None else self.kept
        return self.layer(inputs) * self.kept


def test_a_model_that_was_evaluated_can_be_trained():
    model = Caching()
    evaluate(model, [(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64))])
    model(torch.ones(3, 2)).sum().backward()
    assert model.layer.weight.grad is not None


class Giving(nn.Module):
    """Gives its logits in a wrapping."""

    def __init__(self, wrap, dtype=torch.float32):
        super().__init__()
        self.layer, self.wrap = nn.Linear(2, 2, dtype=dtype), wrap

    def forward(self, inputs):
        return self.wrap(self.layer(inputs))


class Output:
    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Giving(lambda logits: {"logits": logits}),
            r"the model Giving gives a dict for 4 examples.*it is to give logits of shape \[4, classes\]: wrap it in a "
            r"module whose forward returns output\['logits'\]",
        ),
        (Giving(Output), r"gives a Output for 4 examples.*forward returns output\.logits"),
        (
            Giving(lambda logits: (logits, logits)),
            r"gives a tuple for 4 examples.*forward returns them alone",
        ),
        (
            Giving(lambda logits: logits[:, :, None]),
            r"gives a tensor of shape \[4, 2, 1\] for 4 examples",
        ),
        (Giving(lambda logits: logits.sum()), r"gives a tensor of shape \[\] for 4 examples"),
        (
            Giving(lambda logits: logits, torch.bfloat16),
            r"fails on inputs of shape \[4, 2\], float32 \(RuntimeError: .*; it has bfloat16 weights: "
            r"model.to\(torch.float32\)",
        ),
        (
            Giving(lambda _: {}["a"]),
            r"fails on inputs of shape \[4, 2\], float32 \(KeyError: 'a'\)$",
        ),
    ],
)
def test_what_is_no_logits_is_refused_in_one_line(model, message):
    from tombola import Classification

    batch = torch.ones(4, 2), torch.zeros(4, dtype=torch.int64)
    for call in (lambda: evaluate(model, [batch]), lambda: Classification.loss(None, model, batch)):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_no_batch_is_no_accuracy():
    with pytest.raises(InputError, match="there is no batch to evaluate a model on"):
        evaluate(identity(), [])
