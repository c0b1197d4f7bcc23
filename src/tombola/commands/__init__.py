"""Commands: the command line, one private file per command.

A file is found by `tombola.commands.cli`.
"""
