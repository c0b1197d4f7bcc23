"""Steps: what one step of a training consists of, below Python's overhead.

    batches -> train: [ gradients -> clip -> update -> mask ] -> next step

A LeNet's step takes a millisecond or less, a third of which would go into calling modules, building the autograd graph
and the optimiser's bookkeeping. `gradients` and `update` leave that out and change no bit: the first by running a
trace of the same operations, the second by calling the optimiser's own kernel on the optimiser's own state.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tombola.errors import InputError

Batch: TypeAlias = tuple[Tensor, ...]
Loss: TypeAlias = Callable[[nn.Module, Any], Tensor]
Trace: TypeAlias = Callable[..., list[Tensor | None]]

_KEPT = 32  # traces held at once: a few architectures, each with a last batch of another size
_traces: dict[object, Trace] = {}


def traceable(model: nn.Module) -> bool:
    """Whether a trace of one step stands for every step: torch's own layers alone, no buffers, no hooks.

    A module of the user's own may decide in Python what it does next, which a trace would freeze; buffers, such as
    those of batch norm, change while a model trains.

    >>> traceable(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))), traceable(nn.BatchNorm1d(2))
    (True, False)
    """
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return next(model.buffers(), None) is None and all(
        type(module).__module__.startswith("torch.nn.modules.") and not any(getattr(module, of) for of in hooks)
        for module in model.modules()
    )


def gradients(
    model: nn.Module, loss: Loss, *, traced: bool, autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Callable[[Any], Tensor]:
    """Make the function that computes the gradients of a batch.

    It sets ``.grad`` of every trained parameter, whatever was there before, and returns the detached loss, a scalar.

    Args:
        model: Trained, in training mode.
        loss: From the model and a batch to a scalar.
        traced: Run a trace of forward and backward, made once per shape of batch, instead of modules and autograd:
            the same operations and the same bits. Only for a model that is `traceable`, with batches that are tuples
            of tensors.
        autocast: Context in which the loss is computed.

    Raises:
        InputError: On a batch: the loss does what cannot be traced, such as reading a number from a tensor.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> step = gradients(model, lambda model, batch: model(batch[0]).sum(), traced=True)
    >>> _ = step((torch.tensor([[1.0, 2.0], [3.0, 4.0]]),))
    >>> model.weight.grad.tolist()
    [[4.0, 6.0]]
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    parameters = list(named.values())

    def eager(batch: Any) -> Tensor:
        for parameter in parameters:
            parameter.grad = None
        with autocast():
            live = loss(model, batch)
        live.backward()  # type: ignore[no-untyped-call]
        return live.detach()

    if not traced:
        return eager
    # Weakly, where the loss is a task's: a trace must not keep its data alive.
    which_loss = weakref.WeakMethod(loss) if inspect.ismethod(loss) else loss
    architecture = _structure(model), tuple(map(_layout, parameters)), which_loss
    own: dict[object, Trace] = {}  # by the batch alone: the rest stays as it is, and is much to compare in every step

    @torch.no_grad()
    def quick(batch: Batch) -> Tensor:
        for parameter in parameters:  # before the new ones are there, so that memory holds one set
            parameter.grad = None
        key = tuple(map(_layout, batch))
        if key not in own:
            own[key] = _shared((architecture, key), lambda: _trace(model, loss, named, batch))
        value, *grads = own[key](*parameters, *batch)
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        assert value is not None
        return value

    return quick


def _shared(key: object, make: Callable[[], Trace]) -> Trace:
    """Return the trace of a key, made if there is none; the oldest ones are let go."""
    if key not in _traces:
        while len(_traces) >= _KEPT:
            del _traces[next(iter(_traces))]
        _traces[key] = make()
    return _traces[key]


class _Loss(nn.Module):
    """The loss of a batch as a module, so that its parameters can be given from outside."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch) -> Tensor:
        return self.loss(self.model, batch)


def _trace(model: nn.Module, loss: Loss, named: Mapping[str, nn.Parameter], batch: Batch) -> Trace:
    """Record forward and backward of a batch as one list of tensor operations."""
    from torch.fx.experimental.proxy_tensor import make_fx  # imports torch's compiler: for those who train

    whole, number = _Loss(model, loss), len(named)

    def step(*tensors: Tensor) -> list[Tensor | None]:
        with torch.enable_grad():
            live = [tensor.detach().requires_grad_() for tensor in tensors[:number]]
            given = {f"model.{name}": parameter for name, parameter in zip(named, live, strict=True)}
            value = functional_call(whole, given, (tensors[number:],))
            grads = torch.autograd.grad(value, live, allow_unused=True)
        return [value.detach(), *grads]

    try:
        with torch.random.fork_rng(devices=[]):  # a step is done once while it is recorded: dropout must not draw twice
            recorded = make_fx(step)(*(parameter.detach() for parameter in named.values()), *batch)
    except RuntimeError as error:
        raise InputError(f"a step of this loss cannot be traced ({_first_line(error)}); take Training(step='eager')"
                         ) from error  # fmt: skip
    aten, graph = torch.ops.aten, recorded.graph
    for node in graph.nodes:
        # Views for autograd's sake, and the transposes that it undoes: calls that compute nothing.
        if node.target in (aten.detach.default, aten.alias.default):
            node.replace_all_uses_with(node.args[0])
        elif node.target is aten.t.default and getattr(node.args[0], "target", None) is aten.t.default:
            node.replace_all_uses_with(node.args[0].args[0])
    graph.eliminate_dead_code()
    recorded.recompile()
    return recorded.forward


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _structure(model: nn.Module) -> tuple[object, ...]:
    """Tell models apart whose steps are other operations: every layer's kind, place and settings."""
    return tuple(
        (name, type(module), tuple(sorted((key, repr(value)) for key, value in vars(module).items() if key[0] != "_")))
        for name, module in model.named_modules()
    )


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def update(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Make the function that takes an optimiser's step, quicker than ``optimizer.step()`` and with the same bits.

    State and settings stay the optimiser's own: it may be looked at, saved, and given another learning rate. Hooks on
    its step are not called.

    Args:
        optimizer: SGD, Adam or AdamW, fused, with one group of parameters.

    >>> weight = nn.Parameter(torch.tensor([1.0]))
    >>> step = update(torch.optim.SGD([weight], lr=0.5, momentum=0.9, fused=True))
    >>> for _ in range(2):
    ...     weight.grad = torch.tensor([1.0])
    ...     step()
    >>> weight.tolist()
    [-0.44999998807907104]
    """
    (group,) = optimizer.param_groups
    stateless = isinstance(optimizer, torch.optim.SGD) and not group["momentum"]

    @torch.no_grad()
    def step() -> None:
        live = [parameter for parameter in group["params"] if parameter.grad is not None]
        grads = [parameter.grad for parameter in live]
        states = [optimizer.state[parameter] for parameter in live]
        if not all(states) and not stateless:  # torch sets up the state that the kernels below work on
            optimizer.step()
            return
        if isinstance(optimizer, torch.optim.SGD):
            torch._fused_sgd_(
                live,
                grads,
                [state["momentum_buffer"] for state in states] if group["momentum"] else [],
                lr=group["lr"],
                momentum=group["momentum"],
                weight_decay=group["weight_decay"],
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                maximize=group["maximize"],
                is_first_step=False,
            )
            return
        counts = [state["step"] for state in states]
        torch._foreach_add_(counts, 1)
        kernel = torch._fused_adamw_ if isinstance(optimizer, torch.optim.AdamW) else torch._fused_adam_
        kernel(
            live,
            grads,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            counts,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=group["amsgrad"],
            maximize=group["maximize"],
        )

    return step
