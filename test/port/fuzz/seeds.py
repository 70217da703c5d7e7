#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of the fuzz targets to test/fixtures/fuzz. Inputs that fuzzers found are beside them, and are kept.

Each function makes the inputs of one target; the target's file says how it reads them."""

import gzip
import pathlib
import struct
import sys
import zlib

REPO = pathlib.Path(__file__).resolve().parents[3]
FOLDER = REPO / "test/fixtures/fuzz"
sys.path[:0] = [str(REPO / "test")]
from lib import h2 as wire, mp  # noqa: E402
from wire.http1 import corpus  # noqa: E402


HELLO, DEMAND, READ, DISCARD, RESPOND, HEAD, DATA, END, INFORM, ABORT, DRAIN, STATS, PING, UPGRADE, SEND, CLOSE, PUSH = range(17)


def golden():
    """Name and payload of each golden frame."""
    for file in sorted((REPO / "test/fixtures/frames").glob("*.hex")):
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        yield file.stem, bytes.fromhex("".join(lines))[4:]


# ---- host


def frame(*messages):
    payload = b"".join(m if isinstance(m, bytes) else mp.encode(m) for m in messages)
    return struct.pack(">H", len(payload)) + payload


def time(ms):
    return struct.pack(">H", 1 << 14 | ms)


def raw(bytes_):
    return struct.pack(">H", 2 << 14 | len(bytes_)) + bytes_


def client(i):
    return struct.pack(">H", 3 << 14 | i)


def host():
    everybody = b"\xff\x00"
    for name, payload in golden():
        if 0 < len(payload) < 400:
            yield "golden-" + name, b"\xff\x02" + frame(payload)
    yield "respond", everybody + frame(*([RESPOND, i, 200, ["content-type", "text/plain"], "hello"] for i in range(1, 11)))
    yield "stream", everybody + b"".join(
        frame([HEAD, i, 200, [16, b"text/plain"], None], [DATA, i, "hello"]) + frame([END, i, ["x", "y"] if i > 3 else None]) for i in range(1, 11)
    )
    yield "length", everybody + b"".join(frame([HEAD, i, 200, [14, "5"], 5], [DATA, i, "hello"], [END, i, None]) for i in (1, 4, 9))
    bodies = b"".join(frame([READ, i, 4, 65000]) for i in (3, 4, 10)) + client(1) + client(2) + client(7)
    yield "bodies", everybody + bodies + frame([RESPOND, 3, 201, [], ""], [RESPOND, 4, 204, [], ""], [RESPOND, 10, 404, [], "no"])
    yield "decode", everybody + b"".join(frame([30, i, 3, 100], [READ, i, 1, 3]) for i in (3, 4, 10)) + client(1) + client(2) + client(7) + frame([READ, 4, 9, 1])
    yield "discard", everybody + b"".join(frame([DISCARD, i], [RESPOND, i, 413, [], ""]) for i in (3, 4, 10)) + client(1) + client(2) + client(7)
    yield "inform", everybody + frame(*([INFORM, i, 103, [33, "</a>"]] for i in (1, 8, 9))) + frame([ABORT, 1, 500], [ABORT, 9, 503])
    yield "push", everybody + frame([PUSH, 9, "/pushed?x", [1, "utf-8"]]) + frame([RESPOND, 9, 200, [], "a"], [RESPOND, 11, 200, [], "b"])
    opened = [UPGRADE, 5, "websocket", [52, "chat"], {}], [READ, 5, 9, 65000]
    deflated = [UPGRADE, 6, "websocket", [], {"compress": {"level": 3, "client_max_window_bits": 9}, "max_message": 3000}], [READ, 6, 9, 65000]
    yield "websocket", b"\xff\x02" + frame(*opened) + client(3) + frame([SEND, 5, 1, "hello", 0], [SEND, 5, 2, "a", 1], [SEND, 5, 2, "b", 0]) + frame([CLOSE, 5, 1000, "bye"])
    yield "deflate", everybody + frame(*deflated) + client(4) + frame([SEND, 6, 1, "hello" * 50, 0], [SEND, 6, 9, "", 0], [SEND, 6, 10, "p", 0]) + client(4) + client(4)
    yield "tunnel", everybody + frame([UPGRADE, 7, "", [], {}], [READ, 7, 2, 3]) + client(5) + frame([DATA, 7, "out"], [READ, 7, 9, 500]) + client(5) + frame([END, 7, None])
    yield "times", everybody + time(5000) + time(16000) + frame([STATS, 7], [PING, 8]) + time(16000) * 4
    yield "drain", everybody + frame(*opened) + frame([DRAIN, 3000]) + time(2000) + time(2000)
    yield "queue", b"\xff\x04" + frame([DEMAND, 2]) + time(900) + frame([DEMAND, 1 << 31], [RESPOND, 1, 200, [], "x" * 300])
    yield "window", b"\xff\x0a" + b"".join(frame([HEAD, 1, 200, [], None]) + frame([DATA, 1, "x" * 1000]) * 5 for _ in range(2))
    yield "deaf", b"\xff\x12" + frame([STATS, 7], [PING, 8]) * 40
    yield "cut", everybody + raw(b"\0\0\0") + raw(b"\x03\x93\x0b") + raw(b"\x07")
    yield "long", everybody + raw(b"\x7f\xff\xff\xff")
    options = {"listeners": [{"address": "::1", "port": 0, "backlog": 5, "reuse_port": True, "ipv6_only": False}], "server": None, "report": True}
    numbers = {"window": 65536, "max_frame": 200000, "handler_timeout": 7, "h2_max_streams": 1, "max_queue": 1}
    yield "hello", b"\x00\x01" + frame([HELLO, 1, {**options, **numbers}], [DEMAND, 3])
    yield "hello-wrong", b"\x00\x01" + frame([HELLO, 1, {"listeners": [{"adress": "::1"}]}])


