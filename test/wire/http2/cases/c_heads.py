# SPDX-License-Identifier: Apache-2.0
"""Heads of requests: pseudo-header fields, fields, compression (RFC 9113 sections 8.2, 8.3, RFC 7541)."""

from lib import h2 as wire
from wire import heads
from wire.http2.case import case, get, request, script

heads.register(case, get, request, "PROTOCOL_ERROR", version="20", te_flags="17")


@case()
def head_https(t):
    """behind a proxy that ended TLS"""
    heads.facts(t, get(scheme="https"), scheme="https")


@case(script("wait go", "read", "wait end", "echo"))
def expect_body_already_there(t):
    """RFC 9110 10.1.1: no 100 Continue"""
    t.open().send(wire.headers(1, request("POST", extra=[("expect", "100-continue")])), wire.data(1, b"body", end=True))
    t.wait_request(1)
    t.quiet()
    t.port.go()
    t.expect_answer(1, body=b"body")
    t.expect(not t.answers[1].infos, f"interim answers {t.answers[1].infos}")


@case()
def continuation_plain(t):
    block = wire.encode(get(extra=[("a", "b" * 100)]))
    t.open().send(
        wire.headers(1, block[:20], end=True, flags=0), wire.continuation(1, block[20:60], False), wire.continuation(1, block[60:])
    )
    t.expect_answer(1)


@case()
def continuation_empty(t):
    block = wire.encode(get())
    t.open().send(wire.headers(1, block, end=True, flags=0), wire.continuation(1, b""))
    t.expect_answer(1)


@case()
def continuation_interrupted(t):
    t.open().send(wire.headers(1, wire.encode(get())[:20], end=True, flags=0), wire.ping())
    t.expect_goaway("PROTOCOL_ERROR")


def interrupted(name, *frames, end=True):
    """RFC 9113 6.10: nothing may come between, on any stream"""

    def run(t):
        t.open().send(wire.headers(1, wire.encode(get())[:20], end=end, flags=0), *frames)
        t.expect_goaway("PROTOCOL_ERROR")
        t.no_request()

    run.__name__, run.__doc__ = f"continuation_interrupted_by_{name}", interrupted.__doc__
    case()(run)


interrupted("data", wire.data(1, b"x"))
interrupted("data_open", wire.data(1, b"x", end=True), end=False)
interrupted("data_of_another", wire.data(3, b"x"))
interrupted("headers", wire.headers(1, get(), end=True))
interrupted("headers_open", wire.headers(1, get(), end=True), end=False)
interrupted("headers_of_another", wire.headers(3, get(), end=True))
interrupted("rst", wire.rst(1))
interrupted("window", wire.window(1, 1))
interrupted("settings", wire.settings())
interrupted("priority", wire.priority(1, 3))
interrupted("unknown", wire.frame(0x42, 0, 1))
interrupted("priority_update", wire.frame(wire.PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=0"))


@case()
def continuation_of_another(t):
    block = wire.encode(get())
    t.open().send(wire.headers(1, block[:20], end=True, flags=0), wire.continuation(3, block[20:]))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def continuation_alone(t):
    t.open().send(wire.continuation(1, wire.encode(get())))
    t.expect_goaway("PROTOCOL_ERROR")


@case(header_timeout=200)
def continuation_never(t):
    """a head that never ends"""
    t.open().send(wire.headers(1, wire.encode(get())[:20], end=True, flags=0))
    t.expect_goaway("ENHANCE_YOUR_CALM")


@case(header_timeout=200)
def continuation_ended_in_time(t):
    """a refused head ends too"""
    t.open().send(wire.headers(1, get(extra=[("Bad", "1")]), end=True))
    t.expect_reset(1, "PROTOCOL_ERROR")
    t.quiet(0.4)
    t.expect_alive()


@case(header_timeout=200)
def head_inside_a_frame(t):
    """a head that stops in the middle of its frame"""
    t.open().send(wire.headers(1, get(), end=True)[:-5])
    t.expect_goaway("ENHANCE_YOUR_CALM")


@case()
def compression_bad_index(t):
    t.open().send(wire.headers(1, b"\xff\xff\x7f", end=True))
    t.expect_goaway("COMPRESSION_ERROR")


@case()
def compression_index_zero(t):
    t.open().send(wire.headers(1, b"\x80", end=True))
    t.expect_goaway("COMPRESSION_ERROR")


@case()
def compression_cut(t):
    """a block that ends inside a field"""
    t.open().send(wire.headers(1, wire.encode(get())[:-3], end=True))
    t.expect_goaway("COMPRESSION_ERROR")


@case()
def compression_table_too_large(t):
    t.open().send(wire.headers(1, wire.integer(1 << 20, 5, 0x20) + wire.encode(get()), end=True))
    t.expect_goaway("COMPRESSION_ERROR")


@case()
def compression_bad_huffman(t):
    """padding that is too long"""
    t.open().send(wire.headers(1, wire.encode(get()) + b"\x00\x01a\x85\xff\xff\xff\xff\xff", end=True))
    t.expect_goaway("COMPRESSION_ERROR")


@case()
def compression_dynamic(t):
    """a table that both sides keep"""
    t.open().send(wire.headers(1, wire.encode(get()) + wire.literal("x-kept", "value", 0x40), end=True))
    t.expect_answer(1)
    t.send(wire.headers(3, wire.encode(get()) + b"\xbe", end=True))
    t.expect_answer(3)
    t.expect(t.port.exchanges[1].headers == [("x-kept", b"value")], f"fields {t.port.exchanges[1].headers}")


@case()
def compression_after_refusal(t):
    """the table is kept although the request was refused"""
    t.open().send(wire.headers(1, wire.encode(get()) + wire.literal("x-kept", "value", 0x40) + wire.literal("Bad", "1"), end=True))
    t.expect_reset(1, "PROTOCOL_ERROR")
    t.send(wire.headers(3, wire.encode(get()) + b"\xbe", end=True))
    t.expect_answer(3)
    t.expect(t.port.exchanges[0].headers == [("x-kept", b"value")], f"fields {t.port.exchanges[0].headers}")
