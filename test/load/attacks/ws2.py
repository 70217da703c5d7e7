# SPDX-License-Identifier: Apache-2.0
"""Attacks on WebSockets over HTTP/2 (RFC 8441): many sockets on one connection, whose bytes are in DATA frames."""

import collections

import h2
from lib import h2 as frames, ws as wire
from lib.h2 import encode
from lib.ws import BINARY, CLOSE as CLOSE_FRAME, PING, frame
from crowd import CLOSE, attack
from h2 import CALM

SOCKET = encode([*h2.request("/echo", "CONNECT", [(":protocol", "websocket")]), ("sec-websocket-version", "13")])
STREAMS = range(1, 41, 2)
FRAME_MAX = 16384
NO_WINDOW = frames.settings((frames.INITIAL_WINDOW_SIZE, 0))


class Tunnels:
    """The sockets of a connection: the bytes received on each, and the windows."""

    def __init__(self, client):
        self.client, self.initial, self.room, self.all_room = client, 65535, {}, 65535
        self.open, self.resets, self.data = set(), {}, collections.defaultdict(bytes)

    def look(self):
        """Handles the received frames, except GOAWAY, which the crowd counts."""
        taken, rest = frames.split(self.client.received)
        self.client.received = b"".join(self.take(*one) for one in taken) + rest
        return self

    def take(self, kind, flags, stream, payload):
        if kind == frames.GOAWAY:
            return frames.frame(kind, flags, stream, payload)
        if kind == frames.HEADERS:
            self.open.add(stream)
        elif kind == frames.DATA:
            self.data[stream] += payload
        elif kind == frames.RST_STREAM:
            self.resets[stream] = frames.ERRORS[int.from_bytes(payload, "big")]
        elif kind == frames.WINDOW_UPDATE and stream:
            self.room[stream] = self.room.get(stream, self.initial) + int.from_bytes(payload, "big")
        elif kind == frames.WINDOW_UPDATE:
            self.all_room += int.from_bytes(payload, "big")
        return b""

    def closes(self):
        """The codes of the Close frames so far."""
        return [code for data in self.data.values() for code in close_codes(data)]

    def ends(self):
        """How each socket has ended: a stream is also reset when its Close frame is not answered in time."""
        return [end for s in STREAMS for end in list(close_codes(self.data[s])) or [self.resets.get(s)] if end]

    def send(self, stream, octets):
        """DATA frames with as many bytes as the windows allow; and how many these are."""
        size = min(len(octets), self.all_room, self.room.get(stream, self.initial))
        self.all_room -= size
        self.room[stream] = self.room.get(stream, self.initial) - size
        return b"".join(frames.data(stream, octets[at : min(at + FRAME_MAX, size)]) for at in range(0, size, FRAME_MAX)), size


def close_codes(data):
    while taken := wire.take(data):
        (opcode, payload, _, _), data = taken
        if opcode == CLOSE_FRAME:
            yield str(int.from_bytes(payload[:2], "big"))


def sockets(name, answer, ends, limit="", settings=b"", **more):
    """settings: SETTINGS of the client, in addition to the usual ones. The script begins after the answers to all handshakes; after it each stream must
    end."""

    def add(script):
        def whole(client):
            tunnels = Tunnels(client)
            yield h2.OPEN + settings
            yield b"".join(frames.headers(s, SOCKET) for s in STREAMS)
            while len(tunnels.look().open) < len(STREAMS):
                yield 0.002
            yield from script(tunnels)
            for end in tunnels.ends():
                client.note(end)
            yield CLOSE

        return attack("ws2", name, answer, ends, limit, **more)(whole)

    return add


def flood(tunnels, octets):
    """On all sockets, as fast as the windows are opened, until each is reset."""
    left = {s: b"" for s in STREAMS}
    while len(tunnels.look().resets) < len(STREAMS):
        burst = []
        for s in STREAMS:
            left[s] = left[s] or octets
            sent, size = tunnels.send(s, left[s])
            left[s] = left[s][size:]
            burst.append(sent)
        yield b"".join(burst) or frames.ping()
        yield 0.02


# ---- the sockets as streams


@h2.flood("sockets that are opened and reset", f"GOAWAY {CALM}", CALM, ":h2_max_resets, :h2_reset_rate", kind="ws2")
def opened_and_reset(_):
    for s in h2.streams():
        yield frames.headers(s, SOCKET) + frames.rst(s)


@h2.flood("sockets that are reset when they are open", f"GOAWAY {CALM}", CALM, ":h2_max_resets, :h2_reset_rate", kind="ws2")
def open_and_reset(client):
    tunnels = Tunnels(client)
    for s in h2.streams():
        yield frames.headers(s, SOCKET)
        while s not in tunnels.look().open:
            yield 0.001
        yield frames.rst(s)


@h2.flood("empty DATA on a socket", f"GOAWAY {CALM}", CALM, ":h2_empty_data", kind="ws2")
def empty_data(_):
    yield frames.headers(1, SOCKET)
    yield from h2.forever(frames.data(1))


# ---- the same bytes on all sockets


@sockets("15 bytes that announce 1 GiB", "Close 1009", "1009", ":max_message")
def announced(tunnels):
    octets = wire.header(BINARY, 1 << 30, width=8) + b"x"
    yield b"".join(tunnels.send(s, octets)[0] for s in STREAMS)
    while len(tunnels.look().closes()) < len(STREAMS):
        yield 0.02


@sockets("large messages that are never finished", "Close 1001", "1001", ":max_message, :idle_timeout", websocket="[idle_timeout: 400, close_timeout: 200]")
def unfinished(tunnels):
    left = {s: wire.header(BINARY, 1 << 20, width=8) + bytes(900000) for s in STREAMS}
    while len(tunnels.look().closes()) < len(STREAMS):
        for s in STREAMS:
            sent, size = tunnels.send(s, left[s])
            left[s] = left[s][size:]
            yield sent
        yield 0.02


@sockets("pings whose pongs have no window", "the newest waits; RST_STREAM CANCEL", "CANCEL", ":write_timeout", settings=NO_WINDOW, loud=True, write_timeout=400)
def unread_pongs(tunnels):
    return flood(tunnels, frame(PING, b"x" * 125) * 100)


@sockets("messages whose echoes have no window", "no longer read; RST_STREAM CANCEL", "CANCEL", ":write_timeout, :window", settings=NO_WINDOW, loud=True, write_timeout=400)
def unread_echoes(tunnels):
    return flood(tunnels, frame(BINARY, bytes(16384)))
