"""Records: what a run has found, as typed results and sealed files, and which of it is kept or
best.
"""
