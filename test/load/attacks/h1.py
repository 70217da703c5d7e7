# SPDX-License-Identifier: Apache-2.0
"""Attacks on HTTP/1.1 and on its connections. Malformed framing and smuggling are in ../../wire/http1/cases."""

import gzip
import itertools

from crowd import CLOSE, RESET, SHUT, attack, jitter

# A newcomer must send its request before all of these connections are replaced.
FULL = {"clients": 700, "max_connections": 500}

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def begin(path="/", method="GET", *fields):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *fields, ""]).encode()


def head(*args):
    return begin(*args) + b"\r\n"


def forever(octets, first=b""):
    yield first
    while True:
        yield octets


def drip(octets, every, first=b""):
    yield first
    while True:
        yield jitter(every)
        yield octets


def h1(*args, **more):
    return attack("h1", *args, **more)


# ---- slow clients


@h1("heads line by line (slowloris)", "408", "408", ":header_timeout", clients=100, header_timeout=400)
def slow_heads(_):
    return drip(b"X-A: b\r\n", 0.05, begin())


@h1("heads by the byte", "408", "408", ":header_timeout", clients=100, header_timeout=400)
def slow_bytes(_):
    return drip(b"x", 0.05)


@h1("connections that say nothing", "closed", "closed", ":first_byte_timeout", clients=200, first_byte_timeout=1000)
def nothing(_):
    while True:
        yield 60.0


@h1("connections that have been served and stay", "closed", "closed", ":idle_timeout", clients=200, idle_timeout=300)
def idle(client):
    yield GET
    while True:
        yield 60.0


@h1("half a head, and the client's side closed", "closed", "closed", clients=50)
def half_closed(_):
    yield begin()
    yield SHUT
    while True:
        yield 60.0


@h1("bodies by the byte (R-U-Dead-Yet)", "408", "408", ":body_rate, :body_grace", clients=100, body_grace=400)
def slow_bodies(_):
    return drip(b"x", 0.05, head("/read", "POST", "Content-Length: 1000000"))


@h1("chunks by the byte, slowly", "408", "408", ":body_rate, :body_grace", clients=100, body_grace=400)
def slow_chunks(_):
    return drip(b"1\r\nx\r\n", 0.05, head("/read", "POST", "Transfer-Encoding: chunked"))


@h1("100-continue is asked for, and nothing sent", "100, then 408", "408", ":body_rate, :body_grace", clients=100, body_grace=400)
def continued(_):
    return drip(b"", 60.0, head("/read", "POST", "Content-Length: 9", "Expect: 100-continue"))


@h1("much of a body at once, and then nothing", "408", "408", ":body_rate, :body_grace", clients=100, body_grace=400)
def pays_at_once(_):
    return drip(b"", 60.0, head("/read", "POST", "Content-Length: 1000000") + bytes(50000))


@h1("more that do not read than there may be", "cut, longest first", "closed reset", ":max_connections", reads=False, small=True, clients=90, max_connections=60)
def crowd_unread(_):
    return drip(b"", 60.0, head("/large"))


@h1("more bodies that do not come than there may be", "cut, longest first", "closed reset", ":max_connections", clients=90, max_connections=60)
def crowd_bodies(_):
    return drip(b"", 60.0, head("/read", "POST", "Content-Length: 1000000"))


@h1("bodies for a handler that does not read", "503", "503", ":handler_timeout", clients=100, handler_timeout=1500)
def unread(_):
    return forever(bytes(16384), head("/never", "POST", "Content-Length: 1000000000"))


@h1("answers that are not read", "cut", "reset", ":write_timeout, :window", clients=64, reads=False, small=True, write_timeout=400)
def not_reading(_):
    return drip(b"", 60.0, head("/endless"))


@h1("answers that are read by the byte", "cut", "reset", ":write_timeout, :window", clients=64, reads=False, small=True, write_timeout=400)
def reading_slowly(client):
    yield head("/endless")
    while True:
        yield jitter(0.05)
        client.bite()


# ---- bodies that the application has decoded