# ---- frame


def frame_():
    for name, payload in golden():
        if 0 < len(payload) < 2000:
            yield name, payload


# ---- h1


def h1():
    """Some of the clients' bytes from the conformance corpus, to each kind of host in turn."""
    files = "body_framing chunked connection cves expect headers pipelining request_line smuggling trailers".split()
    cases = [case for name in files for case in corpus._Reader(corpus.CASES / f"{name}.txt").read()]
    for i, case in enumerate(cases):
        sent = b"".join(step[1] for step in case.steps if step[0] == "send")
        if i % 5 == 0 and len(sent) < 600:
            yield case.name, bytes([i // 5 % 5, i % 256]) + sent
    post = b"POST / HTTP/1.1\r\nHost:\ta \t\r\nTransfer-Encoding:\tchunked\t\r\n\r\n"
    yield "chunk-extensions", b"\0\7" + post + b'5;a="b\\"c;";d=e\r\nhello\r\n3 ;\tf = "" ; g\r\nabc\r\n0;h\r\nX: y\t\r\n\r\nGET / HTTP/1.0\r\n\r\n'
    yield "length-tabs", b"\2\7POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t5 \t\r\nExpect:\t100-continue\t\r\n\r\nhello"
    upgrade = b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: line\r\nConnection: Upgrade\r\n\r\nfirst"
    yield "upgrade", b"\4\x11" + upgrade
    yield "connect", b"\4\x22CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nbytes"
    yield "websocket", b"\0\x33" + upgrade.replace(b"line", b"websocket")


# ---- h2


def h2():
    def get(stream, path="/", method="GET", **more):
        return wire.headers(stream, [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a"), *more.pop("fields", [])], **more)

    bodies = wire.data(1, b"hello") + wire.data(1, b" world", end=True, pad=3)
    block = wire.encode([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("cookie", "a=b"), ("x", "y" * 40)])
    cut = wire.headers(1, block[:10], end=True, flags=0) + wire.continuation(1, block[10:30], end=False) + wire.continuation(1, block[30:])
    sequences = {
        "get": get(1, end=True) + get(3, "/2?q", end=True),
        "post": get(1, method="POST") + bodies,
        "length": get(1, method="PUT", fields=[("content-length", "11")]) + bodies,
        "short": get(1, method="PUT", fields=[("content-length", "12")]) + bodies,
        "trailers": get(1, method="POST", fields=[("te", "trailers")]) + wire.data(1, b"x") + wire.headers(1, [("x-y", "z")], end=True),
        "reset": get(1, method="POST") + wire.data(1, b"x") + wire.rst(1) + get(3, end=True) + wire.rst(3),
        "continuation": cut,
        "window": wire.settings((wire.INITIAL_WINDOW_SIZE, 3)) + get(1, end=True) + wire.window(1, 1) + wire.window(0, 1000) + wire.window(1, 0),
        "settings": wire.settings((wire.HEADER_TABLE_SIZE, 0), (wire.ENABLE_PUSH, 0), (wire.MAX_FRAME_SIZE, 16384)) + wire.settings(ack=True) + get(1, end=True),
        "ping": wire.ping() + wire.ping(ack=True) + wire.priority(1, 3) + wire.goaway(0) + get(1, end=True),
        "priority": wire.headers(1, block, end=True, flags=36, before=b"\0\0\0\0\x0f") + wire.frame(16, 0, 0, b"\0\0\0\1u=0,i"),
        "padding": wire.frame(1, 13, 1, b"\4" + block + bytes(4)),
        "table": wire.headers(1, wire.literal(":method", "GET", 0x40) + b"\x84\x86" + wire.literal(":authority", "a", 0x40), end=True)
        + wire.headers(3, b"\xbf\xbe\x84\x86\x3f\x45", end=True),
        "connect": wire.headers(1, [(":method", "CONNECT"), (":authority", "a:1")]) + bodies,
        "websocket": wire.headers(1, [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/ws"), (":authority", "a"), ("sec-websocket-version", "13"), ("sec-websocket-extensions", "permessage-deflate")])
        + wire.data(1, b"\x81\x85\0\0\0\0hello\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00") + wire.data(1, b"\x88\x80\0\0\0\0", end=True),
        "empty": get(1, method="POST") + wire.data(1) * 3 + wire.data(1, end=True),
        "names": get(1, fields=[("X", "y"), ("connection", "close")], end=True) + get(3, fields=[("host", "b"), ("x", "a\r\n")], end=True),
        "even": get(2, end=True),
        "unknown": wire.frame(0x42, 7, 1, b"abc") + wire.frame(wire.PUSH_PROMISE, 4, 1, b"\0\0\0\2" + block),
    }
    for i, (name, frames) in enumerate(sequences.items()):
        yield name, bytes([i % 6 | i % 4 << 4]) + frames
    yield "socket", b"\x05" + sequences["websocket"]
    yield "tunnel", b"\x14" + sequences["connect"]
    yield "raw", b"\x08" + wire.PREFACE + wire.settings() + get(1, end=True)
    yield "raw-cut", b"\x18" + wire.PREFACE + wire.settings() + cut


# ---- ws


def ws():
    def piece(first, data):
        return bytes([first]) + struct.pack(">H", len(data)) + data

    def deflated(data):
        z = zlib.compressobj(9, zlib.DEFLATED, -15)
        return (z.compress(data) + z.flush(zlib.Z_SYNC_FLUSH))[:-4]

    plain = {
        "text": piece(0x81, b"hello") + piece(0x81, "h\u00e4l\u20ac\U0001f600".encode()),
        "binary": piece(0x82, bytes(range(200))) + piece(0x82, b""),
        "fragments": piece(0x01, b"h\xc3") + piece(0x89, b"p") + piece(0x00, b"\xa4") + piece(0x80, b"!"),
        "close": piece(0x88, b"\x03\xe8bye") + piece(0x81, b"late"),
        "close-empty": piece(0x88, b""),
        "close-code": piece(0x88, b"\x03\xed"),
        "ping": piece(0x89, b"abc") * 5 + piece(0x8A, b"abc"),
        "utf8": piece(0x81, b"\xed\xa0\x80"),
        "utf8-cut": piece(0x01, b"\xf4\x90"),
        "reserved": piece(0xB1, b"x"),
        "opcode": piece(0x83, b"x"),
        "control-fragment": piece(0x09, b"x"),
        "long": piece(0x82, b"x" * 300) * 3,
        "continuation": piece(0x80, b"x"),
    }
    for i, (name, frames) in enumerate(plain.items()):
        yield name, bytes([i % 2 << 4, i]) + frames
        yield name + "-small", bytes([4 | i % 2, i]) + frames
    text = deflated(b"hello hello hello")
    for how in (1, 3, 17, 5):
        yield f"deflate-{how}", bytes([how, 9]) + piece(0xC1, text) * 2 + piece(0x41, text[:5]) + piece(0x80, text[5:])
    yield "deflate-bomb", b"\x01\x07" + piece(0xC2, deflated(bytes(100000)))
    yield "deflate-wrong", b"\x01\x07" + piece(0xC2, b"\xff\xff\xff")
    yield "deflate-last", b"\x01\x07" + piece(0xC1, b"\x03\x00")
    yield "raw", b"\x08\x03\x81\x85\1\2\3\4" + bytes(a ^ b for a, b in zip(b"hello", b"\1\2\3\4\1"))
    yield "raw-long", b"\x08\x03\x82\xff\0\0\0\0\x40\0\0\0\0\0\0\0"
    yield "raw-unmasked", b"\x08\x03\x81\x05hello"


# ---- ops


def ops():
    connect, turn, wait = b"\x06", b"\x0b", b"\x07"

    def asks(client, which):
        return bytes([0, client, which])

    def says(kind, *fields):
        return bytes([14, kind, *fields])

    bodies = asks(0, 2) + asks(1, 3) + turn + says(READ, 1, 2, 13) + says(READ, 2, 4, 13) + asks(1, 4) + asks(1, 6) + bytes([1, 0, 12]) + b"hello, world"
    socket = asks(0, 7) + turn + says(UPGRADE, 1, 0, 0, 0) + says(READ, 1, 5, 13) + bytes([2, 0, 0x81, 5]) + b"hello" + turn
    yield "answers", b"\x90" + asks(0, 0) + asks(1, 1) + turn + says(RESPOND, 1, 8, 0, 5) + b"hello" + says(RESPOND, 2, 8, 0, 0) + turn
    yield "bodies", b"\x91" + bodies + says(RESPOND, 1, 8, 1, 9, 8, 0) + says(HEAD, 2, 8, 0, 1) + says(DATA, 2, 4) + b"data" + says(END, 2, 1)
    yield "socket", b"\x90" + socket + says(SEND, 1, 1, 3, 0) + b"abc" + says(CLOSE, 1, 12, 0) + wait + b"\4"
    yield "deflate", b"\x90" + asks(0, 8) + turn + says(UPGRADE, 1, 0, 0, 2) + says(READ, 1, 5, 13) + says(SEND, 1, 1, 210, 0) + bytes([2, 0, 0x88, 0])
    yield "tunnel", b"\x90" + asks(0, 9) + turn + says(UPGRADE, 1, 1, 0, 0) + says(READ, 1, 5, 3) + says(DATA, 1, 3) + b"out" + says(END, 1, 1)
    yield "h2", b"\x96" + asks(0, 13) + bytes([4, 0, 4, 4, 0, 1, 3, 0, 0, 1, 3, 5]) + b"hello" + turn + says(PUSH, 1, 2, 0) + says(RESPOND, 1, 8, 0, 3) + b"abc" + says(READ, 2, 3, 13) + bytes([3, 0, 3, 0, 1, 4]) + b"\0\0\0\x08"
    yield "slow", b"\x93" + asks(0, 15) + turn + bytes([5, 0, 2]) + says(HEAD, 1, 8, 0, 1) + says(DATA, 1, 250) + says(DATA, 1, 250) + bytes([5, 0, 14]) + turn + wait + b"\6" + bytes([5, 0, 22])
    yield "queue", b"\x04" + asks(0, 0) + asks(1, 15) + connect + asks(2, 0) + turn + says(DEMAND, 2) + wait + b"\4"
    yield "leaves", b"\x95" + asks(0, 0) + asks(1, 2) + turn + bytes([5, 0, 0, 5, 1, 1]) + turn + says(RESPOND, 1, 8, 0, 0) + says(ABORT, 2, 9)
    yield "deaf", b"\x91\x08" + asks(0, 0) + says(STATS, 1) * 20 + turn + b"\x08" + turn
    yield "drain", b"\x91" + socket + asks(1, 2) + b"\x09\xff" + turn + wait + b"\5"


# ---- coding


def coding():
    def begin(which, accept, type_=b"text/plain"):
        return bytes([which, len(accept)]) + accept + bytes([len(type_)]) + type_

    hello, much, noise = b"\x05hello", b"\x90x", bytes([100]) + bytes(i * 37 % 251 for i in range(100))
    turn, leaves, end = b"\xa0", b"\xfe", b"\xff"
    for i, accept in enumerate((b"gzip", b"deflate", b"br", b"zstd")):
        name = accept.decode()
        yield name, begin(i, accept) + hello + turn + leaves + much * 8 + turn + noise + end
        yield name + "-flushed", begin(i, accept) + (hello + turn + leaves) * 5 + noise + turn * 3 + end
        yield name + "-slow", begin(i, accept) + b"\x9fy" * 16 + turn * 4 + b"\xc0" * 20 + turn + end
        yield name + "-empty", begin(i, accept) + end
        yield name + "-whole", begin(i, accept) + hello + noise + b"\x87z" * 4 + leaves + end
        yield name + "-too-long", begin(i, accept) + noise + b"\x9fy" * 5 + end
    yield "refused", begin(0, b"gzip;q=0, *;q=0.5, identity;q=0.5") + hello + end
    yield "star", begin(3, b"*;q=0.001,identity;q=0", b"application/json;charset=utf-8") + much + end
    yield "other-type", begin(0, b"gzip", b"image/png") + hello + end


# ---- decoding


def decoding():
    hello = {
        0: gzip.compress(b"hello", 1, mtime=0),
        1: zlib.compress(b"hello"),
        2: b"\x0b\x02\x80hello\x03",
        3: bytes.fromhex("28b52ffd04585d00002868656c6c6f0100d88a1689ac8f38"),
    }
    for which, body in hello.items():
        yield f"hello-{which}", bytes([which, 0, 0]) + body
        yield f"cut-{which}", bytes([which, 0, 0x11]) + body[:-1]
        yield f"twice-{which}", bytes([which, 0, 0x32]) + body + body
        yield f"limit-{which}", bytes([which, 128, 5]) + body
        yield f"gzip-over-{which}", bytes([which | 16, 0, 0x23]) + gzip.compress(body, 1, mtime=0)
    yield "bomb", bytes([0, 0, 255]) + gzip.compress(bytes(2 << 20), 9, mtime=0)
    yield "bomb-in-a-bomb", bytes([16, 0, 255]) + gzip.compress(gzip.compress(bytes(8 << 20), 9, mtime=0), 9, mtime=0)
    yield "plain", bytes([0, 0, 0]) + b"hello"


# ---- tls


def pieces(data, size):
    return b"\0" + b"".join(bytes([len(part)]) + part for part in (data[i : i + size] for i in range(0, len(data), size)))


def tls():
    def hello(name, versions=(0x0304, 0x0303)):
        extension = lambda kind, body: struct.pack(">HH", kind, len(body)) + body  # noqa: E731
        vector = lambda body: struct.pack(">H", len(body)) + body  # noqa: E731
        extensions = extension(0, vector(b"\0" + vector(name))) + extension(10, vector(b"\0\x17\0\x1d"))
        extensions += extension(13, vector(b"\x04\x03\x08\x04\x04\x01")) + extension(16, vector(b"\2h2\x08http/1.1"))
        numbers = b"".join(struct.pack(">H", version) for version in versions)
        extensions += extension(43, bytes([len(numbers)]) + numbers) + extension(51, vector(struct.pack(">HH", 0x1D, 32) + bytes(range(32))))
        body = b"\3\3" + bytes(32) + b"\x20" + bytes(32) + vector(b"\x13\1\xc0\x2b") + b"\1\0" + vector(extensions)
        return b"\1" + struct.pack(">I", len(body))[1:] + body

    def records(message, size=16384):
        return b"".join(b"\x16\3\1" + struct.pack(">H", len(part)) + part for part in (message[i : i + size] for i in range(0, len(message), size)))

    whole = records(hello(b"a.example"))
    for size in (1, 7, 255):
        yield f"hello-by-{size}", pieces(whole, size)
    yield "hello-in-records", pieces(records(hello(b"A"), 3), 255)
    yield "hello-1.2", pieces(records(hello(b"a", (0x0303,))), 255)
    yield "hello-and-more", pieces(whole + b"\x17\3\3\0\5hello" * 9, 255)
    yield "hello-twice", pieces(whole + whole, 255)
    yield "change-cipher-spec", pieces(whole + b"\x14\3\3\0\1\1" * 20, 255)
    yield "http", pieces(b"GET / HTTP/1.1\r\n\r\n", 255)
    yield "ssl2", pieces(b"\x80\x2e\1\3\1\0\x15", 255)
    yield "alert", pieces(b"\x15\3\1\0\2\2\x28", 255)
    yield "empty-record", pieces(b"\x16\3\1\0\0", 255)
    yield "honest", b"\1"
    for at in (0, 5, 43, 90, 200, 300, 400, 420, 480, 520, 560):
        yield f"changed-{at}", b"\1" + struct.pack(">HB", at, 1)


# ---- quic


def quic():
    def record(kind, bytes_):
        return struct.pack(">H", kind << 14 | len(bytes_)) + bytes_

    def number(n):
        return bytes([n]) if n < 64 else struct.pack(">H", 0x4000 | n)

    def stream(id_, data, offset=0, end=0):
        return bytes([0x0E | end]) + number(id_) + number(offset) + number(len(data)) + data

    def asks(method):
        return b"\x01\x08\0\0" + method + b"\xd7\x50\x01h\xc1"

    get, post = asks(b"\xd1"), asks(b"\xd4")
    socket = b"\x01\x1b\0\0\xcf\x50\x01h\xd7\xc1\x27\x02:protocol\x09websocket"
    new_id = lambda n, retire: bytes([0x18, n, retire, 8]) + bytes([n]) * 8 + b"\xee" * 16  # noqa: E731
    yield "get", b"\x09" + record(0, stream(0, get, 0, 1))
    yield "post", b"\x08" + record(0, stream(0, post + b"\0\4body", 0, 1))
    yield "stream", b"\x0a" + record(0, stream(0, post + b"\0\2bo")) + record(0, stream(0, b"\0\2dy", len(post) + 4, 1)) + time(1000)
    yield "ack", b"\x09" + record(0, stream(0, get, 0, 1)) + record(0, b"\x02\x05\0\0\x05")
    yield "reset", b"\x08" + record(0, stream(0, post) + b"\x04\0\x41\x0c" + number(len(post)))
    yield "stop", b"\x0a" + record(0, stream(0, get, 0, 1)) + record(0, b"\x05\0\x41\x0c")
    yield "moved", b"\x09" + record(3, stream(0, get, 0, 1)) + record(3, b"\x01")
    yield "crypto", b"\x09" + record(0, b"\x06\0\x05\x18\0\0\x01\0")
    yield "ids", b"\x09" + record(0, new_id(50, 50) + new_id(49, 0) + new_id(49, 0))
    yield "close", b"\x09" + record(0, b"\x1d\x41\0\0")
    yield "windows", b"\x09" + record(0, b"\x10\x60\0\x11\0\x60\0\x12\x40\xff\x14\0\x19\0")
    uni = record(0, stream(2, b"\0\4\0")) + record(0, stream(6, b"\2")) + record(0, stream(10, b"\3"))
    yield "control", b"\x01" + uni + record(0, stream(2, b"\x80\x0f\x07\0\x04\0u=1", 3)) + record(0, stream(0, get, 0, 1))
    yield "qpack", b"\x09" + record(0, stream(6, b"\x02\x3f\x21\xc1\x01x")) + record(0, stream(0, b"\x01\x09\x02\0\xd1\xd7\x50\x01h\xc1\x80", 0, 1))
    yield "socket", b"\x0c" + record(0, stream(0, socket))
    yield "raw", b"\x09" + record(2, b"\x40" + b"x" * 50) + time(60000)
    yield "nothing", b"\x09" + record(0, bytes.fromhex("0e0f080000000a0001d1d7500168c1"))


TARGETS = {"frame": frame_, "host": host, "h1": h1, "h2": h2, "ws": ws, "ops": ops, "coding": coding, "decoding": decoding, "tls": tls, "quic": quic}


def main():
    for target, inputs in TARGETS.items():
        folder = FOLDER / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, bytes_ in inputs():
            (folder / name).write_bytes(bytes_)


if __name__ == "__main__":
    main()
