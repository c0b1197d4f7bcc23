"""Executors: who runs the trainings.

`serial` trains in the caller's thread, for a notebook or a script. `Pool` is what a run uses: one pool, shared by all
arms and replicates, of worker processes or of one thread; an equal training is done once.
"""

from __future__ import annotations

from tombola.executors._serial import serial
from tombola.executors.pool import Pool

__all__ = ["Pool", "serial"]
