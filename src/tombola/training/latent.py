"""Latent masks: scores of the weights are trained, and the weights stay as they are.

    scores -> mask -> [ step with the kept weights ] -> gradients -> scores

A step runs the model with its kept weights. The gradient of a kept weight w * m, times w, is the
gradient of the mask m; straight through the choice it becomes that of the score, also for weights
that are not kept. The optimiser's own step is left out: nothing else is trained.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tombola.ground import seeds
from tombola.ground.errors import TrainingError
from tombola.ground.types import Mask, State
from tombola.masks import masks, names, rates
from tombola.masks.pruning import prune
from tombola.masks.scope_choices import ScopeName
from tombola.masks.scopes import by_name, per_layer
from tombola.scores.context import Context
from tombola.training.during import Driver


@dataclass(frozen=True)
class EdgePopup:
    """Train scores and keep the weights with the highest ones, as plain data of a job.

    Attributes:
        density: The share of the weights that is kept in every step.
        scope: How the density is divided among the layers.
        rank: Whether weights are ranked by their scores' absolute values, or by the scores.
    """

    density: float
    scope: ScopeName = "per_layer"
    rank: Literal["absolute", "signed"] = "absolute"

    name: ClassVar[str] = "edge_popup"
    driver: ClassVar[str] = "tombola.training.latent:PopupTrainer"


@dataclass(frozen=True)
class Supermask:
    """Train the probability of each weight to be kept, as plain data of a job.

    Attributes:
        bias: What the scores start at; the probability of a weight is the sigmoid of its score.
        rescaled: Whether each layer's kept weights are multiplied by all / kept.
    """

    bias: float = 0.0
    rescaled: bool = False

    name: ClassVar[str] = "supermask"
    driver: ClassVar[str] = "tombola.training.latent:SupermaskTrainer"


class LatentTrainer(Driver):
    """Trains scores of a model's weights; what a mask is made of them is up to the class below it.

    The scores have an optimiser of their own, with the settings of the training's.
    """

    listens: ClassVar[bool] = True

    def __init__(
        self,
        during: Any,  # noqa: ARG002
        model: nn.Module,
        head: str | None,  # noqa: ARG002
        mask: Mask,
        *,
        steps: int,
        first: int,  # noqa: ARG002
        context: Context,
    ) -> None:
        self.kept: list[tuple[int, dict[str, int]]] = []
        self._steps, self._seed = steps, context.seed
        self._layers: dict[str, _Layer] = {}
        parameters = names.parameters(model)
        for name in mask:
            self._layers[name] = _Layer(parameters[name], self._first_scores(name, mask[name]))
        self._optimizer: torch.optim.Optimizer | None = None

    @abstractmethod
    def _first_scores(self, name: str, keep: Tensor) -> Tensor:
        """Return the scores that a layer's weights begin with, of the shape of its mask."""

    @abstractmethod
    def _choose(self, name: str) -> None:
        """Put the kept weights of a layer into the model, for the next step."""

    @abstractmethod
    def _take_gradient(self, name: str) -> None:
        """Set the gradient of a layer's scores, from that of its kept weights."""

    @property
    def last(self) -> int:
        """The mask changes until the end, so no earlier state is the result."""
        return self._steps

    def begin(self, *_: object) -> None:
        """Choose the mask of the first step."""
        for name in self._layers:
            self._choose(name)

    def takes_gradients(self, step: int, /) -> bool:
        """Every step's."""
        del step
        return True

    @torch.no_grad()
    def on_gradients(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, /
    ) -> bool:
        """Update the scores, and choose the mask of the next step; the weights are not updated."""
        del step, model
        if self._optimizer is None:
            scores = [layer.scores for layer in self._layers.values()]
            self._optimizer = _like(optimizer, scores)
        for ours, theirs in zip(self._optimizer.param_groups, optimizer.param_groups, strict=True):
            ours["lr"] = theirs["lr"]
        for name in self._layers:
            self._take_gradient(name)
        self._optimizer.step()
        for name in self._layers:
            self._choose(name)
        return False


def _like(optimizer: torch.optim.Optimizer, tensors: Sequence[Tensor]) -> torch.optim.Optimizer:
    """Make an optimiser of other tensors with the settings of an optimiser."""
    settings = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    kind: Any = type(optimizer)
    made: torch.optim.Optimizer = kind([{"params": list(tensors), **settings}])
    return made


