# SPDX-License-Identifier: Apache-2.0
"""Streams: their numbers, their states, their ends (RFC 9113 sections 5, 6.1 to 6.4, 6.9)."""

import struct

from lib import h2 as wire
from wire.http2.case import case, get, request, script

SLOW = script("wait gone")
EARLY = script(("respond 200", [], b"early"))


@case()
def stream_even(t):
    t.open().send(wire.headers(2, get(), end=True))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def stream_zero(t):
    t.open().send(wire.headers(0, get(), end=True))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def stream_smaller(t):
    """a number that was skipped"""
    t.open().send(wire.headers(5, get(), end=True), wire.headers(3, get(), end=True))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def stream_again(t):
    """a number that was used"""
    t.open().send(wire.headers(1, get(), end=True))
    t.expect_answer(1)
    t.send(wire.headers(1, get(), end=True))
    t.expect_goaway("STREAM_CLOSED")


@case()
def stream_largest(t):
    """the largest number"""
    t.open().send(wire.headers((1 << 31) - 1, get(), end=True))
    t.expect_answer((1 << 31) - 1)


@case()
def data_on_idle(t):
    t.open().send(wire.data(1, b"x"))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def data_on_zero(t):
    t.open().send(wire.data(0, b"x"))
    t.expect_goaway("PROTOCOL_ERROR")


@case(SLOW)
def data_after_end(t):
    """on a stream that is half closed"""
    t.open().send(wire.headers(1, get(), end=True), wire.data(1, b"x"))
    t.expect_goaway("STREAM_CLOSED")


@case()
def data_after_close(t):
    t.open().send(wire.headers(1, get(), end=True))
    t.expect_answer(1)
    t.send(wire.data(1, b"x"))
    t.expect_goaway("STREAM_CLOSED")


@case(SLOW)
def data_after_reset(t):
    t.open().send(wire.headers(1, request("POST")), wire.rst(1), wire.data(1, b"x"))
    t.expect_goaway("STREAM_CLOSED")


@case()
def headers_after_reset(t):
    t.open().send(wire.headers(1, request("POST")), wire.rst(1), wire.headers(1, get(), end=True))
    t.expect_goaway("STREAM_CLOSED")


@case()
def rst_on_idle(t):
    t.open().send(wire.rst(1))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def rst_on_zero(t):
    t.open().send(wire.frame(wire.RST_STREAM, 0, 0, bytes(4)))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def rst_wrong_length(t):
    t.open().send(wire.headers(1, request("POST")), wire.frame(wire.RST_STREAM, 0, 1, bytes(3)))
    t.expect_goaway("FRAME_SIZE_ERROR")


@case()
def rst_after_the_end(t):
    """for a closed stream: ordinary"""
    t.open().send(wire.headers(1, get(), end=True))
    t.expect_answer(1)
    t.send(wire.rst(1))
    t.expect_alive()


@case(SLOW)
def rst_reaches_the_host(t):
    t.open().send(wire.headers(1, get(), end=True))
    exchange = t.wait_request(1)
    t.send(wire.rst(1))
    t.until(lambda: exchange.gone == "reset", "GONE")
    t.expect_alive()


@case(SLOW)
def rst_in_the_same_write(t):
    """a request that is cancelled at once never reaches the host"""
    t.open().send(wire.headers(1, get(), end=True) + wire.rst(1))
    t.expect_alive()
    t.no_request()


@case(EARLY)
def early_answer(t):
    """an answer before the request has ended: RST_STREAM(NO_ERROR), and frames that are in flight are ignored"""
    t.open().send(wire.headers(1, request("POST")), wire.data(1, b"some"))
    t.expect_answer(1, body=b"early")
    t.expect_reset(1, "NO_ERROR")
    t.send(wire.data(1, b"more"), wire.data(1, b"", end=True))
    t.send(wire.headers(3, get(), end=True))
    t.expect_answer(3)


