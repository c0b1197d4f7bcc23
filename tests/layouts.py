"""Where the files of a run lie, for tests, and a folder as it was laid out before."""

import re

from tombola.records.layout import MACHINE, Layout, is_run

# What every run keeps of its rounds, whose bytes do not depend on clocks.
KINDS = ("tickets", "machine/candidates", "machine/predictions")
_ROUND = re.compile(r"tickets/(.+)/replicate-(\d+)/round-(\d+)\.safetensors")


def ticket_file(folder, arm, replicate, index):
    """The file of a round's ticket, whose density is in its name."""
    return Layout.of(folder).ticket(arm, replicate, index)


def place(folder, name):
    """Where a file is that was called so at the top of a run folder, before it was laid out as
    today; of a ticket its name without the density.
    """
    if found := _ROUND.fullmatch(name):
        return ticket_file(folder, found[1], int(found[2]), int(found[3]))
    first, _, rest = name.partition("/")
    if is_run(folder / first):  # a packed one, in the folder of the run
        return place(folder / first, rest)
    layout = Layout.of(folder)
    if name.startswith("rewind_points/"):
        return layout.rewind_points / name.removeprefix("rewind_points/")
    return folder / name if name == "recipe.yaml" else layout.machine / name


def kept_of_rounds(folder):
    """The bytes of tickets, candidates and predictions, by names that say nothing of the layout."""
    layout = Layout.of(folder)
    found = {("ticket", *key): path.read_bytes() for path, key in layout.ticket_files()}
    for part in (layout.candidates, layout.predictions):
        for path in part.rglob("*"):
            if path.is_file():
                found[part.name, path.relative_to(part).as_posix()] = path.read_bytes()
    return found


def as_before(folder):
    """Lay a run folder out as it was before there was a folder for the machine's files."""
    layout = Layout.of(folder)
    if layout.older:
        return folder
    tickets = list(layout.ticket_files())
    for path, (_, _, index) in tickets:
        path.rename(path.with_name(f"round-{index:03}.safetensors"))
    points = list(layout.rewind_points.glob("*.safetensors"))
    if points:
        (folder / "rewind_points").mkdir()
    for path in points:
        path.rename(folder / "rewind_points" / path.name)
    for path in list((folder / MACHINE).iterdir()):
        path.rename(folder / path.name)
    (folder / MACHINE).rmdir()
    assert Layout.of(folder).older
    return folder
