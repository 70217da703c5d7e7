# SPDX-License-Identifier: Apache-2.0
"""Frames in general: lengths, masks, reserved bits, opcodes (RFC 6455 sections 5.2, 5.5)."""

import struct

from lib import ws as wire
from wire.websocket.case import case
from lib.ws import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

LENGTHS = (0, 1, 125, 126, 127, 128, 65535, 65536)
SAMPLE = {TEXT: "*", BINARY: "\xfe"}


def echo(opcode, size, piece):
    def run(t):
        data = SAMPLE[opcode].encode("latin-1") * size
        t.open()
        if piece:
            t.send_cut(frame(opcode, data), piece)
        else:
            t.send(frame(opcode, data))
        t.expect_message(opcode, data)
        t.closes()

    return run


for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
    for size in LENGTHS:
        case(f"framing_{name}_{size}")(echo(opcode, size, None))
        if size <= 128:
            case(f"framing_{name}_{size}_bytewise")(echo(opcode, size, 1))
        else:
            case(f"framing_{name}_{size}_cut")(echo(opcode, size, 9973))


@case()
def framing_many_in_one_write(t):
    t.open()
    t.send(*(frame(BINARY, bytes([i])) for i in range(200)))
    for i in range(200):
        t.expect_message(BINARY, bytes([i]))
    t.closes()


@case()
def framing_behind_the_request(t):
    """before the 101: it is not read as HTTP"""
    t.send(t.request(*t.upgrade_fields()), frame(TEXT, "GET / HTTP/1.1\r\n\r\n"))
    t.expect(t.answer()[0] == t.SWITCHED, "not upgraded")
    t.expect_message(TEXT, "GET / HTTP/1.1\r\n\r\n")
    t.closes()


@case()
def framing_zero_mask(t):
    t.open().send(frame(TEXT, "abc", mask=b"\0\0\0\0"))
    t.expect_message(TEXT, "abc")
    t.closes()


def refused(data, code=1002):
    def run(t):
        t.open().send(data)
        t.fails_with(code)

    return run


def refused_after_echo(data, code=1002):
    def run(t):
        t.open().send(frame(TEXT, "before"), data)
        t.expect_message(TEXT, "before")
        t.fails_with(code)

    return run


for opcode, name in ((TEXT, "text"), (PING, "ping"), (CLOSE, "close")):
    case(f"framing_{name}_without_mask")(refused(frame(opcode, b"", mask=None)))

NOT_MINIMAL = ((5, 2), (125, 2), (0, 2), (5, 8), (126, 8), (65535, 8))
for size, width in NOT_MINIMAL:
    case(f"framing_length_{size}_in_{width}_bytes")(refused(wire.header(BINARY, size, width=width)))
case("framing_length_of_64_bits")(refused(b"\x82" + struct.pack(">BQ", 0xFF, 1 << 63) + wire.MASK))

for rsv in range(1, 8):
    case(f"reserved_bits_{rsv}_text")(refused_after_echo(frame(TEXT, "x", rsv=rsv)))
for rsv in (1, 2, 4, 7):
    case(f"reserved_bits_{rsv}_ping")(refused(frame(PING, "x", rsv=rsv)))
    case(f"reserved_bits_{rsv}_close")(refused(frame(CLOSE, struct.pack(">H", 1000), rsv=rsv)))
    case(f"reserved_bits_{rsv}_continuation")(refused(frame(TEXT, "x", fin=False) + frame(CONTINUATION, "y", rsv=rsv)))

for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
    case(f"reserved_opcode_{opcode}")(refused(frame(opcode)))
    case(f"reserved_opcode_{opcode}_with_payload")(refused_after_echo(frame(opcode, "payload") + frame(PING)))


# ---- control frames

def ping(data):
    def run(t):
        t.open().send(frame(PING, data))
        t.expect_message(PONG, data)
        t.closes()

    return run


for size in (0, 1, 20, 125):
    case(f"ping_{size}")(ping(b"p" * size))
case("ping_binary")(ping(b"\x00\xff\xfe\xfd\x00"))
case("ping_126")(refused(frame(PING, b"p" * 126)))
case("ping_65536")(refused(wire.header(PING, 65536)))
case("ping_fragmented")(refused(frame(PING, "a", fin=False)))
case("pong_126")(refused(frame(PONG, b"p" * 126)))
case("close_126")(refused(frame(CLOSE, b"\x03\xe8" + b"p" * 124)))


@case()
def ping_bytewise(t):
    t.open().send_cut(frame(PING, b"p" * 125))
    t.expect_message(PONG, b"p" * 125)
    t.closes()


@case()
def ping_is_told(t):
    t.open().send(frame(PING, b"told"))
    t.expect_message(PONG, b"told")
    t.hears(77, PING, b"told")
    t.closes()


@case()
def pong_unsolicited(t):
    t.open().send(frame(PONG), frame(PONG, b"told"), frame(PING, b"x"))
    t.expect_message(PONG, b"x")
    t.hears(77, PONG, b"told")
    t.closes()


@case()
def ping_ten_one_by_one(t):
    t.open()
    for i in range(10):
        t.send(frame(PING, f"{i}"))
        t.expect_message(PONG, f"{i}")
    t.closes()


@case()
def ping_ten_at_once(t):
    """each is answered: a few pongs cost nothing"""
    t.open().send(*(frame(PING, f"{i}") for i in range(10)))
    for i in range(10):
        t.expect_message(PONG, f"{i}")
    t.closes()


@case()
def ping_many_at_once(t):
    """the newest is answered, older ones may be (section 5.5.3)"""
    t.open().send(*(frame(PING, f"{i}") for i in range(1000)))
    seen = []
    while not seen or seen[-1] != b"999":
        opcode, payload, _ = t.message()
        t.expect(opcode == PONG, f"opcode {opcode}")
        seen.append(payload)
    t.expect(seen == sorted(seen, key=int), "pongs out of order")
    t.closes()
