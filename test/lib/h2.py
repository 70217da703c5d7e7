# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 frames and header blocks, as plainly as possible: writes only literals, reads every form (RFC 9113, RFC 7541)."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 16
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIES = 1, 1, 4, 8, 32

ERRORS = (
    "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR "
    "REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM"
).split()

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)
ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES = 8, 9


# ---- frames


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    length = len(payload) if length is None else length
    return struct.pack(">I", length)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(*pairs, ack=False):
    return frame(SETTINGS, ACK if ack else 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def data(stream, body=b"", end=False, pad=None):
    if pad is None:
        return frame(DATA, END_STREAM if end else 0, stream, body)
    return frame(DATA, (END_STREAM if end else 0) | PADDED, stream, bytes([pad]) + body + bytes(pad))


def headers(stream, fields, end=False, flags=END_HEADERS, before=b"", after=b""):
    block = fields if isinstance(fields, bytes) else encode(fields)
    return frame(HEADERS, flags | (END_STREAM if end else 0), stream, before + block + after)


def continuation(stream, block, end=True):
    return frame(CONTINUATION, END_HEADERS if end else 0, stream, block)


def rst(stream, code="CANCEL"):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", ERRORS.index(code)))


def ping(payload=b"12345678", ack=False):
    return frame(PING, ACK if ack else 0, 0, payload)


def window(stream, n):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", n))


def goaway(last=0, code="NO_ERROR"):
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, ERRORS.index(code)))


def priority(stream, on=0, weight=15):
    return frame(PRIORITY, 0, stream, struct.pack(">IB", on, weight))


def split(buffer):
    """Complete frames at the front of a buffer: a list of (kind, flags, stream, payload), and the rest."""
    frames = []
    while len(buffer) >= 9:
        length = int.from_bytes(buffer[:3], "big")
        if len(buffer) < 9 + length:
            break
        frames.append((buffer[3], buffer[4], int.from_bytes(buffer[5:9], "big") & 0x7FFFFFFF, buffer[9 : 9 + length]))
        buffer = buffer[9 + length :]
    return frames, buffer


# ---- header blocks


def integer(n, bits, first=0):
    most = (1 << bits) - 1
    if n < most:
        return bytes([first | n])
    out, n = bytearray([first | most]), n - most
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def text(value):
    value = value.encode("latin-1") if isinstance(value, str) else value
    return integer(len(value), 7) + value


def literal(name, value, kind=0x00):
    """0x00 without indexing, 0x10 never indexed, 0x40 to be indexed."""
    return bytes([kind]) + text(name) + text(value)


def encode(fields):
    return b"".join(literal(name, value) for name, value in fields)


STATIC = (
    ":authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204|"
    ":status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|accept-encoding=gzip, deflate|accept-language|"
    "accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|content-disposition|"
    "content-encoding|content-language|content-length|content-location|content-range|content-type|cookie|date|etag|expect|"
    "expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|"
    "max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|"
    "strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
).split("|")
STATIC = [tuple(entry.split("=", 1)) if "=" in entry else (entry, "") for entry in STATIC]

# The lengths of the codes of RFC 7541, appendix B, as letters from A (5 bits); the codes are canonical.
LENGTHS = (
    "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBKABABABBBACCBBBABCBAABCCCCC"
    "KGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSVWVVW"
    "WWWWXWWWWWVZ"
)


def _codes():
    lengths = [ord(letter) - 60 for letter in LENGTHS]
    codes, code, before = {}, 0, 0
    for symbol in sorted(range(257), key=lambda s: (lengths[s], s)):
        code <<= lengths[symbol] - before
        before = lengths[symbol]
        codes[before, code] = symbol
        code += 1
    return codes


CODES = _codes()


def huffman(bits):
    out, code, length = bytearray(), 0, 0
    for byte in bits:
        for i in range(7, -1, -1):
            code, length = code << 1 | byte >> i & 1, length + 1
            if (length, code) in CODES:
                out.append(CODES[length, code])
                code = length = 0
    return bytes(out)


class Decoder:
    """Decodes header blocks; keeps the dynamic table."""

    def __init__(self):
        self.table = []

    def _integer(self, block, at, bits):
        n, at = block[at] & (1 << bits) - 1, at + 1
        if n < (1 << bits) - 1:
            return n, at
        shift = 0
        while True:
            n, byte, at = n + ((block[at] & 127) << shift), block[at], at + 1
            shift += 7
            if byte < 128:
                return n, at

    def _text(self, block, at):
        packed = block[at] & 128
        n, at = self._integer(block, at, 7)
        value = block[at : at + n]
        return (huffman(value) if packed else value).decode("latin-1"), at + n

    def _entry(self, index):
        return STATIC[index - 1] if index <= len(STATIC) else self.table[index - len(STATIC) - 1]

    def decode(self, block):
        fields, at = [], 0
        while at < len(block):
            byte = block[at]
            if byte & 0x80:
                index, at = self._integer(block, at, 7)
                fields.append(self._entry(index))
                continue
            if byte & 0xE0 == 0x20:
                _, at = self._integer(block, at, 5)
                self.table.clear()
                continue
            index, at = self._integer(block, at, 6 if byte & 0x40 else 4)
            name, at = (self._entry(index)[0], at) if index else self._text(block, at)
            value, at = self._text(block, at)
            if byte & 0x40:
                self.table.insert(0, (name, value))
            fields.append((name, value))
        return fields
