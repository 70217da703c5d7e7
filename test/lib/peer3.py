# SPDX-License-Identifier: Apache-2.0
"""An HTTP/3 client that can send any frame, next to the host that answers the port's requests."""

import select
from pathlib import Path

from . import h3 as wire
from . import peer, quic
from .peer import QUIET

CONTROL, ENCODER, DECODER = 2, 6, 10

TLS = Path(__file__).resolve().parents[1] / "fixtures" / "tls"


def listener(http3=None):
    certificate = {"chain": (TLS / "a-ec.crt").read_bytes(), "key": (TLS / "a-ec.key").read_bytes()}
    return {"address": "127.0.0.1", "port": 0, "tls": {"certificates": [certificate]}, "http3": dict(http3 or {})}


class Answer(peer.Answer):
    def __init__(self):
        super().__init__()
        self.frames = []  # their kinds

    def values(self, name):
        return [value for key, value in self.fields or [] if key == name]

    def take(self, kind, payload):
        self.frames.append(kind)
        if kind == wire.DATA:
            self.body += payload
        elif kind == wire.HEADERS:
            self.head(wire.decode(payload))


class H3(peer.Streams, quic.Client):
    ANSWER = Answer

    def __init__(self, port, **how):
        super().__init__(port.address, **{"name": "a.example", **how})
        self.port = port
        self.answers = {}
        self.control, self.pushes = [], []
        self.settings = self.goaway = None
        self.unread, self.roles = {}, {}
        self.reading = True
        self.last_stream = -4

    # ---- opening

    def open(self, *pairs, control=True):
        """The handshake, and the streams that a client has."""
        self.handshake()
        if control:
            self.send(quic.stream(CONTROL, number_of(wire.CONTROL) + wire.settings(*pairs)))
            self.offsets[CONTROL] = 1 + len(wire.settings(*pairs))
            self.until(lambda: self.settings is not None, "SETTINGS")
        return self

    def handshake(self):
        self.send_hello()
        self.until(lambda: self.confirmed, "HANDSHAKE_DONE")
        return self

    def control_frames(self, *parts):
        self.on_stream_of_ours(CONTROL, b"".join(parts))

    def on_stream_of_ours(self, id, data, fin=False):
        """More bytes of a stream, whatever its window is."""
        for start in range(0, max(len(data), 1), 1100):
            piece = data[start : start + 1100]
            at = self.offsets.get(id, 0)
            self.send(quic.stream(id, piece, at, fin and start + 1100 >= len(data)))
            self.offsets[id] = at + len(piece)

    def ask(self, id, fields, body=None, end=True, trailers=None):
        out = wire.headers(fields)
        if body is not None:
            out += wire.data(body)
        if trailers is not None:
            out += wire.headers(trailers)
        self.send_stream(id, out, end)

    def leave(self):
        """The server need not wait for it."""
        if self.sock.fileno() >= 0 and self.established and not self.closed and self.spaces[quic.APP].tx:
            self.send(quic.application_close(0x100))
        self.close()

    # Functions of the versions that carry requests on streams: see H2.

    def open_wide(self):
        self.open()

    def next_stream(self):
        self.last_stream += 4
        return self.last_stream

    def send_head(self, id, fields, end):
        self.send_stream(id, wire.headers([pair if pair[0] != b":scheme" else (b":scheme", b"https") for pair in fields]), end)

    def send_body(self, id, data, end):
        self.send_stream(id, wire.data(data) if data else b"", end)

    def send_trailers(self, id, fields):
        self.send_stream(id, wire.headers(fields), True)

    def sync(self):
        """Waits until the port has read everything that was sent, and the host has received its messages about it."""
        self.expect_alive()
        self.port.ping()
        self.until(lambda: self.port.pongs == self.port.pings, "PONG")

    @property
    def gone(self):
        return bool(self.closed)

    def reset(self):
        self.leave()
        self.closed = self.closed or ("NO_ERROR", "left", b"")

    # ---- receiving

    def step(self, patience=0.0):
        inputs = [self.port.out] + ([self.sock] if self.reading and self.sock.fileno() >= 0 else [])
        due = quic.RESENT if any(space.sent for space in self.spaces.values()) and self.resends else patience
        ready, _, _ = select.select(inputs, [], [], min(patience, due))
        if self.port.out in ready:
            self.port.pump()
        if self.sock in ready:
            self.receive()
        self.resend()
        return ready

    def on_stream(self, level, space, id, offset, data, fin):
        super().on_stream(level, space, id, offset, data, fin)
        one = self.streams[id]
        fresh, one.data = one.data, b""
        buffer = self.unread.get(id, b"") + fresh
        if id & 2:
            buffer = self.take_server_stream(id, buffer)
        else:
            found, buffer = wire.split(buffer)
            for kind, payload in found:
                self.answer_on(id).take(kind, payload)
            self.answer_on(id).ended = one.ended
        self.unread[id] = buffer

    def on_reset_stream(self, level, space, id, code, size):
        super().on_reset_stream(level, space, id, code, size)
        self.answer_on(id).reset = self.reset_code(id)

    def take_server_stream(self, id, buffer):
        if id not in self.roles:
            if not buffer:
                return buffer
            self.roles[id], at = quic.read(buffer, 0)
            buffer = buffer[at:]
        if self.roles[id] != wire.CONTROL:
            return b""
        found, buffer = wire.split(buffer)
        for kind, payload in found:
            self.control.append((kind, payload))
            if kind == wire.SETTINGS:
                self.settings = pairs_of(payload)
            elif kind == wire.GOAWAY:
                self.goaway = quic.read(payload, 0)[0]
        return buffer

    # ---- expecting

    def seen(self):
        streams = {i: (a.status, a.body[:40], self.ended(i), self.reset_code(i)) for i, a in self.answers.items()}
        return f"closed {self.closing()}, goaway {self.goaway}, streams {streams}"

    def closing(self):
        """(kind, name of the error, reason), or None."""
        if not self.closed:
            return None
        code, kind, reason = self.closed
        return (wire.ERRORS.get(code, code) if kind == "application" else code, kind, reason)

    def expect_close(self, *codes, kind="application"):
        """Expects that the connection ends with one of these errors: of HTTP/3, or with kind="quic" of QUIC."""
        self.until(lambda: self.closed, "close")
        self.expect(self.closing()[0] in codes and self.closing()[1] == kind, f"not closed with {codes} of {kind}")

    def expect_quic_close(self, *codes):
        self.expect_close(*codes, kind="quic")

    def expect_silence(self, seconds=QUIET):
        before = self.datagrams_in
        self.quiet(seconds)
        self.expect(self.datagrams_in == before, f"{self.datagrams_in - before} datagrams came")

    def ended(self, id):
        return id in self.streams and self.streams[id].ended

    def reset_code(self, id):
        code = self.streams[id].reset if id in self.streams else None
        return None if code is None else wire.ERRORS.get(code, code)

    def stop_code(self, id):
        code = self.streams[id].stopped if id in self.streams else None
        return None if code is None else wire.ERRORS.get(code, code)

    def expect_reset(self, id, *codes):
        """Expects that the server ends the stream: RESET_STREAM or STOP_SENDING with one of these errors."""
        self.until(lambda: self.reset_code(id) or self.stop_code(id), f"reset of stream {id}")
        self.expect((self.reset_code(id) or self.stop_code(id)) in codes, f"{self.reset_code(id)}, {self.stop_code(id)}: not {codes}")

    def expect_alive(self, id=None):
        """Checks that the connection still works: a PING is acknowledged."""
        self.until(lambda: not self.spaces[quic.APP].sent, "acknowledgement of what was sent before")
        self.send(quic.ping())
        self.until(lambda: not self.spaces[quic.APP].sent, "PING acknowledged")
        self.expect(not self.closed, "the connection has ended")

    def expect_served(self, id):
        self.ask(id, [(":method", "GET"), (":scheme", "https"), (":path", "/alive"), (":authority", "a.example")])
        self.expect_answer(id)


def number_of(n):
    return quic.number(n)


def pairs_of(payload):
    found, at = {}, 0
    while at < len(payload):
        key, at = quic.read(payload, at)
        found[key], at = quic.read(payload, at)
    return found
