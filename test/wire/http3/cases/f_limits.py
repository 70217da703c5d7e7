# SPDX-License-Identifier: Apache-2.0
"""Limits: floods, bombs and stalls, how a connection ends, priorities and tunnels (RFC 9114 section 10.5, RFC 9218, RFC 9220)."""

from lib import h3 as wire
from lib import quic
from lib.peer3 import ENCODER
from lib.program import DRAIN
from wire.http3.case import case, get, request, script

LOAD = "EXCESSIVE_LOAD"
SLOW = script("wait gone")


@case()
def limit_header_bytes(t):
    """32 KiB of names and values, and 32 bytes for each field: more ends the stream"""
    t.open().ask(0, get(extra=[("a", "b" * 15000), ("c", "d" * 15000), ("e", "f" * 5000)]))
    t.expect_answer(0, 431)
    t.expect_alive()
    t.no_request()


@case()
def limit_header_bytes_head(t):
    t.open().ask(0, request("HEAD", extra=[("a", "b" * 35000)]))
    t.expect_answer(0, 431, body=b"")
    t.expect_alive()


@case()
def limit_header_bytes_bearable(t):
    """128 KiB: more ends the connection"""
    t.open().ask(0, get(extra=[("a", "b" * 30000)] * 5))
    t.expect_close(LOAD)
    t.no_request()


@case()
def limit_header_name(t):
    """256 bytes; a longer name ends the connection, since the decoder cannot continue"""
    t.open().ask(0, get(extra=[("a" * 256, "b")]))
    t.expect_answer(0)
    t.ask(4, get(extra=[("a" * 257, "b")]))
    t.expect_close(LOAD)


@case()
def limit_header_count(t):
    """101 fields end the stream"""
    t.open().ask(0, get(extra=[(f"x-{i}", "") for i in range(101)]))
    t.expect_answer(0, 431)
    t.ask(4, get(extra=[(f"x-{i}", "") for i in range(100)]))
    t.expect_answer(4)


@case()
def limit_header_count_bearable(t):
    """1,000 fields, including pseudo-header fields, end the stream; one more ends the connection"""
    t.open().ask(0, get(extra=[(f"x-{i}", "") for i in range(996)]))
    t.expect_answer(0, 431)
    t.ask(4, get(extra=[(f"x-{i}", "") for i in range(997)]))
    t.expect_close(LOAD)
    t.no_request()


@case()
def limit_cookies(t):
    """RFC 9114 4.2.1: however many `cookie` fields, they count as one"""
    crumbs = [("cookie", f"c{i}={i}") for i in range(500)]
    t.open().ask(0, get(extra=[(f"x-{i}", "") for i in range(99)] + crumbs))
    t.expect_answer(0)
    t.expect(t.port.exchanges[0].headers[99] == ("cookie", "; ".join(v for _, v in crumbs).encode()), "not one cookie")


@case()
def limit_header_bomb(t):
    """many references to one large field, which nghttp3 alone would let pass"""
    t.open()
    t.on_stream_of_ours(ENCODER, quic.number(wire.ENCODER) + wire.capacity(4096) + wire.insert("x-large", "v" * 3900))
    t.send_stream(0, wire.headers(b"\x02\0" + wire.encode(get())[2:] + b"\x80" * 10000), True)
    t.expect_close(LOAD)
    t.no_request()


@case()
def limit_trailer_count(t):
    t.open().ask(0, request("POST"), b"x", trailers=[(f"x-{i}", "") for i in range(101)])
    t.expect_answer(0, 431)
    t.expect_alive()


@case()
def limit_streams(t):
    """not more streams at once than allowed; each one that ends makes room"""
    t.open()
    t.expect(t.server["streams"] == 100, f"{t.server['streams']} streams")


@case(*[script("wait go", "echo")] * 2, h3_max_streams=2)
def limit_streams_held(t):
    """a stream's place is free when the host is done, not when the client has reset it"""
    t.open()
    t.ask(0, get())
    t.ask(4, get())
    t.wait_request(2)
    for stream in (0, 4):
        t.send(quic.stop_sending(stream, 0x10C))
    t.until(lambda: t.reset_code(0) and t.reset_code(4), "RESET_STREAM")
    t.quiet(0.3)
    t.expect(t.limits["streams"] == 2, f"{t.limits['streams']} streams while the host works on two")
    for exchange in t.port.exchanges:
        t.port.send([17, exchange.stream])
    t.until(lambda: t.limits["streams"] >= 4, "room for others")
    t.expect_served(8)


# s: how long a flood waits now and then for a server that says nothing, since a socket that nobody reads loses packets
PAUSE = 0.05


