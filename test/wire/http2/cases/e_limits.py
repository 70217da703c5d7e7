# SPDX-License-Identifier: Apache-2.0
"""Limits: floods, bombs and stalls, and how a connection ends (RFC 9113 section 10.5)."""

import struct

from lib import h2 as wire
from lib.peer import H2
from wire.http2.case import case, get, request, script

CALM = "ENHANCE_YOUR_CALM"
SLOW = script("wait gone")


def large(stream, fields, *more):
    """A head in three frames; the second and third have 15,000 bytes. `more` is added."""
    return (
        wire.headers(stream, wire.encode(fields) + wire.literal("a", "b" * 15000), end=True, flags=0),
        wire.continuation(stream, wire.literal("c", "d" * 15000), False),
        wire.continuation(stream, wire.literal("e", "f" * 5000) + b"".join(more)),
    )


@case()
def limit_header_bytes(t):
    """32 KiB of names and values, and 32 bytes for each field: more ends the stream"""
    t.open().send(*large(1, get()))
    t.expect_answer(1, 431)
    t.expect_alive()
    t.no_request()


@case()
def limit_header_bytes_head(t):
    """the answer to HEAD has no body"""
    t.open().send(*large(1, request("HEAD")))
    t.expect_answer(1, 431, body=b"")
    t.expect_alive()


@case()
def limit_header_bytes_decoded_on(t):
    """a dropped head still changes the header table (RFC 7541 2.2)"""
    t.open().send(*large(1, get(), wire.literal("x-kept", "value", 0x40)))
    t.expect_answer(1, 431)
    t.send(wire.headers(3, wire.encode(get()) + b"\xbe", end=True))
    t.expect_answer(3)
    t.expect(t.port.exchanges[0].headers == [("x-kept", b"value")], f"fields {t.port.exchanges[0].headers}")


@case()
def limit_header_bytes_one_field(t):
    """one field that is longer than the block may be"""
    t.open().send(wire.headers(1, wire.encode(get()) + wire.literal("a", "b" * 16000)[:16000], end=True, flags=0))
    t.send(wire.continuation(1, (wire.encode(get()) + wire.literal("a", "b" * 16000))[16000 + len(wire.encode(get())) :], False))
    t.send(wire.continuation(1, wire.literal("c", "d" * 16000), False), wire.continuation(1, wire.literal("c", "d" * 16000)))
    t.expect_answer(1, 431)
    t.expect_alive()


@case()
def limit_header_bytes_with_a_body(t):
    """frames after such a head are ignored"""
    t.open().send(wire.headers(1, request("POST", extra=[(f"x-{i}", "") for i in range(101)])), wire.data(1, b"body"))
    t.expect_answer(1, 431)
    t.send(wire.data(1, b"more", end=True))
    t.expect_alive()
    t.no_request()


@case()
def limit_header_bytes_bearable(t):
    """128 KiB: more ends the connection"""
    t.open().send(wire.headers(1, wire.encode(get()), end=True, flags=0))
    t.send(*[wire.continuation(1, wire.literal("c", "d" * 16000), False)] * 7, wire.continuation(1, wire.literal("c", "d" * 16000)))
    t.expect_answer(1, 431)
    t.send(wire.headers(3, wire.encode(get()) + wire.literal("x-large", "v" * 3900, 0x40) + b"\xbe" * 33, end=True))
    t.expect_goaway(CALM)
    t.no_request()


@case()
def limit_header_count(t):
    """101 fields end the stream"""
    t.open().send(wire.headers(1, get(extra=[(f"x-{i}", "") for i in range(101)]), end=True))
    t.expect_answer(1, 431)
    t.expect_alive()
    t.no_request()


@case()
def limit_header_count_bearable(t):
    """1,000 fields, including pseudo-header fields, end the stream; one more ends the connection"""
    t.open().send(wire.headers(1, get(extra=[(f"x-{i}", "") for i in range(996)]), end=True))
    t.expect_answer(1, 431)
    t.send(wire.headers(3, get(extra=[(f"x-{i}", "") for i in range(997)]), end=True))
    t.expect_goaway(CALM)
    t.no_request()


