"""Reports: a run's records as tables, charts and one page.

    records -> aggregate -> [ table, figures ] -> page

Records hold fractions; percent appears here only. rich, altair and vl_convert are imported
when a function needs them, because importing them takes longer than most reports.
"""
