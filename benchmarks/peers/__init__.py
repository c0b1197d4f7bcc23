"""Peers: other people's code that we are measured against, one file each; loaded from a folder
that the user names.
"""
