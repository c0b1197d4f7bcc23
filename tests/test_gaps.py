"""Masks that stand in a ticket file as gaps: by hand, as a law, written a second time, damaged,
forged.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.processes import run_without

from tombola.ground.errors import TicketError
from tombola.ticket_format import bits, layout, read, verify, writing
from tombola.tickets import Ticket


def packed(keep) -> bytes:
    return np.packbits(np.asarray(keep, np.uint8)).tobytes()


def unpacked(raw: bytes, gaps: bits.Gaps, elements: int) -> np.ndarray:
    bits.check_gaps(memoryview(raw), gaps, elements)
    return bits.from_gaps(memoryview(raw), gaps, elements)


def by_hand(keep, gaps: bits.Gaps) -> bytes:
    """Write gaps a second time, one after the other, as texts of zeros and ones."""
    low = high = ""
    gap = 0
    for value in [*keep, gaps.marked]:
        if int(value) != gaps.marked:
            gap += 1
            continue
        above, below = divmod(gap, 2**gaps.low_bits)
        low += f"{below:0{gaps.low_bits}b}"
        high += "0" * above + "1"
        gap = 0
    padded = [text + "0" * (-len(text) % 8) for text in (low, high)]
    return b"".join(int(text, 2).to_bytes(len(text) // 8, "big") for text in padded)


def entropy(density: float) -> float:
    return -sum(p * math.log2(p) for p in (density, 1 - density) if p)


# By hand
# --------------------------------------------------------------------------------------------------


def test_gaps_are_their_lowest_bits_and_then_what_is_above_them():
    # Of 48 weights those at 5 and 30 are kept: gaps of 5, 24 and, to the end, 17.
    keep = np.zeros(48, bool)
    keep[[5, 30]] = True
    raw, gaps = bits.as_gaps(packed(keep), 48)
    assert gaps == bits.Gaps(low_bits=3, marked=1, marks=2)
    # 5 = 0 * 8 + 5, 24 = 3 * 8 + 0, 17 = 2 * 8 + 1
    assert raw == bytes([0b101_000_00, 0b1_0000000, 0b1_0001_001])
    assert np.array_equal(unpacked(raw, gaps, 48), keep)


def test_of_a_mask_that_keeps_nearly_all_the_pruned_weights_are_marked():
    keep = np.ones(48, bool)
    keep[[5, 30]] = False
    raw, gaps = bits.as_gaps(packed(keep), 48)
    assert (raw, gaps.marked) == (bytes([0b101_000_00, 0b1_0000000, 0b1_0001_001]), 0)
    assert np.array_equal(unpacked(raw, gaps, 48), keep)


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_of_one_value_is_the_gap_to_its_end(value):
    raw, gaps = bits.as_gaps(packed(np.full(10_000, value)), 10_000)
    assert gaps == bits.Gaps(low_bits=10, marked=int(not value), marks=0)
    assert len(raw) == 2 + 2  # 10 lowest bits; 10,000 // 1024 zeros and a one
    assert (unpacked(raw, gaps, 10_000) == value).all()


@pytest.mark.parametrize("density", [0.39, 0.5, 0.61])
def test_masks_of_nearly_a_bit_a_weight_stay_packed(density):
    assert bits.as_gaps(packed(np.random.default_rng(0).random(100_000) < density), 100_000) is None


# As a law
# --------------------------------------------------------------------------------------------------


masks = st.one_of(
    st.lists(st.booleans(), min_size=1, max_size=400),
    st.builds(
        lambda seed, size, density: (np.random.default_rng(seed).random(size) < density).tolist(),
        st.integers(0, 2**31),
        st.integers(1, 5000),
        st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.3, 0.7, 0.95, 1.0]),
    ),
    st.builds(
        lambda runs: [value for value, many in runs for _ in range(many)],
        st.lists(st.tuples(st.booleans(), st.integers(1, 900)), min_size=1, max_size=8),
    ),
)


@given(masks, st.sampled_from([1, 7, 64, bits._BLOCK]))
def test_every_mask_comes_back_and_is_what_a_loop_writes(keep, block):
    before, bits._BLOCK = bits._BLOCK, block
    try:
        found = bits.as_gaps(packed(keep), len(keep))
        if found is None:
            return
        raw, gaps = found
        assert len(raw) < len(packed(keep))
        assert raw == by_hand(keep, gaps)
        assert unpacked(raw, gaps, len(keep)).tolist() == keep
        assert gaps.marks == sum(value == gaps.marked for value in keep)
    finally:
        bits._BLOCK = before


@given(masks)
def test_no_other_number_of_lowest_bits_is_shorter(keep):
    found = bits.as_gaps(packed(keep), len(keep))
    marked = int(2 * sum(keep) <= len(keep))
    sizes = [len(by_hand(keep, bits.Gaps(low_bits, marked, 0))) for low_bits in range(1, 11)]
    assert min(sizes) == len(found[0]) if found else min(sizes) >= len(packed(keep))


@pytest.mark.parametrize(
    "density", [0.5, 0.45, 0.4, 0.38, 0.35, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001]
)
def test_a_mask_takes_its_entropy_within_five_percent(density):
    size = 1_000_000
    keep = np.random.default_rng(0).random(size) < density
    found = bits.as_gaps(packed(keep), size)
    taken = 8 * len(found[0]) / size if found else 1.0
    assert taken <= 1.05 * entropy(keep.mean())
    assert (found is None) == (density >= 0.39)


@pytest.mark.parametrize("low_bits", range(1, 11))
def test_wherever_the_marks_are_gaps_take_their_entropy_within_eleven_percent(low_bits):
    # The worst place for marks is where no gap has anything in its lowest bits.
    gap = 2**low_bits * round(1.5 * math.log(2))
    size = 200 * (gap + 1)
    keep = np.zeros(size, bool)
    keep[gap :: gap + 1] = True
    found = bits.as_gaps(packed(keep), size)
    assert 8 * (len(found[0]) - 4 if found else size / 8) <= 1.11 * size * entropy(keep.mean())


# In a file
# --------------------------------------------------------------------------------------------------


def sparse(density: float = 0.05, size: int = 400_000) -> Ticket:
    random = torch.Generator().manual_seed(0)
    state = {
        "a.weight": torch.zeros(size // 10, 10, dtype=torch.int8),
        "b.weight": torch.ones(3),
        "c": torch.ones(1),
    }
    keep = torch.rand(size // 10, 10, generator=random) < density
    return Ticket(
        {"a.weight": keep, "b.weight": torch.tensor([True, False, True])}, state, {"arm": "LTH"}
    )


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "ticket.safetensors"


@pytest.fixture
def small(path, monkeypatch) -> Path:
    """A ticket of a kilobyte with a mask of gaps."""
    monkeypatch.setattr(writing, "_WORTH", 1)
    monkeypatch.setattr(writing, "_AN_ENTRY", 0)
    sparse(size=400).save(path)
    assert verify(path).gaps["a.weight"].marks == 18
    return path


@pytest.mark.parametrize("refers", [False, True])
def test_a_sparse_ticket_comes_back_and_says_what_a_packed_one_says(path, refers, monkeypatch):
    ticket = sparse()
    ticket.save(path, path.parent / "rewind_points" if refers else None)
    file = verify(path)
    assert file.format == (layout.GAPS_REFERRING if refers else layout.GAPS)
    assert list(file.gaps) == ["a.weight"]  # three weights are packed
    again = Ticket.load(path)
    assert all(torch.equal(again.mask[name], keep) for name, keep in ticket.mask.items())
    assert file.mask_digest == ticket.mask_digest
    assert file.kept_per_layer() == {name: int(keep.sum()) for name, keep in ticket.mask.items()}
    monkeypatch.setattr(writing, "_WORTH", math.inf)
    ticket.save(path, path.parent / "rewind_points" if refers else None)
    plain = verify(path)
    assert plain.format == (layout.REFERRING if refers else layout.FORMAT)
    for name in file.shapes:
        assert plain.packed(name) == file.packed(name)
        assert np.array_equal(plain.keep(name), file.keep(name))
    same = ("kept", "prunable", "total", "mask_digest", "rewind_digest", "origin", "shapes")
    assert all(getattr(plain, name) == getattr(file, name) for name in same)
    assert plain.size - file.size > 30_000


def test_the_bytes_of_format_3_stay_what_they_are(path):
    assert sparse().save(path) == "043954dcc4c5576daa1d88208c9ed07ac24423b7c60ee980540e896a6f0b0bcc"


def test_a_file_is_written_with_gaps_where_it_becomes_half_a_kilobyte_shorter(path):
    for density, number in ((0.5, 1), (0.3, 3), (0.05, 3), (0.97, 3)):
        sparse(density).save(path)
        assert verify(path).format == number
    for size, number in ((6_000, 1), (8_000, 3)):  # 750 bytes packed and 220 as gaps; 1,000 and 290
        sparse(0.05, size=size).save(path)
        assert verify(path).format == number


def test_a_mask_is_read_alone_without_the_rewind_point(path):
    ticket = sparse()
    ticket.save(path, path.parent / "rewind_points")
    file = read(path)
    assert np.array_equal(file.keep("a.weight"), ticket.mask["a.weight"].numpy())


def test_what_is_told_of_a_ticket_takes_no_torch(small):
    code = "from tombola import ticket_format as f; print(f.describe(f.verify(sys.argv[1])))"
    done = run_without(["torch", "safetensors"], code, small)
    assert done.returncode == 0, done.stderr
    assert "format 3" in done.stdout


def test_the_safetensors_library_reads_it_and_copies_keep_it(small):
    import safetensors.torch

    assert safetensors.torch.load_file(small)["mask.a.weight"].dtype == torch.uint8
    digest = verify(small).digest
    assert Ticket.load(small).save(small.with_name("again")) == digest


# Damage and forgeries
# --------------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    messages = []
    for reader in (verify, Ticket.load):
        with pytest.raises(TicketError) as caught:
            reader(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].isprintable()
    return messages[0].removeprefix(f"{path} ")


def test_flipped_bits_are_refused(small):
    raw = small.read_bytes()
    entry, start = verify(small).tensors["mask.a.weight"], 8 + int.from_bytes(raw[:8], "little")
    of_the_mask = range(8 * (start + entry.begin), 8 * (start + entry.end))
    for bit in sorted({*of_the_mask, *range(0, 8 * len(raw), 7)}):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        small.write_bytes(damaged)
        with pytest.raises(TicketError):
            verify(small)


def test_truncations_are_refused(small):
    raw = small.read_bytes()
    for size in range(0, len(raw), 3):
        small.write_bytes(raw[:size])
        with pytest.raises(TicketError):
            verify(small)


def forge(path: Path, change=None, data_change=None) -> None:
    """Change what a ticket says of its gaps, or its bytes, and make its digest right again."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8:start]), bytearray(raw[start:])
    about = json.loads(header["__metadata__"]["tombola"])
    if change:
        change(about, header)
    if data_change:
        data_change(data, header["mask.a.weight"]["data_offsets"])
    header["__metadata__"]["tombola"] = json.dumps(about, separators=(",", ":"), sort_keys=True)
    text = json.dumps(header, separators=(",", ":")).encode()
    raw = len(text).to_bytes(8, "little") + text + data
    at = layout.DIGEST.search(raw).start(1)
    raw = raw[:at] + b"0" * 64 + raw[at + 64 :]
    path.write_bytes(raw[:at] + hashlib.sha256(raw).hexdigest().encode() + raw[at + 64 :])


