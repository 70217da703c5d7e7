# SPDX-License-Identifier: Apache-2.0
"""Frames of HTTP/3 and its field sections, as plainly as possible: writes literals, reads literals and the static table (RFC 9114, RFC 9204)."""

from . import h2
from .quic import number, read

DATA, HEADERS, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID = 0, 1, 3, 4, 5, 7, 0x0D
PRIORITY_UPDATE, PRIORITY_UPDATE_PUSH = 0xF0700, 0xF0701
CONTROL, PUSH, ENCODER, DECODER = range(4)
TABLE_CAPACITY, MAX_FIELD_SECTION, BLOCKED_STREAMS, CONNECT_PROTOCOL, H3_DATAGRAM = 1, 6, 7, 8, 0x33

ERRORS = {
    0x100: "NO_ERROR", 0x101: "GENERAL_PROTOCOL_ERROR", 0x102: "INTERNAL_ERROR", 0x103: "STREAM_CREATION_ERROR", 0x104: "CLOSED_CRITICAL_STREAM",
    0x105: "FRAME_UNEXPECTED", 0x106: "FRAME_ERROR", 0x107: "EXCESSIVE_LOAD", 0x108: "ID_ERROR", 0x109: "SETTINGS_ERROR", 0x10A: "MISSING_SETTINGS",
    0x10B: "REQUEST_REJECTED", 0x10C: "REQUEST_CANCELLED", 0x10D: "REQUEST_INCOMPLETE", 0x10E: "MESSAGE_ERROR", 0x10F: "CONNECT_ERROR",
    0x110: "VERSION_FALLBACK", 0x200: "DECOMPRESSION_FAILED", 0x201: "ENCODER_STREAM_ERROR", 0x202: "DECODER_STREAM_ERROR",
}  # fmt: skip
CODES = {name: code for code, name in ERRORS.items()}


# ---- frames


def frame(kind, payload=b"", length=None):
    return number(kind) + number(len(payload) if length is None else length) + payload


def settings(*pairs):
    return frame(SETTINGS, b"".join(number(key) + number(value) for key, value in pairs))


def headers(fields):
    return frame(HEADERS, fields if isinstance(fields, bytes) else encode(fields))


def data(body):
    return frame(DATA, body)


def goaway(id):
    return frame(GOAWAY, number(id))


def priority_update(id, value, kind=PRIORITY_UPDATE):
    return frame(kind, number(id) + value)


def split(buffer):
    """Complete frames at the front: [(kind, payload)], and the rest."""
    found = []
    while buffer:
        try:
            kind, at = read(buffer, 0)
            size, at = read(buffer, at)
        except IndexError:
            break
        if len(buffer) < at + size:
            break
        found.append((kind, buffer[at : at + size]))
        buffer = buffer[at + size :]
    return found, buffer


# ---- field sections

STATIC = (
    ":authority|:path=/|age=0|content-disposition|content-length=0|cookie|date|etag|if-modified-since|if-none-match|last-modified|link|location|"
    "referer|set-cookie|:method=CONNECT|:method=DELETE|:method=GET|:method=HEAD|:method=OPTIONS|:method=POST|:method=PUT|:scheme=http|"
    ":scheme=https|:status=103|:status=200|:status=304|:status=404|:status=503|accept=*/*|accept=application/dns-message|"
    "accept-encoding=gzip, deflate, br|accept-ranges=bytes|access-control-allow-headers=cache-control|"
    "access-control-allow-headers=content-type|access-control-allow-origin=*|cache-control=max-age=0|cache-control=max-age=2592000|"
    "cache-control=max-age=604800|cache-control=no-cache|cache-control=no-store|cache-control=public, max-age=31536000|content-encoding=br|"
    "content-encoding=gzip|content-type=application/dns-message|content-type=application/javascript|content-type=application/json|"
    "content-type=application/x-www-form-urlencoded|content-type=image/gif|content-type=image/jpeg|content-type=image/png|content-type=text/css|"
    "content-type=text/html; charset=utf-8|content-type=text/plain|content-type=text/plain;charset=utf-8|range=bytes=0-|"
    "strict-transport-security=max-age=31536000|strict-transport-security=max-age=31536000; includesubdomains|"
    "strict-transport-security=max-age=31536000; includesubdomains; preload|vary=accept-encoding|vary=origin|x-content-type-options=nosniff|"
    "x-xss-protection=1; mode=block|:status=100|:status=204|:status=206|:status=302|:status=400|:status=403|:status=421|:status=425|:status=500|"
    "accept-language|access-control-allow-credentials=FALSE|access-control-allow-credentials=TRUE|access-control-allow-headers=*|"
    "access-control-allow-methods=get|access-control-allow-methods=get, post, options|access-control-allow-methods=options|"
    "access-control-expose-headers=content-length|access-control-request-headers=content-type|access-control-request-method=get|"
    "access-control-request-method=post|alt-svc=clear|authorization|"
    "content-security-policy=script-src 'none'; object-src 'none'; base-uri 'none'|early-data=1|expect-ct|forwarded|if-range|origin|"
    "purpose=prefetch|server|timing-allow-origin=*|upgrade-insecure-requests=1|user-agent|x-forwarded-for|x-frame-options=deny|"
    "x-frame-options=sameorigin"
)
STATIC = [tuple(entry.split("=", 1)) if "=" in entry else (entry, "") for entry in STATIC.split("|")]


def octets(value):
    return value.encode("latin-1") if isinstance(value, str) else value


def integer(n, bits, first=0):
    return h2.integer(n, bits, first)


def literal(name, value, never=False):
    name, value = octets(name), octets(value)
    return integer(len(name), 3, 0x30 if never else 0x20) + name + integer(len(value), 7) + value


def encode(fields, prefix=b"\0\0"):
    return prefix + b"".join(literal(*pair) for pair in fields)


def insert(name, value):
    """An instruction of the encoder stream."""
    name, value = octets(name), octets(value)
    return integer(len(name), 5, 0x40) + name + integer(len(value), 7) + value


def capacity(n):
    return integer(n, 5, 0x20)


class Undecodable(Exception):
    pass


def decode(block):
    """Decodes a section that uses only the static table, since our settings allow no dynamic one."""
    if block[:2] != b"\0\0":
        raise Undecodable(f"the section refers to a dynamic table: {block[:8].hex()}")
    fields, at = [], 2
    while at < len(block):
        byte = block[at]
        if byte & 0x80:
            index, at = read_integer(block, at, 6)
            fields.append(STATIC[index])
        elif byte & 0x40:
            if byte & 0x20:
                raise Undecodable("a field that is never to be indexed, which the QPACK of quic-go 0.29 refuses")
            index, at = read_integer(block, at, 4)
            value, at = read_text(block, at, 7)
            fields.append((STATIC[index][0], value))
        elif byte & 0x20:
            name, at = read_text(block, at, 3)
            value, at = read_text(block, at, 7)
            fields.append((name, value))
        else:
            raise Undecodable("the section refers to a dynamic table")
    return fields


def read_integer(block, at, bits):
    return h2.Decoder()._integer(block, at, bits)


def read_text(block, at, bits):
    packed = block[at] & 1 << bits
    n, at = read_integer(block, at, bits)
    value = block[at : at + n]
    return (h2.huffman(value) if packed else value).decode("latin-1"), at + n
