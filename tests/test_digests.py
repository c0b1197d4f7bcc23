"""Digests depend on contents alone, and two that differ in anything differ."""

import hashlib

import pytest
import torch

from tombola.ground.errors import InputError
from tombola.masks.digests import digest_json, digest_mask, digest_state, pack


def test_a_state_is_hashed_as_the_page_on_the_ticket_format_says():
    state = {"w": torch.tensor([[1.0, 2.0]]), "n": torch.tensor(3)}
    by_hand = b'["n","I64",[]]\n' + bytes([3, 0, 0, 0, 0, 0, 0, 0])
    by_hand += b'["w","F32",[1,2]]\n' + bytes([0, 0, 128, 63, 0, 0, 0, 64])
    assert digest_state(state) == hashlib.sha256(by_hand).hexdigest()


def test_a_mask_is_hashed_by_its_packed_bits():
    mask = {"w": torch.tensor([[True, False, True], [False, False, True]])}
    assert (
        digest_mask(mask)
        == hashlib.sha256(b'["w","BOOL",[2,3]]\n' + bytes([0b1010_0100])).hexdigest()
    )


def test_neither_order_nor_strides_change_a_digest():
    weight = torch.arange(6.0).reshape(2, 3)
    column_first = weight.t().contiguous().t()
    assert column_first.stride() != weight.stride()
    assert digest_state({"a": weight, "b": weight}) == digest_state(
        {"b": column_first, "a": weight}
    )
    keep = weight > 2
    assert digest_mask({"a": keep}) == digest_mask({"a": keep.t().contiguous().t()})


@pytest.mark.parametrize(
    "other",
    [
        {"w": torch.zeros(2, 2)},
        {"v": torch.zeros(4)},
        {"w": torch.zeros(4, dtype=torch.int32)},
        {"w": torch.tensor([0.0, 0.0, 0.0, -0.0])},
        {"w": torch.zeros(4), "v": torch.zeros(0)},
        {"w": torch.zeros(2), "w2": torch.zeros(2)},
        {},
    ],
    ids=["shape", "name", "dtype", "minus zero", "one more", "split", "none"],
)
def test_any_difference_changes_a_digest(other):
    assert digest_state(other) != digest_state({"w": torch.zeros(4)})


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool, torch.uint8]
)
def test_every_dtype_has_a_digest_also_without_dimensions_or_elements(dtype):
    states = [{"w": torch.ones(shape, dtype=dtype)} for shape in ([], [1], [0], [2, 3])]
    assert len({digest_state(state) for state in states}) == len(states)


def test_a_parameter_and_its_values_have_one_digest():
    layer = torch.nn.Linear(3, 2)
    assert digest_state(dict(layer.named_parameters())) == digest_state(layer.state_dict())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_digest_is_the_same_on_a_gpu():
    state = {
        "w": torch.randn(5, 3),
        "b": torch.randn(3, dtype=torch.bfloat16),
        "n": torch.tensor(7),
    }
    mask = {"w": state["w"] > 0}
    assert digest_state({name: t.cuda() for name, t in state.items()}) == digest_state(state)
    assert digest_mask({name: t.cuda() for name, t in mask.items()}) == digest_mask(mask)


def test_what_has_no_digest_is_refused_with_its_name():
    with pytest.raises(
        InputError, match=r"^the mask of 'w' is torch\.float32; it is torch\.bool, True = kept$"
    ):
        digest_mask({"w": torch.ones(2)})
    with pytest.raises(
        InputError,
        match=r"^'w' is not a dense tensor of a dtype that safetensors has: torch\.complex128$",
    ):
        digest_state({"w": torch.ones(2, dtype=torch.complex128)})
    with pytest.raises(InputError, match="'w' is on the device meta"):
        digest_state({"w": torch.ones(2, device="meta")})


def test_json_is_hashed_in_its_canonical_form():
    assert (
        digest_json({"b": [1, 2.5, None], "ä": True})
        == hashlib.sha256('{"b":[1,2.5,null],"ä":true}'.encode()).hexdigest()
    )
    assert digest_json({"a": 1, "b": (2,)}) == digest_json({"b": [2], "a": 1})
    assert digest_json(1) != digest_json(1.0) != digest_json("1.0")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"rate": float("nan")}, "value.rate is nan; JSON has only finite numbers"),
        ([1, {2}], "value[1] is a set; JSON has no such value"),
        ({1: 2}, "value has the key 1; JSON has only texts as keys"),
        ({"a": [{"b": 2**70}]}, "value.a[0].b is a number of more than 64 bits"),
        ("\ud800", r"value is a text with half a character: '\ud800'"),
    ],
)
def test_what_json_cannot_say_is_refused_with_its_place(value, message):
    with pytest.raises(InputError) as caught:
        digest_json(value)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("keep", "kind"), [([True, False], "list"), (torch.ones(2), "torch.float32")]
)
def test_a_mask_that_is_no_tensor_of_booleans_has_no_bits(keep, kind):
    with pytest.raises(InputError, match=f"the mask of 'w' is {kind}; it is torch.bool"):
        pack("w", keep)
