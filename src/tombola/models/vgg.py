"""VGG networks with batch norm: VGG-16 and VGG-19 differ in their depth only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, TypeAlias

from torch import nn

from tombola.models.checks import check_arguments, check_choice

Classifier: TypeAlias = Literal["cifar", "imagenet"]


def vgg(
    model: str,
    num_classes: int,
    image_shape: tuple[int, int, int],
    depths: Sequence[int],
    classifier: Classifier,
) -> nn.Module:
    """Build five stages of 3x3 convolutions with batch norm and ReLU, and the layer ``head``.

    There is max pooling between the stages. All convolutions have biases, as in torchvision, though
    batch norm makes them redundant.

    Args:
        model: The model's name, for messages.
        num_classes: Number of outputs.
        image_shape: Channels, height and width of one image.
        depths: Convolutions in each stage.
        classifier: ``"cifar"``: the mean over the image behind the last stage, and ``head`` alone.
            ``"imagenet"``: a fifth pooling, the mean over 7 x 7 fields, and ``fc1`` and ``fc2`` of
            4096 units with dropout of 0.5.

    Raises:
        ConfigError: There is no such classifier, the images are too small, or the number of classes
            will not do.

    >>> model = vgg("vgg16", 10, (3, 32, 32), (1, 1, 1, 1, 1), "cifar")
    >>> [name for name, _ in model.named_children()][6:]
    ['stage4', 'pool4', 'stage5', 'mean', 'flatten', 'head']
    """
    check_choice("classifier", classifier, ("cifar", "imagenet"))
    large = classifier == "imagenet"
    check_arguments(model, num_classes, image_shape, smallest=32 if large else 16)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = image_shape[0]
    widths = (64, 128, 256, 512, 512)
    for number, (channels, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        stage: OrderedDict[str, nn.Module] = OrderedDict()
        for place in range(1, depth + 1):
            stage[f"conv{place}"] = nn.Conv2d(inputs, channels, 3, padding=1)
            stage[f"bn{place}"] = nn.BatchNorm2d(channels)
            stage[f"relu{place}"] = nn.ReLU()
            inputs = channels
        layers[f"stage{number}"] = nn.Sequential(stage)
        # Small images have one pixel left behind the fourth pooling.
        if number < 5 or large:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
    layers["mean"] = nn.AdaptiveAvgPool2d(7 if large else 1)
    layers["flatten"] = nn.Flatten()
    # torchvision's classifier, which holds most of the weights.
    if large:
        inputs *= 7 * 7
        for number in (1, 2):
            layers[f"fc{number}"] = nn.Linear(inputs, 4096)
            layers[f"relu{number}"] = nn.ReLU()
            layers[f"drop{number}"] = nn.Dropout(0.5)
            inputs = 4096
    layers["head"] = nn.Linear(inputs, num_classes)
    return nn.Sequential(layers)
