"""Experiments: a recipe's arms driven to their records, rehearsed, told as they go, and
transferred.
"""
