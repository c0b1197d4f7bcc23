"""Reasons: faults that no test can or need see, and why. What is no longer drawn does no harm here."""

# (file, the line as it stands, source after): why it changes nothing that anybody could see
REASONS: dict[tuple[str, str, str], str] = {
    (
        "search/cutting.py",
        "scored = [of(state, mask, around) for of, state, around in zip(each, states, contexts, strict=True)]",
        "False",
    ): "the three are as long as each other: their lengths were compared three lines above",
    (
        "masks/selection.py",
        "before = dict(zip(self.chunks, np.cumsum([0, *tied]).tolist(), strict=False))",
        "zip(self.chunks, np.cumsum([0, *tied]).tolist())",
    ): "it is what zip does where nothing is said; the linter wants it said",
}