def test_every_flipped_bit_of_the_gaps_is_refused_though_the_digest_is_right(small):
    raw = small.read_bytes()
    entry = verify(small).tensors["mask.a.weight"]
    said = set()
    for bit in range(8 * (entry.end - entry.begin)):

        def flip(data, offsets, bit=bit):
            data[offsets[0] + bit // 8] ^= 1 << bit % 8

        small.write_bytes(raw)
        forge(small, data_change=flip)
        said.add(refused(small).partition(": ")[0])
    # what is written does not add up to the number of weights any more
    assert said == {"has a wrong mask"}


def test_gaps_in_another_order_are_another_mask(small):
    def turn_round(data, offsets):
        # The ones behind the lowest bits: 18 marks and the end, which stays the last bit.
        middle = offsets[0] + -(-19 * verify(small).gaps["a.weight"].low_bits // 8)
        high = "".join(f"{byte:08b}" for byte in data[middle : offsets[1]])
        end = high.rindex("1")
        turned = high[:end][::-1] + high[end:]
        data[middle : offsets[1]] = int(turned, 2).to_bytes(len(turned) // 8, "big")

    forge(small, data_change=turn_round)
    assert "has wrong metadata: 'mask_digest' is" in refused(small)


GAPS = {"low_bits": 4, "marked": 1, "marks": 18}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "'gaps' is not an object that names masks"),
        ([], "'gaps' is not an object that names masks"),
        ({"a.weight": 3}, "its gaps do not have just low_bits, marked and marks"),
        ({"a.weight": GAPS | {"more": 1}}, "its gaps do not have just low_bits, marked and marks"),
        ({"a.weight": GAPS | {"low_bits": 0}}, "its low_bits are not a number from 1 to 10"),
        ({"a.weight": GAPS | {"low_bits": 11}}, "its low_bits are not a number from 1 to 10"),
        ({"a.weight": GAPS | {"low_bits": 4.0}}, "its low_bits are not a number from 1 to 10"),
        ({"a.weight": GAPS | {"low_bits": True}}, "its low_bits are not a number from 1 to 10"),
        ({"a.weight": GAPS | {"marked": 2}}, "what is marked is neither 0 nor 1"),
        ({"a.weight": GAPS | {"marked": True}}, "what is marked is neither 0 nor 1"),
        ({"a.weight": GAPS | {"marks": -1}}, "its marks are not a number"),
        ({"a.weight": GAPS | {"marks": "18"}}, "its marks are not a number"),
        ({"a.weight": GAPS | {"marks": 19}}, "has a wrong mask"),
        ({"a.weight": GAPS | {"marks": 17}}, "has a wrong mask"),
        ({"a.weight": GAPS | {"marks": 2**60}}, "do not fit"),
        ({"a.weight": GAPS | {"low_bits": 3}}, "has a wrong mask"),
        ({"a.weight": GAPS | {"marked": 0}}, "'kept' is"),
        (
            {"a.weight": GAPS, "b.weight": GAPS},
            "'b.weight': its 1 bytes of gaps do not fit 18 marks in 3 weights",
        ),
        ({"a.weight": GAPS, "d": GAPS}, "'gaps' names what has no mask"),
        ({"b.weight": GAPS}, "'a.weight' does not fit its shape [40, 10]"),
    ],
)
def test_what_is_wrong_with_gaps_is_told_though_the_digest_is_right(small, said, message):
    forge(small, lambda about, _: about.update(gaps=said))
    assert message in refused(small)


