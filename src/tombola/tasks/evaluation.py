"""Evaluation of a classifier on a split: loss, accuracy, and a prediction for every example."""

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

# Examples in a batch, by the kind of device: on the CPU a layer's outputs should stay in the caches
# (Conv-3: 1.7 times as fast as with 500), a GPU wants large batches.
EXAMPLES = {"cpu": 100, "cuda": 1000}


def logits_of(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Run a model, and refuse outputs that are not logits of each example.

    Raises:
        InputError: The model cannot take the inputs, or returns something else.

    >>> logits_of(nn.Linear(2, 3), torch.ones(4, 2), torch.zeros(4, dtype=torch.int64)).shape
    torch.Size([4, 3])
    """
    name = type(model).__name__
    try:
        outputs = model(inputs)
    except InputError:
        raise
    except Exception as error:  # any error of the user's own code
        line = next(iter(str(error).splitlines()), "").rstrip(".")
        reason = f"{type(error).__name__}: {line}".rstrip(": ")
        raise InputError(
            f"the model {name} fails on inputs of shape {list(inputs.shape)}, {_kind(inputs)} "
            f"({reason}){_other_dtype(model, inputs)}"
        ) from error
    if isinstance(outputs, Tensor) and outputs.ndim == 2 and len(outputs) == len(labels):
        return outputs
    if isinstance(outputs, Tensor):
        described = f"a tensor of shape {list(outputs.shape)}"
    else:
        described = f"a {type(outputs).__name__}"
    mode = " in training" if model.training else ""
    raise InputError(
        f"the model {name} gives {described} for {len(labels)} examples{mode}; it is to give "
        f"logits of shape [{len(labels)}, classes]{alone(outputs)}"
    )


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _other_dtype(model: nn.Module, inputs: Tensor) -> str:
    """Say what to do where the weights have another dtype than the inputs."""
    others = [parameter for parameter in model.parameters() if parameter.dtype != inputs.dtype]
    if not others or not inputs.is_floating_point():
        return ""
    return (
        f"; it has {_kind(others[0])} weights: model.to(torch.{_kind(inputs)}) makes them alike, "
        "and training.precision: bf16 computes with bfloat16"
    )


def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Metrics:
    """Measure a model in evaluation mode; the mode of each of its modules is restored afterwards.

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
    losses, predictions, correct = [], [], []
    # Not inference_mode: a tensor that a module creates and keeps could never be trained with.
    with in_evaluation_mode(model), torch.no_grad():
        for inputs, labels in batches:
            logits = logits_of(model, inputs, labels)
            losses.append(cross_entropy(logits, labels, reduction="sum"))
            predictions.append(logits.argmax(dim=1))
            correct.append(torch.count_nonzero(predictions[-1] == labels))
    if not losses:
        raise InputError("there is no batch to evaluate a model on")
    # Read at the end: a number read in every batch would make a GPU wait in every batch.
    loss = float(torch.stack(losses).double().sum())
    number_correct = int(torch.stack(correct).sum())
    predicted = torch.cat(predictions).cpu()
    examples = len(predicted)
    return Metrics(loss / examples, {"accuracy": number_correct / examples}, predicted)


def evaluate_split(model: nn.Module, split: Split, mean: Tensor, std: Tensor) -> Metrics:
    """Measure a model on all examples of a split, in order, without augmentation."""
    batch_size = EXAMPLES[split.labels.device.type]
    return evaluate(model, ordered(split, batch_size=batch_size, mean=mean, std=std))
