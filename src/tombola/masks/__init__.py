"""Masks: which weights of a network are kept, and how masks are made, counted and enforced."""
