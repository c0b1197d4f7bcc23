"""Training: a network with a mask through one course of steps, and what may happen while it
runs.
"""
