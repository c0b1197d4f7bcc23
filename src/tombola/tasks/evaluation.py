"""Evaluation of a classifier: loss and accuracy on a split, and what it predicts for every
example.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tombola.data.batches import ordered
from tombola.data.splits import Split
from tombola.ground.errors import InputError
from tombola.models.running import alone, in_evaluation_mode
from tombola.tasks.protocol import Metrics

# Examples in a batch, by the kind of device: on the CPU what a layer gives should stay in the
# caches (Conv-3: 1.7 times as quick as with 500), a GPU wants much at a time.
EXAMPLES = {"cpu": 100, "cuda": 1000}


def logits_of(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Run a model, and refuse what is not one number for each class of each example.

    Raises:
        InputError: The model cannot take the inputs, or gives something else.

    >>> logits_of(nn.Linear(2, 3), torch.ones(4, 2), torch.zeros(4, dtype=torch.int64)).shape
    torch.Size([4, 3])
    """
    name = type(model).__name__
    try:
        given = model(inputs)
    except InputError:
        raise
    except Exception as error:  # whatever it is: here a user's code meets the data
        line = next(iter(str(error).splitlines()), "").rstrip(".")
        told = f"{type(error).__name__}: {line}".rstrip(": ")
        raise InputError(f"the model {name} fails on inputs of shape {list(inputs.shape)}, {_kind(inputs)} "
                         f"({told}){_other_numbers(model, inputs)}") from error  # fmt: skip
    if isinstance(given, Tensor) and given.ndim == 2 and len(given) == len(labels):
        return given
    seen = (
        f"a tensor of shape {list(given.shape)}"
        if isinstance(given, Tensor)
        else f"a {type(given).__name__}"
    )
    mode = " in training" if model.training else ""
    raise InputError(
        f"the model {name} gives {seen} for {len(labels)} examples{mode}; it is to give logits of "
        f"shape [{len(labels)}, classes]{alone(given)}"
    )


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _other_numbers(model: nn.Module, inputs: Tensor) -> str:
    """Say how weights and inputs come to have the same numbers, if they have not."""
    others = [parameter for parameter in model.parameters() if parameter.dtype != inputs.dtype]
    if not others or not inputs.is_floating_point():
        return ""
    return (
        f"; it has {_kind(others[0])} weights: model.to(torch.{_kind(inputs)}) makes them alike, "
        "and training.precision: bf16 computes with bfloat16"
    )


def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Metrics:
    """Measure a model in evaluation mode; the mode of each of its modules is put back afterwards.

    Args:
        model: From inputs [batch, ...] to logits [batch, classes].
        batches: Inputs and labels, at least one batch.

    Raises:
        InputError: The model does not give logits, or there is no batch.

    >>> model = nn.Linear(2, 2, bias=False)
    >>> _ = model.load_state_dict({"weight": torch.eye(2)})
    >>> evaluate(model, [(torch.eye(2), torch.tensor([0, 0]))]).values
    {'accuracy': 0.5}
    """
    losses, predictions, right = [], [], []
    # Not inference_mode: a tensor that a module makes now and keeps could never be trained with.
    with in_evaluation_mode(model), torch.no_grad():
        for inputs, labels in batches:
            logits = logits_of(model, inputs, labels)
            losses.append(cross_entropy(logits, labels, reduction="sum"))
            predictions.append(logits.argmax(dim=1))
            right.append(torch.count_nonzero(predictions[-1] == labels))
    if not losses:
        raise InputError("there is no batch to evaluate a model on")
    # All at the end: a number taken in every batch would make a GPU wait in every batch.
    loss, correct = torch.stack(losses).double().sum(), torch.stack(right).sum()
    predicted = torch.cat(predictions).cpu()
    return Metrics(
        float(loss) / len(predicted), {"accuracy": int(correct) / len(predicted)}, predicted
    )


def evaluate_split(model: nn.Module, split: Split, mean: Tensor, std: Tensor) -> Metrics:
    """Measure a model on a whole split, in order, without augmentation."""
    return evaluate(
        model, ordered(split, batch_size=EXAMPLES[split.labels.device.type], mean=mean, std=std)
    )
