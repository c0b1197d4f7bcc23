"""Exports: tickets for programs without tombola.

    ticket file -> ticket -> [ export ] -> file for torch, for torch's pruning, for another machine

One private file per export; ``tombola.exports.state_dict`` is imported when it is used. An export
is a function ``(ticket) -> Ticket | State``: what the other side takes, as a new value that shares
nothing with the ticket. ``tombola.exports.writing.export`` puts it into a file.
"""

from tombola.ground import catalogue

__getattr__, __dir__ = catalogue.lazy("tombola.exports")
