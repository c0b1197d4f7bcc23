"""Ticket format: what the bytes of a ticket file mean, and how they are checked.

Needs neither torch nor safetensors.

    texts -> layout, bits -> contents -> reading -> writing
                                     `-> describing

A ticket is one safetensors file: ``mask.<name>`` holds a mask, ``rewind.<name>`` the rewind point,
and the one metadata key ``tombola`` a JSON text that says where they came from. In a run many
tickets have one rewind point: there it is a file of its own, which tickets name by its digest.
Whatever is wrong with a file, even on purpose, is reported in one line (`TicketError`).
``docs/ticket-format.md`` is the page for readers.
"""

from tombola.ticket_format.contents import RewindPoint as RewindPoint
from tombola.ticket_format.contents import TicketFile as TicketFile
from tombola.ticket_format.describing import describe as describe
from tombola.ticket_format.describing import to_dict as to_dict
from tombola.ticket_format.layout import FOLDER as FOLDER
from tombola.ticket_format.layout import FORMAT as FORMAT
from tombola.ticket_format.layout import GAPS as GAPS
from tombola.ticket_format.layout import GAPS_REFERRING as GAPS_REFERRING
from tombola.ticket_format.layout import ITEMSIZE as ITEMSIZE
from tombola.ticket_format.layout import LEVELS as LEVELS
from tombola.ticket_format.layout import REFERRING as REFERRING
from tombola.ticket_format.layout import Contents as Contents
from tombola.ticket_format.layout import Entry as Entry
from tombola.ticket_format.layout import digest_masks as digest_masks
from tombola.ticket_format.layout import digest_tensors as digest_tensors
from tombola.ticket_format.reading import read as read
from tombola.ticket_format.reading import rewind_folders as rewind_folders
from tombola.ticket_format.reading import verify as verify
from tombola.ticket_format.reading import verify_rewind_point as verify_rewind_point
from tombola.ticket_format.texts import canonical_json as canonical_json
from tombola.ticket_format.texts import digest_json as digest_json
from tombola.ticket_format.writing import encode as encode
from tombola.ticket_format.writing import encode_rewind_point as encode_rewind_point
from tombola.ticket_format.writing import write as write
from tombola.ticket_format.writing import write_rewind_point as write_rewind_point
