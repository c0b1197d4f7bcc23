"""A ticket file says what it is, and nothing that was altered in any way is taken for a ticket."""

import hashlib
import json
import os
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from tests.processes import COMMAND, run_without
from torch import nn

from tombola import ticket_format
from tombola.commands.cli import main
from tombola.ground.errors import DiskError, TicketError
from tombola.masks.digests import DTYPES, contents, digest_mask, digest_state
from tombola.models import lenet5, resnet18
from tombola.ticket_format import describe, layout, verify, writing
from tombola.tickets import RewindPoints, Ticket

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
    """Check that both readers refuse a file with the same one line that names its path; return
    it with its name.
    """
    messages = []
    for reader in (verify, Ticket.load):
        with pytest.raises(TicketError) as caught:
            reader(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].isprintable()
    folder = f"{path.parent}/"
    assert messages[0].startswith(folder)
    return messages[0].removeprefix(folder)


# Round trip
# --------------------------------------------------------------------------------------------------


def test_a_ticket_comes_back_bit_for_bit_and_in_its_order(path):
    ticket = small()
    digest = ticket.save(path)
    again = Ticket.load(path)
    assert again.digest == digest
    assert (again.origin, again.total) == (ticket.origin, ticket.total)
    assert list(again.mask) == list(ticket.mask)
    assert list(again.rewind_point) == list(ticket.rewind_point)
    for name, value in ticket.rewind_point.items():
        assert (again.rewind_point[name].dtype, again.rewind_point[name].shape) == (
            value.dtype,
            value.shape,
        )
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
    column_first = {
        n: v.t().contiguous().t() if v.ndim == 2 else v for n, v in first.rewind_point.items()
    }
    Ticket(first.mask, column_first, {"round": 1, "arm": "LTH"}, 20).save(tmp_path / "c")
    assert (
        (tmp_path / "a").read_bytes()
        == (tmp_path / "b").read_bytes()
        == (tmp_path / "c").read_bytes()
    )


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
    assert all(
        (start + e.begin) % ticket_format.ITEMSIZE[e.dtype] == 0 for e in file.tensors.values()
    )


def test_an_existing_ticket_is_replaced_and_no_other_file_is_left(path):
    path.write_bytes(b"old")
    digest = small().save(path)
    assert verify(path).digest == digest
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208


def test_the_mask_of_resnet18s_convolutions_takes_1_4_megabytes(path):
    model = resnet18(10)
    mask = {
        f"{name}.weight": torch.rand(
            module.weight.shape, generator=torch.Generator().manual_seed(0)
        )
        < 0.1
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


# What is refused while saving
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mask": {"fc.w": torch.ones(2).bool()}},
            "the mask names 'fc.w', which is not in the rewind point",
        ),
        (
            {"mask": {"fc.weight": torch.ones(10) > 0}},
            "the mask of 'fc.weight' is [10], the rewind point has [2, 5]",
        ),
        (
            {"mask": {"fc.weight": torch.ones(2, 5)}},
            "the mask of 'fc.weight' is torch.float32; it is torch.bool, True = kept",
        ),
        (
            {"mask": {}},
            "the ticket has wrong metadata: 'kept' and 'prunable' are not counts of weights",
        ),
        (
            {"origin": {"arm": {1}}},
            "the ticket cannot be written: origin.arm is a set; JSON has no such value",
        ),
        (
            {"origin": {"a": np.inf}},
            "the ticket cannot be written: origin.a is inf; JSON has only finite numbers",
        ),
        (
            {"origin": ["arm"]},
            "the ticket's origin is a list; it is a mapping, {} where nothing is to be said",
        ),
        (
            {"total": 9},
            "the ticket has wrong metadata: 'total' is not a count of at least the prunable "
            "weights",
        ),
    ],
)
def test_what_is_no_ticket_is_not_written(path, changes, message):
    parts = {"mask": small().mask, "rewind_point": small().rewind_point, "origin": {}} | changes
    with pytest.raises(TicketError) as caught:
        Ticket(**parts).save(path)
    assert str(caught.value) == message
    assert not path.exists()


def test_a_rewind_point_that_cannot_be_stored_is_not_written(path):
    point = small().rewind_point
    with pytest.raises(
        TicketError,
        match=r"'fc\.bias' is not a dense tensor of a dtype that safetensors has: torch\.complex128",
    ):
        Ticket(small().mask, point | {"fc.bias": torch.ones(2, dtype=torch.complex128)}, {}).save(
            path
        )
    with pytest.raises(
        TicketError, match=r"'fc\.bias' of the rewind point is a list, not a tensor"
    ):
        Ticket(small().mask, point | {"fc.bias": [1]}, {}).save(path)


def test_a_folder_that_is_missing_is_made_and_one_that_cannot_be_made_is_told_in_one_line(tmp_path):
    small().save(tmp_path / "no" / "t.safetensors")
    assert Ticket.load(tmp_path / "no" / "t.safetensors").density == small().density
    (tmp_path / "file").touch()
    with pytest.raises(
        DiskError, match=r"^cannot write '.*t\.safetensors': (Not a directory|File exists)$"
    ):
        small().save(tmp_path / "file" / "t.safetensors")


