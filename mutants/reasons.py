"""Reasons: faults that no test can or need see, and why. What is no longer drawn does no harm here."""

# (file, source before, source after): why it changes nothing that anybody could see
REASONS: dict[tuple[str, str, str], str] = {}
