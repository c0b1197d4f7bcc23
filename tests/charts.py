"""Charts in the pages of tests: building and drawing them takes nearly all of a small run's
time, so few tests do.
"""

from contextlib import contextmanager

import pytest

from tombola.reports import page

_DRAWN = page._charts


@contextmanager
def charts(drawn):
    """Draw the charts of pages, or leave them out; text, tables and files of a page are the
    real ones either way.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tombola.reports.page._charts", _DRAWN if drawn else lambda *_: {})
        yield
