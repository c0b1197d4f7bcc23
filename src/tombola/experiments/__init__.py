"""Experiments: a recipe's arms, driven until their records are written."""
