"""Pretrained: a detector's weights from a local checkpoint of a classifier or of a detector.

    file of a classifier -> by the names of its parts -> backbone (and fc6, fc7)
    file of a detector   -> by name                   -> everything but a head for other classes

What the file does not have stays as it was drawn, and what was taken is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from tombola.ground.errors import ConfigError
from tombola.ground.files import users_path
from tombola.masks import states
from tombola.models.building import check_loaded_entry, checkpoint

if TYPE_CHECKING:
    from tombola.models.detectors import Detector

# Younger than batch norm itself: missing in old files, and it decides nothing.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Loaded:
    """What came from a checkpoint.

    Attributes:
        file: The name of the file.
        taken: Names of the detector's entries that came from it, in the detector's order.
        drawn: Names of those that stayed as they were drawn.
        unused: Names of the file's entries that the detector has no use for.
    """

    file: str
    taken: tuple[str, ...]
    drawn: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        """Name the parts of the detector, such as ``backbone``."""
        taken, drawn = _parts(self.taken), _parts(self.drawn)
        rest = f"; drawn: {', '.join(drawn)}" if drawn else ""
        return f"{', '.join(taken)} from {self.file}{rest}"


def _parts(names: tuple[str, ...]) -> list[str]:
    """Name the parts that entries stand in: ``roi_heads.box_head.fc6.bias`` is in ``fc6``."""
    parts = []
    for name in names:
        first, _, rest = name.partition(".")
        part = first
        if first == "roi_heads":
            inner = rest.split(".")
            part = inner[1] if inner[0] == "box_head" else inner[0]
        if part not in parts:
            parts.append(part)
    return parts


def load_detector_weights_(model: Detector, path: str | Path) -> Loaded:
    """Load what fits from a local checkpoint into a detector.

    The file is read as `load_weights_` reads it. It is that of a detector if it has the names of
    this one, and then it must hold all of them; only the head may be for other classes, and stays
    as it was drawn. Otherwise it is that of a classifier such as torchvision's: `Detector.pretrained`
    says where its parts go. The backbone must be there in full; a classifier's fc6 and fc7 are taken
    if they are.

    Args:
        model: Changed in place, once the file is known to fit.
        path: The file.

    Raises:
        ConfigError: There is no such file, it cannot be read, or its entries do not fit.
    """
    file = users_path(path, "weights")
    current = states.state_of(model, keep_vars=True)
    content = _modern(checkpoint(file, current))
    of_head = {name for name in current if name.startswith(f"{model.head}.")}
    is_detector = any(name in content for name in current if name.startswith("backbone."))
    if is_detector:
        named: Mapping[str, Tensor] = content
        required = set(current) - of_head
        fits = of_head <= content.keys()
        fits = fits and all(content[name].shape == current[name].shape for name in of_head)
        staying = set() if fits else of_head
    else:
        named, required = _renamed(model, content, current)
        staying = set()

    # A file of something else shares no name of the backbone.
    if not any(name.startswith("backbone.") for name in named):
        raise ConfigError(
            f"{file} is no checkpoint for the backbone of this detector: it begins with "
            f"'{next(iter(content), '')}'"
        )
    taken = {}
    for name, value in current.items():
        if name in named and name not in staying:
            check_loaded_entry(name, named[name], value, file, stays=False)
            taken[name] = named[name]
        elif name in required and not name.endswith(_COUNTER):
            raise ConfigError(f"{file} has nothing for '{name}', which the model has")
    state = {name: taken.get(name, value.detach()) for name, value in current.items()}
    states.load_(model, state)
    drawn = tuple(name for name in current if name not in taken and not name.endswith(_COUNTER))
    used = {id(value) for value in taken.values()}
    unused = tuple(name for name, value in content.items() if id(value) not in used)
    return Loaded(file.name, tuple(taken), drawn, unused)


def _modern(content: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the first stage the names that it has since torchvision 0.13."""
    modern = {}
    for name, value in content.items():
        if name in ("rpn.head.conv.weight", "rpn.head.conv.bias"):
            name = name.replace("conv.", "conv.0.0.")
        modern[name] = value
    return modern


def _renamed(
    model: Detector, content: Mapping[str, Tensor], current: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], set[str]]:
    """Give a classifier's entries the detector's names; return those that must be there, too."""
    named: dict[str, Tensor] = {}
    required: set[str] = set()
    for there, here in model.pretrained.items():
        found = {}
        for name, value in content.items():
            if name.startswith(there) and here + name.removeprefix(there) in current:
                found[here + name.removeprefix(there)] = value
        named |= found
        # A feature pyramid is no part of a classifier.
        below = {name for name in current if name.startswith(here) and ".fpn." not in name}
        if found or here.startswith("backbone."):
            required |= below
    return named, required
