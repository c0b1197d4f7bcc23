"""Reasons: faults that no test can or need see, and why."""

# (file, the line as it stands, source after): why it changes nothing that anybody could see
REASONS: dict[tuple[str, str, str], str] = {
    (
        "masks/selection.py",
        "tied_before = dict(zip(self.chunks, np.cumsum([0, *tied]).tolist(), strict=False))",
        "zip(self.chunks, np.cumsum([0, *tied]).tolist())",
    ): "it is what zip does where nothing is said; the linter wants it said",
}
