"""Evidence: what results show, from intervals to verdicts and costs, each worked out once."""
