# SPDX-License-Identifier: Apache-2.0
"""Streams and frames of HTTP/3 (RFC 9114 sections 4.1, 6, 7)."""

from lib import h3 as wire
from lib import quic
from lib.peer3 import CONTROL, DECODER, ENCODER
from wire.http3.case import case, get, request, script

LAST = 14  # a fourth unidirectional stream


@case()
def settings(t):
    t.open()
    s = t.settings
    t.expect(s.get(wire.CONNECT_PROTOCOL) == 1, f"extended CONNECT is not offered: {s}")
    t.expect(s.get(wire.TABLE_CAPACITY, 0) > 0 and s.get(wire.BLOCKED_STREAMS, 0) > 0, f"no dynamic table: {s}")
    t.expect(s.get(wire.MAX_FIELD_SECTION, 0) >= 16384, f"largest section {s}")
    t.expect(not set(s) & {2, 3, 4, 5}, "settings of HTTP/2")


@case(h3_extended_connect=0)
def settings_without_connect(t):
    t.open()
    t.expect(not t.settings.get(wire.CONNECT_PROTOCOL), "extended CONNECT is offered")


@case(h3_settings_timeout=100)
def settings_never(t):
    """a client without SETTINGS does not stay"""
    t.send_hello()
    t.until(lambda: t.closed, "close")


def control(name, code, *parts, doc=None, first=None, stream=CONTROL, fin=False):
    """Frames after SETTINGS on the control stream end the connection."""
    codes = code if isinstance(code, tuple) else (code,)

    def run(t):
        t.open(control=first is None)
        if first is not None:
            t.send(quic.stream(stream, first))
            t.offsets[stream] = len(first)
        if parts or fin:
            t.on_stream_of_ours(stream, b"".join(parts), fin)
        t.expect_close(*codes)
        t.no_request()

    run.__name__, run.__doc__ = name, doc
    case()(run)


UNEXPECTED, MISSING, CREATION, CRITICAL = "FRAME_UNEXPECTED", "MISSING_SETTINGS", "STREAM_CREATION_ERROR", "CLOSED_CRITICAL_STREAM"
TYPE = quic.number(wire.CONTROL)

control("control_no_settings", MISSING, first=TYPE + wire.goaway(0), doc="RFC 9114 6.2.1")
control("control_grease_before_settings", MISSING, first=TYPE + wire.frame(0x21, b"x"))
control("control_settings_twice", UNEXPECTED, wire.settings(), doc="RFC 9114 7.2.4")
control("control_data", UNEXPECTED, wire.data(b"x"), doc="RFC 9114 7.2.1")
control("control_headers", UNEXPECTED, wire.headers(get()), doc="RFC 9114 7.2.2")
control("control_push_promise", UNEXPECTED, wire.frame(wire.PUSH_PROMISE, b"\0\0\0"), doc="RFC 9114 7.2.5")
for kind in (2, 6, 8, 9):
    control(f"control_http2_frame_{kind}", UNEXPECTED, wire.frame(kind, bytes(8)), doc="RFC 9114 7.2.8")
for key in (2, 3, 4, 5):
    control(f"settings_http2_{key}", "SETTINGS_ERROR", first=TYPE + wire.settings((key, 1)), doc="RFC 9114 7.2.4.1")
control("settings_connect_2", "SETTINGS_ERROR", first=TYPE + wire.settings((8, 2)), doc="RFC 8441 3: 0 or 1")
control("settings_cut", "FRAME_ERROR", first=TYPE + wire.frame(wire.SETTINGS, b"\x06\x80"), doc="RFC 9114 7.1")
control("settings_half_a_pair", "FRAME_ERROR", first=TYPE + wire.frame(wire.SETTINGS, b"\x06"))
control("goaway_cut", "FRAME_ERROR", wire.frame(wire.GOAWAY, b"\x80"))
control("goaway_empty", "FRAME_ERROR", wire.frame(wire.GOAWAY, b""))
control("goaway_longer", "FRAME_ERROR", wire.frame(wire.GOAWAY, b"\0x"), doc="RFC 9114 7.1: bytes behind its fields")
control("goaway_grows", "ID_ERROR", wire.goaway(4) + wire.goaway(8), doc="RFC 9114 7.2.6")
control("max_push_id_falls", "ID_ERROR", wire.frame(wire.MAX_PUSH_ID, b"\x05") + wire.frame(wire.MAX_PUSH_ID, b"\x04"), doc="RFC 9114 7.2.7")
control("max_push_id_longer", "FRAME_ERROR", wire.frame(wire.MAX_PUSH_ID, b"\x05x"), doc="which nghttp3 lets pass")
control("max_push_id_cut", "FRAME_ERROR", wire.frame(wire.MAX_PUSH_ID, b""))
control("cancel_push_unknown", "ID_ERROR", wire.frame(wire.CANCEL_PUSH, b"\x05"), doc="RFC 9114 7.2.3")
control("control_closed", CRITICAL, fin=True, doc="RFC 9114 6.2.1")


