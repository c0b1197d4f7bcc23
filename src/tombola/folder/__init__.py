"""Folder: a run on disk, and how runs are identified, listed, merged and packed."""
