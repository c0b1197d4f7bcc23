"""Detectors: models that find objects in pictures, each a box, a class and a score.

    name, options, seed -> [ build_detector ] -> ( weights of a file ) -> rewind point -> search

A name is an entry of the catalogue (``faster_rcnn_small``), ``torchvision:NAME``, or the user's own
``package.module:function``. Class 0 is the background and class c of a data set is c + 1, as
torchvision has it; ``IGNORED`` is a box that is neither object nor background. Functions ending in
``_`` change a model in place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tombola.ground import catalogue, seeds
from tombola.ground.checking import own_numbers
from tombola.ground.errors import ConfigError, shown
from tombola.models.building import initialise_
from tombola.models.flops import Flops, per_example, uncounted

IGNORED = -1  # label of a box that is neither object nor background
BOX_PREDICTOR = "roi_heads.box_predictor"
# What pools regions; no pooling is counted.
_POOLING = ("torchvision::roi_align", "torchvision::roi_pool")

Target = Mapping[str, Tensor]


class Detector(nn.Module):
    """A detector of torchvision's kind, whose state has torchvision's names.

    Called with a list of pictures, or one tensor of pictures of one size, float from 0 to 1. In
    training it takes targets, ``{"boxes": [n, 4], "labels": [n]}`` for each picture, and returns a
    dictionary of losses; in evaluation ``{"boxes", "labels", "scores"}`` for each picture.

    Attributes:
        network: Torchvision's model. The detector has the same parts, under the same names.
        head: Dotted name of what depends on the classes: it is drawn for each class partition.
        knows_ignored: Whether boxes labelled ``IGNORED`` may be among the targets.
        size: Pictures are scaled to this height and width at most, in pixels.
    """

    task: ClassVar[str] = "detection"
    network: nn.Module

    def __init__(self, network: nn.Module, *, head: str, knows_ignored: bool, size: int) -> None:
        super().__init__()
        # One dictionary of parts, not two: a part that is replaced in one is replaced in both, and
        # no name begins with "network".
        self._modules = network._modules
        object.__setattr__(self, "network", network)
        self.head = head
        self.knows_ignored = knows_ignored
        self.size = size

    def forward(
        self, images: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None = None
    ) -> Any:
        """Return the losses of training, or the detections in each picture."""
        given = None if targets is None else [dict(target) for target in targets]
        return self.network(list(images), given)

    def train(self, mode: bool = True) -> Detector:
        """Set the mode of the detector and all its parts."""
        super().train(mode)
        self.network.training = mode
        return self


def build_detector(
    name: str, classes: int, *, options: Mapping[str, Any] = {}, init: str = "xavier", seed: int
) -> Detector:
    """Build a detector and initialise it.

    The same arguments give the same bits, whatever was drawn before; torch's global generator is
    left unchanged.

    Args:
        name: An entry of ``tombola.models`` for detection.
        classes: Number of classes, background not counted.
        options: The model's own keyword arguments.
        init: How the weights are drawn, see `initialise_`. ``"xavier"`` draws every convolution
            and linear layer so, the output layers too, which torchvision draws with a standard
            deviation of 0.01: layers that begin much smaller than the others are the first that
            magnitude pruning removes. ``"default"`` keeps torchvision's.
        seed: Everything is drawn at the address ``(seed, "init")``.

    Raises:
        ConfigError: There is no such detector, option or init.
    """
    check_number_of_classes(classes)
    with seeds.seeded(seed, "init"):
        function = catalogue.entry("tombola.models", name)
        catalogue.check_is_for("tombola.models", name, Detector.task)
        model = catalogue.call(function, name, classes, options=options)
        if not isinstance(model, Detector):
            raise ConfigError(
                f"{shown(name)} gives a {type(model).__name__}; it must give a "
                "tombola.models.detectors.Detector"
            )
        initialise_(model, init)
    return model.train()


def check_number_of_classes(classes: int) -> None:
    """Refuse anything but a whole number of classes, one or more.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(classes, bool) or not isinstance(own_numbers(classes), int) or classes < 1:
        raise ConfigError(
            f"num_classes is {shown(classes)}; a detector needs a whole number of at least 1, "
            "background not counted"
        )