def flood(name, part, *codes, doc=None, **options):
    """Useless packets, until the server ends the connection."""

    def run(t):
        t.open()
        t.resends = False
        for number in range(20_000):
            t.send(*part(number))
            if number % 50 == 0:
                t.step(PAUSE)
            if t.closed:
                break
        t.expect_close(LOAD)

    run.__name__, run.__doc__ = name, doc
    case(h3_packets=500, h3_packet_rate=100)(run)


flood("flood_pings", lambda n: [quic.ping()], doc="CVE-2019-9512's kind")
flood("flood_padding", lambda n: [quic.padding(100)])
flood("flood_path_challenges", lambda n: [quic.path_challenge(n.to_bytes(8, "big"))], doc="CVE-2023-49295's kind")
flood("flood_windows", lambda n: [quic.max_data(n + (1 << 25))])
flood("flood_blocked", lambda n: [quic.stream_data_blocked(0, n)])
flood("flood_empty_frames", lambda n: [quic.stream(0, b"")])
flood("flood_unknown_frames", lambda n: [quic.stream(2, wire.frame(0x21, bytes(48)), 3 + 50 * n)])
flood("flood_priorities", lambda n: [quic.stream(2, wire.priority_update(0, b"u=1"), 3 + len(wire.priority_update(0, b"u=1")) * n)])


@case(h3_packets=500, h3_packet_rate=100)
def flood_connection_ids(t):
    """as in CVE-2024-22189: each new id retires the previous one, and nothing is acknowledged"""
    t.open()
    t.acks = t.resends = False
    for number in range(1, 20_000):
        t.send(quic.new_connection_id(number, number))
        if number % 20 == 0:
            t.step(PAUSE)
        if t.closed:
            break
    t.until(lambda: t.closed, "close")


@case(h3_packets=500, h3_packet_rate=100)
def flood_of_holes(t):
    """bytes of a stream with a hole before each of them"""
    t.open()
    t.resends = False
    for number in range(20_000):
        t.send(quic.stream(0, b"x", 1 + 2 * (number % 30_000)))
        if number % 50 == 0:
            t.step(PAUSE)
        if t.closed:
            break
    t.expect_close(LOAD)


@case()
def flood_resets(t):
    """rapid reset"""
    t.open()
    t.resends = False
    octets = wire.headers(get())
    for number in range(500):
        stream = 4 * number
        t.until(lambda: t.limits["streams"] > number or t.closed, "room for the next stream")  # noqa: B023
        if t.closed:
            break
        t.send(quic.stream(stream, octets), quic.reset_stream(stream, 0x10C, len(octets)), quic.stop_sending(stream, 0x10C))
        t.step(0)
    t.expect_close(LOAD)


@case(*[SLOW] * 400)
def flood_resets_in_work(t):
    """rapid reset of requests that have reached the host"""
    t.open()
    t.resends = False
    for number in range(400):
        stream = 4 * number
        for _ in range(100):  # a busy server allows the next streams later
            if t.limits["streams"] > number or t.closed:
                break
            t.quiet(0.02)
        if t.limits["streams"] <= number or t.closed:
            break
        t.ask(stream, get())
        t.until(lambda: len(t.port.exchanges) > number or t.closed, "request")
        t.send(quic.stop_sending(stream, 0x10C))
    t.quiet(0.3)
    t.expect(t.closed or t.limits["streams"] <= number, "the flood went on")
    t.expect(number <= 200, f"{number} requests")


@case()
def flood_malformed(t):
    """mistakes that make the server reset (CVE-2025-8671)"""
    t.open()
    for number in range(60):
        t.ask(4 * number, get(extra=[("Bad", "1")]))
        t.step(0)
    t.expect_close(LOAD)
    t.no_request()


@case(script("wait go", ("respond 200", [], b"last")), max_requests=1)
def end_after_max_requests(t):
    """GOAWAY in two steps; received requests are answered"""
    t.open().ask(0, get())
    t.until(lambda: t.goaway is not None, "a first GOAWAY")
    t.until(lambda: t.goaway == 4, "a second GOAWAY")
    t.port.go()
    t.expect_answer(0, body=b"last")
    t.expect_close("NO_ERROR")


@case(script("wait go", ("respond 200", [], b"y")), idle_timeout=59_000)
def end_by_drain(t):
    """RFC 9114 5.2: received requests are answered, then the connection ends"""
    t.open().ask(0, get())
    t.wait_request()
    t.port.send([DRAIN, 5000])
    t.until(lambda: t.goaway is not None, "GOAWAY")
    t.port.go()
    t.expect_answer(0, body=b"y")
    t.expect_close("NO_ERROR")


