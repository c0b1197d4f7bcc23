"""Detectors: models that find objects in pictures, each a box, a class and a score.

    name, options, seed -> [ build_detector ] -> ( weights of a file ) -> rewind point -> search

A name is an entry of the catalogue (``faster_rcnn_small``), ``torchvision:NAME``, or the user's own
``package.module:function``. Class 0 is the background and class c of a data set is c + 1, as
torchvision has it; ``IGNORED`` is a box that is neither object nor background. Functions ending in
``_`` change a model in place.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tombola.ground import catalogue, seeds
from tombola.ground.checking import own_numbers
from tombola.ground.errors import ConfigError, shown
from tombola.models.building import first_line, initialise_, with_outputs
from tombola.models.flops import Flops, per_example, uncounted
from tombola.models.pretrained import Loaded, load_detector_weights_

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
        classes: How many it tells apart, background not counted.
        head: Dotted name of what depends on the classes: it is drawn for each class partition.
        knows_ignored: Whether boxes labelled ``IGNORED`` may be among the targets.
        size: A square picture of this height and width, in pixels, is not resized.
        pretrained: Where the parts of a classifier's checkpoint go: from the beginning of a name
            there to the beginning of a name here.
        focal_bias: The bias of the class logits before training, which a focal loss needs.
        begins: Where the weights come from, in words.
        loaded: What came from a file, if one was given.
    """

    task: ClassVar[str] = "detection"
    network: nn.Module
    head: str

    def __init__(
        self,
        network: nn.Module,
        *,
        classes: int,
        size: int,
        head: str = BOX_PREDICTOR,
        knows_ignored: bool = True,
        pretrained: Mapping[str, str] | None = None,
        focal_bias: float | None = None,
    ) -> None:
        super().__init__()
        # One dictionary of parts, not two: a part that is replaced in one is replaced in both, and
        # no name begins with "network".
        self._modules = network._modules
        object.__setattr__(self, "network", network)
        # Some of torchvision's have a part of that name, which stays where it is.
        object.__setattr__(self, "head", head)
        self.classes = classes
        self.knows_ignored = knows_ignored
        self.size = size
        self.pretrained = {"": "backbone."} if pretrained is None else dict(pretrained)
        self.focal_bias = focal_bias
        self.begins = "drawn"
        self.loaded: Loaded | None = None

    def forward(
        self, images: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None = None
    ) -> Any:
        """Return the losses of training, or the detections in each picture."""
        # Modes are also set part by part, which the network is not one of.
        self.network.training = self.training
        given = None if targets is None else [dict(target) for target in targets]
        return self.network(list(images), given)

    def train(self, mode: bool = True) -> Detector:
        """Set the mode of the detector and all its parts."""
        super().train(mode)
        self.network.training = mode
        return self


def build_detector(
    name: str,
    classes: int,
    *,
    options: Mapping[str, Any] = {},
    init: str = "xavier",
    seed: int,
    weights: str | Path | None = None,
    anew: bool = False,
) -> Detector:
    """Build a detector and initialise it; nothing is downloaded.

    The same arguments give the same bits, whatever was drawn before; torch's global generator is
    left unchanged.

    Args:
        name: An entry of ``tombola.models`` for detection, ``torchvision:NAME``, or the user's own
            ``package.module:function``, called as ``function(num_classes, **options)``, which
            returns a `Detector` or a detector of torchvision's.
        classes: Number of classes, background not counted.
        options: The model's own keyword arguments.
        init: How the weights are drawn, see `initialise_`. ``"xavier"`` draws every convolution
            and linear layer so, the output layers too, which torchvision draws with a standard
            deviation of 0.01: layers that begin much smaller than the others are the first that
            magnitude pruning removes. ``"default"`` keeps torchvision's.
        seed: Everything is drawn at the address ``(seed, "init")``.
        weights: A local checkpoint of a classifier, for the backbone, or of a whole detector; see
            `load_detector_weights_`. `Detector.begins` says what came from it.
        anew: Draw everything, even where ``weights`` are given.

    Raises:
        ConfigError: There is no such detector, option or init, the file does not fit, or norms are
            frozen without weights that they could have come from.

    >>> build_detector("faster_rcnn_small", 6, seed=0).begins
    'drawn, from scratch'
    """
    check_number_of_classes(classes)
    with seeds.seeded(seed, "init"):
        model = _constructed(name, classes, options)
        initialise_(model, init)
        _set_focal_bias_(model)
    model.begins = "drawn, from scratch"
    if weights is None:
        _check_norms(name, model)
    elif not anew:
        model.loaded = load_detector_weights_(model, weights)
        model.begins = str(model.loaded)
    return model.train()