def test_an_origin_may_hold_digests_and_texts_that_look_like_the_files_own(path):
    like = '"tombola":"{\\"digest\\":\\"' + "0" * 64 + '\\",'
    origin = {
        "digest": "0" * 64,
        "tombola": {"digest": "0" * 64, "format": 1},
        "text": like,
        like: "ä\u2028\x1b[0m",
    }
    Ticket(small().mask, small().rewind_point, origin).save(path)
    assert Ticket.load(path).origin == origin
    assert describe(verify(path)).replace("\n", "").isprintable()


# Damage
# --------------------------------------------------------------------------------------------------


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
    kind = random.choice(
        ["flip", "overwrite", "insert", "delete", "truncate", "duplicate", "swap", "append"]
    )
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
        found = layout.DIGEST.search(data)
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
        rf"ticket\.safetensors was altered or damaged: its digest is {digest}, the file hashes to [0-9a-f]{{64}}",
        said,
    )
    path.write_bytes(raw[:-3])
    assert refused(path) == (
        f"ticket.safetensors is truncated: its data ends at byte {len(raw)}, the file at byte "
        f"{len(raw) - 3}"
    )
    path.write_bytes(raw[:100])
    assert "is truncated: its header ends at byte" in refused(path)
    path.write_bytes(raw[:5])
    assert refused(path) == "ticket.safetensors is truncated: it has 5 bytes"
    path.write_bytes(b"")
    assert refused(path) == "ticket.safetensors is empty"


# What is no ticket
# -----------------------------------------------------------------------------------------------


def test_a_plain_safetensors_file_is_no_ticket(path):
    for metadata in (None, {"format": "pt"}):
        safetensors.torch.save_file({"w": torch.ones(2)}, path, metadata)
        assert (
            refused(path)
            == "ticket.safetensors is a safetensors file but not a ticket: it has no metadata 'tombola'"
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


# Files that somebody made wrong on purpose, with a right digest
# ---------------------------------------------------


def rehashed(raw: bytes) -> bytes:
    at = layout.DIGEST.search(raw).start(1)
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
        ({"format": 5}, "is of format 5; this tombola reads formats 1 to 4: a newer one is needed"),
        ({"format": 3}, "missing or unknown: gaps"),
        ({"gaps": {}}, "missing or unknown: gaps"),
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
        (
            {"shapes": {"fc.weight": [2, 5], "fc.bias": [2]}},
            "'fc.bias' has a mask or a shape but not both",
        ),
        (
            {"shapes": {"fc.weight": [10]}},
            "'fc.weight' is not in the rewind point, or in another shape",
        ),
        ({"shapes": {"fc.weight": [5, 5]}}, "'fc.weight' does not fit its shape [5, 5]"),
        ({"shapes": {"fc.weight": [-2, -5]}}, "the shape of 'fc.weight' is negative or too large"),
        ({"shapes": {"fc.weight": [2.0, 5]}}, "the shape of 'fc.weight' is not a list of numbers"),
        (
            {"shapes": {"fc.weight": [True, 10]}},
            "the shape of 'fc.weight' is not a list of numbers",
        ),
        ({"shapes": {"fc.weight": "25"}}, "the shape of 'fc.weight' is not a list of numbers"),
        (
            {"shapes": {"fc.weight": [2, 5] + [1] * 40}},
            "the shape of 'fc.weight' is not a list of numbers",
        ),
    ],
)
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
        (
            "rewind.half",
            {"dtype": "BOOL", "shape": [6]},
            "is boolean and holds other bytes than 0 and 1",
        ),
        ("mask.fc.weight", {"dtype": "I8"}, "does not fit its shape"),
        ("mask.fc.weight", {"dtype": "U16", "shape": [1]}, "does not fit its shape"),
    ],
)
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
    assert "begins at byte" in forged(
        path, joined(header | {"rewind.ghost": ghost}, about), data + b"\0" * 9
    )


def test_other_tensors_and_other_headers_are_refused(path):
    header, about, data = parts(path)
    nothing = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    for name in ("optimizer.w", "mask", "mask.", "", "\x1b[2J"):
        assert "a ticket has only 'mask.<name>' and 'rewind.<name>'" in forged(
            path, joined(header | {name: nothing}, about), data
        )
    assert "'x' has a mask or a shape but not both" in forged(
        path, joined(header | {"mask.x": nothing}, about), data
    )
    without = {name: info for name, info in header.items() if name != W}
    assert "begins at byte" in forged(path, joined(without, about), data)
    assert "does not have just" in forged(path, joined(header | {W: 7}, about), data)
    assert "half a character" in forged(
        path, joined(header | {"rewind.\ud800": nothing}, about), data
    )


def test_bits_beyond_the_last_weight_are_refused(path):
    header, about, data = parts(path)
    begin, end = header["mask.fc.weight"]["data_offsets"]
    data = data[: end - 1] + bytes([data[end - 1] | 1]) + data[end:]
    assert begin + 2 == end
    assert "'fc.weight' has bits set beyond its last weight" in forged(
        path, joined(header, about), data
    )


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
    assert "its metadata is not the one text" in forged(
        path, outer.replace('"__metadata__"', '"_metadata_"'), data
    )


def test_a_header_with_two_digests_or_none_is_refused(path):
    header, about, data = parts(path)
    outer = joined(header, about)
    assert "2 digests where a ticket has one" in forged(path, outer[:-1] + "," + outer[1:], data)
    text = outer.replace("digest", "digits").encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    assert "0 digests where a ticket has one" in refused(path)


