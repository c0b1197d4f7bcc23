"""Training: one training run of a masked network, and what may happen while it runs."""