def _constructed(name: str, classes: int, options: Mapping[str, Any]) -> Detector:
    if name.startswith(catalogue.TORCHVISION):
        from tombola.models.adopting import from_torchvision

        return from_torchvision(name, classes, options)
    function = catalogue.entry("tombola.models", name)
    catalogue.check_is_for("tombola.models", name, Detector.task)
    try:
        with catalogue.own_code(name, "models"):
            model = catalogue.call(function, name, classes, options=options)
    except (RuntimeError, OverflowError) as error:
        # Without options it is a bug of tombola's own function, and keeps its traceback.
        if not options:
            raise
        raise ConfigError(
            f"{shown(name)} cannot be built with the options {shown(dict(options))}: "
            f"{first_line(error)}"
        ) from error
    if isinstance(model, Detector):
        return model
    from tombola.models.adopting import adopted

    return adopted(model, name, classes)


def _set_focal_bias_(model: Detector) -> None:
    """Give the class logits the bias that a focal loss needs, whatever way they were drawn."""
    if model.focal_bias is not None:
        nn.init.constant_(model.network.get_parameter(f"{model.head}.bias"), model.focal_bias)


def _check_norms(name: str, model: Detector) -> None:
    """Refuse frozen norms that no file has filled: they would do nothing."""
    from tombola.ground.extras import torchvision

    for module in model.modules():
        if isinstance(module, torchvision.ops.FrozenBatchNorm2d):
            raise ConfigError(
                f"{shown(name)} has frozen batch norm and no weights; from scratch it would be "
                "no norm at all: give weights, or another norm"
            )


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
    """Put a new head for some classes where the old one was: the box predictor of Faster R-CNN.

    Its bits depend on ``seed`` and ``address`` only: not on the old weights, nor on the device.

    Args:
        model: Changed in place. An optimiser made before still holds the old parameters.
        classes: Number of classes of the new head, background not counted.
        seed: The new head is drawn at the address ``(seed, "head", *address)``.
        address: Distinguishes it from others of the same seed.
        init: How it is drawn, see `initialise_`; ``"default"`` is torch's own way.
    """
    check_number_of_classes(classes)
    parent, _, child = model.head.rpartition(".")
    holder, old = model.network.get_submodule(parent), model.network.get_submodule(model.head)
    like = next(old.parameters())
    with seeds.seeded(seed, "head", *address):
        new = _for_classes(old, model.classes + 1, classes + 1)
        initialise_(new, init)
    setattr(holder, child, new.to(like).train(old.training))
    # Heads of one-stage detectors shape their outputs by the number of classes.
    for part in (holder, new):
        for attribute in ("num_classes", "num_columns"):
            if getattr(part, attribute, None) == model.classes + 1:
                setattr(part, attribute, classes + 1)
    model.classes = classes
    _set_focal_bias_(model)


def _for_classes(head: nn.Module, before: int, after: int) -> nn.Module:
    """Draw a head anew, with another number of classes; background is counted here."""
    outputs = getattr(head, "out_channels", getattr(head, "out_features", None))
    # A depthwise convolution has as many outputs as inputs, whatever the classes.
    is_output = isinstance(head, nn.Linear) or (isinstance(head, nn.Conv2d) and head.groups == 1)
    if is_output and outputs is not None and outputs % before == 0:
        return with_outputs(head, outputs // before * after)
    new = copy.copy(head)
    new._modules = {}
    for name, child in head.named_children():
        new._modules[name] = _for_classes(child, before, after)
    if not new._modules:
        new = copy.deepcopy(head)
        if callable(getattr(new, "reset_parameters", None)):
            new.reset_parameters()  # type: ignore[operator]
    return new


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
        if "head" in parts:  # of one stage
            return list(parts["head"](list(levels.values())).values())
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
    if proposals is None:
        heads: Any = model._modules.get("roi_heads")
        proposals = heads.fg_bg_sampler.batch_size_per_image if heads is not None else 0
    device = next(model.parameters()).device
    return _Counted(model, proposals), torch.zeros(2, 3, size, size, device=device)