# Apply
# --------------------------------------------------------------------------------------------------


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
        assert torch.equal(
            value, ticket.rewind_point[name] if keep is None else ticket.rewind_point[name] * keep
        )
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
    wrong = Ticket(
        counted.mask, counted.rewind_point | {"num_batches_tracked": torch.tensor(0.5)}, {}
    )
    with pytest.raises(
        TicketError, match=r"'num_batches_tracked' is torch\.float32 in the ticket and torch\.int64"
    ):
        wrong.apply(nn.BatchNorm1d(2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_apply_gives_the_mask_on_the_models_device():
    ticket = found(nn.Sequential(nn.Linear(3, 4)))
    model = nn.Sequential(nn.Linear(3, 4)).cuda()
    mask = ticket.apply(model)
    assert mask["0.weight"].device == model[0].weight.device
    assert torch.equal((model[0].weight != 0).cpu(), ticket.mask["0.weight"])


# A rewind point in another file
# ----------------------------------------------------------------------------------


DIGEST = small().rewind_digest
NAME = f"{DIGEST}.safetensors"
HINT = "put a whole copy of it there"


def in_run(run: Path, ticket: Ticket | None = None, round_: int = 1) -> tuple[Path, Path]:
    """Save a ticket as a run does; return its file and that of its rewind point."""
    path = run / "tickets" / "lth" / "replicate-0" / f"round-{round_:03}.safetensors"
    ticket = ticket or small()
    ticket.save(path, run / "rewind_points")
    return path, run / "rewind_points" / f"{ticket.rewind_digest}.safetensors"


@pytest.fixture
def run(tmp_path) -> Path:
    return tmp_path / "run"


def same(one: Ticket, other: Ticket) -> bool:
    """Whether two tickets are equal to the last bit and in their order, whatever file they come
    from.
    """
    facts = [
        (t.origin, t.total, t.mask_digest, t.rewind_digest, list(t.mask), list(t.rewind_point))
        for t in (one, other)
    ]
    return facts[0] == facts[1]


def test_a_ticket_that_refers_to_its_rewind_point_comes_back_bit_for_bit(run):
    path, point = in_run(run)
    ticket = Ticket.load(path)
    assert same(ticket, small())
    file = verify(path)
    assert (file.format, file.digest) == (2, ticket.digest)
    assert [name for name in file.tensors if name.startswith("rewind.")] == []
    assert file.rewind_point.path.samefile(point)
    assert file.rewind_point.size == point.stat().st_size
    assert {name: entry.shape for name, entry in file.rewind.items()} == {
        name: tuple(value.shape) for name, value in small().rewind_point.items()
    }


def test_a_rewind_point_is_a_safetensors_file_of_the_plain_state_named_by_its_digest(run):
    _, point = in_run(run)
    assert point.name == f"{digest_state(small().rewind_point)}.safetensors"
    state = safetensors.torch.load_file(point)
    assert digest_state(state) == small().rewind_digest
    with safetensors.safe_open(point, "pt") as file:
        assert file.metadata() is None
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    _, point = in_run(run, found(model))
    model.load_state_dict(safetensors.torch.load_file(point))


def test_the_bytes_of_format_2_stay_what_they_are(run):
    path, point = in_run(run)
    assert verify(path).digest == "c84fd1a9b8e6828a71c56ca6f8770d1c5878d21791815dae9edc14af9579cd98"
    assert DIGEST == "30e4ccb49e6776900bdd3a5bf872533557293d273f5a99dafeecb0ff6ad47881"
    assert (
        hashlib.sha256(point.read_bytes()).hexdigest()
        == "3b381303d15ebe0139f1cb9e9776f8659395833720caf3dbbb2722f3683152cc"
    )


def test_rounds_of_a_run_share_one_rewind_point_that_is_written_once(run):
    first, point = in_run(run)
    point.chmod(0o400)
    before = point.stat()
    other = Ticket({"fc.weight": ~small().mask["fc.weight"]}, small().rewind_point, {"round": 2})
    second, again = in_run(run, other, 2)
    assert again == point
    assert (point.stat().st_ino, point.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert os.listdir(point.parent) == [point.name]  # noqa: PTH208
    assert same(Ticket.load(first), small())
    assert same(Ticket.load(second), other)
    again, bytes_before = run / "tickets" / "again.safetensors", first.read_bytes()
    Ticket.load(first).save(again, point.parent)
    assert again.read_bytes() == bytes_before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "pickle", "other", "link"])
def test_saving_replaces_a_rewind_point_that_is_not_what_its_name_says(run, damage):
    _, point = in_run(run)
    raw = point.read_bytes()
    if damage == "link":
        point.unlink()
        point.symlink_to("nowhere")
    elif damage == "other":
        _, other = in_run(run, found(layers(3, 4)))
        point.write_bytes(other.read_bytes())
    else:
        wrong = {"truncated": raw[:-1], "flipped": raw[:-1] + bytes([raw[-1] ^ 1]), "empty": b""}
        point.write_bytes(wrong.get(damage) if damage in wrong else pickle.dumps([1]))
    path, _ = in_run(run, round_=2)
    assert point.read_bytes() == raw
    assert same(Ticket.load(path), small())


def test_a_rewind_point_that_cannot_be_written_is_told_in_one_line_and_there_is_no_ticket(run):
    (run / "rewind_points" / NAME).mkdir(parents=True)
    with pytest.raises(DiskError, match=rf"^cannot write '.*{NAME}': "):
        in_run(run)
    assert not list(run.rglob("round-*"))


def test_a_ticket_that_is_refused_leaves_no_rewind_point(run):
    with pytest.raises(TicketError, match="JSON has no such value"):
        in_run(run, Ticket(small().mask, small().rewind_point, {"a": {1}}))
    with pytest.raises(TicketError, match=r"the rewind point has a wrong header: it has metadata"):
        in_run(
            run, Ticket(small().mask, small().rewind_point | {"__metadata__": torch.ones(1)}, {})
        )
    with pytest.raises(
        TicketError, match=r"the rewind point cannot be written: .* half a character"
    ):
        in_run(run, Ticket(small().mask, small().rewind_point | {"\ud800": torch.ones(1)}, {}))
    assert not run.exists()


@pytest.mark.parametrize("levels", range(7))
def test_a_rewind_point_is_beside_the_ticket_or_in_one_of_four_folders_above(
    tmp_path, levels, monkeypatch
):
    path = tmp_path.joinpath(*"abcdef"[:levels], "t.safetensors")
    points = tmp_path / "rewind_points"
    if levels > 4:
        with pytest.raises(
            TicketError,
            match=r"^rewind_points is '.*'; a ticket finds its rewind point in a folder named ",
        ):
            small().save(path, points)
        assert not points.exists()
        small().save(tmp_path / "t.safetensors", points)
        path.parent.mkdir(parents=True)
        (tmp_path / "t.safetensors").rename(path)
        assert "is not there, neither beside it nor in the 4 folders above" in refused(path)
        return
    small().save(path, points)
    assert same(Ticket.load(path), small())
    assert verify(path).reference == "../" * levels + f"rewind_points/{NAME}"
    # However the path is spelt.
    monkeypatch.chdir(path.parent)
    assert same(Ticket.load("t.safetensors"), small())
    assert same(Ticket.load(f"../{path.parent.name}/../{path.parent.name}/t.safetensors"), small())
    small().save("again.safetensors", os.path.relpath(points))
    assert same(Ticket.load("again.safetensors"), small())


def test_a_folder_of_another_name_is_refused(tmp_path):
    with pytest.raises(
        TicketError, match=r"^rewind_points is '.*points'; .* and this one is '.*t\.safetensors'$"
    ):
        small().save(tmp_path / "t.safetensors", tmp_path / "points")
    assert not list(tmp_path.iterdir())


def test_the_nearest_rewind_point_is_taken(run):
    path, point = in_run(run)
    near = path.parent / "rewind_points" / point.name
    near.parent.mkdir()
    near.write_bytes(b"no rewind point at all")
    assert f"rewind_points/{NAME} is not a rewind point" in refused(path)
    near.write_bytes(point.read_bytes())
    point.unlink()
    assert same(Ticket.load(path), small())


def test_a_run_that_was_moved_as_a_whole_finds_its_rewind_point(run, tmp_path):
    path, _ = in_run(run)
    moved = tmp_path / "elsewhere" / "deep" / "renamed"
    moved.parent.mkdir(parents=True)
    run.rename(moved)
    assert same(Ticket.load(moved / path.relative_to(run)), small())


def test_a_ticket_that_was_copied_out_of_its_run_is_refused_in_one_clear_line(run, path):
    inside, _ = in_run(run)
    path.write_bytes(inside.read_bytes())
    assert refused(path) == (
        f"ticket.safetensors has its rewind point in another file, and rewind_points/{NAME} is not "
        "there, neither beside it nor in the 4 folders above; in the run that it comes from, "
        "'tombola ticket export' makes one file of both"
    )


def test_links_to_a_ticket_and_links_inside_a_run_are_followed(run, tmp_path):
    path, point = in_run(run)
    outside = tmp_path / "else" / "best.safetensors"
    outside.parent.mkdir()
    outside.symlink_to(path)
    assert same(Ticket.load(outside), small())
    # As stores of large files do: every file is a link into a place of its own.
    store = tmp_path / "store"
    store.mkdir()
    for number, file in enumerate((path, point)):
        file.rename(store / f"{number}")
        file.symlink_to(store / f"{number}")
    assert same(Ticket.load(path), small())


def test_the_folder_of_rewind_points_may_be_a_link_to_another_place(run, tmp_path):
    (tmp_path / "large").mkdir()
    run.mkdir()
    (run / "rewind_points").symlink_to(tmp_path / "large")
    path, _ = in_run(run)
    assert same(Ticket.load(path), small())
    small().save(run / "t.safetensors", tmp_path / "large")
    assert os.listdir(tmp_path / "large") == [NAME]  # noqa: PTH208


def test_any_flipped_bit_of_a_rewind_point_is_refused(run):
    path, point = in_run(run)
    raw = point.read_bytes()
    assert len(raw) < 800
    for position in range(8 * len(raw)):
        damaged = bytearray(raw)
        damaged[position // 8] ^= 1 << position % 8
        point.write_bytes(damaged)
        with pytest.raises(TicketError) as caught:
            verify(path)
        assert str(caught.value).endswith(HINT)
        assert str(caught.value).isprintable()


def test_none_of_1000_random_mutations_of_a_rewind_point_loads_and_each_is_told_in_one_line(run):
    path, point = in_run(run)
    raw = point.read_bytes()
    random = np.random.default_rng(2)
    for _ in range(1000):
        data = mutated(raw, random)
        if data != raw:
            point.write_bytes(data)
            assert f"../../../rewind_points/{NAME} " in refused(path)


def test_damage_of_a_rewind_point_is_told_from_truncation(run):
    path, point = in_run(run)
    raw = point.read_bytes()

    def said(data: bytes) -> str:
        point.write_bytes(data)
        whole = refused(path)
        begin, end = (
            "round-001.safetensors has its rewind point in another file, and "
            f"../../../rewind_points/{NAME} ",
            f"; {HINT}",
        )
        assert whole.startswith(begin)
        assert whole.endswith(end)
        return whole[len(begin) : -len(end)]

    damaged = raw[:-20] + bytes([raw[-20] ^ 1]) + raw[-19:]
    digest = digest_state(safetensors.torch.load(damaged))
    assert said(damaged) == f"was altered or damaged: its tensors have the digest {digest}"
    assert (
        said(raw[:-3])
        == f"is truncated: its data ends at byte {len(raw)}, the file at byte {len(raw) - 3}"
    )
    assert "is truncated: its header ends at byte" in said(raw[:100])
    assert said(b"") == "is empty"
    assert "the tensors end at byte" in said(raw + b"\0")
    end = 8 + int.from_bytes(raw[:8], "little")
    header, data = raw[8:end].rstrip(), raw[end:]

    def with_header(text: bytes) -> bytes:
        return len(text).to_bytes(8, "little") + text + data

    assert (
        said(with_header(header))
        == "has a wrong header: it is not the compact JSON of what it says"
    )
    spaced = json.dumps(json.loads(header)).encode()
    assert (
        said(with_header(spaced))
        == "has a wrong header: it is not the compact JSON of what it says"
    )
    assert "a key stands twice" in said(with_header(header[:-1] + b"," + header[1:]))
    assert "it is a list" in said(with_header(b"[" + header + b"]"))
    labelled = {"__metadata__": {"format": "pt"}} | json.loads(header)
    assert "it has metadata, and a rewind point has none" in said(
        with_header(json.dumps(labelled).encode())
    )
    assert "has a wrong header" in said(with_header(DEEP.encode()))


def test_what_is_no_rewind_point_is_refused_and_not_run(run, tmp_path):
    path, point = in_run(run)
    bomb = Bomb(tmp_path / "exploded")
    point.write_bytes(pickle.dumps({"fc.weight": bomb}))
    assert (
        "is not a rewind point: it is a pickle, and a rewind point is never unpickled"
        in refused(path)
    )
    torch.save({"fc.weight": bomb}, point)
    assert "is not a rewind point: it is a zip file" in refused(path)
    torch.save({"fc.weight": bomb}, point, _use_new_zipfile_serialization=False)
    assert "is not a rewind point" in refused(path)
    assert not (tmp_path / "exploded").exists()
    small().save(point)
    assert "it has metadata, and a rewind point has none" in refused(path)
    point.unlink()
    point.symlink_to("nowhere")
    assert "cannot be read: No such file or directory" in refused(path)
    point.unlink()
    point.mkdir()
    assert "is not a rewind point: it is a folder, not a file" in refused(path)
    point.rmdir()
    os.mkfifo(point)
    assert "is not a rewind point: it is a special file, not a file" in refused(path)


def contents_of(state: dict) -> dict:
    return {name: contents(name, value) for name, value in state.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fc.weight": torch.ones(5, 2)},
            "does not fit: it has no 'fc.weight' of the mask's shape [2, 5]",
        ),
        ({"fc.weight": None}, "does not fit: it has no 'fc.weight' of the mask's shape [2, 5]"),
    ],
)
def test_a_rewind_point_that_does_not_fit_the_masks_is_refused_though_all_digests_are_right(
    run, changes, message
):
    state = {
        name: value for name, value in (small().rewind_point | changes).items() if value is not None
    }
    point = ticket_format.encode_rewind_point(contents_of(state))
    ticket_format.write_rewind_point(run / "rewind_points", point)
    path, _ = in_run(run)
    raw = path.read_bytes()
    path.write_bytes(rehashed(raw.replace(DIGEST.encode(), point.digest.encode())))
    assert message in refused(path)


