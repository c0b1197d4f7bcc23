"""Models: the architectures that ship, and the FLOPs of each layer.

    recipe -> [ model ] -> rewind point -> search

Each function here is called as ``(num_classes, *, image_shape=<the paper's>, **options)`` and
returns a new ``nn.Module`` whose output layer is the ``nn.Linear`` named ``head``. They leave
torch's own initialisation in place; ``tombola.models.building.build`` also takes torchvision's and
the user's own models, and initialises them all alike.
"""

from tombola.ground import catalogue

__getattr__, __dir__ = catalogue.lazy("tombola.models")
