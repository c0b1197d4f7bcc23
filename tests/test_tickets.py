"""A ticket file says what it is, and nothing that was altered in any way is taken for a ticket."""

import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from tombola import ticket_format
from tombola.digests import digest_mask, digest_state
from tombola.errors import TicketError
from tombola.models import lenet5, resnet18
from tombola.ticket_format import describe, verify
from tombola.tickets import Ticket

ORIGIN = {
    "arm": "COLT-2",
    "round": 5,
    "model": {"name": "resnet18", "options": {"num_classes": 10}, "head": "fc"},
    "data": {"name": "cifar10", "options": {}, "fingerprint": "abcdef12"},
    "training": {"epochs": 30, "optimizer": "adam", "learning_rate": 0.001},
    "rewind_step": 0,
    "seeds": {"replicate": 3, "init": 12345},
    "partitions": [{"classes": [0, 1, 2, 3, 4]}, {"classes": [5, 6, 9]}],
    "parent": "cd" * 32,
}


def small() -> Ticket:
    point = {
        "fc.weight": torch.arange(10.0).reshape(2, 5) - 4.5,
        "fc.bias": torch.tensor([1.0, float("nan")]),
        "bn.num_batches_tracked": torch.tensor(2**40),
        "half": torch.tensor([1.5, -2.0, 3.0], dtype=torch.bfloat16),
        "flag": torch.tensor([True, False, True]),
        "nothing": torch.empty(0, 3),
    }
    keep = torch.tensor([[True, False, True, True, False], [False, False, True, False, True]])
    return Ticket({"fc.weight": keep}, point, {"arm": "LTH", "round": 1}, total=20)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "ticket.safetensors"


def refused(path: Path) -> str:
    """Check that both readers refuse a file with the same one line, and return it."""
    messages = []
    for reader in (verify, Ticket.load):
        with pytest.raises(TicketError) as caught:
            reader(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].isprintable()
    return messages[0]


# Round trip ------------------------------------------------------------------------------------------------------


def test_a_ticket_comes_back_bit_for_bit_and_in_its_order(path):
    ticket = small()
    digest = ticket.save(path)
    again = Ticket.load(path)
    assert again.digest == digest
    assert (again.origin, again.total) == (ticket.origin, ticket.total)
    assert list(again.mask) == list(ticket.mask)
    assert list(again.rewind_point) == list(ticket.rewind_point)
    for name, value in ticket.rewind_point.items():
        assert (again.rewind_point[name].dtype, again.rewind_point[name].shape) == (value.dtype, value.shape)
    assert torch.equal(again.mask["fc.weight"], ticket.mask["fc.weight"])
    assert (again.mask_digest, again.rewind_digest) == (ticket.mask_digest, ticket.rewind_digest)


def test_loaded_tensors_belong_to_the_caller(path):
    small().save(path)
    first, second = Ticket.load(path), Ticket.load(path)
    first.rewind_point["fc.weight"].zero_()
    first.mask["fc.weight"].fill_(False)
    assert torch.equal(second.rewind_point["fc.weight"], small().rewind_point["fc.weight"])
    assert torch.equal(second.mask["fc.weight"], small().mask["fc.weight"])


def test_densities_are_kept_over_prunable_and_not_pruned_over_all(path):
    small().save(path)
    for ticket in (Ticket.load(path), verify(path)):
        assert ticket.density == 5 / 10
        assert ticket.density_total == (20 - 5) / 20
    assert Ticket(small().mask, small().rewind_point, {}).density_total is None


def test_ten_bits_are_packed_into_two_bytes_with_zeros_at_the_end(path):
    small().save(path)
    file = verify(path)
    assert file.packed("fc.weight") == bytes([0b10110_001, 0b01_000000])
    assert file.keep("fc.weight").tolist() == small().mask["fc.weight"].tolist()
    assert file.kept_per_layer() == {"fc.weight": 5}