def test_gaps_belong_to_their_formats(small):
    forge(small, lambda about, _: about.update(format=1))
    assert "missing or unknown: gaps" in refused(small)
    forge(small, lambda about, _: about.update(format=4))
    assert "is of format 4 and holds a rewind point" in refused(small)
    forge(small, lambda about, _: (about.update(format=3), about.pop("gaps")))
    assert "missing or unknown: gaps" in refused(small)


def test_a_file_that_claims_more_weights_than_it_has_makes_nothing_of_that_size(small):
    """A bomb: 2**47 weights in a few bytes."""

    def claim(about, header):
        about["shapes"]["a.weight"] = [2**47]
        about["prunable"] = 2**47 + 3

    forge(small, claim)
    assert "is not in the rewind point, or in another shape" in refused(small)
    file = read(small)  # which looks for no rewind point
    with pytest.raises(TicketError, match=rf"add up to 400 weights, its shape to {2**47}"):
        file.keep("a.weight")


def test_the_marks_of_a_bomb_are_counted_before_they_are_made(small):
    def claim(about, header):
        about["shapes"]["a.weight"] = [2**47]
        about["prunable"] = 2**47 + 3
        about["gaps"]["a.weight"]["marks"] = 2**40

    forge(small, claim)
    assert "do not fit" in refused(small)