@case()
def control_twice(t):
    """RFC 9114 6.2.1"""
    t.open().send(quic.stream(LAST, TYPE + wire.settings()))
    t.expect_close(CREATION)


@case()
def control_reset(t):
    """RFC 9114 6.2.1"""
    t.open().send(quic.reset_stream(CONTROL, 0x10C, t.offsets[CONTROL]))
    t.expect_close(CRITICAL)


@case()
def control_stop_of_theirs(t):
    """RFC 9114 6.2.1: a client must not stop the server's control stream"""
    t.open()
    theirs = next(id for id, role in t.roles.items() if role == wire.CONTROL)
    t.send(quic.stop_sending(theirs, 0x10C))
    t.expect_close(CRITICAL)


@case()
def control_in_pieces(t):
    """one byte in each packet"""
    t.handshake()
    for octet in TYPE + wire.settings((6, 1 << 20), (0x21, 5)) + wire.frame(0x21 + 0x1F, b"grease") + wire.goaway(0):
        t.on_stream_of_ours(CONTROL, bytes([octet]))
    t.expect_alive()
    t.expect_served(0)


@case()
def settings_unknown(t):
    """RFC 9114 7.2.4.1: ignored"""
    t.open((0x21, 7), (0x1F * 3 + 0x21, 1 << 40), (0x33, 1), (wire.CONNECT_PROTOCOL, 1))
    t.expect_served(0)


@case()
def frames_unknown(t):
    """RFC 9114 9: ignored, on the control stream and between the frames of a request"""
    t.open().control_frames(wire.frame(0x21, b""), wire.frame(0x1F * 5 + 0x21, b"x" * 1000), wire.frame(0x4242, b"y"))
    grease = wire.frame(0x1F * 9 + 0x21, b"z" * 100)
    t.send_stream(0, grease + wire.headers(request("POST")) + grease + wire.data(b"a") + grease + wire.data(b"b") + grease, True)
    t.expect_answer(0, body=b"ab")


@case()
def max_push_id(t):
    """a client may allow pushes, which never come"""
    t.open().control_frames(wire.frame(wire.MAX_PUSH_ID, b"\x05"), wire.frame(wire.MAX_PUSH_ID, b"\x07"))
    t.expect_served(0)


@case()
def goaway_of_ours(t):
    """RFC 9114 5.2: from a client it is about pushes: its requests are still served"""
    t.open().control_frames(wire.goaway(8), wire.goaway(4), wire.goaway(0))
    t.expect_served(0)


# ---- other unidirectional streams


@case()
def stream_of_push(t):
    """RFC 9114 6.2.2: clients do not push"""
    t.open().send(quic.stream(LAST, quic.number(wire.PUSH) + b"\0"))
    t.expect_close(CREATION)


@case()
def stream_unknown_type(t):
    """RFC 9114 6.2: only this stream is refused, or it is read and dropped"""
    t.open().send(quic.stream(LAST, quic.number(0x21) + b"whatever", fin=True))
    t.send(quic.stream(LAST + 4, quic.number(0x1F * 8 + 0x21) + b"whatever"))
    t.expect_alive()
    t.expect(t.stop_code(LAST + 4) in (None, "STREAM_CREATION_ERROR"), "another code")
    t.expect_served(0)


@case()
def stream_reset_before_type(t):
    """RFC 9114 6.2: it does not end the connection"""
    t.open().send(quic.reset_stream(LAST, 0x10C, 0))
    t.send(quic.stream(LAST + 4, b"\x40"))
    t.expect_alive()
    t.send(quic.reset_stream(LAST + 4, 0x10C, 1))
    t.expect_alive()
    t.expect_served(0)


@case()
def stream_ended_before_type(t):
    t.open().send(quic.stream(LAST, b"", fin=True))
    t.expect_alive()
    t.expect_served(0)


