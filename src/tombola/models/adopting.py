"""Adopting: torchvision's own detectors, as they are, under the rules of tombola's.

    torchvision's model -> [ adopted ] -> Detector

This module imports torchvision, which takes seconds; import it where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from tombola.ground.catalogue import TORCHVISION
from tombola.ground.errors import ConfigError, near, shown
from tombola.ground.extras import torchvision
from tombola.models.building import first_line
from tombola.models.detectors import Detector
from tombola.models.regions import know_ignored_

_detection = torchvision.models.detection
_KINDS = ("fasterrcnn", "fcos", "retinanet", "ssd", "ssdlite320")
# Arguments that tombola gives, or that ask for a download.
_OURS = ("num_classes", "weights", "weights_backbone", "progress")
# A focal loss begins with a probability of 1 % for each class (Lin et al. 2017, section 4.1).
_FOCAL_BIAS = -math.log(0.99 / 0.01)


def from_torchvision(name: str, classes: int, options: Mapping[str, Any]) -> Detector:
    """Build a detector of torchvision's without pretrained weights; all layers are trained.

    Raises:
        ConfigError: There is no such detector, or its options will not do.
    """
    known = []
    for model in torchvision.models.list_models(module=_detection):
        if model.startswith(_KINDS):
            known.append(model)
    short = name.removeprefix(TORCHVISION)
    if short not in known:
        raise ConfigError(
            f"no detector {shown(short)} among those of torchvision that are taken here: "
            f"{', '.join(known)}.{near(short, known)}"
        )
    for option in _OURS:
        if option in options:
            raise ConfigError(
                f"{shown(name)} has no option '{option}': tombola gives it; weights are named with "
                "model.weights"
            )
    try:
        network = torchvision.models.get_model(
            short, weights=None, weights_backbone=None, num_classes=classes + 1, **options
        )
    except Exception as error:  # torchvision does not check its options
        raise ConfigError(
            f"{shown(name)} cannot be built with the options {shown(dict(options))}: "
            f"{first_line(error)}"
        ) from error
    return adopted(network, name, classes)


def adopted(network: object, name: str, classes: int) -> Detector:
    """Make a detector of a model of torchvision's; one of two stages gets to know ignored boxes.

    Args:
        network: The model, whose parts the detector takes over.
        name: What the user calls it.
        classes: Number of classes that it was made for, background not counted.

    Raises:
        ConfigError: It is of another kind, or for other classes.
    """
    differing: dict[str, Any] = {}
    if isinstance(network, _detection.FasterRCNN):
        know_ignored_(network)
        outputs = network.roi_heads.box_predictor.cls_score.out_features
    elif isinstance(network, _detection.RetinaNet | _detection.FCOS):
        head = "head.classification_head.cls_logits"
        differing = {"head": head, "knows_ignored": False, "focal_bias": _FOCAL_BIAS}
        outputs = network.head.classification_head.num_classes
    elif isinstance(network, _detection.ssd.SSD):
        differing = {"head": "head.classification_head", "knows_ignored": False}
        outputs = network.head.classification_head.num_columns
    else:
        raise ConfigError(
            f"{shown(name)} gives a {type(network).__name__}; it must give a Detector of "
            "tombola.models.detectors, or a FasterRCNN, RetinaNet, FCOS or SSD of torchvision"
        )
    if outputs != classes + 1:
        raise ConfigError(
            f"{shown(name)} gives a detector of {outputs} outputs for {classes} classes; it has "
            f"{classes + 1}, one for the background"
        )
    size, pretrained = _size(network), _pretrained(network)
    return Detector(network, classes=classes, size=size, pretrained=pretrained, **differing)


def _size(network: nn.Module) -> int:
    transform: Any = network.transform
    fixed: tuple[int, int] | None = transform.fixed_size
    return int(fixed[0] if fixed is not None else transform.min_size[0])


def _pretrained(network: nn.Module) -> dict[str, str]:
    """Say where the parts of a classifier's checkpoint go; nowhere in an SSD, which cuts them."""
    body = network.backbone._modules.get("body")  # type: ignore[union-attr]
    if body is None:
        return {}
    # The layers of a residual network have names of their own, those of others are numbered.
    numbered = all(name.isdigit() for name, _ in body.named_children())
    return {"features.": "backbone.body."} if numbered else {"": "backbone.body."}
