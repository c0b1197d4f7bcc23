"""LeCun: the recursion of optimal brain damage for second derivatives, layer by layer.

    h of the outputs -> backward through every layer, its coefficients squared -> h of the weights

It is a backward pass in which h takes the place of the gradient: for ``a = sum w x`` the h of x is
``sum w^2 h_a`` and that of w is ``x^2 h_a``; for ``x = f(a)`` the h of a is ``f'^2 h_x + f'' dE/dx``.
The layers of a model are given forward passes whose backward pass is that. Between them the
backward pass of torch is right where it only routes and adds (ReLU, max pooling, sums, reshaping);
any other operation is refused.

Source:
    LeCun et al. 1990, "Optimal brain damage", equations 7 to 10.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.modules.batchnorm import _BatchNorm

from tombola.ground.errors import InputError
from tombola.scores.examples import OutputScoring

# The elementwise functions whose second derivative counts, or that scale.
_SMOOTH = (nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.LeakyReLU)
# Operations whose backward pass in torch only adds and routes, and scales nothing.
_ROUTING = {
    "AccumulateGrad", "Add", "Alias", "Cat", "Clone", "ConstantPadNd", "Expand", "Hardtanh",
    "LecunProduct", "LecunSmooth", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "Permute",
    "Relu", "Reshape", "ReshapeAlias", "Select", "Slice", "Squeeze", "T", "Transpose", "UnsafeView",
    "Unsqueeze", "View",
}  # fmt: skip

Operation: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def add_lecun_(scoring: OutputScoring) -> None:
    """Add the second derivatives of every batch, by the recursion."""
    model, weights = scoring.model, list(dict.fromkeys(scoring.weights.values()))
    for batch in scoring.batches():
        with _Slopes(model) as slopes:
            outputs = scoring.run(batch)
            slopes.take(outputs.values, outputs.gradients())
        with contextlib.ExitStack() as replaced:
            for module in model.modules():
                forward = _squared(module, slopes)
                if forward is not None:
                    # In the instance, where it goes before the method of its class.
                    vars(module)["forward"] = forward
                    replaced.callback(vars(module).pop, "forward")
            outputs = scoring.run(batch)
        scoring.examples += len(outputs.values)
        _check_operations(outputs.values)
        if not outputs.values.requires_grad:
            continue
        found = torch.autograd.grad(
            outputs.values,
            weights,
            outputs.hessian().diagonal(dim1=1, dim2=2).reshape(outputs.leaf.shape),
            allow_unused=True,
            materialize_grads=True,
        )
        curvature_of = dict(zip(weights, found, strict=True))
        for name, weight in scoring.weights.items():
            scoring.total[name] += curvature_of[weight]


class _Slopes:
    """The gradient of each example's loss by what the smooth functions of a model give."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._outputs: dict[nn.Module, list[Tensor]] = {}
        self._slopes: dict[nn.Module, list[Tensor]] = {}
        self._hooks = contextlib.ExitStack()

    def __enter__(self) -> _Slopes:
        for module in self._model.modules():
            if isinstance(module, _SMOOTH):
                self._hooks.enter_context(module.register_forward_hook(self._note))
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def _note(self, module: nn.Module, args: Any, output: Tensor) -> None:  # noqa: ARG002
        self._outputs.setdefault(module, []).append(output)

    def take(self, outputs: Tensor, gradients: Tensor) -> None:
        """Go back from the model's outputs."""
        noted = [output for outputs in self._outputs.values() for output in outputs]
        if noted and outputs.requires_grad:
            found = iter(
                torch.autograd.grad(
                    outputs, noted, gradients, allow_unused=True, materialize_grads=True
                )
            )
            for module, given in self._outputs.items():
                self._slopes[module] = [next(found) for _ in given]

    def next_of(self, module: nn.Module) -> Tensor:
        """Return those of a module's next call, in the order of its calls."""
        return self._slopes[module].pop(0)


def _squared(module: nn.Module, slopes: _Slopes) -> Callable[..., Tensor] | None:
    """Return a layer's forward pass with the recursion as its backward pass, where it needs one."""
    bias: Any = getattr(module, "bias", None)
    weight: Any = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        return lambda x: _product(functools.partial(linear, bias=bias), x, weight)
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        convolve: Any = module._conv_forward
        return lambda x: _product(functools.partial(convolve, bias=bias), x, weight)
    if isinstance(module, _BatchNorm) and not module.training and module.running_mean is not None:
        return functools.partial(_batch_norm, module)
    if isinstance(
        module, nn.AvgPool1d | nn.AvgPool2d | nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d
    ):
        return functools.partial(_average, type(module).forward.__get__(module))
    if isinstance(module, _SMOOTH):
        function = type(module).forward.__get__(module)
        return lambda x: _smooth(function, x, slopes.next_of(module))
    return None


