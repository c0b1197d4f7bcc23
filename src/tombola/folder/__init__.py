"""Folder: a run on the disk, read, identified, listed, joined and packed."""
