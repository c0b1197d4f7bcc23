"""tombola: find, prove, transfer and ship lottery tickets."""

__version__ = "0.1.0"