def redraw_box_predictor_(
    model: Detector, classes: int, seed: int, *address: object, init: str = "xavier"
) -> None:
    """Put a new box predictor for some classes where the old one was.

    Its bits depend on ``seed`` and ``address`` only: not on the old weights, nor on the device.

    Args:
        model: Changed in place. An optimiser made before still holds the old parameters.
        classes: Number of classes of the new predictor, background not counted.
        seed: The new predictor is drawn at the address ``(seed, "head", *address)``.
        address: Distinguishes it from others of the same seed.
        init: How it is drawn, see `initialise_`.
    """
    from tombola.ground.extras import torchvision

    check_number_of_classes(classes)
    parent, _, child = model.head.rpartition(".")
    old = model.get_submodule(model.head)
    inputs = old.get_submodule("cls_score").in_features
    weight = old.get_parameter("cls_score.weight")
    with seeds.seeded(seed, "head", *address):
        new = torchvision.models.detection.faster_rcnn.FastRCNNPredictor(inputs, classes + 1)
        initialise_(new, init)
    setattr(model.get_submodule(parent), child, new.to(weight).train(old.training))


def losses_in_evaluation(
    model: Detector, images: Sequence[Tensor] | Tensor, targets: Sequence[Target]
) -> dict[str, Tensor]:
    """Return the losses on some pictures with dropout and batch norm as in evaluation.

    Torchvision gives losses in training mode alone. Proposals are sampled, from torch's global
    generator: seed it where the same losses are to come again. The modes are left as they were.
    """
    with _giving_losses(model):
        losses: dict[str, Tensor] = model(images, targets)
    return losses


@contextlib.contextmanager
def _giving_losses(model: Detector) -> Iterator[None]:
    """Put a detector into evaluation mode, except for the parts that decide to give losses."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    deciding = [model, model.network]
    for name in ("transform", "rpn", "roi_heads"):
        part = model._modules.get(name)
        if part is not None:
            deciding.append(part)
    # The flags alone: train() would pass them on to dropout and norms.
    for module in deciding:
        module.training = True
    try:
        yield
    finally:
        model.train(model.training)
        for module, mode in modes.items():
            module.training = mode
        model.network.training = modes[model]


class _Counted(nn.Module):
    """A detector on pictures of one size with a fixed number of proposals, for counting FLOPs."""

    def __init__(self, model: Detector, proposals: int) -> None:
        super().__init__()
        self._modules = model._modules  # so that the weights have the detector's names
        self.proposals = proposals

    def forward(self, images: Tensor) -> list[Tensor]:
        """Run backbone, region proposal network, and the heads on boxes of the whole picture."""
        parts: Mapping[str, Any] = self._modules
        features = parts["backbone"](images)
        levels = {"0": features} if isinstance(features, Tensor) else features
        objectness, deltas = parts["rpn"].head(list(levels.values()))
        height, width = images.shape[-2:]
        box = images.new_tensor([0.0, 0.0, float(width), float(height)])
        boxes = [box.expand(self.proposals, 4)] * len(images)
        heads = parts["roi_heads"]
        pooled = heads.box_roi_pool(levels, boxes, [(height, width)] * len(images))
        return [*objectness, *deltas, *heads.box_predictor(heads.box_head(pooled))]


def flops_of(
    model: Detector, size: int | None = None, proposals: int | None = None
) -> dict[str, Flops]:
    """Count the FLOPs of each weight for one picture.

    Args:
        model: Any; it is not changed.
        size: Height and width of the picture in pixels, the model's own without it.
        proposals: How many regions go through the heads, as many as a training step samples
            without it.
    """
    return per_example(*_counted(model, size, proposals))


def uncounted_of(
    model: Detector, size: int | None = None, proposals: int | None = None
) -> list[str]:
    """Name the operations that may multiply matrices and that `flops_of` cannot count."""
    named = uncounted(*_counted(model, size, proposals))
    return [name for name in named if name not in _POOLING]


def _counted(model: Detector, size: int | None, proposals: int | None) -> tuple[nn.Module, Tensor]:
    size = size or model.size
    heads: Any = model.get_submodule("roi_heads")
    proposals = proposals or heads.fg_bg_sampler.batch_size_per_image
    device = next(model.parameters()).device
    return _Counted(model, proposals), torch.zeros(2, 3, size, size, device=device)
