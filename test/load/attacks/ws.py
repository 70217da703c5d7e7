# SPDX-License-Identifier: Apache-2.0
"""Attacks on WebSockets. Their frames one by one are in ../../wire/websocket/cases."""

import zlib

from lib import ws as wire
from lib.ws import BINARY, CONTINUATION, PING, TEXT, frame
from crowd import CLOSE, attack, jitter


def handshake(path, *more):
    lines = [f"GET {path} HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    return "\r\n".join([*lines, f"Sec-WebSocket-Key: {wire.KEY}", *more, "", ""]).encode()


def ws(name, answer, ends="", limit="", path="/echo", fields=(), **more):
    """The script begins after the handshake."""

    def add(script):
        def whole(client):
            yield handshake(path, *fields)
            while client.reads and b"\r\n\r\n" not in client.received:
                yield 0.002
            yield from script(client)

        return attack("ws", name, answer, ends, limit, **more)(whole)

    return add


def flood(*args, **more):
    return ws(*args, loud=True, **more)


def forever(octets):
    while True:
        yield octets


def nothing():
    while True:
        yield 60.0


# ---- endless messages


@ws("15 bytes that announce 1 GiB", "Close 1009", "1009", ":max_message", clients=100)
def announced(_):
    yield wire.header(BINARY, 1 << 30, width=8) + b"x"
    yield from nothing()


@flood("a message without end", "Close 1009", "1009", ":max_message")
def long_message(_):
    yield frame(BINARY, bytes(16384), fin=False)
    yield from forever(frame(CONTINUATION, bytes(16384), fin=False))


@flood("fragments of a byte", "Close 1009", "1009", ":max_fragments")
def fragments(_):
    yield frame(BINARY, b"x", fin=False)
    yield from forever(frame(CONTINUATION, b"x", fin=False) * 100)


@flood("empty fragments", "Close 1009", "1009", ":max_fragments")
def empty_fragments(_):
    yield frame(TEXT, b"", fin=False)
    yield from forever(frame(CONTINUATION, b"", fin=False) * 100)


@ws("large messages that are never finished, many at a time", "Close 1001", "1001", ":max_message, :idle_timeout", clients=20, websocket="[idle_timeout: 400, close_timeout: 200]")
def unfinished(_):
    yield wire.header(BINARY, 1 << 20, width=8) + bytes(900000)
    yield from nothing()


@ws("a message by the byte", "Close 1001", "1001", ":idle_timeout", clients=100, websocket="[idle_timeout: 400, close_timeout: 200]")
def slow_message(_):
    yield wire.header(BINARY, 1000)
    while True:
        yield jitter(0.05)
        yield b"x"


def bomb(size):
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (packer.compress(bytes(size)) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


BOMB = bomb(1 << 26)
DEFLATE = ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",)


@flood("compressed bombs", "Close 1009", "1009", ":max_message, :max_ratio", fields=DEFLATE, websocket="[compress: true]")
def bombs(_):
    yield frame(BINARY, BOMB, rsv=4)
    yield from nothing()


@flood("compressed bombs in small fragments", "Close 1009", "1009", ":max_message, :max_ratio", fields=DEFLATE, websocket="[compress: true]")
def bombs_in_pieces(_):
    yield frame(BINARY, BOMB[:100], fin=False, rsv=4)
    yield b"".join(frame(CONTINUATION, BOMB[at : at + 100], fin=False) for at in range(100, len(BOMB) - 100, 100))
    yield from nothing()


# ---- frames that cost more to answer than to send


@flood("pings", "answered")
def pings(_):
    return forever(frame(PING, b"12345678") * 100)


@flood("pings whose pongs are not read", "one pong waits; cut", "reset", ":write_timeout", reads=False, small=True, write_timeout=400)
def unread_pongs(_):
    return forever(frame(PING, b"x" * 125) * 100)


@flood("messages whose echoes are not read", "no longer read; cut", "reset", ":write_timeout, :window", reads=False, small=True, write_timeout=400)
def unread_echoes(_):
    return forever(frame(BINARY, bytes(16384)))


@flood("empty messages whose echoes are not read", "no longer read; cut", "reset", ":write_timeout, :window", reads=False, small=True, write_timeout=400)
def unread_empty_echoes(_):
    return forever(frame(BINARY, b"") * 1000)


@flood("a Close behind messages whose answers are not read", "cut", "reset", ":close_timeout", reads=False, small=True, write_timeout=400)
def unread_before_a_close(_):
    yield frame(BINARY, bytes(65536)) * 20 + wire.close(1000)
    yield from forever(frame(BINARY, bytes(16384)))


@flood("malformed frames", "Close 1002", "1002")
def malformed(_):
    return forever(b"\xff" * 4096)


# ---- slow clients


@ws("messages that are not read", "cut", "reset", ":write_timeout, :window", path="/push", clients=32, reads=False, small=True, write_timeout=400)
def unread(_):
    return nothing()


@ws("sockets that are silent", "Close 1001", "1001", ":idle_timeout", clients=200, websocket="[idle_timeout: 300, close_timeout: 200]")
def silent(_):
    return nothing()


@ws("sockets whose client is gone", "pinged, then cut", "reset", ":ping_interval", clients=200, websocket="[ping_interval: 200]")
def half_open(client):
    return nothing()


@ws("a Close that is not answered", "Close 1000, then cut", "1000", ":close_timeout", path="/bye", clients=200, websocket="[close_timeout: 300]")
def not_closing(_):
    return nothing()


@flood("pages of other origins (CSWSH)", "403", "403", ":origin", fields=("Origin: http://evil.example",))
def origins(client):
    client.note(client.received[9:12].decode())
    yield CLOSE