@case(script(("head 200 -", [], b""), ("data", [], b"part"), "abort 500"))
def abort_after_the_head(t):
    t.open().send(wire.headers(1, get(), end=True))
    t.expect_reset(1, "INTERNAL_ERROR")
    t.expect_alive()


@case(script("abort 503"))
def abort_before_the_head(t):
    t.open().send(wire.headers(1, get(), end=True))
    t.expect_answer(1, 503)
    t.expect_alive()


@case(script(("head 200 10", [], b""), ("data", [], b"short"), "abort 500"))
def abort_in_a_body_with_length(t):
    t.open().send(wire.headers(1, get(), end=True))
    t.expect_reset(1, "INTERNAL_ERROR")


@case(*[SLOW] * 3, h2_max_streams=2)
def streams_too_many(t):
    """more streams than allowed, after the client acknowledged the limit"""
    t.open()
    t.expect_alive()
    t.send(*[wire.headers(s, get(), end=True) for s in (1, 3)])
    t.wait_request(2)
    t.send(wire.headers(5, get(), end=True), wire.headers(7, request("POST")), wire.data(7, b"body", end=True))
    t.expect_reset(5, "REFUSED_STREAM")
    t.expect_reset(7, "REFUSED_STREAM")
    t.expect_alive()
    t.expect(len(t.port.exchanges) == 2, "another reached the host")


@case(SLOW, h2_max_streams=1)
def streams_too_many_decoded(t):
    """the head of a refused request still changes the header table"""
    t.open().send(wire.headers(1, get(), end=True))
    t.wait_request(1)
    block = wire.encode(get()) + wire.literal("x-kept", "value", 0x40)
    t.send(wire.headers(3, block[:9], end=True, flags=0), wire.continuation(3, block[9:]))
    t.expect_reset(3, "REFUSED_STREAM")
    t.expect(sum(kind == wire.RST_STREAM for kind, *_ in t.frames) == 1, "more than one RST_STREAM")
    t.send(wire.rst(1))
    t.until(lambda: t.port.exchanges[0].gone, "GONE")
    t.port.send([17, t.port.exchanges[0].stream])
    t.expect_alive()
    t.send(wire.headers(5, wire.encode(get()) + b"\xbe", end=True))
    t.wait_request(2)
    t.expect(t.port.exchanges[1].headers == [("x-kept", b"value")], f"fields {t.port.exchanges[1].headers}")


@case(*[SLOW] * 100)
def streams_far_too_many(t):
    """thousands at once: some are refused, then the connection ends"""
    t.open().send(*[wire.headers(s, get(), end=True) for s in range(1, 8001, 2)])
    t.expect_goaway("ENHANCE_YOUR_CALM")


@case(SLOW, h2_max_streams=1)
def streams_too_many_early(t):
    """more streams than the limit that the client does not know yet: refused, and may be repeated"""
    t.acks = False
    t.send(wire.PREFACE, wire.settings(), *[wire.headers(s, get(), end=True) for s in (1, 3)])
    t.expect_reset(3, "REFUSED_STREAM")
    t.expect(len(t.port.exchanges) <= 1, "the second reached the host")


@case(*[script("wait go", ("respond 200", [], b"%d" % i)) for i in range(50)])
def streams_50_at_once(t):
    t.open().send(*[wire.headers(1 + 2 * i, get(), end=True) for i in range(50)])
    t.wait_request(50)
    t.port.go()
    for i in range(50):
        t.expect_answer(1 + 2 * i, body=b"%d" % i)


@case(script("wait go", ("respond 200", [], b"first")), script(("respond 200", [], b"second")))
def streams_overtake(t):
    """a later request may be answered earlier"""
    t.open().send(wire.headers(1, get(), end=True), wire.headers(3, get(), end=True))
    t.expect_answer(3, body=b"second")
    t.expect(not t.answers.get(1), "the first was answered")
    t.port.go()
    t.expect_answer(1, body=b"first")