class _Layer:
    """A layer whose mask is trained.

    A step has no time for new memory, so what is as large as the weights is written into buffers.

    Attributes:
        parameter: Of the model; holds the kept weights.
        weights: The weights as they are, flat.
        scores: One for each weight, flat.
        kept: Which weights the last choice has kept, flat.
        buffer: For values of every weight, flat.
    """

    def __init__(self, parameter: nn.Parameter, scores: Tensor) -> None:
        # Of a frozen weight, too: scores are trained, and no weight is.
        self.parameter = parameter.requires_grad_(True)
        self.weights = parameter.detach().clone().reshape(-1)
        self.scores = nn.Parameter(scores.to(self.weights).reshape(-1))
        self.scores.grad = torch.zeros_like(self.weights)
        self.kept = torch.ones_like(self.weights, dtype=torch.bool)
        self.buffer = torch.empty_like(self.weights)

    @torch.no_grad()
    def keep(self, kept: Tensor, factor: float = 1.0) -> None:
        """Put the kept weights into the model, each times a factor, and zeros for the others."""
        self.kept = kept
        parameter = self.parameter
        if parameter.device.type == "cpu" and parameter.is_contiguous():
            # torch takes three times as long for a product with booleans.
            values = parameter.detach().view(-1).numpy()
            np.multiply(self.weights.numpy(), kept.numpy(), out=values)
        else:
            parameter.copy_((self.weights * kept).view(parameter.shape))
        if factor != 1.0:
            parameter.mul_(factor)

    def gradient(self) -> Tensor:
        """Return the gradient of the mask, in place of the scores' own: weight times gradient."""
        assert self.scores.grad is not None
        gradient = self.parameter.grad
        if gradient is None:  # the loss did not come to this layer
            return self.scores.grad.zero_()
        return torch.mul(gradient.reshape(-1), self.weights, out=self.scores.grad)


class PopupTrainer(LatentTrainer):
    """Keeps the weights with the highest scores of each layer, in every step.

    Source:
        Ramanujan et al. 2020, arXiv:1911.13299, section 3. Their text ranks scores as they are,
        their code by absolute value.
    """

    def __init__(
        self, popup: EdgePopup, model: nn.Module, head: str | None, mask: Mask, **more: Any
    ) -> None:
        self._absolute = popup.rank == "absolute"
        super().__init__(popup, model, head, mask, **more)
        counts = _counts(popup, model, head, mask)
        self._largest = {name: KeptLargest(counts[name]) for name in mask}

    def _first_scores(self, name: str, keep: Tensor) -> Tensor:
        # Kaiming uniform with a = sqrt(5), as torch draws the weights of its layers.
        bound = 1 / math.sqrt(keep[0].numel())
        draw = seeds.generator(self._seed, "edge-popup scores", name)
        return (2 * torch.rand(keep.shape, generator=draw) - 1) * bound

    def _choose(self, name: str) -> None:
        layer = self._layers[name]
        ranks = layer.scores.detach()
        if self._absolute:
            ranks = torch.abs(ranks, out=layer.buffer)
        layer.keep(self._largest[name](ranks))

    def _take_gradient(self, name: str) -> None:
        layer = self._layers[name]
        gradient = layer.gradient()
        if self._absolute:
            gradient *= torch.sign(layer.scores.detach(), out=layer.buffer)

    def settled(self) -> dict[str, Tensor]:
        """Return the mask of the last choice."""
        return {name: _shaped(layer.kept, layer) for name, layer in self._layers.items()}

    @staticmethod
    def end(
        popup: EdgePopup, model: nn.Module, head: str | None, mask: Mask, learnt: State
    ) -> dict[str, Tensor]:
        """Keep as many weights in each layer as a training does."""
        counts = _counts(popup, model, head, mask)
        return prune(learnt, mask, scope=per_layer, count=counts)


def layer_densities(
    popup: EdgePopup, model: nn.Module, head: str | None, mask: Mask
) -> dict[str, float]:
    """Return the share of its weights that each layer keeps."""
    densities = {}
    for name, kept in _counts(popup, model, head, mask).items():
        densities[name] = kept / mask[name].numel()
    return densities


def _counts(popup: EdgePopup, model: nn.Module, head: str | None, mask: Mask) -> dict[str, int]:
    """Return how many weights each layer keeps."""
    [count] = rates.counts_for(mask, [popup.density], by_name(popup.scope, model, head))
    assert isinstance(count.keep, dict)
    return count.keep


