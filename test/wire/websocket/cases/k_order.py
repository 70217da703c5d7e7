# SPDX-License-Identifier: Apache-2.0
"""The answers to a client's messages are sent before the Close that it requests, or causes, whatever the prefetch."""

import struct

from lib import ws as wire
from wire.websocket.case import CLOSE, CLOSED, DONE, GONE, READ, RECV, SEND, case
from lib.ws import BINARY, CONTINUATION, PING, PONG, TEXT, frame, fragments

PREFETCHES = (1, 2, 4, 100)
GOOD = frame(TEXT, "good")


def echoed_then_failed(data, code=1002, before=1):
    def run(t):
        t.open().send(GOOD * before, data)
        for _ in range(before):
            t.expect_message(TEXT, "good")
        t.fails_with(code)

    return run


def echoed_bytewise(data, code=1002):
    def run(t):
        t.open().send_cut(GOOD + data)
        t.expect_message(TEXT, "good")
        t.fails_with(code)

    return run


FAULTS = {
    **{f"reserved_bits_{rsv}": frame(TEXT, "bad", rsv=rsv) + frame(PING) for rsv in range(1, 8)},
    **{f"reserved_opcode_{opcode}": frame(opcode, "bad") + frame(PING) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "continuation_of_nothing": frame(CONTINUATION, "bad") + frame(TEXT, "more"),
    "message_inside_of_another": frame(TEXT, "a", fin=False) + frame(TEXT, "b"),
    "without_mask": frame(TEXT, "bad", mask=None),
    "fragmented_ping": frame(PING, "bad", fin=False),
    "close_code": wire.close(999),
}
for prefetch in PREFETCHES:
    for name, data in FAULTS.items():
        case(f"order_{name}_prefetch_{prefetch}", prefetch=prefetch)(echoed_then_failed(data))
    case(f"order_text_not_utf8_prefetch_{prefetch}", prefetch=prefetch)(echoed_then_failed(frame(TEXT, b"\xff"), 1007))
    case(f"order_too_big_prefetch_{prefetch}", prefetch=prefetch)(echoed_then_failed(wire.header(TEXT, 1 << 30), 1009))
    case(f"order_many_prefetch_{prefetch}", prefetch=prefetch)(echoed_then_failed(frame(3), before=250))
    case(f"order_bytewise_prefetch_{prefetch}", prefetch=prefetch)(echoed_bytewise(frame(3)))


def fragments_then_a_fault(t):
    """Autobahn 5.15: a message in two fragments, then a continuation without a message, and more"""
    t.open().send(fragments(TEXT, "a", "b"), frame(CONTINUATION, "c", fin=False), frame(TEXT, "d"))
    t.expect_message(TEXT, "ab")
    t.fails_with(1002)


def answers_then_close(t):
    t.open().send(GOOD * 3, frame(PING, "p"), GOOD, wire.close(4000, b"bye"))
    answers = [t.message()[:2] for _ in range(5)]
    t.expect([a for a in answers if a[0] == TEXT] == [(TEXT, b"good")] * 4, f"{answers}")
    t.expect_close(4000)
    t.hears(CLOSED, 4000, b"bye")
    t.hears_end(DONE)


def answer_then_close_of_a_client_that_has_closed_its_side(t):
    t.open().send(GOOD, wire.close(1000))
    t.end()
    t.expect_message(TEXT, "good")
    t.expect_close(1000)
    t.hears_end(DONE)


for prefetch in PREFETCHES:
    case(f"order_fragments_prefetch_{prefetch}", prefetch=prefetch)(fragments_then_a_fault)
    case(f"order_close_prefetch_{prefetch}", prefetch=prefetch)(answers_then_close)
    case(f"order_close_of_half_prefetch_{prefetch}", prefetch=prefetch)(answer_then_close_of_a_client_that_has_closed_its_side)


# ---- a host that takes its time

def says(t, *messages):
    t.port.send(*([kind, t.port.stream, *rest] for kind, *rest in messages))


def two_unanswered(t, last, reads=4, held=True):
    """held: what was last in the client's bytes is not answered yet."""
    says(t.open(), (READ, reads, 1))
    t.send(frame(TEXT, "one"), frame(TEXT, "two"), last, frame(TEXT, "late"), frame(PING, "late"))
    t.hears(RECV, TEXT, b"two")
    if not held:
        return
    t.sync()
    t.expect(t.port.heard == [(RECV, TEXT, b"one"), (RECV, TEXT, b"two")] and not t.input, f"{t.port.heard}, {t.input[:40]}")


@case(host="nothing")
def order_waits_for_each_answer(t):
    two_unanswered(t, frame(3))
    says(t, (SEND, TEXT, b"1", 0), (READ, 1, 1))
    t.expect_message(TEXT, "1")
    t.sync()
    t.expect(not t.input, "a Close before the second answer")
    says(t, (SEND, TEXT, b"2", 0), (READ, 1, 1))
    t.expect_message(TEXT, "2")
    t.fails_with(1002)


@case(host="nothing")
def order_large_answer_of_pieces(t):
    """credit that comes after the whole answer"""
    two_unanswered(t, wire.close(1000))
    says(t, (SEND, BINARY, bytes(60000), 120000), (SEND, BINARY, bytes(60000), 60000), (SEND, BINARY, bytes(60000), 0), (READ, 2, 1))
    t.expect_message(BINARY, bytes(180000))
    t.expect_close(1000)
    t.hears_end(DONE)


@case(host="nothing", close_timeout=100)
def order_is_bounded(t):
    """a host that answers nothing does not delay it"""
    two_unanswered(t, frame(3), held=False)
    t.fails_with(1002)


@case(host="nothing", close_timeout=100)
def order_of_a_close_is_bounded(t):
    two_unanswered(t, wire.close(3000, b"bye"), held=False)
    t.expect_close(3000)
    t.hears(CLOSED, 3000, b"bye")
    t.hears_end(DONE)


@case(host="nothing")
def order_host_closes_meanwhile(t):
    """it sends nothing more; the client's fault stays the reason"""
    two_unanswered(t, frame(3))
    says(t, (SEND, TEXT, b"last", 0), (CLOSE, 1000, b"bye"))
    t.expect_message(TEXT, "last")
    t.fails_with(1002)


@case(host="nothing")
def order_host_closes_while_the_client_does(t):
    two_unanswered(t, wire.close(4000, b"mine"))
    says(t, (CLOSE, 1000, b"yours"))
    t.expect_close(4000)
    t.hears(CLOSED, 4000, b"mine")
    t.hears_end(DONE)


@case(host="nothing")
def order_host_fails_meanwhile(t):
    two_unanswered(t, wire.close(1000))
    says(t, (9, 500))
    t.expect_close(1011)
    t.hears_end(GONE, "aborted")


@case(host="nothing", http=(1,))
def order_client_resets_meanwhile(t):
    """the host still gets the Close"""
    two_unanswered(t, wire.close(4000, b"bye"))
    t.reset()
    t.hears_end(GONE)
    t.expect(t.port.heard[-2] == (CLOSED, 4000, b"bye"), f"{t.port.heard}")


@case(host="nothing")
def order_without_anything_to_answer(t):
    """unused credit delays nothing"""
    says(t.open(), (READ, 100, 1))
    t.send(wire.close(1000))
    t.expect_close(1000)
    t.hears_end(DONE)


@case(host="nothing")
def order_pings_are_messages(t):
    says(t.open(), (READ, 2, 1))
    t.send(frame(PING, "p"), wire.close(1000))
    t.expect_message(PONG, "p")
    t.hears(RECV, PING, b"p")
    says(t, (READ, 1, 1))
    t.expect(t.frame()[:2] == (wire.CLOSE, struct.pack(">H", 1000)), "no Close")
    t.expect_eof()
    t.hears_end(DONE)
