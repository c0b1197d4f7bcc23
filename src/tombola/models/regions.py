"""Regions: torchvision's two stages of Faster R-CNN, which here know boxes to be ignored.

    features -> [ region proposals ] -> proposals -> [ region heads ] -> losses or detections

A box of the label ``IGNORED`` is neither object nor background: what lies on it is not learnt from.
This module imports torchvision, which takes seconds; import it where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tombola.ground.extras import torchvision

IGNORED = -1  # torchvision's samplers leave out what has this label
Target = Mapping[str, Tensor]

_detection = torchvision.models.detection


class Proposals(_detection.rpn.RegionProposalNetwork):  # type: ignore[misc]
    """A region proposal network that learns nothing from boxes to be ignored.

    Torchvision's knows no classes and takes every box for an object. Where no box is ignored, this
    one gives the same bits.
    """

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Label each anchor 1 (object), 0 (background) or -1 (left out), and give its box."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for index, target in enumerate(targets):
            ignored = target["labels"] == IGNORED
            if bool(ignored.any()):
                on_box = self._on(ignored, target["boxes"], anchors[index])
                labels[index] = torch.where(on_box, float(IGNORED), labels[index])
        return labels, boxes

    def _on(self, chosen: Tensor, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Tell which anchors were matched to one of the chosen boxes."""
        match = self.proposal_matcher(self.box_similarity(boxes, anchors))
        matched: Tensor = match >= 0
        return matched & chosen[match.clamp(min=0)]

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Return the losses of objectness and of the boxes; 0 where every anchor is left out."""
        # Both are means over the sampled anchors, and would be 0 / 0.
        if not any(bool((of_image >= 0).any()) for of_image in labels):
            return objectness[:0].sum(), pred_bbox_deltas[:0].sum()
        losses: tuple[Tensor, Tensor] = super().compute_loss(
            objectness, pred_bbox_deltas, labels, regression_targets
        )
        return losses


class RegionHeads(_detection.roi_heads.RoIHeads):  # type: ignore[misc]
    """The heads of the regions; where no proposal is left to learn from, their losses are 0.

    Torchvision's are NaN there: means over no proposals. Every proposal may lie on a box to be
    ignored. Which proposals those are needs no change: one whose nearest box has the label
    ``IGNORED`` gets that label, which the sampler leaves out.
    """

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return the detections, or in training the losses."""
        self._sampled = 0
        detections, losses = super().forward(features, proposals, image_shapes, targets)
        if self.training and not self._sampled:
            # Gradients of zero, not none: an optimiser with momentum moves on as in every step.
            zero = _zero(self.parameters(), features.values())
            losses = dict.fromkeys(losses, zero)
        return detections, losses

    def select_training_samples(self, proposals: list[Tensor], targets: list[Target]) -> Any:
        """Sample the proposals of a training step, and count them."""
        selected = super().select_training_samples(proposals, targets)
        self._sampled = sum(len(labels) for labels in selected[2])
        return selected


def _zero(parameters: Iterable[Tensor], features: Iterable[Tensor]) -> Tensor:
    """Return 0 as a sum of nothing of each tensor, so that each has a gradient of zeros."""
    return torch.stack([tensor[:0].sum() for tensor in (*features, *parameters)]).sum()


def know_ignored_(network: nn.Module) -> None:
    """Let a Faster R-CNN of torchvision know boxes to be ignored; its parts keep all they hold."""
    # By its class: torchvision's constructors take no others, and copying every attribute would
    # have to follow its versions.
    for name, plain, ours in (
        ("rpn", _detection.rpn.RegionProposalNetwork, Proposals),
        ("roi_heads", _detection.roi_heads.RoIHeads, RegionHeads),
    ):
        part = getattr(network, name)
        assert type(part) in (plain, ours)
        part.__class__ = ours


class OneLevelPool(torchvision.ops.RoIPool):  # type: ignore[misc]
    """Max pooling of regions from a backbone with one map of features, whatever its name."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__((size, size), 1 / stride)

    def forward(
        self, features: Mapping[str, Tensor], boxes: list[Tensor], _: list[tuple[int, int]]
    ) -> Tensor:
        """Pool each region; called as torchvision's pooling of several levels is."""
        (only,) = features.values()
        pooled: Tensor = super().forward(only, boxes)
        return pooled