@case(idle_timeout=1500)
def end_of_the_idle(t):
    """RFC 9000 10.1: it ends silently, or with a close"""
    t.open().ask(0, get())
    t.expect_answer(0)
    t.expect(t.server["idle_timeout"] <= 1500, f"{t.server['idle_timeout']} ms")
    while t.port.ask_figures()["connections"]:
        t.quiet(0.05)
        if t.closed:
            break
    t.was_reset, before = False, t.datagrams_in
    t.resends = False
    t.send(quic.ping(), quic.padding(100))
    t.quiet(0.3)
    t.expect(t.closed or t.datagrams_in == before, "the connection is still there")


@case(script("wait go", ("respond 200", [], b"slow")), idle_timeout=1500)
def end_not_while_a_request_is_in_progress(t):
    t.open().ask(0, get())
    t.quiet(2.5)
    t.port.go()
    t.expect_answer(0, body=b"slow")


# ---- priorities (RFC 9218)

LONG = bytes(200_000)


@case(*[script("wait go", ("respond 200", [], LONG))] * 2)
def priority_of_a_header(t):
    """the more urgent response first, although it was requested later"""
    t.open().ask(0, get(extra=[("priority", "u=7")]))
    t.ask(4, get(extra=[("priority", "u=0")]))
    t.wait_request(2)
    t.port.go()
    t.until(lambda: t.ended(4), "the urgent one")
    t.expect(not t.ended(0), "the other was as fast")
    t.expect_answer(0)


@case(*[script("wait go", ("respond 200", [], LONG))] * 2)
def priority_of_a_frame(t):
    t.open().ask(0, get())
    t.ask(4, get())
    t.wait_request(2)
    t.control_frames(wire.priority_update(0, b"u=7"), wire.priority_update(4, b"u=0"))
    t.expect_alive()
    t.port.go()
    t.until(lambda: t.ended(4), "the urgent one")
    t.expect(not t.ended(0), "the other was as fast")
    t.expect_answer(0)


@case()
def priority_malformed(t):
    """RFC 9218 5, 7.2: a field that cannot be parsed is ignored, a frame may end the connection"""
    t.open().ask(0, get(extra=[("priority", "u=9, ;;")]))
    t.expect_answer(0)
    t.control_frames(wire.priority_update(4, b"u=banana"))
    t.quiet()
    t.expect(t.closed is None or t.closing()[0] == "GENERAL_PROTOCOL_ERROR", "another error")


@case()
def priority_of_a_push(t):
    """RFC 9218 7.2: for a push that was never promised"""
    t.open().control_frames(wire.priority_update(5, b"u=1", wire.PRIORITY_UPDATE_PUSH))
    t.expect_close("ID_ERROR")


@case()
def priority_of_a_wrong_stream(t):
    """RFC 9218 7.2: for a stream that is not a request stream"""
    t.open().control_frames(wire.priority_update(3, b"u=1"))
    t.expect_close("ID_ERROR")


@case()
def priority_of_a_stream_beyond(t):
    """RFC 9218 7.2: for a stream beyond the limit"""
    t.open().control_frames(wire.priority_update(4 * 100_000, b"u=1"))
    t.expect_close("ID_ERROR")


# ---- tunnels and WebSockets (RFC 9220)


def socket(protocol="websocket", **more):
    head = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "https"), (":path", "/chat"), (":authority", "a.example")]
    return head + [("sec-websocket-version", "13"), *more.get("extra", ())]


@case(script("wait gone"))
def websocket_asked_for(t):
    """the host sees a GET with a WebSocket upgrade"""
    t.open((wire.CONNECT_PROTOCOL, 1)).ask(0, socket(), end=False)
    exchange = t.wait_request()
    t.expect(exchange.method == "GET" and exchange.path == "/chat", f"{exchange.method} {exchange.path}")
    t.expect(dict(exchange.headers).get("upgrade") == b"websocket", f"{exchange.headers}")
    t.send(quic.reset_stream(0, 0x10C, t.offsets[0]), quic.stop_sending(0, 0x10C))
    t.until(lambda: exchange.gone, "GONE")


@case(h3_extended_connect=0)
def websocket_not_offered(t):
    t.open().ask(0, socket(), end=False)
    t.expect_reset(0, "MESSAGE_ERROR")
    t.no_request()


@case()
def websocket_without_scheme(t):
    """RFC 9220 3: all of the pseudo-header fields"""
    t.open().ask(0, [pair for pair in socket() if pair[0] != ":scheme"], end=False)
    t.expect_reset(0, "MESSAGE_ERROR")
    t.no_request()