def test_the_same_ticket_gives_the_same_bytes(tmp_path):
    first = small()
    first.save(tmp_path / "a")
    Ticket.load(tmp_path / "a").save(tmp_path / "b")
    column_first = {n: v.t().contiguous().t() if v.ndim == 2 else v for n, v in first.rewind_point.items()}
    Ticket(first.mask, column_first, {"round": 1, "arm": "LTH"}, 20).save(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_the_bytes_of_format_1_stay_what_they_are(path):
    assert small().save(path) == "be6d0564965ef27144769924a4d01aad2e83f75899019064059d4a6fb2359846"


def test_the_file_says_the_digests_that_torch_computes(path):
    ticket = small()
    ticket.save(path)
    file = verify(path)
    assert file.mask_digest == digest_mask(ticket.mask) == ticket.mask_digest
    assert file.rewind_digest == digest_state(ticket.rewind_point) == ticket.rewind_digest


def test_the_safetensors_library_reads_a_ticket(path):
    small().save(path)
    tensors = safetensors.torch.load_file(path)
    assert tensors["mask.fc.weight"].tolist() == [0b10110_001, 0b01_000000]
    assert torch.equal(tensors["rewind.half"], small().rewind_point["half"])
    with safetensors.safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["tombola"])["kept"] == 5


def test_every_tensor_is_aligned(path):
    small().save(path)
    file = verify(path)
    start = file.size - len(file.data)
    assert all((start + e.begin) % ticket_format.ITEMSIZE[e.dtype] == 0 for e in file.tensors.values())


def test_an_existing_ticket_is_replaced_and_no_other_file_is_left(path):
    path.write_bytes(b"old")
    digest = small().save(path)
    assert verify(path).digest == digest
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208


