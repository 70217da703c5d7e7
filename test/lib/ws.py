# SPDX-License-Identifier: Apache-2.0
"""WebSocket frames as a client writes and reads them (RFC 6455 section 5), and permessage-deflate (RFC 7692)."""

import struct
import zlib

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def masked(data, mask=MASK):
    if mask is None:
        return data
    if len(data) < 64:
        return bytes(b ^ mask[i % 4] for i, b in enumerate(data))
    whole = int.from_bytes((mask * (len(data) // 4 + 1))[: len(data)], "big")
    return (int.from_bytes(data, "big") ^ whole).to_bytes(len(data), "big")


def length(n, width=None, mask=MASK):
    """The length field; width: its bytes after the first, by default as few as possible."""
    bit = 0x80 if mask is not None else 0
    if width is None:
        width = 0 if n < 126 else 2 if n < 65536 else 8
    if width == 0:
        return bytes([bit | n])
    return struct.pack(">BH", bit | 126, n) if width == 2 else struct.pack(">BQ", bit | 127, n)


def header(opcode, n, fin=True, rsv=0, width=None, mask=MASK):
    return bytes([fin << 7 | rsv << 4 | opcode]) + length(n, width, mask) + (mask or b"")


def frame(opcode, data=b"", fin=True, rsv=0, width=None, mask=MASK):
    if isinstance(data, str):
        data = data.encode()
    return header(opcode, len(data), fin, rsv, width, mask) + masked(data, mask)


def close(code=None, reason=b""):
    return frame(CLOSE, b"" if code is None else struct.pack(">H", code) + reason)


def fragments(opcode, *pieces, rsv=0):
    """One message in several frames."""
    last = len(pieces) - 1
    return b"".join(
        frame(CONTINUATION if i else opcode, piece, fin=i == last, rsv=0 if i else rsv) for i, piece in enumerate(pieces)
    )


def cut(data, size):
    return [data[i : i + size] for i in range(0, len(data), size)] or [b""]


def take(data):
    """The first frame in data, as (opcode, payload, fin, rsv), and the rest; None: it is incomplete."""
    if len(data) < 2:
        return None
    n, at = data[1] & 0x7F, 2
    if n >= 126:
        at = 4 if n == 126 else 10
        if len(data) < at:
            return None
        n = int.from_bytes(data[2:at], "big")
    if len(data) < at + n:
        return None
    return (data[0] & 15, bytes(data[at : at + n]), bool(data[0] & 0x80), data[0] >> 4 & 7), data[at + n :]


class Deflate:
    """A client's side of permessage-deflate."""

    def __init__(self, out_bits=15, in_bits=15, out_takeover=True, in_takeover=True):
        self.out_bits, self.in_bits = out_bits, in_bits
        self.out_takeover, self.in_takeover = out_takeover, in_takeover
        self.out = self.into = None

    def pack(self, data):
        if self.out is None or not self.out_takeover:
            self.out = zlib.compressobj(6, zlib.DEFLATED, -self.out_bits)
        packed = self.out.compress(data) + self.out.flush(zlib.Z_SYNC_FLUSH)
        return packed[:-4]

    def unpack(self, data):
        if self.into is None or not self.in_takeover:
            self.into = zlib.decompressobj(-self.in_bits)
        return self.into.decompress(data + b"\x00\x00\xff\xff")