def test_a_boolean_tensor_of_other_bytes_is_refused_in_a_rewind_point_too(run):
    path, point = in_run(run)
    raw = point.read_bytes()
    assert raw.endswith(b"\1\0\1")
    point.write_bytes(raw[:-1] + b"\2")
    assert "holds other bytes than 0 and 1 in 'flag', which is boolean" in refused(path)


def test_a_rewind_point_of_another_dtype_has_another_digest(run):
    path, point = in_run(run)
    raw = point.read_bytes()
    point.write_bytes(raw.replace(b'"fc.weight":{"dtype":"F32"', b'"fc.weight":{"dtype":"I32"'))
    assert "was altered or damaged: its tensors have the digest" in refused(path)
    point.write_bytes(raw.replace(b'"dtype":"F32","shape":[2,5]', b'"dtype":"F32","shape":[5,2]'))
    assert "was altered or damaged: its tensors have the digest" in refused(path)


def test_gaps_and_overlaps_in_a_rewind_point_are_refused(run):
    path, point = in_run(run)
    raw = point.read_bytes()
    point.write_bytes(
        raw.replace(b'"shape":[2,5],"data_offsets":[8,48]', b'"shape":[2,5],"data_offsets":[0,40]')
    )
    assert "has a wrong header: 'fc.weight' begins at byte 0 of the data, not at 8" in refused(path)
    point.write_bytes(raw.replace(b'"dtype":"F32","shape":[2,5]', b'"dtype":"F64","shape":[2,5]'))
    assert "does not fill its bytes" in refused(path)


