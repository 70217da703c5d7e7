# SPDX-License-Identifier: Apache-2.0
"""Only in HTTP/2: extended CONNECT (RFC 8441), and the end of a stream instead of a connection."""

from lib import h2, ws as wire
from wire.websocket.sockets import STREAM, Head
from wire.websocket.case import ABORT, BODY_END, DATA, DONE, END, GONE, HANGUP, READ, RECV, RESPOND, UPGRADE, case
from lib.ws import BINARY, TEXT, frame

WEBSOCKET, ASKS = 8, 4
PSEUDO = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat?x"), (":authority", "a")]
VERSION = ("sec-websocket-version", "13")


def says(t, *messages):
    t.port.send(*([kind, t.port.stream, *rest] for kind, *rest in messages))


def head(*fields, without=(), end=False):
    return Head(h2.headers(STREAM, [f for f in [*PSEUDO, *fields] if f[0] not in without], end=end))


def asks(t):
    t.until(lambda: t.port.head or t.eof, "the request at the host")
    t.expect(t.port.head, f"reset: {t.reset_by}")
    return t.port.head


def resets_with(t, code):
    t.until(lambda: t.reset_by or t.eof, "RST_STREAM")
    t.expect(t.reset_by == code, f"{t.reset_by} instead of {code}")


@case(http=(2,))
def http2_is_told_as_an_upgrade(t):
    t.send(head(VERSION))
    version, method, _, authority, path, query, target, body, flags = asks(t)[:9]
    t.expect((version, method, authority, path, query, body) == (20, 0, "a", "/chat", "x", None), f"{t.port.head}")
    t.expect(target is None and flags & 12 == ASKS | WEBSOCKET, f"{t.port.head}")
    fields = dict(zip(t.port.head[13][::2], t.port.head[13][1::2]))
    t.expect(fields == {59: b"websocket", 53: b"13"}, f"{fields}")
    status, answer = t.answer()
    t.expect(status == 200 and set(answer) == {":status"}, f"{status} {answer}")
    t.closes()


@case(http=(2,))
def http2_protocol_in_capitals(t):
    t.send(Head(h2.headers(STREAM, [PSEUDO[0], (":protocol", "WebSocket"), *PSEUDO[2:], VERSION])))
    t.expect(t.answer()[0] == 200, "not taken")
    t.closes()


@case(http=(2,))
def http2_a_key_is_ignored(t):
    t.send(head(VERSION, ("sec-websocket-key", wire.KEY)))
    status, answer = t.answer()
    t.expect(status == 200 and "sec-websocket-accept" not in answer, f"{answer}")
    t.closes()


def refused(status, *fields, protocol="websocket"):
    def run(t):
        t.send(Head(h2.headers(STREAM, [PSEUDO[0], (":protocol", protocol), *PSEUDO[2:], *fields])))
        got, answer = t.answer()
        t.expect(got == status, f"{got}")
        t.expect(asks(t)[8] & 12 == ASKS, "the flags")
        t.sync()
        t.expect(t.port.errors == ["protocol is not what the request asks for"], f"{t.port.errors}")
        t.port.errors.clear()

    return run


case("http2_refused_without_version", http=(2,))(refused(426))
case("http2_refused_version_8", http=(2,))(refused(426, ("sec-websocket-version", "8")))
case("http2_refused_two_versions", http=(2,))(refused(400, VERSION, VERSION))
case("http2_refused_another_protocol", http=(2,))(refused(400, VERSION, protocol="connect-udp"))


def malformed(*fields):
    def run(t):
        t.send(Head(h2.headers(STREAM, list(fields))))
        resets_with(t, "PROTOCOL_ERROR")
        t.sync()
        t.expect(t.port.head is None, "the host was told")

    return run


def but(name, value):
    return [(n, value if n == name else v) for n, v in PSEUDO if not (n == name and value is None)]


MALFORMED = {
    "method_get": but(":method", "GET"),
    "protocol_twice": [PSEUDO[1], *PSEUDO],
    "protocol_empty": but(":protocol", ""),
    "protocol_not_a_token": but(":protocol", "a, b"),
    "protocol_too_long": but(":protocol", "p" * 200),
    "protocol_behind_fields": [*but(":protocol", None), VERSION, PSEUDO[1]],
    "no_path": but(":path", None),
    "no_scheme": but(":scheme", None),
    "no_authority": but(":authority", None),
    "path_star": but(":path", "*"),
    "upgrade_field": [*PSEUDO, ("upgrade", "websocket")],
    "connection_field": [*PSEUDO, ("connection", "upgrade")],
    "content_length": [*PSEUDO, VERSION, ("content-length", "5")],
}
for name, fields in MALFORMED.items():
    case(f"http2_malformed_{name}", http=(2,))(malformed(*fields))


