# SPDX-License-Identifier: Apache-2.0
"""Upgrades to other protocols, and CONNECT: bytes both ways under the usual credits."""

import time

from wire.websocket.case import BODY, BODY_END, DATA, DONE, END, GONE, READ, case

FIELDS = ("Upgrade: lines/1, other", "Connection: upgrade")


def says(t, *messages):
    t.port.send(*([kind, t.port.stream, *rest] for kind, *rest in messages))


def body(t):
    return b"".join(event[1] for event in t.port.heard if event[0] == BODY)


def tunnel(t, *more, protocol="lines/1", behind=b"", **request):
    t.port.upgrade = protocol
    t.send(t.request(*more, **request), behind)
    return t.answer()


@case(host="nothing")
def tunnel_upgrade(t):
    status, fields = tunnel(t, *FIELDS)
    t.expect(status == t.SWITCHED, f"{status}")
    if status == 101:
        t.expect((fields["upgrade"], fields["connection"]) == ("lines/1", "Upgrade"), f"{fields}")
    t.expect(t.port.head[8] & 12 == 4, f"flags {t.port.head[8]}")
    says(t, (READ, 10, 65000), (DATA, b"from the host\n"))
    t.send(b"from the client\n")
    t.until(lambda: t.input == b"from the host\n", "the host's line")
    t.until(lambda: body(t) == b"from the client\n", "the client's line")
    t.input = b""
    says(t, (END, None))
    t.expect_eof()
    t.hears_end(DONE)


@case(host="nothing")
def tunnel_connect(t):
    status, fields = tunnel(t, protocol="", method="CONNECT", path="example.com:443", host="example.com:443")
    t.expect(status == 200 and "content-length" not in fields and "transfer-encoding" not in fields, f"{status} {fields}")
    says(t, (READ, 10, 65000))
    t.send(b"\x16\x03\x01")
    t.until(lambda: body(t) == b"\x16\x03\x01", "the bytes")
    says(t, (DATA, b"\x16\x03\x03"))
    t.until(lambda: t.input == b"\x16\x03\x03", "the bytes")


@case(host="nothing")
def tunnel_bytes_behind_the_request(t):
    tunnel(t, *FIELDS, behind=b"early\n")
    says(t, (READ, 10, 65000))
    t.send(b"late\n")
    t.until(lambda: body(t) == b"early\nlate\n", "both lines")


@case(host="nothing")
def tunnel_chunks(t):
    """as many chunks as requested, of the requested size"""
    tunnel(t, *FIELDS, behind=b"abcdefghij")
    says(t, (READ, 2, 3))
    t.until(lambda: len(t.port.heard) == 2, "two chunks")
    t.sync()
    t.expect(t.port.heard == [(BODY, b"abc"), (BODY, b"def")], f"{t.port.heard}")
    says(t, (READ, 1, 100))
    t.until(lambda: body(t) == b"abcdefghij", "the rest")


@case(host="nothing")
def tunnel_client_ends(t):
    """the client's half; the host continues"""
    tunnel(t, *FIELDS, behind=b"last")
    says(t, (READ, 10, 65000))
    t.end()
    t.until(lambda: (BODY_END, None) in t.port.heard, "BODY_END")
    t.expect(body(t) == b"last", f"{body(t)}")
    says(t, (DATA, b"answer"), (END, None))
    t.until(lambda: t.eof, "the end")
    t.expect(t.input == b"answer", f"{t.input}")
    t.hears_end(DONE)


@case(host="nothing")
def tunnel_large_both_ways(t):
    tunnel(t, *FIELDS)
    says(t, (READ, 1000, 65000), *[(DATA, bytes(50000))] * 5)
    t.send(bytes(1000000))
    t.until(lambda: len(body(t)) == 1000000 and len(t.input) == 250000, "all of it")


@case(host="nothing")
def tunnel_reset(t):
    tunnel(t, *FIELDS)
    t.reset()
    t.hears_end(GONE, "reset")


@case(host="nothing", idle_timeout=1200)
def tunnel_idle(t):
    """bytes in either direction postpone it"""
    tunnel(t, *FIELDS)
    says(t, (READ, 10, 65000))
    for line in (b"1", b"2", b"3", b"4", b"5", b"6"):
        time.sleep(0.25)
        t.send(line) if line in b"135" else says(t, (DATA, line))
    t.until(lambda: t.eof, "the end")
    t.hears_end(GONE, "timeout")
    t.expect(body(t) == b"135" and t.input == b"246", f"{body(t)} {t.input}")


@case(host="nothing", idle_timeout=2000)
def tunnel_idle_is_over_when_it_ends(t):
    tunnel(t, *FIELDS)
    says(t, (DATA, b"all"), (END, None))
    t.until(lambda: t.eof, "the end")
    t.hears_end(DONE)


@case(host="nothing")
def tunnel_abort(t):
    tunnel(t, *FIELDS)
    says(t, (9, 500))
    t.expect_eof()
    t.hears_end(GONE, "aborted")


def host_breaks(what, status, *fields, protocol="lines/1", **request):
    def run(t):
        got, _ = tunnel(t, *fields, protocol=protocol, **request)
        t.expect(got == status, f"{got}")
        t.sync()
        t.expect(t.port.errors == [what], f"{t.port.errors}")
        t.port.errors.clear()

    return run


case("tunnel_not_asked_for", host="nothing")(host_breaks("message the request does not ask for an upgrade", 500))
case("tunnel_with_a_body", host="nothing", http=(1,))(
    host_breaks("message the request does not ask for an upgrade", 500, *FIELDS, "Content-Length: 1")
)
case("tunnel_protocol_not_a_token", host="nothing")(
    host_breaks("message the protocol is not a token", 500, *FIELDS, protocol="a\r\nb: c")
)
case("tunnel_with_options", host="nothing", max_message=1)(
    host_breaks("max_message is not a tunnel option", 500, *FIELDS)
)


@case(host="nothing")
def tunnel_send(t):
    tunnel(t, *FIELDS)
    says(t, (14, 1, b"x", 0))
    t.expect_eof()
    t.sync()
    t.expect(t.port.errors == ["message the stream is not a WebSocket"], f"{t.port.errors}")
    t.port.errors.clear()