def test_the_format_says_where_the_rewind_point_is(run, path):
    header, about, data = parts(path)
    assert "is of format 2 and holds a rewind point; in that format it is another file" in forged(
        path, joined(header, about | {"format": 2}), data
    )
    inside, _ = in_run(run)
    raw = inside.read_bytes()
    inside.write_bytes(rehashed(raw.replace(rb"\"format\":2", rb"\"format\":1")))
    assert "'fc.weight' is not in the rewind point, or in another shape" in refused(inside)


@pytest.mark.parametrize("wrong", ["../../../../etc/passwd" + "0" * 42, "0" * 63 + "/", "A" * 64])
def test_a_reference_is_a_digest_and_never_a_path(run, wrong):
    path, _ = in_run(run)
    path.write_bytes(rehashed(path.read_bytes().replace(DIGEST.encode(), wrong.encode())))
    assert "'rewind_digest' is not 64 hexadecimal digits" in refused(path)


def test_the_rewind_point_of_a_run_is_read_once_for_all_its_tickets(run, tmp_path, monkeypatch):
    paths = [in_run(run, round_=index)[0] for index in (1, 2, 3)]
    reads = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: reads.append(path.name) or read_bytes(path)
    )
    points: dict = {}
    tickets = [Ticket.load(path, points) for path in paths]
    assert reads.count(NAME) == 1
    assert len(points) == 1
    tickets[0].rewind_point["fc.weight"].zero_()
    assert same(tickets[1], small())
    assert same(Ticket.load(paths[0], points), small())
    # One that is missing is not made up for by another run's.
    other, point = in_run(tmp_path / "other")
    point.unlink()
    with pytest.raises(TicketError, match="is not there"):
        Ticket.load(other, points)


