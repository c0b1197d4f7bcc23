"""Evidence: intervals, comparisons, verdicts and costs, each worked out once."""
