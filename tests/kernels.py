"""A kernel's gradients as a function of the batch, for somebody who has the model in hands
between two steps.
"""

from tombola.ground.settings import Training
from tombola.kernels.finding import named
from tombola.kernels.protocol import nothing
from tombola.masks.masks import MaskHandle
from tombola.training.loop import optimizer_for


def prepared(model, loss, kernel, **settings):
    """Prepare a model to be trained by the kernel of that name."""
    training = Training(**({"epochs": 1} | settings))
    optimizer = optimizer_for(model, training)
    return named(kernel).prepare(
        model, MaskHandle(model, {}), training, loss=loss, optimizer=optimizer, reseed=nothing
    )


def gradients(model, loss, *, traced):
    """Make the function that sets the gradients of a batch."""
    program = prepared(model, loss, "traced" if traced else "eager")

    def step(batch):
        program.upkeep()
        return program.gradients(batch)

    return step
