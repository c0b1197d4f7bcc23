"""Tasks: what is learnt and how it is measured; only a task opens a batch.

    data, model -> [ task ] -> build, batches, loss, measure -> jobs

One private file per task; `protocol` says what a task is, `rows` is the base of one whose examples
are rows of tensors. A task is made by a function ``(data, model, *, seed, device, root) -> Task``,
an entry of this folder or the user's own ``package.module:function``; a recipe names it with
``task:``.
"""

from tombola.ground import catalogue

__getattr__, __dir__ = catalogue.lazy("tombola.tasks")
