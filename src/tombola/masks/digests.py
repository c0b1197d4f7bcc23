"""Digests: names of states, masks and plain data that depend on their contents alone.

Equal contents have equal digests on every device and in every order of names. The bytes are hashed
by `tombola.ticket_format`, so that a digest can be checked without torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tombola import ticket_format
from tombola.ground.errors import InputError
from tombola.ground.types import Mask
from tombola.ticket_format import digest_json as digest_json

DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "I16": torch.int16, "U16": torch.uint16, "F16": torch.float16, "BF16": torch.bfloat16,
    "I32": torch.int32, "U32": torch.uint32, "F32": torch.float32,
    "I64": torch.int64, "U64": torch.uint64, "F64": torch.float64, "C64": torch.complex64,
}  # fmt: skip
_CODES = {dtype: code for code, dtype in DTYPES.items()}


def digest_state(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 over the names, dtypes, shapes and bytes of a state.

    It does not depend on order, device or strides.

    Raises:
        InputError: A value is no dense tensor of a dtype that safetensors has.

    >>> a = {"w": torch.ones(2), "n": torch.tensor(3)}
    >>> digest_state(a) == digest_state({"n": torch.tensor(3), "w": torch.ones(2)})
    True
    >>> digest_state(a) == digest_state(a | {"w": torch.ones(2, dtype=torch.bfloat16)})
    False
    """
    # Lazily, so that of tensors on a GPU one copy at a time is held.
    entries = ((name, *contents(name, tensor)) for name, tensor in state.items())
    return ticket_format.digest_tensors(entries)


def digest_mask(mask: Mask) -> str:
    """Return the sha256 over the names, shapes and packed bits of a mask, as in a ticket file.

    Raises:
        InputError: A value is no tensor of booleans.

    >>> a = {"w": torch.tensor([True, False])}
    >>> digest_mask(a) == digest_mask({"w": torch.tensor([True, True])})
    False
    """
    entries = ((name, tuple(keep.shape), pack(name, keep)) for name, keep in mask.items())
    return ticket_format.digest_masks(entries)


def contents(name: str, tensor: Tensor) -> ticket_format.Contents:
    """Return safetensors dtype, shape and bytes of a tensor from any device.

    The bytes are a view where the tensor is contiguous on the CPU: use them before it changes.

    >>> dtype, shape, data = contents("n", torch.tensor(3))
    >>> dtype, shape, bytes(data)
    ('I64', (), b'\\x03\\x00\\x00\\x00\\x00\\x00\\x00\\x00')
    """
    is_dense = isinstance(tensor, Tensor) and tensor.layout is torch.strided
    if not is_dense or tensor.dtype not in _CODES:
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise InputError(f"'{name}' is not a dense tensor of a dtype that safetensors has: {kind}")
    if tensor.is_meta:
        raise InputError(f"'{name}' is on the device meta: it has no values")
    # Conjugation and negation may be pending bits of a view, which its bytes do not show.
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return _CODES[tensor.dtype], tuple(tensor.shape), flat.view(torch.uint8).numpy().data


def pack(name: str, keep: Tensor) -> bytes:
    """Return a mask's bits, eight weights a byte, the first in the highest bit.

    Unused bits of the last byte are zero.

    >>> pack("w", torch.tensor([True, False, True])).hex()
    'a0'
    """
    if not isinstance(keep, Tensor) or keep.dtype != torch.bool:
        kind = keep.dtype if isinstance(keep, Tensor) else type(keep).__name__
        raise InputError(f"the mask of '{name}' is {kind}; it is torch.bool, True = kept")
    return np.packbits(keep.detach().cpu().contiguous().reshape(-1).numpy()).tobytes()
