"""Commands: what stands behind the words of the command line."""