def _batch_norm(module: _BatchNorm, inputs: Tensor) -> Tensor:
    shape = (1, -1, *[1] * (inputs.ndim - 2))
    assert module.running_mean is not None
    assert module.running_var is not None
    mean = module.running_mean.view(shape)
    normed = _product(
        lambda x, scale: (x - mean) * scale,
        inputs,
        (module.running_var + module.eps).rsqrt().view(shape),
    )
    if not module.affine:
        return normed
    shift = module.bias.view(shape)
    return _product(lambda x, scale: x * scale.view(shape) + shift, normed, module.weight)


def _average(pool: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Average; each output has one coefficient for all its inputs, whose square is its square."""
    coefficient = torch.ones((), dtype=inputs.dtype, device=inputs.device)
    with torch.no_grad():
        # With padding, or sizes that do not divide, some places count more than others.
        ones = torch.ones_like(inputs[:1], requires_grad=True)
        with torch.enable_grad():
            share = torch.autograd.grad(pool(ones).sum(), ones)[0]
        size = inputs[0, 0].numel() / pool(inputs[:1])[0, 0].numel()
        if not torch.allclose(share, torch.full_like(share, 1 / size)):
            raise InputError(
                "obd.curvature lecun knows average pooling only over fields of one size that "
                "divide the image; curvature: ggn has no such limit"
            )
    return _product(lambda x, scale: size * pool(x) * scale, inputs, coefficient / size)


def _product(operation: Operation, inputs: Tensor, weight: Tensor) -> Tensor:
    result: Tensor = _LecunProduct.apply(operation, inputs, weight)
    return result


def _smooth(function: Callable[[Tensor], Tensor], inputs: Tensor, slope: Tensor) -> Tensor:
    result: Tensor = _LecunSmooth.apply(function, inputs, slope)
    return result


class _LecunProduct(torch.autograd.Function):
    """An operation that is linear in its inputs and in its weight; both are squared on the way
    back.
    """

    @staticmethod
    def forward(ctx: Any, operation: Operation, inputs: Tensor, weight: Tensor) -> Tensor:
        """Do the operation."""
        ctx.operation = operation
        ctx.save_for_backward(inputs, weight)
        return operation(inputs, weight)

    @staticmethod
    def backward(ctx: Any, curvature: Tensor) -> Any:
        """Do the backward pass of the operation of squares."""
        squares = [value.detach().square().requires_grad_() for value in ctx.saved_tensors]
        with torch.enable_grad():
            result = ctx.operation(*squares)
        return (None, *torch.autograd.grad(result, squares, curvature))


class _LecunSmooth(torch.autograd.Function):
    """An elementwise function."""

    @staticmethod
    def forward(
        ctx: Any, function: Callable[[Tensor], Tensor], inputs: Tensor, slope: Tensor
    ) -> Tensor:
        """Apply the function."""
        ctx.function = function
        ctx.save_for_backward(inputs, slope)
        return function(inputs)

    @staticmethod
    def backward(ctx: Any, curvature: Tensor) -> Any:
        """Return ``f'^2 h + f'' dE/dx``."""
        inputs, slope = ctx.saved_tensors
        inputs = inputs.detach().requires_grad_()
        with torch.enable_grad():
            result = ctx.function(inputs)
            [first] = torch.autograd.grad(result.sum(), inputs, create_graph=True)
            second = torch.zeros_like(first)
            if first.requires_grad:
                [second] = torch.autograd.grad(first.sum(), inputs, materialize_grads=True)
        return None, (first.square() * curvature + second * slope).detach(), None


def _check_operations(outputs: Tensor) -> None:
    """Refuse a graph in which something is done that torch's backward pass would not square."""
    seen: set[object] = set()
    nodes: list[Any] = [outputs.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = re.sub(r"Backward\d*$", "", node.name().rpartition("::")[2].lstrip("_"))
        if name not in _ROUTING:
            raise InputError(
                f"obd.curvature lecun does not know the operation {name} of this model; curvature: "
                "ggn takes any"
            )
        nodes += [before for before, _ in node.next_functions]
