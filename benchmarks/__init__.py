"""Benchmarks: what tombola's speed is measured against, and how; ``make bench`` runs them.

    rows -> [ a fresh process each: A and B in turn -> ratio of medians, interval ] -> table,
    figures, raw numbers

A row is a file in ``rows/``; its docstring says what it measures. A peer is a file in ``peers/``;
its code is read from a folder that the user names, never from here.
"""
