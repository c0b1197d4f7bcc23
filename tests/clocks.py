"""Clocks: what runs measure before and after they train, cut short in the tests."""

from contextlib import contextmanager

import pytest

SHORT = {
    "tombola.experiments.estimate._MOST_STEPS": 4,
    "tombola.experiments.estimate._EXAMPLES": 20,
    "tombola.experiments.latency._SECONDS": 0.001,
    "tombola.commands.timings._CASE_SECONDS": 0.1,
    "tombola.commands.timings._TURN_SECONDS": 0.01,
    "tombola.commands.timings._WORK_SECONDS": 0.05,
}


@contextmanager
def short_clocks():
    """Measure clocks as briefly as can be: before a run, of its tickets, and what the doctor
    advises.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SHORT.items():
            patch.setattr(name, value)
        yield
