# SPDX-License-Identifier: Apache-2.0
"""The closing handshake (RFC 6455 sections 5.5.1, 7)."""

import struct

from lib import ws as wire
from wire.websocket.case import CLOSE, DONE, GONE, READ, SEND, case
from lib.ws import BINARY, PING, TEXT, frame

VALID = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
INVALID = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)


def answered(code):
    def run(t):
        t.open().send(wire.close(code, b"why"))
        t.expect_close(code)
        t.hears(78, code, b"why")
        t.hears_end(DONE)

    return run


def refused(data, code=1002):
    def run(t):
        t.open().send(data)
        t.fails_with(code)

    return run


for code in VALID:
    case(f"close_{code}")(answered(code))
for code in INVALID:
    case(f"close_{code}")(refused(wire.close(code)))
case("close_half_a_code")(refused(frame(wire.CLOSE, b"\x03")))
case("close_reason_not_utf8")(refused(wire.close(1000, b"\xce\xba\xff"), 1007))
case("close_reason_cut_short")(refused(wire.close(1000, b"\xce"), 1007))


@case()
def close_empty(t):
    t.open().send(wire.close())
    t.expect_close(None)
    t.hears(78, 1005, b"")
    t.hears_end(DONE)


@case()
def close_longest_reason(t):
    t.open().send(wire.close(1000, b"r" * 123))
    t.expect_close(1000)
    t.hears(78, 1000, b"r" * 123)


@case()
def close_bytewise(t):
    t.open().send_cut(wire.close(1000, "grün".encode()))
    t.expect_close(1000)
    t.hears(78, 1000, "grün".encode())


@case()
def close_then_a_message(t):
    t.open().send(wire.close(1000), frame(TEXT, "late"), frame(PING, "late"), wire.close(1001))
    t.expect_close(1000)
    t.hears_end(DONE)
    t.expect(not [e for e in t.port.heard if e[0] == 77], "the host got the late message")


@case()
def close_inside_of_a_message(t):
    t.open().send(frame(TEXT, "unfinished", fin=False), wire.close(1000))
    t.expect_close(1000)
    t.hears_end(DONE)
    t.expect(not [e for e in t.port.heard if e[0] == 77], "the host got half a message")


@case()
def close_behind_a_large_message(t):
    t.open().send(frame(BINARY, bytes(200000)), wire.close(1000))
    t.expect_message(BINARY, bytes(200000))
    t.expect_close(1000)


@case()
def close_without_a_frame(t):
    t.open().close()
    t.until(lambda: any(m[0] == GONE for m in t.port.heard), "an end")
    t.expect(t.port.heard[-1] in ((GONE, "closed"), (GONE, "reset")), f"{t.port.heard}")


@case()
def close_inside_of_a_frame(t):
    t.open().send(frame(TEXT, "abc")[:-1])
    t.sync()
    t.close()
    t.until(lambda: any(m[0] == GONE for m in t.port.heard), "an end")
    t.expect(t.port.heard[-1] in ((GONE, "closed"), (GONE, "reset")), f"{t.port.heard}")


# ---- the host closes

def says(t, *messages):
    t.port.send(*([kind, t.port.stream, *rest] for kind, *rest in messages))


def host_closes(code, reason, wanted):
    def run(t):
        says(t.open(), (CLOSE, code, reason))
        opcode, payload, _, _ = t.frame()
        t.expect((opcode, payload) == (wire.CLOSE, wanted), f"{opcode} {payload!r}")
        t.send(frame(wire.CLOSE, payload))
        t.expect_eof()
        t.hears(78, code or 1005, reason)
        t.hears_end(DONE)

    return run


case("close_by_host")(host_closes(1000, b"bye", struct.pack(">H", 1000) + b"bye"))
case("close_by_host_4999")(host_closes(4999, b"", struct.pack(">H", 4999)))
case("close_by_host_without_code")(host_closes(0, b"", b""))


@case(host="nothing")
def close_by_host_without_credit(t):
    """the client's messages are dropped until its Close comes"""
    t.open().send(*[frame(BINARY, bytes(1000))] * 60)
    says(t, (CLOSE, 1000, b""))
    t.expect(t.frame()[0] == wire.CLOSE, "no Close")
    t.send(frame(TEXT, "\xff" * 10), frame(PING, b"x"), wire.close(1000))
    t.expect_eof()
    t.hears_end(DONE)
    t.expect(not [e for e in t.port.heard if e[0] == 77], "the host got a message without credit")


@case()
def close_by_both(t):
    t.open()
    says(t, (CLOSE, 1001, b""))
    t.send(wire.close(4000))
    t.expect(t.frame()[1] == struct.pack(">H", 1001), "another code")
    t.expect_eof()
    t.hears(78, 4000, b"")
    t.hears_end(DONE)


@case(close_timeout=50)
def close_never_answered(t):
    says(t.open(), (CLOSE, 1000, b""))
    t.expect(t.frame()[0] == wire.CLOSE, "no Close")
    t.expect_eof()
    t.hears_end(GONE, "timeout")


@case()
def close_then_the_client_leaves(t):
    says(t.open(), (CLOSE, 1000, b""))
    t.expect(t.frame()[0] == wire.CLOSE, "no Close")
    t.close()
    t.hears_end(GONE)


@case()
def close_then_more_of_the_host(t):
    """it is dropped"""
    says(t.open(), (CLOSE, 1000, b""), (SEND, 1, b"late", 0), (CLOSE, 1001, b""), (READ, 5, 1))
    t.expect(t.frame()[1] == struct.pack(">H", 1000), "another code")
    t.send(wire.close(1000))
    t.expect_eof()
    t.hears_end(DONE)


@case()
def close_by_abort(t):
    """the handler failed"""
    says(t.open(), (9, 500))
    t.expect_close(1011)
    t.hears_end(GONE, "aborted")


@case()
def close_in_an_unfinished_message_of_the_host(t):
    says(t.open(), (SEND, 1, b"unfini", 5), (CLOSE, 1000, b""))
    t.expect(t.frame()[:3] == (TEXT, b"unfini", False), "no fragment")
    t.expect(t.frame()[0] == wire.CLOSE, "no Close")
    t.send(wire.close(1000))
    t.expect_eof()
    t.hears_end(DONE)
