"""SynFlow: how much of the flow through the network goes through a weight."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tombola.ground.errors import InputError, ScoreError
from tombola.ground.types import Mask, State
from tombola.masks.masks import masked_parameters
from tombola.masks.weights import copied
from tombola.scores.context import Context
from tombola.scores.gradients import finished

# Left out: what they are given is positive, and they would cut it off.
_BOUNDED = (nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softsign)
_TOLERANCE = 1e-9  # of float64, relative


def synflow(
    state: State,  # noqa: ARG001 - the problem's model holds it
    mask: Mask,
    context: Context,
) -> dict[str, Tensor]:
    """Score every weight by w * dR/dw, where R is what flows through a network of \\|w\\|.

    R is the sum of the outputs for an input of ones. In a chain of layers the scores of each layer
    sum to R, so no layer is emptied before another if the scores are taken anew after each of many
    small cuts: ``{method: at_start, score: synflow, cuts: 100}``. In a single cut, narrow layers
    go first.

    Needs the model and the shape of its inputs, no data and no loss. Costs a forward and a backward
    pass of one example in float64 a cut, which is what the arm is charged, and a forward pass to
    check the network. All is done in float64: R of a deep network overflows float32.

    Biases, shifts of norms and running means count as zero, and batch norm multiplies by
    \\|scale\\| / sqrt(variance + eps). ReLU6, hard and soft sigmoids and tangents are left out: what
    reaches them is positive, so they would only cut it off. A network that is not linear in a
    positive input after that, R(2x) = 2 R(x), is refused with the layer at fault.

    Args:
        state: The weights that are scored.
        mask: The weights to score; those that it has pruned are zero in the network.
        context: With the partition's model.

    Raises:
        InputError: The network does not fit, or its inputs are no real numbers.

    Source:
        Tanaka et al. 2020, arXiv:2006.05467, equation 2 and algorithm 1. The authors' code takes
        the absolute value of shifts and running means, too, and leaves bounded activations in: on
        MobileNetV2 nearly all scores are then zero.

    >>> class Chain:  # R = |-2| * |3| * 1
    ...     def model(self):
    ...         layers = [torch.nn.Linear(1, 1, bias=False) for _ in range(2)]
    ...         torch.nn.init.constant_(layers[0].weight, -2.0)
    ...         torch.nn.init.constant_(layers[1].weight, 3.0)
    ...         return torch.nn.Sequential(*layers)
    ...     def probe(self, examples):
    ...         return torch.zeros(examples, 1)
    >>> mask = {"0.weight": torch.tensor([[True]]), "1.weight": torch.tensor([[True]])}
    >>> scores = synflow({}, mask, Context({}, 0, problems=[Chain()]))
    >>> {name: score.tolist() for name, score in scores.items()}
    {'0.weight': [[6.0]], '1.weight': [[6.0]]}
    """
    probe = context.problem.probe(1)
    if not isinstance(probe, Tensor) or not probe.is_floating_point():
        raise InputError(
            "the score synflow needs a model whose inputs are a tensor of real numbers, to give it "
            "ones"
        )
    # A copy: a problem of the user's may hand out the model itself.
    model = copied(context.problem.model())
    make_linear_(model)
    inputs = torch.ones_like(probe, dtype=torch.float64)
    parameters = [parameter for parameter, _ in masked_parameters(model, mask)]
    for parameter in parameters:
        parameter.requires_grad_(True)

    try:
        outputs = model(inputs)
    except Exception as error:  # of any layer: a user's own may know float32 only
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            "the score synflow cannot run the network on one input of ones in float64, in "
            f"evaluation mode ({reason[:200]})"
        ) from error
    if not isinstance(outputs, Tensor):
        raise InputError(
            f"the score synflow needs a model that gives a tensor; {type(model).__name__} gives a "
            f"{type(outputs).__name__}"
        )
    if not _finite(outputs):
        layer = _first_where(model, inputs, lambda once, _: not _finite(once))
        raise ScoreError(
            f"scores of '{next(iter(mask))}' are not finite, nor any others: what flows through the "
            f"network is not finite from {layer} on, even in float64"
        )
    check_linear(model, inputs, outputs.detach())
    flow = outputs.sum()
    if not flow.requires_grad:
        return {name: torch.zeros_like(keep, dtype=torch.float64) for name, keep in mask.items()}
    distinct = list(dict.fromkeys(parameters))
    found = torch.autograd.grad(flow, distinct, allow_unused=True, materialize_grads=True)
    gradient_of = dict(zip(distinct, found, strict=True))
    scores = {}
    for name, weight in zip(mask, parameters, strict=True):
        scores[name] = weight.detach() * gradient_of[weight]
    return finished(scores, mask)


synflow.needs = "data"  # type: ignore[attr-defined]
synflow.probes = 1  # type: ignore[attr-defined]


def make_linear_(model: nn.Module) -> None:
    """Make a network linear in a positive input, in float64, where its layers allow it."""
    model.double().eval().requires_grad_(False)
    for module in model.modules():
        for name, child in module._modules.items():
            if isinstance(child, _BOUNDED):
                module._modules[name] = nn.Identity()
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            # Recurrent layers and attention have biases of longer names.
            if "bias" in name:
                parameter.zero_()
            else:
                parameter.abs_()
        if isinstance(module.__dict__.get("_buffers", {}).get("running_mean"), Tensor):
            module.running_mean.zero_()  # type: ignore[operator]


def check_linear(model: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
    """Refuse a network that does not give twice as much for twice the input, naming the layer.

    Args:
        model: Such as `make_linear_` leaves it.
        inputs: Positive.
        outputs: What the model gives for them.

    Raises:
        ScoreError: It gives something else.
    """
    with torch.no_grad():
        outputs_of_twice = model(2 * inputs)
    if not _doubled(outputs, outputs_of_twice):
        layer = _first_where(model, inputs, lambda once, twice: not _doubled(once, twice))
        raise ScoreError(
            f"synflow does not fit this network: twice the input does not give twice the output "
            f"of {layer}, as it must where nothing saturates or is normalised"
        )


def _first_where(model: nn.Module, inputs: Tensor, wrong: Callable[[Tensor, Tensor], bool]) -> str:
    """Name the first layer whose outputs are wrong though its inputs are not.

    Args:
        model: The network.
        inputs: It is run on them, and on twice as much.
        wrong: Whether two tensors of the two runs are.
    """
    names = {module: name for name, module in model.named_modules()}
    calls: list[list[tuple[nn.Module, list[Tensor], Tensor]]] = []

    def note(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor):
            given = [value.detach().clone() for value in args if isinstance(value, Tensor)]
            calls[-1].append((module, given, output.detach().clone()))

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    for values in (inputs, 2 * inputs):
        calls.append([])
        model(values)
    for hook in hooks:
        hook.remove()
    # In the order in which they end: a layer before the one that it is in.
    for (module, given, once), (_, given_twice, twice) in zip(*calls, strict=False):
        right = not any(wrong(*pair) for pair in zip(given, given_twice, strict=False))
        if right and once.shape == twice.shape and wrong(once, twice):
            return f"'{names[module]}' ({type(module).__name__})"
    return type(model).__name__


def _finite(values: Tensor) -> bool:
    return bool(values.isfinite().all())


def _doubled(once: Tensor, twice: Tensor) -> bool:
    largest = twice.abs().max() if twice.numel() else 0
    return bool(((twice - 2 * once).abs() <= _TOLERANCE * largest).all())