def test_the_mask_of_resnet18s_convolutions_takes_1_4_megabytes(path):
    model = resnet18(10)
    mask = {
        f"{name}.weight": torch.rand(module.weight.shape, generator=torch.Generator().manual_seed(0)) < 0.1
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    Ticket(mask, model.state_dict(), ORIGIN).save(path)
    file = verify(path)
    packed = sum(len(file.packed(name)) for name in mask)
    assert file.prunable == sum(keep.numel() for keep in mask.values())
    assert packed == sum(-(-keep.numel() // 8) for keep in mask.values())
    assert packed == pytest.approx(1.395e6, rel=0.01)
    assert packed < 0.033 * 4 * file.prunable


# What is refused while saving ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": {"fc.w": torch.ones(2).bool()}}, "the mask names 'fc.w', which is not in the rewind point"),
        ({"mask": {"fc.weight": torch.ones(10) > 0}}, "the mask of 'fc.weight' is [10], the rewind point has [2, 5]"),
        ({"mask": {"fc.weight": torch.ones(2, 5)}}, "the mask of 'fc.weight' is torch.float32; it is torch.bool, "
            "True = kept"),
        ({"mask": {}}, "the ticket has wrong metadata: 'kept' and 'prunable' are not counts of weights"),
        ({"origin": {"arm": {1}}}, "the ticket cannot be written: origin.arm is a set; JSON has no such value"),
        ({"origin": {"a": np.inf}}, "the ticket cannot be written: origin.a is inf; JSON has only finite numbers"),
        ({"origin": ["arm"]}, "the ticket has wrong metadata: 'origin' is not an object"),
        ({"total": 9}, "the ticket has wrong metadata: 'total' is not a count of at least the prunable weights"),
    ],
)  # fmt: skip
def test_what_is_no_ticket_is_not_written(path, changes, message):
    parts = {"mask": small().mask, "rewind_point": small().rewind_point, "origin": {}} | changes
    with pytest.raises(TicketError) as caught:
        Ticket(**parts).save(path)
    assert str(caught.value) == message
    assert not path.exists()


def test_a_rewind_point_that_cannot_be_stored_is_not_written(path):
    point = small().rewind_point
    with pytest.raises(
        TicketError, match=r"'fc\.bias' is not a dense tensor of a dtype that safetensors has: torch\.complex128"
    ):
        Ticket(small().mask, point | {"fc.bias": torch.ones(2, dtype=torch.complex128)}, {}).save(path)
    with pytest.raises(TicketError, match=r"'fc\.bias' of the rewind point is a list, not a tensor"):
        Ticket(small().mask, point | {"fc.bias": [1]}, {}).save(path)


def test_a_folder_that_is_missing_is_made_and_one_that_cannot_be_made_is_told_in_one_line(tmp_path):
    small().save(tmp_path / "no" / "t.safetensors")
    assert Ticket.load(tmp_path / "no" / "t.safetensors").density == small().density
    (tmp_path / "file").touch()
    with pytest.raises(TicketError, match=r"^t\.safetensors cannot be written: (Not a directory|File exists)$"):
        small().save(tmp_path / "file" / "t.safetensors")


def test_an_origin_may_hold_digests_and_texts_that_look_like_the_files_own(path):
    like = '"tombola":"{\\"digest\\":\\"' + "0" * 64 + '\\",'
    origin = {"digest": "0" * 64, "tombola": {"digest": "0" * 64, "format": 1}, "text": like, like: "ä\u2028\x1b[0m"}
    Ticket(small().mask, small().rewind_point, origin).save(path)
    assert Ticket.load(path).origin == origin
    assert describe(verify(path)).replace("\n", "").isprintable()


# Damage ----------------------------------------------------------------------------------------------------------


def test_a_flip_of_any_single_bit_is_detected(path):
    small().save(path)
    raw = path.read_bytes()
    for position in range(len(raw)):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(TicketError):
            verify(path)


def mutated(raw: bytes, random: np.random.Generator) -> bytes:
    data = bytearray(raw)
    kind = random.choice(["flip", "overwrite", "insert", "delete", "truncate", "duplicate", "swap", "append"])
    # Half of the damage is to the first bytes and the header, where a parser can be led astray.
    end = len(data) if random.random() < 0.5 else len(data) // 2
    a, b = sorted(int(at) for at in random.integers(0, end, 2))
    b = min(b, a + int(random.integers(1, 80)))
    noise = random.bytes(int(random.integers(1, 20)))
    if kind == "flip":
        for position in random.integers(0, end, int(random.integers(1, 9))):
            data[position] ^= 1 << int(random.integers(8))
    elif kind == "overwrite":
        data[a : a + len(noise)] = noise
    elif kind == "insert":
        data[a:a] = noise
    elif kind == "delete":
        del data[a:b]
    elif kind == "truncate":
        del data[a:]
    elif kind == "duplicate":
        data[b:b] = data[a:b]
    elif kind == "append":
        data += noise
    else:
        width = min(b - a, len(data) - b)
        data[a : a + width], data[b : b + width] = data[b : b + width], data[a : a + width]
    return bytes(data)


def test_none_of_2000_random_mutations_loads_and_each_is_told_in_one_line(path):
    small().save(path)
    raw = path.read_bytes()
    random = np.random.default_rng(0)
    tried = 0
    while tried < 2000:
        data = mutated(raw, random)
        if data == raw:
            continue
        tried += 1
        path.write_bytes(data)
        refused(path)


def test_a_random_mutation_whose_digest_was_made_right_again_never_raises_anything_else(path):
    small().save(path)
    raw = path.read_bytes()
    random = np.random.default_rng(1)
    for _ in range(1000):
        data = mutated(raw, random)
        found = ticket_format._DIGEST.search(data)
        if not found:
            continue
        path.write_bytes(rehashed(data))
        try:
            ticket = Ticket.load(path)
        except TicketError as error:
            assert str(error).isprintable()  # noqa: PT017 - most are refused, but a new weight with a new digest is a ticket
        else:
            assert ticket.digest == verify(path).digest


def test_damage_is_told_from_truncation(path):
    digest = small().save(path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + b"!")
    said = refused(path)
    assert re.fullmatch(
        rf"ticket\.safetensors was altered or damaged: its digest is {digest}, the file hashes to [0-9a-f]{{64}}", said
    )
    path.write_bytes(raw[:-3])
    assert refused(path) == (
        f"ticket.safetensors is truncated: its data ends at byte {len(raw)}, the file at byte {len(raw) - 3}"
    )
    path.write_bytes(raw[:100])
    assert "is truncated: its header ends at byte" in refused(path)
    path.write_bytes(raw[:5])
    assert refused(path) == "ticket.safetensors is truncated: it has 5 bytes"
    path.write_bytes(b"")
    assert refused(path) == "ticket.safetensors is empty"


# What is no ticket -----------------------------------------------------------------------------------------------


def test_a_plain_safetensors_file_is_no_ticket(path):
    for metadata in (None, {"format": "pt"}):
        safetensors.torch.save_file({"w": torch.ones(2)}, path, metadata)
        assert (
            refused(path) == "ticket.safetensors is a safetensors file but not a ticket: it has no metadata 'tombola'"
        )


class Bomb:
    """A pickle of this creates a file when it is loaded."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_a_pickle_is_refused_and_not_run(path, tmp_path):
    bomb = Bomb(tmp_path / "exploded")
    path.write_bytes(pickle.dumps({"mask": bomb}))
    assert "is a pickle, and a ticket is never unpickled" in refused(path)
    torch.save({"mask": bomb}, path)
    assert "is a zip file, as torch.save writes, and a ticket is never unpickled" in refused(path)
    torch.save({"mask": bomb}, path, _use_new_zipfile_serialization=False)
    assert "is not a ticket" in refused(path)
    assert not (tmp_path / "exploded").exists()


def test_what_is_no_file_is_told_in_one_line(tmp_path):
    assert refused(tmp_path / "none") == "none cannot be read: No such file or directory"
    assert refused(tmp_path) == f"{tmp_path.name} is not a ticket: it is a folder, not a file"
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe") == "pipe is not a ticket: it is a special file, not a file"
    assert "cannot be read" in refused(tmp_path / "nul\0l")
    (tmp_path / "text").write_text("a line of text that is no ticket\n" * 3)
    assert "does not begin with the length of a safetensors header" in refused(tmp_path / "text")
    (tmp_path / "new\nline\x1b[31m").write_text("")
    assert refused(tmp_path / "new\nline\x1b[31m") == r"new\nline\x1b[31m is empty"


# Files that somebody made wrong on purpose, with a right digest ---------------------------------------------------


def rehashed(raw: bytes) -> bytes:
    at = ticket_format._DIGEST.search(raw).start(1)
    zeroed = raw[:at] + b"0" * 64 + raw[at + 64 :]
    return raw[:at] + hashlib.sha256(zeroed).hexdigest().encode() + raw[at + 64 :]


def forged(path: Path, header: str | bytes, data: bytes) -> str:
    text = header if isinstance(header, bytes) else header.encode()
    path.write_bytes(rehashed(len(text).to_bytes(8, "little") + text + data))
    return refused(path)


def parts(path: Path) -> tuple[dict, dict, bytes]:
    """Return header, metadata and data of the ticket that the forgeries start from."""
    small().save(path)
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    return header, json.loads(header["__metadata__"]["tombola"]), raw[start:]


def joined(header: dict, about: object) -> str:
    text = about if isinstance(about, str) else json.dumps(about, separators=(",", ":"))
    return json.dumps(header | {"__metadata__": {"tombola": text}}, separators=(",", ":"))


def test_a_forgery_that_changes_nothing_is_a_ticket(path):
    header, about, data = parts(path)
    text = joined(header, about).encode()
    path.write_bytes(rehashed(len(text).to_bytes(8, "little") + text + data))
    assert Ticket.load(path).density == 0.5


W = "rewind.fc.weight"
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "is of format 2; this tombola reads format 1: a newer one is needed"),
        ({"format": True}, "'format' is not a version number"),
        ({"format": "1"}, "'format' is not a version number"),
        ({"more": 1}, "has wrong metadata: missing or unknown: more"),
        ({"kept": 4}, "has wrong metadata: 'kept' is 4, its contents give 5"),
        ({"kept": 5.0}, "'kept' and 'prunable' are not counts"),
        ({"kept": True}, "'kept' and 'prunable' are not counts"),
        ({"kept": 11}, "'kept' and 'prunable' are not counts"),
        ({"kept": -1}, "'kept' and 'prunable' are not counts"),
        ({"kept": 10**30}, "more than 64 bits"),
        ({"prunable": None}, "'kept' and 'prunable' are not counts"),
        ({"prunable": 11}, "'prunable' is 11, its contents give 10"),
        ({"total": 9}, "'total' is not a count"),
        ({"total": "20"}, "'total' is not a count"),
        ({"mask_digest": "0" * 64}, "'mask_digest' is 0000"),
        ({"mask_digest": 3}, "'mask_digest' is not 64 hexadecimal digits"),
        ({"rewind_digest": "0" * 64}, "'rewind_digest' is 0000"),
        ({"rewind_digest": "A" * 64}, "'rewind_digest' is not 64 hexadecimal digits"),
        ({"rewind_digest": "0" * 64 + "\n"}, "'rewind_digest' is not 64 hexadecimal digits"),
        ({"origin": []}, "'origin' is not an object"),
        ({"origin": {"a": float("nan")}}, "NaN is not JSON"),
        ({"origin": {"a": float("-inf")}}, "-Infinity is not JSON"),
        ({"origin": {"a": "\ud800"}}, "half a character"),
        ({"origin": {"\udfff": 1}}, "half a character"),
        ({"shapes": []}, "'shapes' is not an object"),
        ({"shapes": {}}, "'fc.weight' has a mask or a shape but not both"),
        ({"shapes": {"fc.weight": [2, 5], "fc.bias": [2]}}, "'fc.bias' has a mask or a shape but not both"),
        ({"shapes": {"fc.weight": [10]}}, "'fc.weight' is not in the rewind point, or in another shape"),
        ({"shapes": {"fc.weight": [5, 5]}}, "'fc.weight' does not fit its shape [5, 5]"),
        ({"shapes": {"fc.weight": [-2, -5]}}, "the shape of 'fc.weight' is negative or too large"),
        ({"shapes": {"fc.weight": [2.0, 5]}}, "the shape of 'fc.weight' is not a list of numbers"),
        ({"shapes": {"fc.weight": [True, 10]}}, "the shape of 'fc.weight' is not a list of numbers"),
        ({"shapes": {"fc.weight": "25"}}, "the shape of 'fc.weight' is not a list of numbers"),
        ({"shapes": {"fc.weight": [2, 5] + [1] * 40}}, "the shape of 'fc.weight' is not a list of numbers"),
    ],
)  # fmt: skip
def test_wrong_metadata_is_refused_though_the_digest_is_right(path, changes, message):
    header, about, data = parts(path)
    assert message in forged(path, joined(header, about | changes), data)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (W, {"dtype": "F31"}, 'is of the unknown dtype "F31"'),
        (W, {"dtype": ["F32"]}, 'is of the unknown dtype ["F32"]'),
        (W, {"dtype": "F64"}, "does not fill its bytes"),
        (W, {"dtype": "I32"}, "'rewind_digest' is"),
        (W, {"shape": [2, 6]}, "does not fill its bytes"),
        (W, {"shape": [-2, -5]}, "negative or too large"),
        (W, {"shape": [10**15, 10**15]}, "negative or too large"),
        (W, {"shape": None}, "is not a list of numbers"),
        (W, {"data_offsets": [8, 4]}, "does not fill its bytes 8 to 4"),
        (W, {"data_offsets": [-40, 0]}, "does not fill its bytes -40 to 0"),
        (W, {"data_offsets": [0, 40]}, "begins at byte 0 of the data, not at 8"),
        (W, {"data_offsets": [10**15, 10**15 + 40]}, "begins at byte"),
        (W, {"data_offsets": [8.0, 48.0]}, "are not two numbers"),
        (W, {"data_offsets": [8, 48, 48]}, "are not two numbers"),
        (W, {"more": 1}, "does not have just dtype, shape and data_offsets"),
        ("rewind.nothing", {"shape": [0, 2**62, 2**62]}, "negative or too large"),
        ("rewind.half", {"dtype": "BOOL", "shape": [6]}, "is boolean and holds other bytes than 0 and 1"),
        ("mask.fc.weight", {"dtype": "I8"}, "does not fit its shape"),
        ("mask.fc.weight", {"dtype": "U16", "shape": [1]}, "does not fit its shape"),
    ],
)  # fmt: skip
def test_a_wrong_tensor_entry_is_refused_though_the_digest_is_right(path, name, changes, message):
    header, about, data = parts(path)
    header[name] |= changes
    assert message in forged(path, joined(header, about), data)


def test_overlaps_gaps_and_bytes_at_the_end_are_refused(path):
    header, about, data = parts(path)
    ghost = {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}
    assert "begins at byte 0 of the data, not at 8" in forged(
        path, joined(header | {"rewind.ghost": ghost}, about), data
    )
    assert "the tensors end at byte" in forged(path, joined(header, about), data + b"\0")
    assert "the tensors end at byte" in forged(path, joined(header, about), data[:-1])
    ghost = {"dtype": "U8", "shape": [8], "data_offsets": [len(data) + 1, len(data) + 9]}
    assert "begins at byte" in forged(path, joined(header | {"rewind.ghost": ghost}, about), data + b"\0" * 9)


def test_other_tensors_and_other_headers_are_refused(path):
    header, about, data = parts(path)
    nothing = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    for name in ("optimizer.w", "mask", "mask.", "", "\x1b[2J"):
        assert "a ticket has only 'mask.<name>' and 'rewind.<name>'" in forged(
            path, joined(header | {name: nothing}, about), data
        )
    assert "'x' has a mask or a shape but not both" in forged(path, joined(header | {"mask.x": nothing}, about), data)
    without = {name: info for name, info in header.items() if name != W}
    assert "begins at byte" in forged(path, joined(without, about), data)
    assert "does not have just" in forged(path, joined(header | {W: 7}, about), data)
    assert "half a character" in forged(path, joined(header | {"rewind.\ud800": nothing}, about), data)


def test_bits_beyond_the_last_weight_are_refused(path):
    header, about, data = parts(path)
    begin, end = header["mask.fc.weight"]["data_offsets"]
    data = data[: end - 1] + bytes([data[end - 1] | 1]) + data[end:]
    assert begin + 2 == end
    assert "'fc.weight' has bits set beyond its last weight" in forged(path, joined(header, about), data)


def test_json_that_leads_parsers_astray_is_refused(path):
    header, about, data = parts(path)
    text = json.dumps(about, separators=(",", ":"))

    def said(old: str, new: str) -> str:
        assert old in text
        return forged(path, joined(header, text.replace(old, new)), data)

    assert "a key stands twice" in said('"kept":5', '"kept":5,"kept":5')
    assert "has wrong metadata" in said('"kept":5', f'"kept":{"9" * 10_000}')
    assert "has wrong metadata" in said('"arm":"LTH"', f'"arm":{DEEP}')
    assert "nested more than 64 deep" in said('"arm":"LTH"', f'"arm":{"[" * 70}{"]" * 70}')
    assert "finite numbers" in said('"arm":"LTH"', '"arm":1e999')
    assert "has wrong metadata" in said('"arm":"LTH"', '"arm":')
    outer = joined(header, about)
    doubled = outer.replace('"rewind.fc.bias":', f'"{W}":')
    assert "a key stands twice" in forged(path, doubled, data)
    assert "has a wrong header" in forged(path, outer[:-1] + f',"x":{DEEP}}}', data)
    assert "has a wrong header" in forged(path, outer[:-1], data)
    assert "has a wrong header" in forged(path, outer.encode()[:-1] + b',"\xff":1}', data)
    assert "has a wrong header: it is a list" in forged(path, f"[{outer}]", data)
    assert "its metadata is not the one text" in forged(
        path, outer.replace('"__metadata__":{', '"__metadata__":{"a":"b",'), data
    )
    assert "its metadata is not the one text" in forged(path, outer.replace('"__metadata__"', '"_metadata_"'), data)


def test_a_header_with_two_digests_or_none_is_refused(path):
    header, about, data = parts(path)
    outer = joined(header, about)
    assert "2 digests where a ticket has one" in forged(path, outer[:-1] + "," + outer[1:], data)
    text = outer.replace("digest", "digits").encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    assert "0 digests where a ticket has one" in refused(path)


# Apply -----------------------------------------------------------------------------------------------------------


def layers(*sizes: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))


def found(model: nn.Module) -> Ticket:
    generator = torch.Generator().manual_seed(0)
    point = {name: value.clone() for name, value in model.state_dict().items()}
    names = [name for name, p in model.named_parameters() if p.ndim > 1]
    mask = {name: torch.rand(point[name].shape, generator=generator) < 0.3 for name in names}
    return Ticket(mask, point, {})


def test_apply_loads_weights_and_buffers_and_zeroes_the_pruned(path):
    found(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))).save(path)
    ticket = Ticket.load(path)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    model[1].running_mean.fill_(9)
    model[1].num_batches_tracked.fill_(9)
    mask = ticket.apply(model)
    for name, value in model.state_dict().items():
        keep = ticket.mask.get(name)
        assert torch.equal(value, ticket.rewind_point[name] if keep is None else ticket.rewind_point[name] * keep)
    assert all(torch.equal(mask[name], keep) for name, keep in ticket.mask.items())
    assert mask["0.weight"].data_ptr() != ticket.mask["0.weight"].data_ptr()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.Linear(3, 2), "the model has no '0.weight' [4, 3]"),
        (lambda: layers(3, 4, 5), "'1.weight' is [2, 4] in the ticket and [5, 4] in the model"),
        (lambda: layers(3, 4, 2, 1), "the ticket has no '2.weight' [1, 2]"),
        (lambda: layers(3, 4, 2)[:1], "the model has no '1.weight' [2, 4]"),
    ],
)
def test_apply_names_the_first_mismatch_and_changes_nothing(model, message):
    ticket = found(layers(3, 4, 2))
    other = model()
    before = digest_state(other.state_dict())
    with pytest.raises(TicketError) as caught:
        ticket.apply(other)
    assert str(caught.value) == f"the ticket does not fit the model: {message}"
    assert digest_state(other.state_dict()) == before


def test_a_ticket_of_one_architecture_does_not_fit_another():
    with pytest.raises(TicketError, match=r"^the ticket does not fit the model: "):
        found(lenet5(10)).apply(resnet18(10))


def test_apply_sees_through_compiled_and_data_parallel_models():
    ticket = found(nn.Sequential(nn.Linear(3, 4)))
    for wrap in (nn.DataParallel, torch.compile):
        model = nn.Sequential(nn.Linear(3, 4))
        ticket.apply(wrap(model))
        assert torch.equal(model[0].weight != 0, ticket.mask["0.weight"])


def test_apply_leaves_shared_parameters_shared_and_pruned(path):
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        return model

    found(tied()).save(path)
    ticket = Ticket.load(path)
    assert list(ticket.mask) == ["0.weight"]
    model = tied()
    ticket.apply(model)
    assert model[1].weight is model[0].weight
    assert torch.equal(model[1].weight != 0, ticket.mask["0.weight"])


def test_apply_takes_the_models_dtype_but_not_another_kind_of_number():
    ticket = found(nn.Sequential(nn.Linear(3, 4)))
    model = nn.Sequential(nn.Linear(3, 4)).to(torch.bfloat16)
    ticket.apply(model)
    assert model[0].weight.dtype == torch.bfloat16
    counted = found(nn.BatchNorm1d(2))
    wrong = Ticket(counted.mask, counted.rewind_point | {"num_batches_tracked": torch.tensor(0.5)}, {})
    with pytest.raises(TicketError, match=r"'num_batches_tracked' is torch\.float32 in the ticket and torch\.int64"):
        wrong.apply(nn.BatchNorm1d(2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_apply_gives_the_mask_on_the_models_device():
    ticket = found(nn.Sequential(nn.Linear(3, 4)))
    model = nn.Sequential(nn.Linear(3, 4)).cuda()
    mask = ticket.apply(model)
    assert mask["0.weight"].device == model[0].weight.device
    assert torch.equal((model[0].weight != 0).cpu(), ticket.mask["0.weight"])


# Reading without torch -------------------------------------------------------------------------------------------


def test_a_ticket_is_verified_and_described_without_torch(path):
    small().save(path)
    code = (
        "import sys; from tombola import ticket_format as f; print(f.describe(f.verify(sys.argv[1])));"
        "assert not {'torch', 'safetensors', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == describe(verify(path)) + "\n"


def test_the_example_of_the_documentation_reads_a_ticket(path, monkeypatch):
    page = Path(__file__).parents[1] / "docs" / "ticket-format.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    small().save(path)
    monkeypatch.chdir(path.parent)
    names: dict = {}
    exec(example, names)
    assert names["keep"]["fc.weight"].tolist() == small().mask["fc.weight"].tolist()


def test_a_description_says_where_a_ticket_comes_from_and_fits_100_columns(path):
    mask = {
        "conv1.weight": torch.arange(4 * 3 * 3 * 3).reshape(4, 3, 3, 3) % 4 == 0,
        "layer1." + "block." * 12 + "weight": torch.ones(2, 2, dtype=torch.bool),
        "fc.weight": torch.zeros(2, 3, dtype=torch.bool),
    }
    Ticket(mask, {name: torch.zeros(keep.shape) for name, keep in mask.items()}, ORIGIN, total=200).save(path)
    text = describe(verify(path))
    assert text.startswith(
        """\
ticket          ticket.safetensors
arm             COLT-2, round 5
model           resnet18 (num_classes=10); head fc
data            cifar10; fingerprint abcdef12
density         26.27 %: 31 of 118 prunable weights kept
of all weights  56.50 % of 200 are not pruned
"""
    )
    for line in (
        "partitions      2: 0-4 | 5-6, 9",
        "rewind step     0",
        "seeds           init=12345, replicate=3",
        f"parent          {'cd' * 32}",
        f"digest          {verify(path).digest}",
        "layer                                   shape  kept   of   density",
        "conv1.weight                          4x3x3x3    27  108   25.00 %",
        "layer1.block.bloc…block.block.weight      2x2     4    4  100.00 %",
        "fc.weight                                 2x3     0    6    0.00 %",
        "3 layers                                         31  118   26.27 %",
    ):
        assert line in text.splitlines(), text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    "odd", [None, 3, "x", [], {}, [[]], {"a": {"b": []}}, {"name": 3}, {"name": "m", "options": 4}]
)
def test_a_description_takes_any_origin(path, odd):
    keys = ("arm", "round", "model", "data", "training", "rewind_step", "seeds", "partitions", "parent", "other\n")
    Ticket(small().mask, small().rewind_point, dict.fromkeys(keys, odd)).save(path)
    assert max(map(len, describe(verify(path)).splitlines())) <= 100