class SupermaskTrainer(LatentTrainer):
    """Draws a mask in every step, by probabilities that are trained.

    The result keeps the weights that are more likely kept than not. The authors test drawn masks.

    Source:
        Zhou et al. 2019, arXiv:1905.01067, section 5. As in their code, gradients pass through the
        factor of rescaling, too.
    """

    def __init__(
        self, supermask: Supermask, model: nn.Module, head: str | None, mask: Mask, **more: Any
    ) -> None:
        self._bias, self._rescaled = supermask.bias, supermask.rescaled
        super().__init__(supermask, model, head, mask, **more)
        # numpy's generator is several times as quick as torch's.
        address = seeds.derive(self._seed, "supermask draws")
        self._draws = np.random.Generator(np.random.SFC64(address))

    def _first_scores(self, name: str, keep: Tensor) -> Tensor:
        del name
        return torch.full(keep.shape, self._bias)

    def _choose(self, name: str) -> None:
        layer = self._layers[name]
        probability = torch.sigmoid(layer.scores.detach(), out=layer.buffer)
        # 16 bits a draw: a probability is met within 1.6e-5, in half the time.
        drawn = self._draws.integers(0, 2**16, layer.kept.numel(), dtype=np.uint16)
        kept = np.less(drawn, probability.numpy(force=True) * np.float32(2**16))
        layer.keep(*self._kept(layer, torch.from_numpy(kept).to(layer.kept.device)))

    def _kept(self, layer: _Layer, kept: Tensor) -> tuple[Tensor, float]:
        """Return which weights are kept, and their factor."""
        if not self._rescaled:
            return kept, 1.0
        number = int(torch.count_nonzero(kept))
        return kept, rescaling(layer.weights.numel(), number)

    def _take_gradient(self, name: str) -> None:
        layer = self._layers[name]
        gradient = layer.gradient()
        if self._rescaled:
            # d(w m n / sum(m)) / dm: by the mask itself, and by the factor that all weights share.
            _, factor = self._kept(layer, layer.kept)
            number, size = torch.count_nonzero(layer.kept), layer.weights.numel()
            shared = (gradient * layer.kept).sum() * size / number.clamp(min=1) ** 2
            gradient.mul_(factor).sub_(shared)
        # The probabilities that the mask was drawn by; times p (1 - p) in one pass.
        torch.ops.aten.sigmoid_backward.grad_input(gradient, layer.buffer, grad_input=gradient)

    def settled(self) -> dict[str, Tensor]:
        """Put the more likely weights into the model, and return their mask."""
        settled = {}
        for name, layer in self._layers.items():
            drawn = layer.kept
            layer.keep(*self._kept(layer, layer.scores.detach() > 0))
            settled[name] = _shaped(layer.kept, layer)
            layer.kept = drawn
        return settled

    @property
    def gathered(self) -> dict[str, Tensor]:
        """The scores, from which further masks can be drawn."""
        scores = {}
        for name, layer in self._layers.items():
            scores[name] = layer.scores.detach().view(layer.parameter.shape).cpu()
        return scores

    def resume(self) -> None:
        """Put the drawn weights back, for the next step."""
        for layer in self._layers.values():
            layer.keep(*self._kept(layer, layer.kept))

    @staticmethod
    def end(
        supermask: Supermask, model: nn.Module, head: str | None, mask: Mask, learnt: State
    ) -> dict[str, Tensor]:
        """Keep half of each layer: the density of a training is found, not known before."""
        del supermask, model, head
        half = {name: masks.count({name: keep}) // 2 for name, keep in mask.items()}
        return prune(learnt, mask, scope=per_layer, count=half)


def drawn(scores: State, mask: Mask, seed: int, number: int) -> dict[str, Tensor]:
    """Draw a mask by the probabilities that a supermask's training has found.

    Args:
        scores: Of every weight of the mask; the probability is their sigmoid.
        mask: The weights that may be kept.
        seed: The replicate's.
        number: Of the draw.

    >>> scores = {"w": torch.tensor([50.0, -50.0])}
    >>> drawn(scores, {"w": torch.tensor([True, True])}, seed=0, number=1)["w"].tolist()
    [True, False]
    """
    masks_drawn = {}
    for name, keep in mask.items():
        draw = seeds.generator(seed, "supermask ticket", number, name)
        masks_drawn[name] = (torch.rand(keep.shape, generator=draw) < scores[name].sigmoid()) & keep
    return masks_drawn


def rescaled(start: State, mask: Mask) -> dict[str, Tensor]:
    """Multiply the weights of a mask by all / kept of their layer, as their training did.

    >>> state, mask = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([True, False])}
    >>> rescaled(state, mask)["w"].tolist()
    [2.0, 4.0]
    """
    scaled = dict(start)
    for name, keep in mask.items():
        scaled[name] = start[name] * rescaling(keep.numel(), int(torch.count_nonzero(keep)))
    return scaled


def rescaling(size: int, kept: int) -> float:
    """Return the factor that makes up for the weights which a layer has lost.

    >>> rescaling(4, 2)
    2.0
    """
    return size / max(kept, 1)


def _shaped(kept: Tensor, layer: _Layer) -> Tensor:
    return kept.view(layer.parameter.shape).cpu()


class KeptLargest:
    """Which values are the largest, exactly, for values that change little from call to call.

    A sort or a selection in every step would take longer than the step. Here the last threshold is
    moved: usually two passes over the values, and a few of them are sorted. Of equal values the one
    that comes first is not kept, as in pruning.

    Args:
        number: How many are kept.

    >>> largest = KeptLargest(2)
    >>> largest(torch.tensor([3.0, 1.0, 2.0])).tolist(), largest(torch.tensor([1.0, 1.0, 1.0])).tolist()
    ([True, False, True], [False, True, True])
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._threshold: float | None = None
        # Distance between neighbouring values near the threshold, as it was seen last.
        self._spacing = 0.0

    def __call__(self, values: Tensor) -> Tensor:
        """Return which values are kept, a boolean for each.

        Args:
            values: In one dimension.

        Raises:
            TrainingError: A value is NaN.
        """
        if not 0 < self._number < values.numel():
            return torch.full_like(values, self._number > 0, dtype=torch.bool)
        kept = self._kept(values.numpy(force=True))
        return torch.from_numpy(kept).to(values.device)

    def _kept(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        threshold = self._first(values) if self._threshold is None else self._threshold
        kept = values >= threshold
        surplus = int(np.count_nonzero(kept)) - self._number
        if surplus:
            self._move(values, kept, threshold, surplus)
        else:
            self._threshold = threshold
        return kept

    def _first(self, values: NDArray[Any]) -> float:
        if np.isnan(values).any():
            raise TrainingError(_NOT_A_NUMBER)
        return float(np.partition(values, -self._number)[-self._number])

    def _move(
        self, values: NDArray[Any], kept: NDArray[np.bool_], threshold: float, surplus: int
    ) -> None:
        """Correct which values are kept, by those next to the threshold, and move it there."""
        change = abs(surplus)
        width = self._spacing * 2 * (change + 8)
        while True:
            near, bounded = self._near(values, kept, threshold, surplus, width)
            # One more than change, as the next threshold is among them, too.
            if len(near) > change or (not bounded and len(near) >= change):
                break
            if not bounded:
                raise TrainingError(_NOT_A_NUMBER)
            width = width * 4 if width else math.inf
        if np.isnan(values[near]).any():
            raise TrainingError(_NOT_A_NUMBER)
        order = near[np.argsort(values[near], kind="stable")]
        if surplus > 0:
            kept[order[:change]] = False
            lowest_kept = order[change]
        else:
            kept[order[-change:]] = True
            lowest_kept = order[-change]
        self._threshold = float(values[lowest_kept])
        spread = float(values[order[-1]] - values[order[0]])
        self._spacing = spread / len(order)

    @staticmethod
    def _near(
        values: NDArray[Any],
        kept: NDArray[np.bool_],
        threshold: float,
        surplus: int,
        width: float,
    ) -> tuple[NDArray[np.intp], bool]:
        """Return the places of the values next to the threshold, on the side that has too many."""
        bounded = math.isfinite(width) and width > 0
        if surplus > 0:
            inside = kept & (values < threshold + width) if bounded else kept
        else:
            inside = ~kept
            if bounded:
                inside &= values >= threshold - width
        return np.flatnonzero(inside), bounded


_NOT_A_NUMBER = "a score of a weight is not a number; a lower learning rate may help"
