# SPDX-License-Identifier: Apache-2.0
"""Limits, and what a socket may cost (max_message, max_fragments, one queued pong, idle_timeout, ping_interval)."""

import struct

from lib import ws as wire
from wire.websocket.case import DONE, GONE, READ, SEND, case
from lib.ws import BINARY, CONTINUATION, PING, PONG, TEXT, frame, fragments


def says(t, *messages):
    t.port.send(*([kind, t.port.stream, *rest] for kind, *rest in messages))


def too_big(data):
    def run(t):
        t.open().send(data)
        t.fails_with(1009)

    return run


# the announced length is enough to refuse: nothing is allocated or awaited
for size in (1048577, 1 << 24, 1 << 30, (1 << 31) - 1, 1 << 32, (1 << 63) - 1):
    case(f"limits_announced_{size}")(too_big(wire.header(BINARY, size, width=8)))
case("limits_announced_behind_a_fragment")(
    too_big(frame(BINARY, b"x", fin=False) + wire.header(CONTINUATION, 1048576, width=8))
)
case("limits_announced_text", max_message=10)(too_big(wire.header(TEXT, 11)))
case("limits_sum_of_fragments", max_message=100)(too_big(fragments(TEXT, *["x" * 40] * 3)))
case("limits_1025_fragments")(too_big(fragments(BINARY, *[b"x"] * 1025)))
case("limits_fragments_that_never_end")(too_big(frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * 1024))
case("limits_few_fragments", max_fragments=2)(too_big(fragments(BINARY, b"a", b"b", b"c")))
case("limits_a_million_empty_fragments", max_message=1 << 30)(too_big(frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * 1000000))
case("limits_a_million_fragments_of_one_byte", max_message=1 << 30)(
    too_big(frame(BINARY, b"x", fin=False) + frame(CONTINUATION, b"x", fin=False) * 1000000)
)
case("limits_small_fragments_among_large_ones")(
    too_big(frame(BINARY, bytes(64), fin=False) + (frame(CONTINUATION, bytes(64), fin=False) + frame(CONTINUATION, b"x", fin=False)) * 1025)
)


def fits(data, whole):
    def run(t):
        t.open().send(data)
        t.expect_message(BINARY, whole)
        t.closes()

    return run


case("limits_1024_fragments")(fits(fragments(BINARY, *[b"x"] * 1024), b"x" * 1024))
case("limits_exactly_max_message", max_message=1000)(fits(frame(BINARY, bytes(1000)), bytes(1000)))
case("limits_exactly_max_message_in_fragments", max_message=9)(fits(fragments(BINARY, *[b"abc"] * 3), b"abc" * 3))
case("limits_count_begins_anew", max_fragments=2, max_message=4)(
    lambda t: [t.open(), t.send(fragments(BINARY, b"ab", b"cd") * 5), [t.expect_message(BINARY, b"abcd") for _ in range(5)], t.closes()]
)


def sizes(opcode, size, fragment=None):
    def run(t):
        data = b"*" * size
        t.open().send(fragments(opcode, *wire.cut(data, fragment)) if fragment else frame(opcode, data))
        t.port.case = None  # the host buffers it: the window is smaller than the message
        t.until(lambda: t.port.heard, "the message at the host")
        t.expect(t.port.heard == [(77, opcode, data)], "another message")
        t.send(wire.close(1000))
        says(t, (READ, 1, 1))
        t.expect_close(1000)

    return run


for size in (65536, 262144, 1048576):
    case(f"limits_text_{size}")(sizes(TEXT, size))
    case(f"limits_binary_{size}")(sizes(BINARY, size))
case("limits_binary_4194304", max_message=1 << 22)(sizes(BINARY, 1 << 22))
for size in (64, 256, 16384):
    case(f"limits_binary_4194304_in_fragments_of_{size}", max_message=1 << 22)(sizes(BINARY, 1 << 22, size))


@case()
def limits_one_queued_pong(t):
    """a client that sends pings and does not read: one pong is queued, and the newest ping's follows it"""
    t.open()
    t.reads = False
    says(t, (SEND, BINARY, bytes(200000), 0))
    t.send(*(frame(PING, f"{i}") for i in range(5000)))
    t.hears(77, PING, b"4999")
    t.reads = True
    t.expect_message(BINARY, bytes(200000))
    got = [t.message()[:2] for _ in range(2)]
    while got[-1] != (PONG, b"4999"):
        got.append(t.message()[:2])
    t.closes()


@case(idle_timeout=60, ping_interval=0)
def limits_idle(t):
    t.open().send(frame(TEXT, "x"))
    got = t.frame()
    if got[:2] == (TEXT, b"x"):  # else this client, or its host, was so slow that the connection was idle before
        got = t.frame()
    t.expect(got[:2] == (wire.CLOSE, struct.pack(">H", 1001) + b"idle"), "not Close 1001")
    t.send(wire.close(1001))
    t.expect_eof()
    t.hears(78, 1001, b"")
    t.hears_end(GONE, "timeout")


@case(idle_timeout=60, ping_interval=0, close_timeout=60)
def limits_idle_and_gone(t):
    t.open()
    t.expect(t.frame()[:2] == (wire.CLOSE, struct.pack(">H", 1001) + b"idle"), "not Close 1001")
    t.expect_eof()
    t.hears_end(GONE, "timeout")
    t.expect(not [e for e in t.port.heard if e[0] == 78], "CLOSED without the client's Close")


@case(ping_interval=60)
def limits_half_open(t):
    """the connection of a client that does not answer a ping ends"""
    t.open()
    t.expect(t.frame()[0] == PING, "no ping")
    t.expect_eof()
    t.hears_end(GONE, "timeout")


@case(ping_interval=1200)
def limits_answered_pings(t):
    """that of a client that answers does not; the host is not told"""
    t.open()
    for _ in range(2):
        opcode, payload, _, _ = t.frame()
        t.expect(opcode == PING, "no ping")
        t.send(frame(PONG, payload))
    t.expect(not t.port.heard, f"the host heard {t.port.heard}")
    t.closes()


@case(host="nothing", ping_interval=60)
def limits_no_ping_without_credit(t):
    """pongs cannot arrive on a socket that is not read"""
    t.open().send(frame(TEXT, "waits"))
    t.port.send([READ, t.port.stream, 1, 1])
    t.hears(77, TEXT, b"waits")
    t.sync()
    t.expect(not t.input, "a ping")