def test_reading_without_verifying_does_not_look_for_the_rewind_point(run):
    path, point = in_run(run)
    point.unlink()
    file = ticket_format.read(path)
    assert (file.format, file.kept, file.rewind_digest, file.rewind, file.reference) == (
        2,
        5,
        DIGEST,
        {},
        None,
    )


def test_a_self_contained_copy_has_the_bytes_of_a_ticket_that_never_was_in_a_run(run, path):
    inside, _ = in_run(run)
    Ticket.load(inside).save(path)
    copied = path.read_bytes()
    small().save(path)
    assert path.read_bytes() == copied


def test_many_threads_may_save_tickets_of_one_rewind_point(run):
    with ThreadPoolExecutor(8) as pool:
        paths = [path for path, _ in pool.map(lambda index: in_run(run, round_=index), range(24))]
    assert all(same(Ticket.load(path), small()) for path in paths)
    assert os.listdir(run / "rewind_points") == [NAME]  # noqa: PTH208


def test_a_ticket_in_a_run_is_described_with_the_path_of_its_rewind_point(run):
    path, point = in_run(run)
    lines = describe(verify(path)).splitlines()
    assert f"rewind digest   {DIGEST}" in lines
    assert (
        f"file            format 2, {path.stat().st_size} bytes, the rewind point is in another "
        "file" in lines
    )
    assert (
        f"rewind file     ../../../rewind_points/{DIGEST[:8]}….safetensors, {point.stat().st_size} "
        "bytes" in lines
    )
    assert max(map(len, lines)) <= 100


# Command line
# --------------------------------------------------------------------------------------------------


def test_ticket_info_prints_a_json_object_for_scripts(run, path, capsys):
    small().save(path)
    assert main(["ticket", "info", "--json", str(path)]) == 0
    said = json.loads(capsys.readouterr().out)
    file = verify(path)
    assert said == {
        "saves": {
            "flops": None,
            "bytes": [40, 20 + 2],
            "latency": None,
        },  # 10 weights; 5 of them and ten bits
        "path": str(path),
        "size": path.stat().st_size,
        "format": 1,
        "digest": file.digest,
        "mask_digest": file.mask_digest,
        "rewind_digest": DIGEST,
        "kept": 5,
        "prunable": 10,
        "total": 20,
        "density": 0.5,
        "density_total": 0.75,
        "layers": {"fc.weight": {"shape": [2, 5], "kept": 5, "prunable": 10, "density": 0.5}},
        "rewind_point": {
            "file": None,
            "size": None,
            "tensors": {
                "fc.weight": {"dtype": "F32", "shape": [2, 5]},
                "fc.bias": {"dtype": "F32", "shape": [2]},
                "bn.num_batches_tracked": {"dtype": "I64", "shape": []},
                "half": {"dtype": "BF16", "shape": [3]},
                "flag": {"dtype": "BOOL", "shape": [3]},
                "nothing": {"dtype": "F32", "shape": [0, 3]},
            },
        },
        "origin": {"arm": "LTH", "round": 1},
        "verified": True,
    }
    assert list(said["rewind_point"]["tensors"]) == list(small().rewind_point)
    inside, point = in_run(run)
    assert main(["ticket", "info", "--json", str(inside)]) == 0
    there = json.loads(capsys.readouterr().out)
    assert there["rewind_point"] == said["rewind_point"] | {
        "file": f"../../../rewind_points/{NAME}",
        "size": point.stat().st_size,
    }
    assert (inside.parent / there["rewind_point"]["file"]).resolve() == point.resolve()
    assert (there["format"], there["layers"]) == (2, said["layers"])