@case()
def limit_cookies(t):
    """RFC 9113 8.2.3: however many `cookie` fields, they count as one"""
    crumbs = [("cookie", f"c{i}={i}") for i in range(500)]
    t.open().send(wire.headers(1, get(extra=[(f"x-{i}", "") for i in range(99)] + crumbs), end=True))
    t.expect_answer(1)
    t.expect(t.port.exchanges[0].headers[99] == ("cookie", "; ".join(v for _, v in crumbs).encode()), "not one cookie")
    t.send(wire.headers(3, get(extra=[(f"x-{i}", "") for i in range(100)] + crumbs), end=True))
    t.expect_answer(3, 431)
    t.send(wire.headers(5, get(extra=[("cookie", "")] * 996), end=True))
    t.expect_answer(5)
    t.send(wire.headers(7, get(extra=[("cookie", "a=b")] * 997), end=True))
    t.expect_goaway(CALM)


@case()
def limit_cookies_bytes(t):
    t.open().send(wire.headers(1, wire.encode(get(extra=[("cookie", "b" * 100)] * 90)), end=True, flags=0))
    t.send(*[wire.continuation(1, wire.encode([("cookie", "b" * 100)] * 100), i == 2) for i in range(3)])
    t.expect_answer(1, 431)
    t.expect_alive()


@case()
def limit_header_count_fits(t):
    t.open().send(wire.headers(1, get(extra=[(f"x-{i}", "") for i in range(100)]), end=True))
    t.expect_answer(1)


@case()
def limit_header_bomb(t):
    """many references to one large field"""
    block = wire.encode(get()) + wire.literal("x-large", "v" * 3900, 0x40) + b"\xbe" * 10000
    t.open().send(wire.headers(1, block, end=True))
    t.expect_goaway(CALM)
    t.no_request()


@case()
def limit_trailer_count(t):
    t.open().send(wire.headers(1, request("POST")), wire.headers(1, [(f"x-{i}", "") for i in range(101)], end=True))
    t.expect_answer(1, 431)
    t.expect_alive()
    t.send(wire.headers(3, request("POST")), wire.headers(3, [(f"x-{i}", "") for i in range(1001)], end=True))
    t.expect_goaway(CALM)


@case()
def limit_continuations(t):
    t.open().send(wire.headers(1, wire.encode(get()), end=True, flags=0), *[wire.continuation(1, b"", False)] * 9)
    t.expect_goaway(CALM)


@case()
def limit_pings(t):
    t.open().send(wire.ping() * 150)
    t.expect_goaway(CALM)


@case()
def limit_pings_fits(t):
    t.open().send(wire.ping() * 90)
    t.until(lambda: len(t.pongs) == 90, "90 answers")
    t.expect_alive()


@case()
def limit_settings(t):
    t.open().send(wire.settings() * 60)
    t.expect_goaway(CALM)


@case(SLOW)
def limit_empty_data(t):
    t.open().send(wire.headers(1, request("POST")), wire.data(1) * 150)
    t.expect_goaway(CALM)


@case(SLOW)
def limit_padding_only(t):
    """frames with only padding"""
    t.open().send(wire.headers(1, request("POST")), wire.data(1, pad=5) * 150)
    t.expect_goaway(CALM)


@case(SLOW)
def limit_empty_data_closed(t):
    """for a stream that the server has reset"""
    t.open().send(wire.headers(1, get(extra=[("Bad", "1")])))
    t.expect_reset(1, "PROTOCOL_ERROR")
    t.send(wire.data(1) * 150)
    t.expect_goaway(CALM)


@case()
def limit_window_updates(t):
    t.open().send(wire.window(0, 1) * 1100)
    t.expect_goaway(CALM)


@case()
def limit_priorities(t):
    t.open().send(wire.priority(3, 1) * 1100)
    t.expect_goaway(CALM)


@case()
def limit_unknown_frames(t):
    t.open().send(wire.frame(0x42) * 1100)
    t.expect_goaway(CALM)