def bomb(size):
    return gzip.compress(bytes(size), 9)


BOMB = bomb(1 << 26)
BOMB_IN_A_BOMB = gzip.compress(bomb(1 << 30), 9)


def coded(coding, *fields):
    return head("/decode", "POST", f"Content-Encoding: {coding}", *fields)


@h1("bodies that are bombs", "413", "413 reset", "`ratio` of decode_body/2")
def bombs(_):
    yield coded("gzip", f"Content-Length: {len(BOMB)}") + BOMB
    yield from drip(b"", 60.0)


@h1("bodies that are bombs in bombs", "413", "413 reset", "`ratio` of decode_body/2")
def bombs_in_bombs(_):
    yield coded("gzip, gzip", f"Content-Length: {len(BOMB_IN_A_BOMB)}") + BOMB_IN_A_BOMB
    yield from drip(b"", 60.0)


@h1("bodies of empty pieces without end", "served", "", "none: they cost what they send")
def empty_members(_):
    members = gzip.compress(b"") * 800
    return forever(b"%x\r\n%s\r\n" % (len(members), members), coded("gzip", "Transfer-Encoding: chunked"))


@h1("windows of 8 MiB that are never filled", "408, or 503 at once", "408 503", ":decode_memory, :body_rate, :body_grace", clients=100, body_grace=400)
def empty_windows(_):
    return drip(b"\x01", 0.05, coded("zstd", "Content-Length: 1000000") + bytes.fromhex("28b52ffd0068"))


# ---- clients that try to occupy every worker, with default options


@h1("many that do not read", "served: a handler that waits for its client occupies no slot", "", ":share, :window", clients=130, reads=False, small=True, window=65536)
def many_unread(_):
    return drip(b"", 60.0, head("/endless"))


@h1("many bodies, just above the least rate", "served: a handler that waits for its client occupies no slot", "", ":share, :body_rate", clients=140)
def many_uploads(_):
    return drip(bytes(130), 0.5, head("/read", "POST", "Content-Length: 100000000"))


@h1("many bodies of which nobody sends more", "served: a handler that waits for its client occupies no slot", "", ":share, :body_grace", clients=140, body_grace=60000)
def many_silent(_):
    return drip(b"", 60.0, head("/read", "POST", "Content-Length: 100000000"))


# ---- endless heads


@h1("header fields without end", "431", "431", ":max_header_count, :max_header_block", loud=True)
def fields(_):
    return forever(b"X-A: b\r\n" * 500, begin())


@h1("one header field without end", "431", "431", ":max_header_line", loud=True)
def long_field(_):
    return forever(b"x" * 16384, begin() + b"X-A: ")


@h1("large heads that never end, many at a time", "408", "408", ":max_header_block, :header_timeout", clients=200, header_timeout=400)
def large_heads(_):
    return drip(b"", 60.0, begin() + (b"X-A: " + b"x" * 7000 + b"\r\n") * 4)


@h1("a request line without end", "414", "414", ":max_request_line", loud=True)
def long_line(_):
    return forever(b"x" * 16384, b"GET /")


@h1("a method without end", "501", "501", loud=True)
def long_method(_):
    return forever(b"X" * 16384)


@h1("empty lines", "400", "400", ":max_empty_lines", loud=True)
def empty_lines(_):
    return forever(b"\r\n" * 8000)


