"""Kernels: how a training step is executed, one private file per way.

    prepare(model, handle, training) -> [ upkeep -> gradients -> update ] -> next step

`tombola.kernels.eager` is imported when it is used. A kernel is a class that is made without
arguments; what it is asked for stands in `tombola.kernels.protocol`. All of them give the numbers
of `eager`: to the last bit, or to the tolerance that they name.
"""

from tombola.ground import catalogue

__getattr__, __dir__ = catalogue.lazy("tombola.kernels")
