"""Sections: what the pages are put together from, one private file per section.

    evidence -> applies? -> sentence, chart, grid

``_costs.py`` gives the class ``Costs``: a `tombola.reports.section.Section` that is made without
arguments and says what it shows of a run, of several runs or of a transfer. Which of them a page
has, in which order, is the page's choice (`tombola.reports.page`, `together`, `matrix`).
"""

from tombola.ground import catalogue

__getattr__, __dir__ = catalogue.lazy("tombola.reports.sections")
