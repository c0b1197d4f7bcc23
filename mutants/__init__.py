"""Mutants: faults made on purpose, one at a time, each against the tests of its module.

    a seed -> [ draw ] -> faults of the core -> a process each -> [ judge ] -> caught, or alive

A fault that no test sees is a test that is missing, or one that changes nothing; which of the two
is written down, in `mutants.reasons`.
"""
