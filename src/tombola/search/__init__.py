"""Search: round after round from trained partitions to the next mask, as items of work."""
