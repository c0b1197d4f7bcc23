"""Masks: which weights a network has, which of them a mask keeps, and how masks are made and
held.
"""
