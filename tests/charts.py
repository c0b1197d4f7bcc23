"""Charts in the pages of tests: building and drawing them takes nearly all of a small run's
time, so few tests do.
"""

from contextlib import contextmanager

import pytest

from tombola.reports import layout

_DRAWN = layout.drawn


def _of_several(section, evidence):
    """Pages of several runs and of transfers are few, and keep their charts."""
    return {} if section.of == "run" else _DRAWN(section, evidence)


@contextmanager
def charts(drawn):
    """Draw the charts of pages, or leave them out; text, tables and files of a page are the
    real ones either way.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tombola.reports.layout.drawn", _DRAWN if drawn else _of_several)
        yield