@h1("another protocol", "400", "400", loud=True)
def other_protocol(_):
    return forever(bytes(4096), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")


# ---- endless bodies


@h1("a body without end", "413", "413", ":max_body", loud=True, max_body=1000000)
def long_body(_):
    return forever(b"4000\r\n" + bytes(16384) + b"\r\n", head("/read", "POST", "Transfer-Encoding: chunked"))


@h1("a body without end that nobody wants", "200, then closed", "closed", ":skip_body, :skip_timeout", loud=True, linger_timeout=50)
def unwanted_body(_):
    return forever(b"4000\r\n" + bytes(16384) + b"\r\n", head("/", "POST", "Transfer-Encoding: chunked"))


@h1("chunks of a byte, as many as go in", "413", "413", ":max_body", loud=True, max_body=1000000)
def small_chunks(_):
    return forever(b"1\r\nx\r\n" * 4000, head("/read", "POST", "Transfer-Encoding: chunked"))


@h1("chunk extensions", "400", "400", ":max_chunk_extension", loud=True)
def extensions(_):
    return forever(b";a=" + b"x" * 16000, head("/read", "POST", "Transfer-Encoding: chunked") + b"1")


@h1("short chunk extensions on each chunk", "400", "400", ":max_chunk_extension", loud=True)
def many_extensions(_):
    return forever(b"1;abcdefghijklmnop=q\r\nx\r\n" * 500, head("/read", "POST", "Transfer-Encoding: chunked"))


@h1("digits of a chunk's size", "400", "400", loud=True)
def digits(_):
    return forever(b"0" * 16384, head("/read", "POST", "Transfer-Encoding: chunked"))


@h1("trailers without end", "431", "431", ":max_header_block, :max_header_count", loud=True)
def trailers(_):
    return forever(b"X-A: b\r\n" * 500, head("/read", "POST", "Transfer-Encoding: chunked") + b"0\r\n")


@h1("Expect again and again", "417", "417", loud=True)
def expects(_):
    return forever(head("/read", "POST", "Content-Length: 1", "Expect: 200-maybe") + b"x")


# ---- too many requests


@h1("pipelined requests", "served, so many at a time", "", ":max_pipeline", loud=True)
def pipelined(_):
    return forever(GET * 100)


@h1("pipelined requests whose answers are not read", "cut", "reset", ":max_pipeline, :window, :write_timeout", loud=True, reads=False, small=True, write_timeout=400)
def pipelined_unread(_):
    return forever(head("/large") * 100)


@h1("requests on one connection", "closed", "closed", ":max_requests", loud=True, max_requests=100)
def many_requests(_):
    return forever(GET)


@h1("field names never seen before", "served: names do not become atoms", "", loud=True)
def new_names(_):
    for n in itertools.count():
        yield head("/", "GET", *(f"X-{n}-{i}: {i}" for i in range(50)))


@h1("methods never seen before", "served: methods do not become atoms", "", loud=True)
def new_methods(_):
    for n in itertools.count():
        yield b"".join(head("/", f"M{n}-{i}") for i in range(50))


@h1("a thousand ranges of a file", "200: there are no ranges", "200", clients=4, loud=True)
def ranges(client):
    yield head("/file", "GET", "Range: bytes=" + ",".join(f"0-{i}" for i in range(1000)))
    while not client.received.endswith(b"Lines.serve()\n"):
        yield 0.002
    client.note(client.received[9:12].decode())
    yield CLOSE


# ---- too many connections


@h1("connections opened and closed", "accepted, closed", "", clients=20, loud=True)
def churn(_):
    yield CLOSE


@h1("connections opened and reset", "accepted, closed", "", clients=20, loud=True)
def resets(_):
    yield begin()
    yield RESET


@h1("requests whose clients leave at once", "the handler is notified", "", clients=5, loud=True)
def vanishing(_):
    yield head("/page")
    yield 0.002
    yield RESET


@h1("more idle connections than there may be", "closed, longest idle first", "closed reset", ":max_connections", **FULL)
def crowd_idle(client):
    yield GET
    while True:
        yield 60.0


@h1("more connections that say nothing than there may be", "closed, oldest first", "closed reset", ":max_connections", **FULL)
def crowd_silent(_):
    while True:
        yield 60.0


@h1("more unfinished heads than there may be", "closed, oldest first", "closed reset 408", ":max_connections", **FULL)
def crowd_heads(_):
    return drip(b"X-A: b\r\n", 0.2, begin())


@h1("refused connections that do not close, more than there may be", "400, closed", "400 closed reset", ":max_connections, :linger_timeout", **FULL)
def crowd_lingering(client):
    client.deaf = True
    yield b"\0"
    while True:
        yield 60.0