@case()
def streams_are_given_back(t):
    """unidirectional streams that end make room for others"""
    t.open()
    for number in range(30):
        id = LAST + 4 * number
        t.until(lambda: t.limits["streams_uni"] > id // 4, f"room for stream {id}")
        t.send(quic.stream(id, quic.number(0x21) + b"x", fin=True))
    t.expect_served(0)


def critical(role, name):
    def twice(t):
        t.open().send(quic.stream(ENCODER, quic.number(role)))
        t.expect_alive()
        t.send(quic.stream(LAST, quic.number(role)))
        t.expect_close(CREATION)

    def closed(t):
        t.open().send(quic.stream(ENCODER, quic.number(role), fin=True))
        t.expect_close(CRITICAL)

    def reset(t):
        t.open().send(quic.stream(DECODER, quic.number(role)))
        t.expect_alive()
        t.send(quic.reset_stream(DECODER, 0x10C, 1))
        t.expect_close(CRITICAL)

    for run in (twice, closed, reset):
        run.__doc__ = "RFC 9204 4.2"
        run.__name__ = f"{name}_{run.__name__}"
        case()(run)


critical(wire.ENCODER, "encoder")
critical(wire.DECODER, "decoder")

# ---- frames on request streams


def on_request(name, code, *parts, fin=True, doc=None, seen=False):
    def run(t):
        t.open().send_stream(0, b"".join(parts), fin)
        t.expect_close(code)
        seen or t.no_request()

    run.__name__, run.__doc__ = name, doc
    case()(run)


on_request("request_data_first", UNEXPECTED, wire.data(b"x"), doc="RFC 9114 4.1")
on_request("request_settings", UNEXPECTED, wire.settings(), doc="RFC 9114 7.2.4")
on_request("request_goaway", UNEXPECTED, wire.goaway(0), doc="RFC 9114 7.2.6")
on_request("request_max_push_id", UNEXPECTED, wire.frame(wire.MAX_PUSH_ID, b"\0"), doc="RFC 9114 7.2.7")
on_request("request_cancel_push", UNEXPECTED, wire.frame(wire.CANCEL_PUSH, b"\0"), doc="RFC 9114 7.2.3")
on_request("request_push_promise", UNEXPECTED, wire.headers(get()), wire.frame(wire.PUSH_PROMISE, b"\0\0\0"), doc="RFC 9114 7.2.5", seen=True)
on_request("request_priority_update", UNEXPECTED, wire.priority_update(0, b"u=1"), doc="RFC 9218 7.2")
for kind in (2, 6, 8, 9):
    on_request(f"request_http2_frame_{kind}", UNEXPECTED, wire.frame(kind, bytes(8)), doc="RFC 9114 7.2.8")
on_request("request_headers_behind_trailers", UNEXPECTED, wire.headers(get()), wire.headers([("a", "b")]), wire.headers([("c", "d")]), seen=True)
on_request("request_data_behind_trailers", UNEXPECTED, wire.headers(get()), wire.headers([("a", "b")]), wire.data(b"x"), seen=True)
on_request("request_frame_cut_head", "FRAME_ERROR", wire.frame(wire.HEADERS, b"\0\0abc", length=100), doc="RFC 9114 7.1")
on_request("request_frame_cut_data", "FRAME_ERROR", wire.headers(request("POST")), wire.frame(wire.DATA, b"abc", length=100), seen=True)
on_request("request_frame_cut_type", "FRAME_ERROR", b"\x40")


@case()
def request_without_head(t):
    """RFC 9114 4.1: a stream that ends before there is a request"""
    t.open().send(quic.stream(0, b"", fin=True))
    t.expect_reset(0, "REQUEST_INCOMPLETE")
    t.expect_served(4)


@case()
def request_reset_at_once(t):
    t.open().send(quic.reset_stream(0, 0x10C, 0))
    t.expect_alive()
    t.expect_served(4)
    t.expect(len(t.port.exchanges) == 1, "the host got a request that is not one")


@case()
def request_ids_with_gaps(t):
    """RFC 9000 2.1: then lower numbers are open too"""
    t.open()
    t.ask(40, get("/40"))
    t.ask(8, get("/8"))
    t.expect_answer(40)
    t.expect_answer(8)


@case(script("wait go", "echo"))
def request_reset_in_progress(t):
    t.open().ask(0, get(), end=False)
    exchange = t.wait_request()
    size = t.offsets[0]
    t.send(quic.reset_stream(0, 0x10C, size), quic.stop_sending(0, 0x10C))
    t.until(lambda: exchange.gone is not None, "GONE")
    t.expect_served(4)


@case(script("wait go", "echo"))
def request_answer_not_wanted(t):
    """STOP_SENDING: the server stops sending, and the host is told"""
    t.open().ask(0, get())
    exchange = t.wait_request()
    t.send(quic.stop_sending(0, 0x10C))
    t.until(lambda: exchange.gone is not None, "GONE")
    t.until(lambda: t.reset_code(0), "RESET_STREAM")
    t.expect_served(4)
