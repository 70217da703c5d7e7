# SPDX-License-Identifier: Apache-2.0
"""The part of msgpack that PROTOCOL.md uses: nil, bool, integers, str, bin, array, map."""

import struct


def encode(value):
    if value is None:
        return b"\xc0"
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, str):
        text = value.encode()
        return _head(len(text), 0xA0, 31, (0xD9, 0xDA, 0xDB)) + text
    if isinstance(value, (bytes, bytearray)):
        return _head(len(value), None, -1, (0xC4, 0xC5, 0xC6)) + bytes(value)
    if isinstance(value, (list, tuple)):
        return _head(len(value), 0x90, 15, (None, 0xDC, 0xDD)) + b"".join(map(encode, value))
    if isinstance(value, dict):
        pairs = b"".join(encode(k) + encode(v) for k, v in value.items())
        return _head(len(value), 0x80, 15, (None, 0xDE, 0xDF)) + pairs
    raise TypeError(f"not for msgpack: {value!r}")


def _integer(n):
    if -32 <= n < 128:
        return struct.pack("b" if n < 0 else "B", n)
    if n < 0:
        return b"\xd3" + struct.pack(">q", n)
    for size, (kind, form) in ((8, (0xCC, ">B")), (16, (0xCD, ">H")), (32, (0xCE, ">I"))):
        if n < 1 << size:
            return bytes([kind]) + struct.pack(form, n)
    return b"\xcf" + struct.pack(">Q", n)


def _head(length, short, most, kinds):
    if length <= most:
        return bytes([short | length])
    for size, kind, form in zip((8, 16, 32), kinds, (">B", ">H", ">I")):
        if kind is not None and length < 1 << size:
            return bytes([kind]) + struct.pack(form, length)
    raise ValueError("too long for msgpack")


_NUMBERS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_LENGTHS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def decode(data, at=0):
    """One value and where it ends."""
    kind = data[at]
    at += 1
    if kind < 0x80:
        return kind, at
    if kind >= 0xE0:
        return kind - 256, at
    if kind in _CONSTANTS:
        return _CONSTANTS[kind], at
    if kind in _NUMBERS:
        form = _NUMBERS[kind]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    if kind in _LENGTHS:
        form = _LENGTHS[kind]
        length = struct.unpack_from(form, data, at)[0]
        at += struct.calcsize(form)
    elif kind < 0x90 or kind < 0xA0:
        length = kind & 15
    elif kind < 0xC0:
        length = kind & 31
    else:
        raise ValueError(f"not expected in msgpack: {kind:#x}")
    if kind in (0xC4, 0xC5, 0xC6):
        return bytes(data[at : at + length]), at + length
    if 0xA0 <= kind < 0xC0 or kind in (0xD9, 0xDA, 0xDB):
        return bytes(data[at : at + length]).decode(), at + length
    if 0x90 <= kind < 0xA0 or kind in (0xDC, 0xDD):
        return _items(data, at, length)
    flat, at = _items(data, at, 2 * length)
    return dict(zip(flat[::2], flat[1::2])), at


def _items(data, at, count):
    items = []
    for _ in range(count):
        item, at = decode(data, at)
        items.append(item)
    return items, at