def test_ticket_verify_prints_a_json_list_that_tells_good_files_from_bad(run, tmp_path, capsys):
    good, _ = in_run(run)
    bad, lost = in_run(tmp_path / "other")
    lost.unlink()
    assert main(["ticket", "verify", "--json", str(good), str(bad), str(good)]) == 1
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert [one["verified"] for one in said] == [True, False, True]
    assert said[0] == said[2]
    assert said[0]["digest"] == verify(good).digest
    assert printed.err == f"tombola: {said[1]['error']}\n"
    assert (said[1]["path"], "is not there" in said[1]["error"]) == (str(bad), True)


def test_ticket_verify_reads_a_rewind_point_once_for_all_tickets_of_a_run(run, monkeypatch, capsys):
    paths = [str(in_run(run, round_=index)[0]) for index in range(3)]
    reads = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: reads.append(path.name) or read_bytes(path)
    )
    assert main(["ticket", "verify", *paths]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert (len(reads), reads.count(NAME)) == (4, 1)


def test_ticket_info_of_a_bad_file_prints_no_json(path, capsys):
    path.write_bytes(b"")
    assert main(["ticket", "info", "--json", str(path)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"tombola: {path} is empty\n")


def test_an_empty_layer_has_no_density_in_json(path, capsys):
    mask = small().mask | {"nothing": torch.empty(0, 3, dtype=torch.bool)}
    Ticket(mask, small().rewind_point, {}).save(path)
    main(["ticket", "info", "--json", str(path)])
    said = json.loads(capsys.readouterr().out)
    assert said["layers"]["nothing"] == {"shape": [0, 3], "kept": 0, "prunable": 0, "density": None}
    assert said["density_total"] is None


# Reading without torch
# -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("referring", [False, True])
def test_a_ticket_is_verified_and_described_without_torch(path, referring):
    small().save(path, path.parent / "rewind_points" if referring else None)
    code = "from tombola import ticket_format as f; print(f.describe(f.verify(sys.argv[1])))"
    done = run_without(["torch", "safetensors", "numpy"], code, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == describe(verify(path)) + "\n"


def test_the_command_reads_a_lone_ticket_without_what_reads_runs(path):
    small().save(path)
    modules = ["torch", "numpy", "yaml", "tombola.records.records", "tombola.methods.method"]
    done = run_without(modules, COMMAND, "ticket", "info", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_the_example_of_the_documentation_reads_a_ticket(path, monkeypatch):
    page = Path(__file__).parents[1] / "docs" / "ticket-format.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(path.parent)
    for rewind_points in (None, "rewind_points"):
        small().save(path, rewind_points)
        names: dict = {}
        exec(example, names)
        assert names["keep"]["fc.weight"].tolist() == small().mask["fc.weight"].tolist()
    for density in (0.02, 0.2, 0.95):
        mask = {
            "w": torch.rand(300, 500, generator=torch.Generator().manual_seed(0)) < density,
            "v": torch.ones(3) > 0,
        }
        Ticket(mask, {name: torch.ones(keep.shape) for name, keep in mask.items()}).save(path)
        assert verify(path).format == 3
        exec(example, names := {})
        assert all(names["keep"][name].tolist() == keep.tolist() for name, keep in mask.items())


def test_a_description_says_where_a_ticket_comes_from_and_fits_100_columns(path):
    mask = {
        "conv1.weight": torch.arange(4 * 3 * 3 * 3).reshape(4, 3, 3, 3) % 4 == 0,
        "layer1." + "block." * 12 + "weight": torch.ones(2, 2, dtype=torch.bool),
        "fc.weight": torch.zeros(2, 3, dtype=torch.bool),
    }
    Ticket(
        mask, {name: torch.zeros(keep.shape) for name, keep in mask.items()}, ORIGIN, total=200
    ).save(path)
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
    keys = (
        "arm",
        "round",
        "model",
        "data",
        "training",
        "rewind_step",
        "seeds",
        "partitions",
        "parent",
        "other\n",
    )
    Ticket(small().mask, small().rewind_point, dict.fromkeys(keys, odd)).save(path)
    assert max(map(len, describe(verify(path)).splitlines())) <= 100


@pytest.mark.parametrize("kept", [True, False])
def test_the_smallest_ticket_comes_back(path, kept):
    Ticket({"w": torch.tensor([kept])}, {"w": torch.ones(1)}, {}).save(path)
    assert Ticket.load(path).mask["w"].tolist() == [kept]


@pytest.mark.parametrize("name", list(ticket_format.ITEMSIZE))
def test_a_value_of_every_dtype_comes_back_and_is_what_safetensors_reads(path, name):
    value = torch.tensor([0, 1, 1, 0]).to(DTYPES[name])
    Ticket({"w": torch.tensor([True, False])}, {"w": torch.ones(2), "x": value}, {}).save(path)
    loaded = Ticket.load(path).rewind_point["x"]
    read = safetensors.torch.load_file(path)["rewind.x"]
    for one in (loaded, read):
        assert one.dtype == value.dtype
        assert torch.equal(one.view(torch.uint8), value.view(torch.uint8))


# A rewind point that many tickets share
# --------------------------------------------------------------------------


@pytest.fixture
def encoded(monkeypatch):
    """How often a rewind point was encoded, and how often one was read."""
    counts = {"encoded": 0, "read": 0}

    def counting(name, function):
        def counted(*given):
            counts[name] += 1
            return function(*given)

        return counted

    monkeypatch.setattr(
        ticket_format, "encode_rewind_point", counting("encoded", ticket_format.encode_rewind_point)
    )
    monkeypatch.setattr(writing, "rewind_point_of", counting("read", writing.rewind_point_of))
    return counts


def test_a_rewind_point_is_encoded_and_checked_once_however_many_tickets_start_from_it(
    tmp_path, encoded
):
    ticket = small()
    points = RewindPoints(tmp_path / "rewind_points")
    apart = [ticket.save(tmp_path / f"{index}", points.folder) for index in range(2)]
    # once each when it is encoded, once that which is there
    assert encoded == {"encoded": 2, "read": 2 + 1}
    first = ticket.save(tmp_path / "first", points)
    seen = dict(encoded)
    for index in range(5):
        other = Ticket({"fc.weight": torch.rand(2, 5) < 0.5}, ticket.rewind_point, {"round": index})
        other.save(tmp_path / f"{index}", points)
        again = Ticket.load(tmp_path / f"{index}")
        assert torch.equal(again.mask["fc.weight"], other.mask["fc.weight"])
        assert again.rewind_digest == ticket.rewind_digest
    assert encoded == seen
    assert ticket.save(tmp_path / "last", points) == first == apart[0]
    assert len(os.listdir(points.folder)) == 1  # noqa: PTH208


def test_a_state_that_was_changed_is_another_rewind_point(tmp_path, encoded):
    ticket, points = small(), RewindPoints(tmp_path / "rewind_points")
    ticket.save(tmp_path / "one", points)
    ticket.rewind_point["fc.weight"].mul_(2)
    ticket.save(tmp_path / "two", points)
    assert encoded["encoded"] == 2
    for name, factor in (("one", 1), ("two", 2)):
        found = Ticket.load(tmp_path / name).rewind_point["fc.weight"]
        assert torch.equal(found, factor * small().rewind_point["fc.weight"])


def test_an_equal_state_of_other_tensors_is_looked_at_and_not_written_again(tmp_path, encoded):
    points = RewindPoints(tmp_path / "rewind_points")
    small().save(tmp_path / "one", points)
    [file] = points.folder.iterdir()
    before = file.stat()
    small().save(tmp_path / "two", points)
    assert encoded["encoded"] == 2
    assert file.stat() == before


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\2")]
)
def test_a_rewind_point_whose_file_is_not_as_it_was_left_is_written_again(tmp_path, damage):
    ticket, points = small(), RewindPoints(tmp_path / "rewind_points")
    ticket.save(tmp_path / "one", points)
    [file] = points.folder.iterdir()
    damage(file)
    ticket.save(tmp_path / "two", points)
    assert Ticket.load(tmp_path / "two").rewind_digest == ticket.rewind_digest


def test_states_that_are_gone_are_forgotten(tmp_path):
    points = RewindPoints(tmp_path / "rewind_points")
    for _ in range(3):
        small().save(tmp_path / "one", points)
    small().save(tmp_path / "one", points)
    assert len(points._kept) <= 2


def test_a_ticket_that_cannot_be_written_leaves_no_rewind_point(tmp_path):
    points = RewindPoints(tmp_path / "rewind_points")
    with pytest.raises(TicketError, match="cannot be written"):
        Ticket(small().mask, small().rewind_point, {"round": {1, 2}}).save(tmp_path / "one", points)
    assert not points.folder.exists()


def test_a_run_encodes_the_start_of_a_replicate_once_for_all_its_arms_and_rounds(tmp_path, encoded):
    from tombola.experiments.experiment import run
    from tombola.schema.recipe import parse

    arms = {
        "lth": {"method": "lth", "rate": 0.2},
        "random": {"method": "random_ticket", "source": "lth"},
    }
    recipe = {
        "name": "x",
        "data": "synthetic",
        "training": {"epochs": 1},
        "until": {"rounds": 2},
        "arms": arms,
    }
    outcome = run(parse(recipe), runs=tmp_path, workers=1)
    assert len(list(outcome.folder.glob("tickets/*/*/*.safetensors"))) == 4
    assert len(list(outcome.folder.glob("tickets/rewind_points/*"))) == 1
    assert encoded["encoded"] == 1
