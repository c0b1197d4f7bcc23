"""Examples: sums over the examples of a batch of squared derivatives, weight by weight.

    forward pass -> a vector v per example of the outputs z -> backward pass
      -> [ d(v . z)/dw of each example ]^2, times a factor per example, summed

The derivative of one example by the weights of a layer is the product of what went into the layer
and of what comes back to its output. So one backward pass for a whole batch is enough, in which
autograd computes no gradient of a weight: a linear layer needs none of an example's own, and a
convolution makes them for a few examples at a time. What does not fit this form (another layer, a
weight that is used twice, batch norm by the statistics of the batch) takes a backward pass for
every example.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold
from torch.nn.modules.batchnorm import _BatchNorm

from tombola.ground.errors import InputError
from tombola.scores.gradients import Scoring

# Gradients of single examples that exist at the same time: 128 MiB in float32.
_MOST_GRADIENTS = 2**25


class OutputScoring(Scoring):
    """A scoring by what the loss of each example says about the model's outputs.

    Attributes:
        total: For every weight the sum over all examples so far.
        examples: How many these are.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.total = self.zeros()
        self.examples = 0
        self._layers: dict[nn.Module, list[str]] | None = None
        # Those of the backward pass that runs for all examples; `None` while there is none.
        self._factors: Tensor | None = None

    def outputs(self) -> Iterator[Outputs]:
        """Yield the outputs of each batch; `add` may be called until the next one."""
        for batch in self.batches():
            if self._layers is None:
                self._layers = self._examine(batch)
            with contextlib.ExitStack() as hooks:
                for layer, names in self._layers.items():
                    hooks.enter_context(layer.register_forward_hook(self._hook(names)))
                outputs = self.run(batch)
                self.examples += len(outputs.values)
                yield outputs

    def add(self, outputs: Outputs, vectors: Tensor, factors: Tensor) -> None:
        """Add each example's ``factor * (d(vector . outputs)/dw)^2`` for every weight.

        Args:
            outputs: Of the batch.
            vectors: In the shape of the outputs.
            factors: One per example.
        """
        assert self._layers is not None
        if not outputs.values.requires_grad:
            return
        if self._layers:
            self._factors = factors
            torch.autograd.backward(outputs.values, vectors, retain_graph=True)
            self._factors = None
        fast = {name for names in self._layers.values() for name in names}
        slow = [name for name in self.weights if name not in fast]
        if slow:
            self._add_one_by_one(outputs.values, vectors, factors, slow)

    def saliency(self) -> dict[str, Tensor]:
        """Return ``h w^2 / 2``, where h is the mean over the examples of what was added."""
        scores = {}
        for name, total in self.total.items():
            scores[name] = total / self.examples * self.weights[name].detach().square() / 2
        return self.finished(scores)

    def run(self, batch: Any) -> Outputs:
        """Run the model on a batch; the loss is computed from a copy of the outputs."""
        seen: list[tuple[Tensor, Tensor]] = []

        def detach(module: nn.Module, args: Any, output: Any) -> Tensor:  # noqa: ARG001
            if not isinstance(output, Tensor) or not output.ndim:
                kind = type(output).__name__
                raise InputError(
                    f"the score {self.name} needs a model that gives a tensor, its first dimension "
                    f"the examples; {type(module).__name__} gives a {kind}"
                )
            leaf = output.detach().requires_grad_()
            seen.append((output, leaf))
            return leaf

        with self.model.register_forward_hook(detach):
            loss = self.problem.loss(self.model, batch)
        if len(seen) != 1:
            raise InputError(
                f"the score {self.name} needs a loss that runs the model once; this one runs it "
                f"{len(seen)} times"
            )
        return Outputs(*seen[0], loss)

    def _examine(self, batch: Any) -> dict[nn.Module, list[str]]:
        """Return the layers whose weights need no backward pass of each example, with their names.

        The graph of a forward pass tells how often a weight is used, in a layer's own forward pass
        or elsewhere. Weights of these layers are then left out of the graph.
        """
        called: dict[nn.Module, list[int]] = {}

        def note(module: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001
            is_tensor = bool(args) and isinstance(args[0], Tensor) and args[0].ndim
            called.setdefault(module, []).append(len(args[0]) if is_tensor else -1)

        names_of: dict[nn.Parameter, list[str]] = {}
        for name, parameter in self.weights.items():
            names_of.setdefault(parameter, []).append(name)
        with contextlib.ExitStack() as hooks:
            for module in self.model.modules():
                hooks.enter_context(module.register_forward_hook(note))
            outputs = self.run(batch).values
        if _mixes_examples(self.model):
            return {}
        uses = _uses(outputs)
        layers: dict[nn.Module, list[str]] = {}
        for module in self.model.modules():
            weight: Any = getattr(module, "weight", None)
            if not _is_plain(module) or weight not in names_of:
                continue
            if called.get(module) == [len(outputs)] and uses.get(weight) == 1:
                layers[module] = names_of[weight]
                weight.requires_grad_(False)
        return layers

    def _hook(self, names: list[str]) -> Callable[..., Tensor]:
        """Return a forward hook that has a backward pass add up what a layer's weights get."""

        def watch(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            inputs = args[0].detach()

            # A hook of the tensor, for it holds even where the next layer overwrites the output.
            def add(gradient: Tensor) -> None:
                # The backward pass of a single example for other weights comes by here, too.
                if self._factors is None:
                    return
                for name in names:
                    self.total[name] += _squares(module, inputs, gradient, self._factors)

            is_first = not output.requires_grad  # its own weight is no part of the graph
            if is_first:
                output.requires_grad_()
            output.register_hook(add)  # type: ignore[no-untyped-call]
            # The next layer may overwrite what it is given, but not the beginning of a graph.
            return output.clone() if is_first else output

        return watch

    def _add_one_by_one(
        self, outputs: Tensor, vectors: Tensor, factors: Tensor, names: list[str]
    ) -> None:
        distinct = list(dict.fromkeys(self.weights[name] for name in names))
        for index, factor in enumerate(factors):
            vector = torch.zeros_like(vectors)
            vector[index] = vectors[index]
            found = torch.autograd.grad(
                outputs,
                distinct,
                vector,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            gradient_of = dict(zip(distinct, found, strict=True))
            for name in names:
                self.total[name] += factor * gradient_of[self.weights[name]].square()


class Outputs:
    """The outputs of a batch, and its loss as a function of them alone.

    Attributes:
        values: The outputs, the end of the model's graph.
        leaf: The same numbers, the beginning of the loss's graph.
        loss: The mean over the examples.
    """

    def __init__(self, values: Tensor, leaf: Tensor, loss: Tensor) -> None:
        self.values, self.leaf, self.loss = values, leaf, loss

    def gradients(self, *, create_graph: bool = False) -> Tensor:
        """Return the gradient of each example's own loss by its outputs."""
        # The loss is a mean, of which each example has its share.
        share = torch.autograd.grad(
            self.loss, self.leaf, create_graph=create_graph, materialize_grads=True
        )[0]
        return share * len(share)

    def hessian(self) -> Tensor:
        """Return the Hessian of each example's own loss by its outputs: [examples, n, n]."""
        gradients = self.gradients(create_graph=True).flatten(1)
        rows = torch.zeros(*gradients.shape, gradients.shape[1]).to(gradients)
        if not gradients.requires_grad:
            return rows
        for place, column in enumerate(gradients.unbind(1)):
            # An example's gradient depends on its own outputs, so the sum does not mix examples.
            row = torch.autograd.grad(
                column.sum(), self.leaf, retain_graph=True, materialize_grads=True
            )[0]
            rows[:, place] = row.flatten(1)
        return rows


def add_fisher_(scoring: OutputScoring) -> None:
    """Add the squared gradient of each example's loss."""
    for outputs in scoring.outputs():
        gradients = outputs.gradients()
        scoring.add(outputs, gradients, gradients.new_ones(len(gradients)))


def _mixes_examples(model: nn.Module) -> bool:
    """Whether what a model gives for one example depends on the others of its batch."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            return True
    return False


def _is_plain(module: nn.Module) -> bool:
    """Whether a layer's weight meets its input as `_squares` has it."""
    # Not isinstance: a layer that inherits from these may compute something else.
    if type(module) is nn.Linear:
        return True
    if type(module) is not nn.Conv2d:
        return False
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _uses(outputs: Tensor) -> dict[Tensor, int]:
    """Count how often each parameter is used on the way to some outputs."""
    uses: dict[Tensor, int] = {}
    seen: set[object] = set()
    nodes: list[Any] = [outputs.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for before, _ in node.next_functions:
            parameter = getattr(before, "variable", None)
            if parameter is not None:
                uses[parameter] = uses.get(parameter, 0) + 1
            nodes.append(before)
    return uses


def _squares(module: nn.Module, inputs: Tensor, gradient: Tensor, factors: Tensor) -> Tensor:
    """Sum ``factor * g^2`` over examples, g being the gradient of a layer's weight.

    Args:
        module: A linear layer or a convolution.
        inputs: What went into it.
        gradient: What comes back to its output.
        factors: One per example.
    """
    weight: Tensor = module.weight  # type: ignore[assignment]
    if isinstance(module, nn.Linear) and inputs.ndim == 2:
        # g is the outer product of the two, and so is its square.
        return (factors[:, None] * gradient.square()).T @ inputs.square()
    total = torch.zeros_like(weight)
    chunk = max(1, _MOST_GRADIENTS // weight.numel())
    for start in range(0, len(inputs), chunk):
        part = slice(start, start + chunk)
        if isinstance(module, nn.Conv2d):
            own = _gradients_of_convolution(module, inputs[part], gradient[part])
        else:
            # Several places share the weight, as in a sequence: their sum is an example's gradient.
            own = gradient[part].flatten(1, -2).mT @ inputs[part].flatten(1, -2)
        weighted = factors[part] @ own.flatten(1).square()
        total += weighted.view_as(weight)
    return total


def _gradients_of_convolution(module: nn.Conv2d, inputs: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of a convolution's weight by each example: [examples, groups, ...]."""
    columns = unfold(inputs, module.kernel_size, module.dilation, module.padding, module.stride)  # type: ignore[arg-type]
    groups = (len(inputs), module.groups, -1)
    places = columns.shape[-1]
    # [examples, groups, out channels, places] times [examples, groups, places, weights of each]
    return gradient.reshape(*groups, places) @ columns.view(*groups, places).mT
