"""The command line: one private file per command, found by `tombola.commands.cli`."""
