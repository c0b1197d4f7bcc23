"""Data sets: images and labels, or pictures with boxes; their splits, partitions and batches.

One private file per data set; ``tombola.data.digits`` is imported when it is used. A data set is a
function ``(*, root, options) -> Dataset``, or another type that is for another task, such as
``BoxData``; only one that reads files takes ``root``.
``tombola.data.loading.load`` gives one by its name.
"""

from tombola.ground import catalogue

__getattr__, __dir__ = catalogue.lazy("tombola.data")
