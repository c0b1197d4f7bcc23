"""Search: the rounds that lead from trained partitions to the next mask."""
