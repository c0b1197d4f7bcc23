"""Records: what a run has found, as typed results in sealed files."""