@case()
def priority_on_itself(t):
    t.open().send(wire.priority(1, 1))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def priority_on_zero(t):
    t.open().send(wire.priority(0, 1))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def priority_wrong_length(t):
    t.open().send(wire.frame(wire.PRIORITY, 0, 1, bytes(4)))
    t.expect_goaway("FRAME_SIZE_ERROR")


@case()
def priority_is_ignored(t):
    t.open().send(wire.priority(1, 3), wire.priority(9, 1), wire.headers(11, get(), end=True))
    t.expect_answer(11)


@case()
def headers_with_priority(t):
    t.open().send(wire.headers(1, get(), end=True, flags=wire.END_HEADERS | wire.PRIORITIES, before=struct.pack(">IB", 0, 15)))
    t.expect_answer(1)


@case()
def headers_on_itself(t):
    t.open().send(wire.headers(1, get(), end=True, flags=wire.END_HEADERS | wire.PRIORITIES, before=struct.pack(">IB", 1, 15)))
    t.until(lambda: t.goaway is not None or t.answers.get(1) and t.answers[1].reset, "PROTOCOL_ERROR")
    t.no_request()


@case()
def headers_padded(t):
    t.open().send(wire.headers(1, get(), end=True, flags=wire.END_HEADERS | wire.PADDED, before=b"\x09", after=bytes(9)))
    t.expect_answer(1)


@case()
def headers_padding_too_long(t):
    t.open().send(wire.frame(wire.HEADERS, wire.END_HEADERS | wire.PADDED | wire.END_STREAM, 1, b"\xff" + wire.encode(get())))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def window_zero_increment(t):
    """on a stream"""
    t.open().send(wire.headers(1, request("POST")), wire.window(1, 0))
    t.until(lambda: t.goaway is not None or t.answers.get(1) and t.answers[1].reset == "PROTOCOL_ERROR", "PROTOCOL_ERROR")


@case()
def window_zero_increment_connection(t):
    t.open().send(wire.window(0, 0))
    t.expect_goaway("PROTOCOL_ERROR")


@case()
def window_overflow_connection(t):
    t.open().send(wire.window(0, (1 << 31) - 1))
    t.expect_goaway("FLOW_CONTROL_ERROR")


@case(SLOW)
def window_overflow_stream(t):
    t.open().send(wire.headers(1, get(), end=True))
    t.wait_request(1)
    t.send(wire.window(1, (1 << 31) - 1))
    t.expect_reset(1, "FLOW_CONTROL_ERROR")


@case(SLOW)
def window_overflow_settings(t):
    """RFC 9113 6.9.2: a change of all windows that makes one of them too large ends the connection"""
    t.open().send(wire.headers(1, get(), end=True), wire.window(1, (1 << 31) - 1 - 65535))
    t.wait_request(1)
    t.send(wire.settings((wire.INITIAL_WINDOW_SIZE, 65536)))
    t.expect_goaway("FLOW_CONTROL_ERROR")


@case(SLOW)
def window_overflow_settings_not(t):
    """the largest possible window"""
    t.open((wire.INITIAL_WINDOW_SIZE, 1)).send(wire.headers(1, get(), end=True), wire.window(1, (1 << 31) - 3))
    t.wait_request(1)
    t.send(wire.settings((wire.INITIAL_WINDOW_SIZE, 2)), wire.settings((wire.INITIAL_WINDOW_SIZE, 0)))
    t.send(wire.settings((wire.INITIAL_WINDOW_SIZE, 2)))
    t.expect_alive()
    t.send(wire.settings((wire.INITIAL_WINDOW_SIZE, 3)))
    t.expect_goaway("FLOW_CONTROL_ERROR")


@case()
def window_wrong_length(t):
    t.open().send(wire.frame(wire.WINDOW_UPDATE, 0, 0, bytes(3)))
    t.expect_goaway("FRAME_SIZE_ERROR")


@case()
def window_on_idle(t):
    t.open().send(wire.window(1, 1))
    t.expect_goaway("PROTOCOL_ERROR")