@case(SLOW)
def limit_goaways(t):
    """beside a request that goes on"""
    t.open().send(wire.headers(1, get(), end=True))
    t.wait_request()
    t.send(wire.goaway() * 1100)
    t.expect_goaway(CALM)


@case()
def limit_resets(t):
    """rapid reset"""
    t.open()
    t.send(b"".join(wire.headers(s, get(), end=True) + wire.rst(s) for s in range(1, 261, 2)))
    t.expect_goaway(CALM)
    t.no_request()


@case(*[SLOW] * 200)
def limit_resets_in_work(t):
    """rapid reset of requests that have reached the host"""
    t.open()
    for stream in range(1, 261, 2):
        t.send(wire.headers(stream, get(), end=True))
        t.until(lambda: len(t.port.exchanges) * 2 > stream or t.goaway is not None or t.answers.get(stream), "request")
        t.send(wire.rst(stream))
    t.expect_goaway(CALM)


@case(*[SLOW] * 30)
def limit_own_resets(t):
    """mistakes that make the server reset (CVE-2025-8671)"""
    t.open()
    for stream in range(1, 61, 2):
        t.send(wire.headers(stream, get(), end=True), wire.window(stream, (1 << 31) - 1))
    t.expect_goaway(CALM)


@case()
def limit_own_resets_malformed(t):
    t.open().send(b"".join(wire.headers(s, get(extra=[("Bad", "1")]), end=True) for s in range(1, 61, 2)))
    t.expect_goaway(CALM)


@case()
def limit_malformed_is_no_flood(t):
    """malformed heads that a proxy may pass on for one of its clients end only their streams"""
    t.open().send(b"".join(wire.headers(s, request("GET", "/\xff"), end=True) for s in range(1, 101, 2)))
    for stream in range(1, 101, 2):
        t.expect_reset(stream, "PROTOCOL_ERROR")
    t.expect_alive()
    t.no_request()


def resets_two(t):
    """Two streams are in progress, the most that are allowed; the client resets them."""
    t.open()
    t.send(wire.headers(1, get(), end=True), wire.headers(3, get(), end=True))
    t.wait_request(2)
    t.send(wire.rst(1), wire.rst(3), wire.headers(5, get(), end=True))
    t.expect_reset(5, "REFUSED_STREAM")
    t.expect(len(t.port.exchanges) == 2, "5 reached the host")


@case(*[SLOW] * 2, h2_max_streams=2, h2_reset_hold=300)
def limit_in_work(t):
    """a stream that was reset still counts until its deadline, if the host forgets it"""
    resets_two(t)
    stream = 7
    while not t.answer_on(stream).ended:
        if t.answer_on(stream).reset:
            t.expect_reset(stream, "REFUSED_STREAM")
            t.quiet(0.05)
            stream += 2
        t.send(wire.headers(stream, get(), end=True))
        t.until(lambda: t.answer_on(stream).ended or t.answer_on(stream).reset, "an answer, or a refusal")  # noqa: B023
    t.expect_answer(stream)


def in_work_until(*message):
    def run(t):
        resets_two(t)
        kind, *rest = message
        t.port.send([kind, t.port.exchanges[0].stream, *rest])
        t.port.send([kind, t.port.exchanges[0].stream, *rest])  # counts once
        t.expect_alive()
        t.send(wire.headers(9, get(), end=True))
        t.expect_answer(9)
        t.port.send([kind, t.port.exchanges[1].stream, *rest])

    return run


for name, message in {
    "release": [17],
    "respond": [4, 200, [], b""],
    "end": [7, None],
    "abort": [9, 500],
}.items():
    run = in_work_until(*message)
    run.__name__, run.__doc__ = f"limit_in_work_until_{name}", "or until the host releases it"
    case(*[SLOW] * 2, h2_max_streams=2)(run)


@case(script(("respond 200", [], bytes(1000))), write_timeout=400)
def limit_not_reading(t):
    """a client that sends and never reads"""
    t.open((wire.INITIAL_WINDOW_SIZE, 1 << 30)).send(wire.window(0, 1 << 29))
    t.reads = False
    stream = 1
    t.port.scripts += [script(("respond 200", [], bytes(200000)))] * 200
    for _ in range(60):
        t.send(wire.headers(stream, get(), end=True))
        stream += 2
        t.step(0.001)
    t.until(lambda: any(e.gone for e in t.port.exchanges), "GONE")