@case(http=(2,))
def http2_bytes_cut_anywhere(t):
    """the head and the frames of the stream, a byte at a time"""
    text = frame(TEXT, "x" * 200)
    for byte in head(VERSION) + b"".join(h2.data(STREAM, text[i : i + 50]) for i in range(0, len(text), 50)):
        t.transmit(bytes([byte]))
    t.expect(t.answer()[0] == 200, "not taken")
    t.expect_message(TEXT, "x" * 200)
    t.closes()


@case(http=(2,), host="nothing")
def http2_window_opens_as_messages_are_taken(t):
    t.open().send(*[frame(BINARY, bytes(9994))] * 6)
    t.sync()
    t.expect(t.window(STREAM) == 65535 + 1 - 6 * 10002, f"a window of {t.window(STREAM)} without credit")
    says(t, (READ, 6, 1))
    t.until(lambda: len(t.port.heard) == 6, "six messages")
    t.until(lambda: t.window(STREAM) > 32768, "WINDOW_UPDATE")


@case(http=(2,))
def http2_end_without_close(t):
    t.open().send(frame(TEXT, "x"))
    t.expect_message(TEXT, "x")
    t.end()
    t.hears_end(GONE, "closed")
    resets_with(t, "CANCEL")


@case(http=(2,), host="nothing")
def http2_end_behind_what_is_not_read(t):
    """the host is told that the client left, and may still read what it sent"""
    t.open().send(frame(TEXT, "x"))
    t.end()
    t.hears(HANGUP)
    says(t, (READ, 2, 1))
    t.hears_end(GONE, "closed")
    t.expect(t.port.heard == [(HANGUP,), (RECV, TEXT, b"x"), (GONE, "closed")], f"{t.port.heard}")


@case(http=(2,))
def http2_end_inside_of_a_frame(t):
    t.open().send(frame(TEXT, "abcdef")[:4])
    t.end()
    t.hears_end(GONE, "closed")


@case(http=(2,))
def http2_end_with_the_head(t):
    t.send(head(VERSION, end=True))
    t.hears_end(GONE, "closed")


@case(http=(2,))
def http2_trailers(t):
    t.open()
    t.transmit(h2.headers(STREAM, [("a", "b")], end=True))
    resets_with(t, "PROTOCOL_ERROR")
    t.hears_end(GONE, "error")


@case(http=(2,))
def http2_connection_ends(t):
    t.open().close()
    t.hears_end(GONE)


@case(http=(2,), host="nothing")
def http2_abort(t):
    t.open()
    says(t, (ABORT, 500))
    t.expect_close(1011)
    t.hears_end(GONE, "aborted")


@case(http=(2,), host="silent")
def http2_answered_as_any_request(t):
    t.send(head(VERSION), frame(TEXT, "early"))
    asks(t)
    says(t, (RESPOND, 403, [], b"no"))
    status, answer = t.answer()
    t.until(lambda: t.input == b"no", "the body")
    t.expect(status == 403 and answer["content-length"] == "2", f"{status} {answer}")
    resets_with(t, "NO_ERROR")
    t.hears_end(DONE)


@case(http=(2,), host="silent")
def http2_a_2xx_has_no_length(t):
    """RFC 9110 9.3.6"""
    t.send(head(VERSION))
    asks(t)
    says(t, (RESPOND, 200, [], b"hello"))
    status, answer = t.answer()
    t.expect(status == 200 and "content-length" not in answer, f"{status} {answer}")
    t.until(lambda: t.input == b"hello", "the body")
    t.hears_end(DONE)


@case(http=(2,), host="silent")
def http2_early_bytes_wait_for_the_answer(t):
    t.send(head(VERSION), frame(TEXT, "early"))
    asks(t)
    t.sync()
    says(t, (UPGRADE, "websocket", [], {}), (READ, 1, 1))
    t.hears(RECV, TEXT, b"early")


@case(http=(2,), host="silent")
def http2_reset_before_the_answer(t):
    t.send(head(VERSION), frame(TEXT, "early"))
    asks(t)
    t.reset()
    t.hears_end(GONE, "reset")


@case(http=(2,), host="silent")
def http2_another_protocol_is_a_tunnel(t):
    t.send(Head(h2.headers(STREAM, [PSEUDO[0], (":protocol", "lines/1"), *PSEUDO[2:]])))
    t.expect(asks(t)[8] & 12 == ASKS, "the flags")
    says(t, (UPGRADE, "lines/1", [], {}), (READ, 9, 65000), (DATA, b"down"))
    t.send(b"up")
    t.until(lambda: t.input == b"down", "the host's bytes")
    t.end()
    t.hears(BODY_END, None)
    says(t, (DATA, b"!"), (END, None))
    t.until(lambda: t.eof, "the end")
    t.expect(t.input == b"down!" and t.reset_by is None, f"{t.input} {t.reset_by}")
    t.hears_end(DONE)