@case(script("wait go", ("respond 200", [], b"last")), max_requests=1)
def end_after_max_requests(t):
    """GOAWAY in two steps; received requests are answered"""
    t.open().send(wire.headers(1, get(), end=True))
    t.until(lambda: t.last == (1 << 31) - 1, "a first GOAWAY")
    t.until(lambda: t.last == 1, "a second GOAWAY")
    t.expect(t.goaway == "NO_ERROR", "not NO_ERROR")
    t.port.go()
    t.expect_answer(1, body=b"last")
    t.expect_closed()


@case(script(("respond 200", [("connection", "close")], b"x")), script("wait go", ("respond 200", [], b"y")))
def end_after_close(t):
    """a request that crosses the first GOAWAY is still answered"""
    t.open().send(wire.headers(1, get(), end=True))
    t.expect_answer(1, body=b"x")
    t.until(lambda: t.last == (1 << 31) - 1 or t.last == 1, "GOAWAY")
    t.expect_closed()


@case(SLOW)
def end_of_file(t):
    """a client that closes its side in the middle of a request"""
    t.open().send(wire.headers(1, request("POST")))
    t.wait_request(1)
    t.end()
    t.until(lambda: t.port.exchanges[0].gone == "closed", "GONE")
    t.expect_closed()


@case(script("wait hangup", ("respond 200", [], b"x")))
def end_of_file_after_request(t):
    """and after it: HANGUP, and the answer still comes"""
    t.open().send(wire.headers(1, get(), end=True))
    t.wait_request(1)
    t.end()
    t.until(lambda: t.port.exchanges[0].hangup, "HANGUP")
    t.expect_answer(1, body=b"x")
    t.expect_closed()


@case(SLOW)
def end_by_reset(t):
    """TCP reset"""
    t.open().send(wire.headers(1, get(), end=True))
    t.wait_request(1)
    t.reset()
    t.until(lambda: t.port.exchanges[0].gone in ("reset", "closed"), "GONE")


LARGE = b"x" * 60_000


def fill(t):
    """Two responses that this client does not read, which together exceed 100,000 bytes."""
    t.open((wire.INITIAL_WINDOW_SIZE, 0))
    for stream in (1, 3):
        t.send(wire.headers(stream, get(), end=True))
    t.wait_request(2)
    t.until(lambda: t.port.ask_figures()["body_queued"] == 2 * len(LARGE), "two responses that wait")


FULL = {"max_unsent": 100_000, "queue_timeout": 60_000}


@case(*[script(("respond 200", [], LARGE))] * 2, **FULL)
def limit_unsent(t):
    """unread responses: no request begins, on any connection, until a client has read some of them"""
    fill(t)
    t.send(wire.headers(5, get(), end=True))
    t.sync()
    t.expect(t.port.ask_figures()["held_back"] == 1 and len(t.port.exchanges) == 2, "a third request has begun")
    t.send(wire.window(1, 30_000))
    t.wait_request(3)
    t.until(lambda: len(t.answers[1].body) == 30_000, "30,000 bytes of the first")


@case(*[script(("respond 200", [], LARGE))] * 2, **FULL)
def limit_unsent_reset(t):
    """bytes that nobody wants any more do not count"""
    fill(t)
    t.send(wire.headers(5, get(), end=True))
    t.sync()
    t.send(wire.rst(3))
    t.wait_request(3)


@case(*[script(("respond 200", [], LARGE))] * 2, **FULL)
def limit_unsent_closed(t):
    """nor do bytes that wait for a window that the client can no longer open"""
    fill(t)
    other = H2(t.port)
    try:
        other.open().send(wire.headers(1, get(), end=True))
        other.sync()
        t.expect(len(t.port.exchanges) == 2, "a third request has begun")
        t.end()
        other.expect_answer(1)
    finally:
        other.reset()
